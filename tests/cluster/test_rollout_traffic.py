"""No request fails while a model is promoted, another one aborted, and pods go, those of old models and one of two that
serve: the benchmark `rollout` in small, with the operator installed for the whole cluster."""

import time

from benchmarks import served
from benchmarks.rollout import ANALYSIS, CLIENT, STEPS, Player, failures
from benchmarks.served import Model
from examples.rain.demo.stage import Stage

RATE = 100
FIRST, SECOND, BAD = Model(0), Model(1), Model(2, bad=True)


async def test_no_request_fails_through_promotion_abort_and_scale_down(installed: Stage, namespace: str) -> None:
    images = (installed.tags["perennial"], installed.tags["trivial"])
    where = served.prepared(installed.cluster, namespace, images, (FIRST, SECOND, BAD))
    async with served.serving(where, FIRST, {**STEPS, "analysis": ANALYSIS}) as serving:
        where.wait(where.client(CLIENT, RATE=str(RATE)), served.READY)
        player = Player(where, serving, iter([SECOND]), iter([BAD]))
        begun = time.time()
        await player.promotion()
        await serving.patch({"replicas": 2})
        await serving.until("two pods", lambda status: status["stable"]["readyReplicas"] == 2, 60)
        await player.abort()
        await serving.patch({"replicas": 1})
        await player.rest()
        seen = failures(where.lines(f"client-{CLIENT}"), begun, time.time())
    assert seen["failed"] == {}
    assert seen["errors_of_models"].keys() == {f"500 of {BAD.run}"}
    assert seen["requests"] > RATE * seen["seconds"] / 2
