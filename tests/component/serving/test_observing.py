"""What a pass believes of what it sees: a clock that was set back, a Deployment's status of a spec before."""

from datetime import UTC, datetime, timedelta
from typing import Any

from perennial.api import kinds
from perennial.controllers.deployment_observe import DeploymentObserver
from perennial.domain.rollout.spec import read_spec
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import Recorded, RevisionRef, Rollout
from perennial.runtime.cache import Cache

A, B = "aaaaaaaa", "bbbbbbbb"
T0 = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


class Fleet:
    """One router."""

    async def ready_pods(self, namespace: str) -> list[tuple[str, str, str]]:
        return [("r1", "uid-r1", "10.0.0.1")]

    async def token(self, namespace: str, *, fresh: bool = False) -> str:
        return "t"


class Reports:
    """Counts how often routers are asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def collect(self, *args: Any, **kwargs: Any) -> list[Any]:
        self.asked += 1
        return []


def observer(cache: Cache, reports: Reports) -> DeploymentObserver:
    return DeploymentObserver(cache, Fleet(), None, reports, None, {})  # type: ignore[arg-type]


async def test_routers_are_asked_at_once_after_the_clock_was_set_back() -> None:
    reports = Reports()
    rollout = Rollout("id", State.ANALYSING, RevisionRef(B, None, None), 5, T0, T0, T0, 1, verified=T0)
    recorded = Recorded(
        stable=RevisionRef(A, None, None), traffic=((A, 95), (B, 5)), traffic_version=3, rollout=rollout
    )
    seen, spec = observer(Cache(), reports), read_spec({"model": {"name": "rain"}})
    for second in (10, 11, 12, -3590, -3589):
        await seen._routers("ns", "rain", spec, recorded, T0 + timedelta(seconds=second))
    assert reports.asked == 5


def test_pods_that_a_drain_is_stopping_are_not_available_for_an_undo() -> None:
    """Ten pods, then none by the drain, then ten again: status still tells of the first ten."""
    cache = Cache()
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"rain-rev-{A}", "namespace": "ns", "uid": "u", "generation": 7},
        "spec": {"replicas": 10, "selector": {"matchLabels": {"perennial.dev/revision": A}}},
        "status": {"observedGeneration": 6, "availableReplicas": 10, "readyReplicas": 10},
    }
    for index in range(10):
        cache.upsert(pod(index, leaving=index > 0))
    seen = observer(cache, Reports())
    assert seen._revision(deployment, A, has_service=True).available == 1
    deployment["status"] = {"observedGeneration": 7, "availableReplicas": 10}
    assert seen._revision(deployment, A, has_service=True).available == 10


def pod(index: int, *, leaving: bool) -> dict[str, Any]:
    """A ready pod of the revision."""
    labels = {"perennial.dev/revision": A, "app.kubernetes.io/managed-by": "perennial"}
    meta = {"name": f"p{index}", "namespace": "ns", "uid": f"p{index}", "resourceVersion": "1", "labels": labels}
    if leaving:
        meta["deletionTimestamp"] = "2026-11-25T10:00:00Z"
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": kinds.POD.api_version, "kind": "Pod", "metadata": meta, "spec": {}, "status": ready}
