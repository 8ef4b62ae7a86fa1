"""Canaries that answer 200 and are wrong, on a real cluster: aborted for what they predict; an honest one is not."""

import json
from typing import Any

from examples.rain.demo.stage import Stage
from tests.cluster.serving import manifest
from tests.cluster.test_rollout_analysis import status
from tests.cluster.test_rollout_routing import artifacts, team

NAME = "rain"
SERVER = """
import os, sys
sys.path.insert(0, "/opt")
import trivial

ANSWERS = {
    "honest": lambda x: x - 1.5,
    "shifted": lambda x: x + 0.5,
    "constant": lambda x: -1.25,
    "nan": lambda x: x - 1.5 if x < 0.7 else float("nan"),
}

class Server(trivial.Model):
    def _answer(self, code, body):
        answer = ANSWERS[os.environ["ANSWERS"]]
        for output in body.get("outputs", ()):
            if "data" in output:
                output["data"] = [answer(value + self.model["mean"]) for value in output["data"]]
        super()._answer(code, body)

trivial.Model = Server
sys.exit(trivial.serve())
"""
SEND = """
import asyncio, json, random, time
import aiohttp

async def ask(web, value, codes):
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}]}
    async with web.post("http://rain/v2/models/rain/infer", json=body) as answer:
        await answer.read()
        codes[answer.status] = codes.get(answer.status, 0) + 1

async def main():
    due, tasks, codes, told, chance = time.monotonic(), set(), {}, 0.0, random.Random(7)
    async with aiohttp.ClientSession() as web:
        while True:
            due += 1 / 80
            await asyncio.sleep(max(0, due - time.monotonic()))
            tasks.add(task := asyncio.create_task(ask(web, chance.random(), codes)))
            task.add_done_callback(tasks.discard)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                print(json.dumps(codes), flush=True)

asyncio.run(main())
"""
ABORTED = {
    "shifted": ("PredictionsDiffer", "maxDistance"),
    "constant": ("ConstantPredictions", "one and the same value"),
    "nan": ("NullPredictions", "null, NaN or infinite"),
}


def deployment(stage: Stage, artifact: dict[str, Any], answers: str, note: str = "") -> dict[str, Any]:
    """The ModelDeployment; what the server answers, and the note, are part of its revision."""
    analysis = {"warmupSeconds": 1, "maxErrorRate": "0.05", "predictions": {"maxDistance": "0.3"}}
    spec = {
        "storage": {"secretRef": {"name": "rain-store"}},
        "rollout": {"steps": [{"weight": 30, "holdSeconds": 20}], "analysis": analysis},
    }
    return manifest(stage, NAME, artifact, {"ANSWERS": answers, "NOTE": note}, spec, SERVER)


async def test_canaries_that_answer_wrongly_are_aborted_without_a_failed_request_and_an_honest_one_is_promoted(
    installed: Stage, quiet_operator: None
) -> None:
    async with team(installed) as stage:
        artifact, _ = await artifacts(stage)
        stage.apply(deployment(stage, artifact, "honest"))

        async def first() -> str | None:
            return (await status(stage)).get("stable", {}).get("revision")

        stable = await stage.wait("the first revision", first, 60)
        await stage.job("send", stage.tags["perennial"], ["python3", "-c", SEND])
        for number, (answers, (reason, words)) in enumerate(ABORTED.items(), 1):
            stage.apply(deployment(stage, artifact, answers))

            async def aborted(wanted: int = number) -> dict[str, Any] | None:
                rejected = (await status(stage)).get("rejected", ())
                return dict(rejected[0]) if len(rejected) == wanted else None

            rejection = await stage.wait(f"the abort of {answers}", aborted, 90)
            assert rejection["reason"] == reason
            assert "0 of " in rejection["message"] and words in rejection["message"], rejection["message"]
            assert (await status(stage))["stable"]["revision"] == stable
        stage.apply(deployment(stage, artifact, "honest", note="another"))
        passed: list[dict[str, Any]] = []

        async def promoted() -> str | None:
            found = await status(stage)
            assert len(found["rejected"]) == len(ABORTED), found["rejected"]
            passed.extend(
                [compared]
                if (compared := found.get("rollout", {}).get("analysis", {}).get("predictions"))
                and compared["verdict"] == "Passed"
                else []
            )
            return found["stable"]["revision"] if found["stable"]["revision"] != stable else None

        await stage.wait("the promotion of the honest canary", promoted, 90, every=0.5)
        assert passed and float(passed[-1]["distance"]) < 0.3 and passed[-1]["rows"] >= 50
        codes = json.loads((await stage.job_log("send")).strip().splitlines()[-1])
        assert set(codes) == {"200"}
