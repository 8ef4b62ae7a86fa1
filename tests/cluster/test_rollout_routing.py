"""Requests that choose their revision and callers that keep theirs, on a real ModelDeployment in a canary."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from examples.rain.demo import servers
from examples.rain.demo.stage import Stage, Timeline
from perennial.adapters.kube import connect_store
from perennial.api import kinds
from tests.cluster.operator import LOOP, make_namespace
from tests.cluster.serving import manifest
from tests.cluster.test_bad_input import command_line

NAME = "pick"
WEIGHT = 40
CALLERS = 40

STORE = """
import sys
sys.path.insert(0, "/files")
import sender
sender.data(0, "first")
sender.artifact(0)
sender.artifact(0.5)
"""

SEND = """
import asyncio, collections, json, time
import aiohttp

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}

async def main():
    told = collections.Counter()
    async with aiohttp.ClientSession() as web:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            async with web.post("http://pick/v2/models/pick/infer", json=BODY) as answer:
                await answer.read()
                told[f"{answer.status} {answer.headers['x-perennial-revision']}"] += 1
            await asyncio.sleep(0.01)
    print(json.dumps(told), flush=True)

asyncio.run(main())
"""

ASK = """
import asyncio, collections, json, sys
import aiohttp

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}

async def ask(web, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with web.post("http://pick/v2/models/pick/infer", json=BODY, headers=sent) as answer:
        await answer.read()
        assert answer.status == 200, answer.status
        return answer.headers["x-perennial-revision"]

async def main():
    told = {}
    async with aiohttp.ClientSession() as web:
        for word in ("canary", "stable"):
            told[word] = collections.Counter([await ask(web, x_perennial_revision=word) for _ in range(60)])
        people = {}
        for turn in range(3):
            for person in range(int(sys.argv[1])):
                people.setdefault(person, []).append(await ask(web, x_user_id=f"user-{person}"))
        told["people"] = list(people.values())
    print(json.dumps(told), flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def team(installed: Stage) -> AsyncIterator[Stage]:
    """A namespace with a store and a model in it."""
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), f"pick-{secrets.token_hex(3)}", installed.tags)
        make_namespace(stage)
        try:
            await stage.serve_git_and_store()
            yield stage
        finally:
            stage.kubectl("delete", "namespace", stage.namespace, "--wait=false")


async def artifacts(stage: Stage) -> list[dict[str, Any]]:
    """A good model, and one that fails for half of its requests."""
    files = {"sender.py": (LOOP / "sender.py").read_text()}
    await stage.job("store", stage.tags["perennial"], ["python3", "-c", STORE], env=servers.store_env(), files=files)
    await stage.wait("the artifacts", lambda: stage.job_done("store"), 60)
    return [json.loads(line) for line in (await stage.job_log("store")).strip().splitlines()[-2:]]


def deployment(stage: Stage, artifact: dict[str, Any], colour: str, **rollout: Any) -> dict[str, Any]:
    """The ModelDeployment; another colour is another revision of the same model."""
    plan = {"steps": [{"weight": WEIGHT, "holdSeconds": 3600}], "analysis": {"warmupSeconds": 0}, **rollout}
    spec = {
        "storage": {"secretRef": {"name": "rain-store"}},
        "traffic": {"override": True, "stickyHeader": "x-user-id"},
        "rollout": plan,
    }
    return manifest(stage, NAME, artifact, {"COLOUR": colour}, spec)


async def status(stage: Stage) -> dict[str, Any]:
    """The status of the ModelDeployment."""
    return dict((await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, NAME) or {}).get("status", {}))


async def said(stage: Stage, job: str, callers: int) -> dict[str, Any]:
    """What a client in the cluster was answered."""
    await stage.job(job, stage.tags["perennial"], ["python3", "-c", ASK, str(callers)])
    await stage.wait("the client", lambda: stage.job_done(job), 60)
    return dict(json.loads((await stage.job_log(job)).strip().splitlines()[-1]))


async def first_revision(stage: Stage) -> str:
    """The revision that serves, once there is one."""

    async def look() -> str | None:
        return (await status(stage)).get("stable", {}).get("revision")

    return await stage.wait("the first revision", look, 60)


async def test_testers_choose_the_canary_apart_from_the_verdict_until_it_is_aborted(installed: Stage) -> None:
    async with team(installed) as stage:
        artifact, _ = await artifacts(stage)
        stage.apply(deployment(stage, artifact, "blue"))

        stable = await first_revision(stage)
        stage.apply(deployment(stage, artifact, "green"))

        async def counting() -> str | None:
            found = (await status(stage)).get("rollout", {})
            return found["targetRevision"] if found.get("evidence", {}).get("lookedTime") else None

        canary = await stage.wait("the canary to be counted", counting, 60)
        await asyncio.sleep(2)  # one look more: what comes from now on is counted from a known beginning
        told = await said(stage, "ask", CALLERS)
        assert told["canary"] == {canary: 60} and told["stable"] == {stable: 60}
        assert all(len(set(answers)) == 1 for answers in told["people"]), "callers keep their revision"
        by_weight = sum(answers.count(canary) for answers in told["people"])
        assert 0 < by_weight < 3 * CALLERS

        async def counted() -> int | None:
            analysis = (await status(stage)).get("rollout", {}).get("analysis", {})
            return analysis.get("requests") if analysis.get("requests", 0) >= by_weight else None

        assert await stage.wait("the counts", counted, 20) == by_weight, "chosen requests are no evidence"
        command_line(stage, "abort", NAME)

        async def withdrawn() -> bool | None:
            found = await status(stage)
            return ("rollout" not in found and bool(found["rejected"])) or None

        await stage.wait("the abort", withdrawn, 30)
        told = await said(stage, "ask-again", 10)
        assert told["canary"] == {stable: 60}
        assert {answer for answers in told["people"] for answer in answers} == {stable}


async def test_a_canary_that_fails_copies_is_aborted_before_any_caller_sees_it(installed: Stage) -> None:
    async with team(installed) as stage:
        good, bad = await artifacts(stage)
        stage.apply(deployment(stage, good, "blue"))
        stable = await first_revision(stage)
        await stage.job("send", stage.tags["perennial"], ["python3", "-c", SEND])
        stage.apply(deployment(stage, bad, "blue", mirrorPercent=50))

        async def rejected() -> dict[str, Any] | None:
            found = await status(stage)
            assert len(found.get("traffic", ())) < 2 or found["traffic"][1]["weight"] == 0, "the canary got weight"
            return next(iter(found.get("rejected", ())), None)

        entry = await stage.wait("the verdict on the copies", rejected, 60, every=0.2)
        assert entry["reason"] == "CanaryFailed"
        assert "in copies that nobody waited for" in entry["message"]
        await stage.wait("the client", lambda: stage.job_done("send"), 60)
        told = json.loads((await stage.job_log("send")).strip().splitlines()[-1])
        assert told.keys() == {f"200 {stable}"}
