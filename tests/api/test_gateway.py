"""Our HTTPRoute on a real API server with the published CRDs of Gateway API: defaults, repair, and their absence."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from localcluster.using import using
from perennial.adapters.kube import KubeStore, open_access
from perennial.api import kinds
from perennial.api.kinds import Kind
from perennial.controllers.deployment_gateway import GatewayRoutes
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Invalid, NameTaken
from perennial.domain.rollout.gateway import GatewaySeen
from perennial.domain.rollout.spec import GatewayRoute, Parent
from perennial.domain.rollout.world import Recorded, RevisionSeen
from tests.api.server import ApiServer
from tests.support.gateway import install_crds
from tests.support.shared import shared_cluster
from tests.unit.api.samples import minimal

ROUTE = GatewayRoute((Parent("edge", section="http"), Parent("edge", section="https")), ("rain.example.org",))
PORTS = {"aaaaaaaa": 8080, "bbbbbbbb": 9000}
ME = "perennial-model-deployment"


class Stand:
    """A ModelDeployment, the controllers' hands, and the clock of their looks."""

    def __init__(self, store: KubeStore, deployment: JsonObject) -> None:
        self.store = store
        self.deployment = deployment
        self.routes = GatewayRoutes(store, ME)

    async def look(self, route: GatewayRoute | None = ROUTE) -> GatewaySeen:
        meta = self.deployment["metadata"]
        self.routes.forget(meta["namespace"], meta["name"])
        revisions = {revision: _revision(revision, port) for revision, port in PORTS.items()}
        seen = await self.routes.look(self.deployment, route, Recorded(routed=True), revisions, datetime.now(UTC))
        assert seen is not None
        return seen

    async def apply(self, **weights: int) -> JsonObject:
        await self.routes.apply(self.deployment, ROUTE, weights, PORTS)
        return await self.live()

    async def live(self) -> JsonObject:
        meta = self.deployment["metadata"]
        found = await self.store.get(kinds.HTTP_ROUTE, meta["namespace"], meta["name"])
        assert found is not None
        return found


def _revision(revision: str, port: int) -> RevisionSeen:
    return RevisionSeen(revision, "u", 1, 1, 1, None, None, "", "1", {"port": port}, "")


@pytest.fixture
async def stand(api_server: ApiServer) -> AsyncIterator[Stand]:
    with using(shared_cluster()) as running:
        install_crds(running)
        async with open_access(str(Path(running.kubeconfig))) as access:
            store = KubeStore(access)
            name = f"gateway-{uuid.uuid4().hex[:8]}"
            await store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="test")
            whole = minimal("ModelDeployment")
            whole["metadata"]["namespace"] = name
            yield Stand(store, await store.create(whole, manager="test"))
            await store.delete(kinds.NAMESPACE, "", name, uid=None)


async def test_a_route_that_was_stored_is_the_one_that_was_written(stand: Stand) -> None:
    assert (await stand.look()).route is None
    made = await stand.apply(aaaaaaaa=95, bbbbbbbb=5)
    seen = (await stand.look()).route
    assert seen is not None
    assert (seen.weights, seen.attached, seen.intact) == ({"aaaaaaaa": 95, "bbbbbbbb": 5}, True, True)
    again = await stand.apply(aaaaaaaa=95, bbbbbbbb=5)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], "the same again writes nothing"
    other = await stand.apply(aaaaaaaa=100)
    assert other["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert [ref["name"] for ref in other["spec"]["rules"][0]["backendRefs"]] == ["rain-rev-aaaaaaaa"]


@pytest.mark.parametrize(
    "edit",
    [
        {"rules": [{"backendRefs": [{"name": "rain-rev-bbbbbbbb", "port": 9000}]}]},
        {"hostnames": ["other.example.org"]},
        {"parentRefs": [{"name": "other"}]},
    ],
    ids=lambda edit: next(iter(edit)),
)
async def test_what_somebody_else_writes_is_seen_and_put_right(stand: Stand, edit: dict[str, Any]) -> None:
    made = await stand.apply(aaaaaaaa=100)
    theirs = {key: made[key] for key in ("apiVersion", "kind")}
    meta = {"name": "rain", "namespace": made["metadata"]["namespace"]}
    changed = await stand.store.apply({**theirs, "metadata": meta, "spec": edit}, manager="somebody", force=True)
    assert changed["spec"] != made["spec"]
    seen = (await stand.look()).route
    assert seen is not None and not (seen.intact and dict(seen.weights) == {"aaaaaaaa": 100})
    assert (await stand.apply(aaaaaaaa=100))["spec"] == made["spec"]


async def test_hosts_that_nobody_asks_for_any_more_go_whoever_named_them(stand: Stand) -> None:
    made = await stand.apply(aaaaaaaa=100)
    theirs = {key: made[key] for key in ("apiVersion", "kind")}
    meta = {"name": "rain", "namespace": made["metadata"]["namespace"]}
    hosts = {"hostnames": ["rain.example.org", "other.example.org"]}
    await stand.store.apply({**theirs, "metadata": meta, "spec": hosts}, manager="somebody", force=True)
    anywhere = replace(ROUTE, hostnames=())
    await stand.routes.apply(stand.deployment, anywhere, {"aaaaaaaa": 100}, PORTS)
    seen = (await stand.look(anywhere)).route
    assert "hostnames" not in (await stand.live())["spec"]
    assert seen is not None and seen.attached and seen.intact


async def test_a_route_of_somebody_else_is_told_from_ours(stand: Stand) -> None:
    meta = {"name": "rain", "namespace": stand.deployment["metadata"]["namespace"]}
    theirs = {"apiVersion": kinds.HTTP_ROUTE.api_version, "kind": kinds.HTTP_ROUTE.kind, "metadata": meta, "spec": {}}
    made = await stand.store.create(theirs, manager="somebody")
    seen = await stand.look()
    assert seen.obstacle is not None and seen.obstacle.reason == "NameTaken"
    with pytest.raises(NameTaken):
        await stand.apply(aaaaaaaa=100)
    assert (await stand.look(None)).route is None
    assert (await stand.live())["spec"] == made["spec"]


async def test_hosts_and_parents_that_gateway_api_refuses_are_refused_in_its_words(stand: Stand) -> None:
    twice = GatewayRoute((Parent("edge"), Parent("edge")))
    with pytest.raises(Invalid) as refused:
        await stand.routes.apply(stand.deployment, twice, {"aaaaaaaa": 100}, PORTS)
    assert "sectionName" in refused.value.message


async def test_without_the_crds_it_is_known_that_there_is_no_route(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group in ("nowhere.example.org", kinds.HTTP_ROUTE.group):
        absent = Kind(group, "v1", "HTTPRoute", "httproutesofnobody")
        monkeypatch.setattr(kinds, "HTTP_ROUTE", absent)
        seen = await stand.look()
        assert seen.obstacle is not None
        assert (seen.obstacle.reason, seen.obstacle.known) == ("GatewayApiMissing", True)
