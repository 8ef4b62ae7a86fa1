"""The whole loop on a real cluster: once undisturbed, once with the operator killed at ten points; both end alike."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from examples.rain.demo.stage import Stage, Timeline
from perennial.adapters.kube import connect_store
from tests.cluster.operator import IDS, Killer, Recorder, ShortLoop, Snapshot, awaited, snapshot


@asynccontextmanager
async def stage_of(installed: Stage) -> AsyncIterator[Stage]:
    """A namespace of its own on the installed stage."""
    namespace = f"loop-{secrets.token_hex(3)}"
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), namespace, installed.tags)
        stage.kubectl("create", "namespace", namespace)
        stage.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        try:
            yield stage
        finally:
            stage.kubectl("delete", "namespace", namespace, "--wait=false")


def any_object(kind: str, test: Callable[[dict[str, Any]], Any]) -> Callable[[Snapshot], bool]:
    """Whether some object of a kind passes a test."""
    return lambda world: any(bool(test(obj)) for obj in world.get(kind, ()))


def status(obj: dict[str, Any]) -> dict[str, Any]:
    return obj.get("status", {})


POINTS = {
    "repository applied": any_object("GitSync", lambda o: status(o).get("lastAppliedRevision")),
    "run recorded": any_object("TrainingJob", lambda o: status(o).get("run")),
    "training pod's Job exists": any_object("Job", lambda o: "-run-" in o["metadata"]["name"]),
    "version exists": any_object("ModelVersion", lambda o: True),
    "first revision recorded": any_object("ModelDeployment", lambda o: status(o).get("rollout")),
    "first version serves": any_object("ModelDeployment", lambda o: len(status(o).get("history", ())) == 1),
    "trigger recorded": any_object("DriftPolicy", lambda o: status(o).get("activeTrigger")),
    "canary has weight": any_object("ModelDeployment", lambda o: len(status(o).get("traffic", ())) == 2),
    "second version serves": any_object("ModelDeployment", lambda o: len(status(o).get("history", ())) == 2),
    "bad version rejected": any_object("ModelDeployment", lambda o: status(o).get("rejected")),
}


async def outcome(stage: Stage, recorder: Recorder) -> dict[str, Any]:
    """What a run of the loop left, with ids, hashes and times masked."""
    world = await snapshot(stage)
    mdep = world["ModelDeployment"][0]["status"]
    policy = world["DriftPolicy"][0]["status"]
    return {
        "objects": dict(sorted(recorder.counts().items())),
        "made twice": recorder.made_twice(),
        "commits": [IDS.sub("ID", subject) for subject in await stage.git_log("%an: %s")],
        "promoted": len(mdep["history"]),
        "rejected": [entry["version"] for entry in mdep["rejected"]],
        "triggers": [entry["outcome"] for entry in policy["history"]],
    }


async def play(stage: Stage, killer: Killer | None) -> dict[str, Any]:
    """The short loop from the first commit to the revert."""
    recorder = Recorder(stage)
    tasks = [asyncio.create_task(recorder.run())]
    if killer is not None:
        tasks.append(asyncio.create_task(killer.run()))
    loop = ShortLoop(stage)
    await loop.begin()
    first = await loop.first_version()
    await loop.drift_and_retrain(first)
    await loop.bad_commit()
    await stage.wait("the loop to come to rest", loop.settled, 120)
    await asyncio.sleep(2 * 0.5)  # two more looks of the recorder: what came last must have been seen
    for task in tasks:
        await awaited(task)
    return await outcome(stage, recorder)


async def test_the_loop_ends_alike_when_the_operator_is_killed_at_ten_points(installed: Stage) -> None:
    async with stage_of(installed) as stage:
        undisturbed = await play(stage, None)
    assert undisturbed["made twice"] == []
    assert undisturbed["promoted"] == 2
    assert undisturbed["rejected"] == ["loop-by-hand"]
    assert undisturbed["triggers"] == ["Promoted"]
    async with stage_of(installed) as stage:
        killer = Killer(stage, POINTS)
        disturbed = await play(stage, killer)
    assert sorted(killer.killed) == sorted(POINTS)
    assert disturbed == undisturbed
