"""How many pods serve, on a real cluster: the autoscaler during a canary, kubectl scale, drains of nodes and a
scale-down under load.

The local cluster has no metrics server, so the autoscaler only shows what it is told and enforces its minimum.
"""

import json
from typing import Any

from examples.rain.demo.stage import Stage
from localcluster.errors import ClusterError
from perennial.api import kinds
from perennial.domain.decision import JsonObject
from tests.cluster.serving import RATE, Team, team

ROLLOUT = {"steps": [{"weight": 50, "holdSeconds": 8}], "analysis": {"warmupSeconds": 2, "maxErrorRate": "0.2"}}
SCALING = {"minReplicas": 2, "maxReplicas": 4}


async def autoscaler(on: Team) -> JsonObject | None:
    """(target, minReplicas, maxReplicas) of the HorizontalPodAutoscaler."""
    found = await on.stage.store.get(kinds.HPA, on.stage.namespace, "loop")
    return None if found is None else found["spec"]


async def told(on: Team, revision: str, least: int) -> None:
    """Wait until the autoscaler is on that revision with that minimum."""

    async def look() -> bool | None:
        spec = await autoscaler(on) or {}
        found = (spec.get("scaleTargetRef", {}).get("name"), spec.get("minReplicas"), spec.get("maxReplicas"))
        return found == (f"loop-rev-{revision}", least, 4) or None

    await on.stage.wait(f"the autoscaler on {revision} with at least {least}", look, 30, every=0.2)


async def test_scaling_beside_a_canary_and_down_without_a_lost_request(installed: Stage) -> None:
    async with team(installed) as on:
        await on.deploy("loop", "green", scaling=SCALING, rollout=ROLLOUT)
        on.wait_ready("loop", 60)
        first = (await on.status("loop"))["stable"]["revision"]
        await told(on, first, 2)
        scale(on, f"deployment/loop-rev-{first}", 3)  # as an autoscaler with metrics would
        await on.send()
        await on.deploy("loop", "blue", scaling=SCALING, rollout=ROLLOUT)
        await canary(on, first)
        on.wait_ready("loop", 90)
        status = await on.status("loop")
        second = status["stable"]["revision"]
        assert second != first, "kubectl wait has waited for the new spec"
        assert "rollout" not in status and status["replicas"] == 3
        await told(on, second, 2)
        await by_hand(on)
        sent = await on.sent()
        assert sent["failed"] == 0, sent
        assert sent["sent"] > 20 * RATE


async def canary(on: Team, first: str) -> None:
    """During the canary stable keeps its three pods as the autoscaler's minimum; half of the weight is two pods."""
    await told(on, first, 3)

    async def look() -> dict[str, Any] | None:
        status = await on.status("loop")
        return status if status.get("canary", {}).get("weight") == 50 else None

    status = await on.stage.wait("half of the weight", look, 60)
    assert (status["replicas"], status["stable"]["readyReplicas"], status["canary"]["readyReplicas"]) == (3, 3, 2)


async def by_hand(on: Team) -> None:
    """Without `scaling`, `kubectl scale` decides: up, and down to one under load."""
    await on.deploy("loop", "blue", replicas=3, rollout=ROLLOUT)

    async def gone() -> bool | None:
        return await autoscaler(on) is None or None

    await on.stage.wait("the autoscaler to go", gone, 20)
    scale(on, "mdep/loop", 4)
    on.wait_ready("loop", 40)
    assert (await on.status("loop"))["stable"]["readyReplicas"] == 4
    revision = (await on.status("loop"))["stable"]["revision"]
    evicted, refused = evict(on, [pod["metadata"]["name"] for pod in await on.pods(revision)])
    assert (evicted, refused) == (1, 3)
    scale(on, "mdep/loop", 1)

    async def left() -> bool | None:
        return len(await on.pods(revision)) == 1 or None

    await on.stage.wait("three pods to leave", left, 60)


def evict(on: Team, pods: list[str]) -> tuple[int, int]:
    """Evict all at once, as the drains of their nodes would; how many went, and how many the budget kept."""
    refused = 0
    for pod in pods:
        path = f"/api/v1/namespaces/{on.stage.namespace}/pods/{pod}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        try:
            on.stage.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
        except ClusterError as error:
            assert "disruption budget" in str(error)
            refused += 1
    return len(pods) - refused, refused


def scale(on: Team, what: str, replicas: int) -> None:
    """As a person does."""
    on.stage.kubectl("-n", on.stage.namespace, "scale", what, f"--replicas={replicas}")
