"""A shared outage in a canary on a real cluster: both revisions fail alike for some seconds, and none is rejected."""

from typing import Any

from examples.rain.demo.stage import Stage
from perennial.api import kinds
from tests.cluster.serving import manifest
from tests.cluster.test_rollout_routing import artifacts, team

NAME = "rain"
SERVER = """
import random, sys
sys.path.insert(0, "/opt")
import trivial

class Server(trivial.Model):
    def do_POST(self):
        if self.headers.get("x-shared") != "down" or random.random() < 0.5:
            super().do_POST()
            return
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(500, {"error": "what both revisions need is down"})

trivial.Model = Server
sys.exit(trivial.serve())
"""
SEND = """
import asyncio, sys, time
import aiohttp

RATE, SECONDS, HEADERS = float(sys.argv[1]), float(sys.argv[2]), dict(a.split("=") for a in sys.argv[3:])
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}

async def ask(web):
    async with web.post("http://rain/v2/models/rain/infer", json=BODY, headers=HEADERS) as answer:
        await answer.read()

async def main():
    end, due, tasks = time.monotonic() + SECONDS, time.monotonic(), set()
    async with aiohttp.ClientSession() as web:
        while due < end:
            due += 1 / RATE
            await asyncio.sleep(max(0, due - time.monotonic()))
            tasks.add(task := asyncio.create_task(ask(web)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

asyncio.run(main())
"""


def deployment(stage: Stage, artifact: dict[str, Any], colour: str) -> dict[str, Any]:
    """The ModelDeployment; another colour is another revision of the same model."""
    analysis = {"warmupSeconds": 1, "maxErrorRate": "0.01", "maxErrorRatio": "3"}
    spec = {
        "storage": {"secretRef": {"name": "rain-store"}},
        "rollout": {"steps": [{"weight": 50, "holdSeconds": 30}], "analysis": analysis},
    }
    return manifest(stage, NAME, artifact, {"COLOUR": colour}, spec, SERVER)


async def status(stage: Stage) -> dict[str, Any]:
    """The status of the ModelDeployment."""
    return dict((await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, NAME) or {}).get("status", {}))


async def send(stage: Stage, job: str, rate: int, seconds: int, *headers: str) -> None:
    """Start requests from within the cluster."""
    await stage.job(job, stage.tags["perennial"], ["python3", "-c", SEND, str(rate), str(seconds), *headers])


async def test_a_shared_outage_rejects_no_canary_and_it_is_promoted_afterwards(
    installed: Stage, quiet_operator: None
) -> None:
    async with team(installed) as stage:
        artifact, _ = await artifacts(stage)
        stage.apply(deployment(stage, artifact, "blue"))

        async def first() -> str | None:
            return (await status(stage)).get("stable", {}).get("revision")

        stable = await stage.wait("the first revision", first, 60)
        await send(stage, "steady", 60, 300)
        stage.apply(deployment(stage, artifact, "green"))

        async def counted() -> dict[str, Any] | None:
            analysis = (await status(stage)).get("rollout", {}).get("analysis", {})
            return analysis if analysis.get("requests") else None

        await stage.wait("the first counted request of the canary", counted, 60)
        await send(stage, "outage", 60, 6, "x-shared=down")

        async def failing() -> dict[str, Any] | None:
            found = await counted()
            return found if found and found["failures"] >= 40 and found["stableFailures"] >= 40 else None

        analysis = await stage.wait("both revisions to fail", failing, 40, every=0.2)
        assert analysis["verdict"] == "Inconclusive"
        await stage.wait("the end of the outage", lambda: stage.job_done("outage"), 30)
        assert "rejected" not in await status(stage)

        async def promoted() -> str | None:
            found = await status(stage)
            assert "rejected" not in found, found["rejected"]
            return found["stable"]["revision"] if found["stable"]["revision"] != stable else None

        canary = await stage.wait("the promotion", promoted, 60)
        history = (await status(stage))["history"]
        assert [entry["revision"] for entry in history] == [canary, stable]
