"""The real adapter keeps the contract of `ObjectStore`, and tells the server's refusals in our errors."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localcluster.using import using
from perennial.adapters.kube import KubeStore, open_access
from perennial.api import kinds
from perennial.domain.errors import Conflict, Forbidden, Invalid, Unavailable
from perennial.ports import ObjectStore, PatchTarget
from tests.api.server import ApiServer
from tests.contract.store_suite import ME, StoreSuite, config_map, policy
from tests.support.shared import shared_cluster


@pytest.fixture
async def store(api_server: ApiServer) -> AsyncIterator[KubeStore]:
    with using(shared_cluster()) as running:
        async with open_access(str(Path(running.kubeconfig))) as access:
            yield KubeStore(access)


@pytest.fixture
async def namespace(store: KubeStore) -> AsyncIterator[str]:
    name = f"store-{uuid.uuid4().hex[:8]}"
    await store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager=ME)
    yield name
    await store.delete(kinds.NAMESPACE, "", name, uid=None)


class TestKubeStore(StoreSuite):
    pass


async def test_the_servers_words_reach_the_user(store: KubeStore, namespace: str) -> None:
    with pytest.raises(Invalid) as caught:
        await store.create(policy(namespace, window={"seconds": -1}), manager=ME)
    assert "spec.window.seconds" in caught.value.message


async def test_another_account_may_only_do_what_it_is_allowed(store: KubeStore, namespace: str) -> None:
    await store.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant", "namespace": namespace}},
        manager=ME,
    )
    tenant = store.acting_as(namespace, "tenant")
    with pytest.raises(Forbidden) as caught:
        await tenant.create(config_map(namespace), manager=ME)
    assert "configmaps" in caught.value.message
    assert f"system:serviceaccount:{namespace}:tenant" in caught.value.message


async def test_the_server_tells_who_is_asking(store: KubeStore, namespace: str) -> None:
    assert await store.acting_as(namespace, "tenant").who() == f"system:serviceaccount:{namespace}:tenant"
    assert await store.who() not in ("", f"system:serviceaccount:{namespace}:tenant")


async def test_a_missing_namespace_is_said(store: KubeStore) -> None:
    with pytest.raises(Invalid) as caught:
        await store.create(config_map("there-is-none-such"), manager=ME)
    assert caught.value.reason == "NamespaceNotFound"
    assert await store.get(kinds.CONFIG_MAP, "there-is-none-such", "one") is None


async def test_lists_longer_than_a_page_are_whole(
    store: KubeStore, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.adapters.kube.PAGE", 2)
    for index in range(5):
        await store.create(config_map(namespace, f"c{index}", labels={"page": "1"}), manager=ME)
    found = await store.list(kinds.CONFIG_MAP, namespace, labels="page=1")
    assert [item["metadata"]["name"] for item in found] == [f"c{index}" for index in range(5)]


async def test_a_list_of_every_watched_namespace_keeps_to_them(
    store: KubeStore, namespace: str, api_server: ApiServer
) -> None:
    with using(shared_cluster()) as running:
        async with open_access(str(Path(running.kubeconfig))) as access:
            narrow = KubeStore(access, namespaces=[namespace])
            await narrow.create(config_map(namespace, labels={"mine": "1"}), manager=ME)
            found = await narrow.list(kinds.CONFIG_MAP)
    assert {item["metadata"]["namespace"] for item in found} == {namespace}


async def test_a_patch_of_another_uid_is_a_conflict(store: KubeStore, namespace: str) -> None:
    await store.create(config_map(namespace), manager=ME)
    other = PatchTarget(kinds.CONFIG_MAP, namespace, "one", uid="11111111-1111-4111-8111-111111111111")
    with pytest.raises(Conflict):
        await store.patch(other, {"data": {"b": "1"}}, manager=ME)


async def test_the_log_of_a_pod_that_is_not_there_is_none(store: ObjectStore, namespace: str) -> None:
    assert await store.log(namespace, "none", "main") is None


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n"
    )
    os.chmod(path, 0o600)
    async with open_access(str(path)) as access:
        with pytest.raises(Unavailable) as caught:
            await KubeStore(access).get(kinds.POD, "default", "a")
    assert "get pods default/a" in caught.value.message
