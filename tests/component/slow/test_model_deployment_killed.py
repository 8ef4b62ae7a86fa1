"""The operator killed after each single write of a rollout: the same end."""

import json
from copy import deepcopy
from typing import Any

from perennial.api import kinds
from perennial.domain.rollout.smoke import Answers
from tests.component.serving.rig import V2, Rig, version
from tests.fakes.world import stop_after_every_write


async def _build(rigs: list[Rig]) -> Any:
    rig = Rig()
    rigs.append(rig)
    return rig.world


def _end(world: Any) -> Any:
    """What must be equal whenever the operator was killed: children by name, what serves, what was rejected."""
    status = world.obj(kinds.MODEL_DEPLOYMENT, "rain")["status"]
    children = sorted(
        (o["kind"], o["metadata"]["name"], json.dumps(o.get("spec", {}).get("replicas")))
        for o in world.store.all()
        if o["kind"] in ("Deployment", "Service", "Secret", "Job")
    )
    return {
        "created": sorted(c for c in world.created() if c[0] in ("Deployment", "Service", "Secret")),
        "children": children,
        "stable": status["stable"],
        "traffic": status["traffic"],
        "rejected": [(r["revision"], r["reason"]) for r in status.get("rejected", [])],
        "history": [(h["revision"], h["version"], h.get("commit")) for h in status["history"]],
        "rollout": "rollout" in status,
    }


async def test_killed_after_any_write_a_promotion_ends_the_same() -> None:
    rigs: list[Rig] = []

    async def scenario(world: Any) -> None:
        quick = {"rollout": {"scaleDownDelaySeconds": 30}, "analysis": {"warmupSeconds": 0}}
        rigs[-1].routers.per_second = 2000
        rig = await rigs[-1].serve_first(**deepcopy(quick))
        await rig.name(V2, **deepcopy(quick))
        await rig.cluster.run_until(lambda: rig.stable() == V2)
        await rig.cluster.run_for(60, step=10)

    assert await stop_after_every_write(lambda: _build(rigs), scenario, compare=_end) > 20


async def test_killed_after_any_write_an_abort_ends_the_same() -> None:
    rigs: list[Rig] = []

    async def scenario(world: Any) -> None:
        rig = rigs[-1]
        rig.routers.error_rates[V2] = 0.5
        await rig.serve_first(analysis={"warmupSeconds": 0})
        await rig.name(V2, analysis={"warmupSeconds": 0})
        await rig.cluster.run_until(lambda: "rejected" in rig.status and rig.state == "Rest")
        await rig.cluster.run_for(60, step=10)

    assert await stop_after_every_write(lambda: _build(rigs), scenario, compare=_end) > 20


async def test_killed_after_any_write_sample_inputs_are_sent_once_and_their_report_is_kept() -> None:
    rigs: list[Rig] = []
    spec: dict[str, Any] = {"rollout": {"smoke": {"requests": 400}}, "analysis": {"warmupSeconds": 0}}

    async def scenario(world: Any) -> None:
        rig = rigs[-1]
        rig.cluster.answers = Answers(sent=400, good=400)
        rig.routers.per_second = 2000
        await rig.serve_first(**deepcopy(spec))
        await rig.world.person(version(V2, samples={"uri": "s3://m/s.csv", "digest": "sha256:" + "5" * 64, "rows": 9}))
        await rig.name(V2, **deepcopy(spec))
        await rig.cluster.run_until(lambda: rig.stable() == V2)
        await rig.cluster.run_for(60, step=10)
        jobs = [name for kind, name in world.created() if kind == "Job"]
        assert len(jobs) == len(set(jobs)) == 1

    assert await stop_after_every_write(lambda: _build(rigs), scenario, compare=_end) > 20
