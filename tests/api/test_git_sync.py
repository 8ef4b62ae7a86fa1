"""GitSync on a real API server: server-side apply, its conflicts and refusals, with the rights of perennial-sync."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster.using import using
from perennial.adapters.git import GitRepositories, GitSettings
from perennial.adapters.kube import KubeStore, open_access
from perennial.api import kinds, names
from perennial.api.crdgen import ROOT
from perennial.controllers.git_sync import GitSyncController, GitSyncSettings
from perennial.domain.decision import JsonObject
from perennial.ports import PatchTarget
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import Key
from tests.api.server import ApiServer
from tests.fakes.clock import FakeClock
from tests.fakes.events import RecordingEvents
from tests.support.git_server import GitServer, Person, create_repository
from tests.support.shared import shared_cluster

ME = "test"
CM = kinds.CONFIG_MAP
VERSION = {
    "model": "rain",
    "artifact": {"uri": "s3://b/x", "digest": "sha256:" + "a" * 64, "format": "sklearn"},
    "metrics": {"roc_auc": "0.86"},
    "gate": {
        "passed": True,
        "checks": [{"metric": "roc_auc", "rule": "min 0.8", "observed": "0.86", "outcome": "Passed"}],
    },
    "lineage": {"trainingJob": "rain-train", "run": "0a1b2c3d", "finishedTime": "2026-11-25T10:00:00Z"},
    "baseline": {
        "rows": 10,
        "features": [
            {"name": "x", "kind": "Numeric", "edges": ["0.5"], "counts": [4, 6], "nullCount": 0, "zeroCount": 0}
        ],
    },
}


class Bench:
    """One namespace, one repository, one controller whose passes the test runs."""

    def __init__(self, store: KubeStore, namespace: str, folder: Path) -> None:
        self.store, self.namespace, self.key = store, namespace, Key(namespace, "rain")
        self.person = Person(create_repository(folder / "srv", "rain"))
        self.server = GitServer(("127.0.0.1", 0), folder / "srv")
        self.server.start()
        self.git = GitRepositories(GitSettings(folder / "cache", workers=2, allow_insecure=True))
        self.clock, self.cache, self.events = FakeClock(), Cache(), RecordingEvents()
        self.controller = GitSyncController(
            store, self.cache, self.events, self.clock, GitSyncSettings(jitter=lambda: 0.5), self.git
        )

    async def start(self, **spec: Any) -> None:
        """Make the GitSync and run its passes."""
        wanted = {"url": self.server.url("rain"), "path": "app", "prune": True} | spec
        metadata = {"name": "rain", "namespace": self.namespace}
        body = {"apiVersion": "perennial.dev/v1alpha1", "kind": "GitSync", "metadata": metadata, "spec": wanted}
        await self.store.apply(body, manager=ME, force=True)
        await self.settle()

    async def settle(self) -> None:
        """Let the repository be due, then run passes until one changes nothing."""
        self.clock.advance(61)
        for _ in range(12):
            for kind in kinds.OUR_KINDS:
                for obj in await self.store.list(kind, self.namespace):
                    self.cache.apply_event(None, obj)
            if not (await self.controller.reconcile(self.key)).changed:
                return
        raise AssertionError(f"no rest: {(await self.status())['conditions']}")

    async def get(self, kind: kinds.Kind, name: str) -> JsonObject | None:
        """A live object."""
        return await self.store.get(kind, self.namespace, name)

    async def status(self) -> JsonObject:
        """The GitSync's status."""
        found = await self.get(kinds.GIT_SYNC, "rain")
        assert found is not None
        return dict(found["status"])

    async def ready(self) -> tuple[str, str]:
        """Status and message of Ready."""
        found = next(c for c in (await self.status())["conditions"] if c["type"] == "Ready")
        return found["status"], found["message"]

    def close(self) -> None:
        """Stop the server and the git workers."""
        self.server.shutdown()
        self.server.server_close()
        self.git.close()


@pytest.fixture(scope="module")
def roles(api_server: ApiServer) -> Iterator[None]:
    """The shipped ClusterRole that the account perennial-sync is bound to."""
    documents = yaml.safe_load_all((ROOT / "manifests" / "base" / "rbac.yaml").read_text(encoding="utf-8"))
    role = next(d for d in documents if d["kind"] == "ClusterRole" and d["metadata"]["name"] == names.ACCOUNT_SYNC)
    path = f"/apis/{kinds.CLUSTER_ROLE.api_version}/clusterroles/{names.ACCOUNT_SYNC}"
    api_server.request(
        "PATCH", path, role, content="application/apply-patch+yaml", fieldManager="kubectl", force="true"
    )
    yield


@pytest.fixture
async def bench(api_server: ApiServer, roles: None, tmp_path: Path) -> AsyncIterator[Bench]:
    """A fresh bench in a namespace of its own."""
    with using(shared_cluster()) as running:
        async with open_access(str(Path(running.kubeconfig))) as access:
            store = KubeStore(access)
            name = f"sync-{uuid.uuid4().hex[:8]}"
            await store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager=ME)
            made = Bench(store, name, tmp_path)
            yield made
            made.close()
            await store.delete(kinds.NAMESPACE, "", name, uid=None)


def config_map(name: str, value: str = "1") -> str:
    """A ConfigMap manifest."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: '{value}'}}\n"


def deployment(version: str = "") -> str:
    """A ModelDeployment manifest."""
    line = f"    version: {version}\n" if version else ""
    return (
        "apiVersion: perennial.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: rain}\nspec:\n"
        f"  model:\n    name: rain\n{line}    updatePolicy: Git\n"
    )


async def test_applies_heals_prunes_and_then_rests(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b"), "app/d.yaml": deployment()})
    await bench.start()
    assert await bench.ready() == ("True", f"3 objects of main@sha1:{bench.person.head()} are applied")
    before = await bench.get(CM, "a")
    bench.clock.advance(700)
    await bench.settle()
    assert await bench.get(CM, "a") == before
    target = PatchTarget(CM, bench.namespace, "a")
    await bench.store.patch(target, {"data": {"value": "9", "mine": "kept"}}, manager="kubectl-edit")
    bench.clock.advance(700)
    bench.person.push({"app/b.yaml": None})
    await bench.settle()
    healed = await bench.get(CM, "a")
    assert healed is not None and healed["data"] == {"value": "1", "mine": "kept"}
    assert await bench.get(CM, "b") is None


async def test_a_field_of_another_applier_is_left_and_named_and_a_refused_object_stops_nothing(bench: Bench) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": bench.namespace}}
    await bench.store.apply({**body, "data": {"value": "theirs"}}, manager="helm-controller")
    unknown = deployment().replace("spec:", "spec:\n  colour: blue")
    invalid = deployment().replace("name: rain}", "name: other}").replace("updatePolicy: Git", "updatePolicy: Maybe")
    files = {"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b"), "app/d.yaml": unknown, "app/e.yaml": invalid}
    bench.person.push(files)
    await bench.start()
    found = await bench.get(CM, "a")
    assert found is not None and found["data"] == {"value": "theirs"}
    assert await bench.get(CM, "b") is not None
    errors = {error["path"]: error["message"] for error in (await bench.status())["errors"]}
    assert "helm-controller" in errors["app/a.yaml"] and ".data.value" in errors["app/a.yaml"]
    assert "colour" in errors["app/d.yaml"]
    assert "updatePolicy" in errors["app/e.yaml"]
    stalled = [c for c in (await bench.status())["conditions"] if c["type"] == "Stalled"]
    assert stalled and stalled[0]["reason"] == "InvalidManifests"


async def test_a_trained_version_is_committed_and_shared_with_its_maker(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment()}, "Begin")
    await bench.start(writeBack={"method": "Commit"})
    metadata = {"name": "rain-r0a1b2c3d", "namespace": bench.namespace}
    version = {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelVersion", "metadata": metadata, "spec": VERSION}
    await bench.store.create(version, manager="perennial-training-job")
    status = {"observedGeneration": 1}
    live = await bench.get(kinds.MODEL_DEPLOYMENT, "rain")
    assert live is not None
    body = {key: live[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": "rain", "namespace": bench.namespace},
        "status": status,
    }
    await bench.store.apply(body, manager="perennial-model-deployment", subresource="status", force=True)
    await bench.settle()
    assert bench.person.log() == ["Roll out rain-r0a1b2c3d to rain", "Begin"]
    await bench.settle()
    assert (await bench.ready())[0] == "True"
    synced = await bench.get(kinds.MODEL_VERSION, "rain-r0a1b2c3d")
    assert synced is not None and synced["spec"]["proposed"][0]["deployment"] == "rain"
    assert {key: synced["spec"][key] for key in VERSION} == VERSION
    served = await bench.get(kinds.MODEL_DEPLOYMENT, "rain")
    assert served is not None and served["spec"]["model"]["version"] == "rain-r0a1b2c3d"
    assert (await bench.status())["writeBack"]["history"][0]["outcome"] == "Written"
    path = "app/versions/rain-r0a1b2c3d.yaml"
    rejected = bench.person.read(path) + "\n  rejections:\n  - {deployment: rain, reason: CanaryFailed}\n"
    bench.person.push({path: rejected})
    await bench.settle()
    found = await bench.get(kinds.MODEL_VERSION, "rain-r0a1b2c3d")
    assert found is not None and found["spec"]["rejections"][0]["reason"] == "CanaryFailed"
    bench.person.push({path: rejected.split("  rejections:")[0]})
    await bench.settle()
    found = await bench.get(kinds.MODEL_VERSION, "rain-r0a1b2c3d")
    assert found is not None and not found["spec"].get("rejections")
