"""The whole loop on a real cluster: undisturbed; with everything but the models down; rebuilt from Git and the store;
and once more with the operator killed at ten points, which must end like the undisturbed run."""

import asyncio
import functools
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from examples.rain.demo.stage import Stage, Timeline
from perennial.adapters.kube import connect_store
from perennial.api import kinds, names
from perennial.domain import conditions
from tests.cluster.operator import (
    BAD,
    Killer,
    Recorder,
    ShortLoop,
    Snapshot,
    make_namespace,
    play,
    scale_operator,
)

QUIET_SECONDS = 8.0


@asynccontextmanager
async def loop_on(installed: Stage) -> AsyncIterator[ShortLoop]:
    """A team's namespace and one for the servers outside of it, removed at the end."""
    name = f"loop-{secrets.token_hex(3)}"
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        timeline = Timeline()
        team = Stage(installed.cluster, store, timeline, name, installed.tags)
        outside = Stage(installed.cluster, store, timeline, f"{name}-outside", installed.tags)
        for stage in (team, outside):
            make_namespace(stage)
        try:
            yield ShortLoop(team, outside)
        finally:
            team.kubectl("delete", "namespace", team.namespace, outside.namespace, "--wait=false", "--ignore-not-found")


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
    "canary has weight": any_object(
        "ModelDeployment", lambda o: sum(share["weight"] > 0 for share in status(o).get("traffic", ())) == 2
    ),
    "second version serves": any_object("ModelDeployment", lambda o: len(status(o).get("history", ())) == 2),
    "bad version rejected": any_object("ModelDeployment", lambda o: status(o).get("rejected")),
}


UNDISTURBED: dict[str, Any] = {}
"""The outcome of the first test, which the second compares with; it plays the loop itself when run alone."""


async def test_the_loop_then_everything_but_the_models_down_then_rebuilt(installed: Stage) -> None:
    async with loop_on(installed) as loop:
        UNDISTURBED.update(await play(loop, None))
        assert UNDISTURBED["made twice"] == []
        assert UNDISTURBED["promoted"] == 2
        assert UNDISTURBED["rejected"] == [BAD]
        assert UNDISTURBED["triggers"] == ["Promoted"]
        await models_keep_answering(loop)
        await a_rebuilt_cluster_repeats_nothing(loop)


async def models_keep_answering(loop: ShortLoop) -> None:
    """Operator, Git and store stopped; every router pod replaced: no request fails but while a router is killed."""
    await scale_operator(loop.stage, 0)
    loop.outside.kubectl("-n", loop.outside.namespace, "scale", "deployment", "git", "s3", "--replicas=0")
    before = await sent(loop)
    await asyncio.sleep(QUIET_SECONDS)  # the outage itself: nothing can be awaited but that time passes
    during = await sent(loop)
    assert during["sent"] > before["sent"]
    assert during["failed"] == before["failed"]
    for router in await routers(loop):
        name, uid = router["metadata"]["name"], router["metadata"]["uid"]
        await loop.stage.store.delete(kinds.POD, loop.stage.namespace, name, uid=uid)

        async def replaced(gone: str = uid) -> bool | None:
            found = await routers(loop)
            ready = [p for p in found if conditions.is_true(status(p).get("conditions", ()), "Ready")]
            return (len(ready) == 2 and gone not in [p["metadata"]["uid"] for p in found]) or None

        await loop.stage.wait("the router in the place of the one that was removed", replaced, 120)
    after = await sent(loop)
    await asyncio.sleep(3.0)
    last = await sent(loop)
    assert last["sent"] > after["sent"], "requests are answered by the new routers"
    assert last["failed"] == before["failed"], f"requests failed while routers were replaced: {last}"
    loop.outside.kubectl("-n", loop.outside.namespace, "scale", "deployment", "git", "s3", "--replicas=1")
    await scale_operator(loop.stage, 1)


async def sent(loop: ShortLoop) -> dict[str, Any]:
    """The sender's latest counts."""
    return dict(json.loads((await loop.stage.job_log("sender")).strip().splitlines()[-1]))


async def routers(loop: ShortLoop) -> list[dict[str, Any]]:
    """The namespace's router pods that are not on their way out."""
    labels = f"{names.LABEL_COMPONENT}={names.COMPONENT_ROUTER}"
    pods = await loop.stage.store.list(kinds.POD, loop.stage.namespace, labels=labels)
    return [p for p in pods if not p["metadata"].get("deletionTimestamp")]


async def a_rebuilt_cluster_repeats_nothing(loop: ShortLoop) -> None:
    """The team's namespace is thrown away; repository, store and Secrets are all that comes back."""
    stage = loop.stage
    for name in ("git", "s3"):
        await loop.outside.wait(f"the {name} server", functools.partial(loop.outside.available, name), 60)
    version = (await loop.deployment())["status"]["stable"]["version"]
    commits = await stage.git_log("%H")
    stage.kubectl("delete", "namespace", stage.namespace, "--timeout=120s")
    make_namespace(stage)
    recorder = Recorder(stage)
    async with recorder.recording():
        loop.connect()
        stage.apply(yaml.safe_load(loop.sync()))
        assert await stage.wait("the rebuilt deployment to serve", lambda: loop.serving(None), 180) == version
        await stage.wait("the rebuilt loop to come to rest", loop.settled, 60)
    made = {name for kind, name in recorder.seen if kind == "Job"}
    assert not {name for name in made if "-run-" in name}, "nothing is trained again"
    assert [d for d in recorder.counts() if d.startswith("Deployment loop-rev")] == ["Deployment loop-rev-ID"]
    assert recorder.counts()["Deployment loop-rev-ID"] == 1, "the rejected version is never tried"
    assert await stage.git_log("%H") == commits


async def test_the_loop_ends_alike_when_the_operator_is_killed_at_ten_points(installed: Stage) -> None:
    if not UNDISTURBED:
        async with loop_on(installed) as loop:
            UNDISTURBED.update(await play(loop, None))
    async with loop_on(installed) as loop:
        killer = Killer(loop.stage, POINTS)
        disturbed = await play(loop, killer)
    assert sorted(killer.killed) == sorted(POINTS)
    assert disturbed == UNDISTURBED


@pytest.fixture(autouse=True)
async def operator_runs(installed: Stage) -> AsyncIterator[None]:
    """However a test ends, the next one finds the operator running."""
    yield
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), installed.namespace, installed.tags)
        await scale_operator(stage, 1)
