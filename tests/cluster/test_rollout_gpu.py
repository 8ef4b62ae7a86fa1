"""Rollouts on a node whose GPUs stable holds all: the canary takes its place, and gives it back when it fails."""

import json
from typing import Any

from examples.rain.demo.stage import Stage
from perennial.api import kinds
from perennial.domain.decision import JsonObject
from tests.cluster.serving import Team, team

GPU = "nvidia.com/gpu"
ASK = """
import json, urllib.request
body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}
request = urllib.request.Request("http://big/v2/models/big/infer", json.dumps(body).encode())
with urllib.request.urlopen(request, timeout=20) as answer:
    print(json.dumps({"code": answer.status, "revision": answer.headers["x-perennial-revision"]}))
"""


def gpus(count: int) -> JsonObject:
    return {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi", GPU: str(count)}}


async def no_room(on: Team, name: str) -> str:
    """The event that says why stable makes room."""

    async def look() -> str | None:
        return next(iter((await on.events(name)).get("NoRoom", ())), None)

    return await on.stage.wait("the scheduler's half minute", look, 75)


async def gone(on: Team) -> None:
    """No pod holds a GPU."""

    async def look() -> bool | None:
        pods = await on.stage.store.list(kinds.POD, on.stage.namespace, labels="perennial.dev/revision")
        return not pods or None

    await on.stage.wait("the pods to leave", look, 60)


async def test_a_canary_takes_the_gpus_of_stable_and_gives_them_back(installed: Stage) -> None:
    async with team(installed) as on:
        await several_share(on)
        on.stage.kubectl("-n", on.stage.namespace, "delete", "job/sender", "mdep/loop")
        await gone(on)
        await one_comes_back(on)


async def several_share(on: Team) -> None:
    """Two pods of one GPU each: the canary takes the place of one of them, is analysed and promoted."""
    rollout = {"steps": [{"weight": 50}], "analysis": {"warmupSeconds": 2, "maxErrorRate": "0.2"}}
    spec: dict[str, Any] = {"replicas": 2, "resources": gpus(1), "rollout": {**rollout, "scaleDownDelaySeconds": 30}}
    await on.deploy("loop", "green", **spec)
    on.wait_ready("loop", 60)
    first = (await on.status("loop"))["stable"]["revision"]
    await on.send()
    await on.deploy("loop", "blue", **spec)
    words = await no_room(on, "loop")
    assert GPU in words and "takes the place of some of its pods" in words
    status = await on.at_rest("loop", 90)
    assert status["stable"]["revision"] != first
    assert (await on.events("loop")).get("StepStarted"), "it was analysed"
    sent = await on.sent()
    assert sent["failed"] == 0, sent


async def one_comes_back(on: Team) -> None:
    """One pod with both GPUs: the new one gets them, never becomes ready, and the old one serves again by itself."""
    spec: dict[str, Any] = {"resources": gpus(2), "rollout": {"progressDeadlineSeconds": 38}}
    await on.deploy("big", "green", **spec)
    on.wait_ready("big", 60)
    first = (await on.status("big"))["stable"]["revision"]
    await on.deploy("big", "blue", **spec, container={"command": ["sleep", "3600"]})
    words = await no_room(on, "big")
    assert GPU in words and "downtime" in words
    second = (await on.status("big"))["rollout"]["targetRevision"]

    async def runs() -> bool | None:
        pods = await on.pods(second)
        return any(pod.get("status", {}).get("phase") == "Running" for pod in pods) or None

    await on.stage.wait("the new pod to get the GPUs", runs, 40)
    status = await on.at_rest("big", 90)
    assert (status["stable"]["revision"], status["rejected"][0]["revision"]) == (first, second)
    assert status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"
    await on.stage.job("ask", on.stage.tags["perennial"], ["python3", "-c", ASK])
    await on.stage.wait("an answer", lambda: on.stage.job_done("ask"), 40)
    assert json.loads(await on.stage.job_log("ask")) == {"code": 200, "revision": first}
