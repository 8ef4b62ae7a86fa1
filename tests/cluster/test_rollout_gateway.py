"""Rollouts through a real Gateway: a route of the operator straight to the pods, and one of a team to the Service."""

import asyncio
import json
import math
from typing import Any

from examples.rain.demo.stage import Stage
from perennial.api import kinds
from perennial.domain.conditions import find
from perennial.domain.decision import JsonObject
from tests.cluster import metrics
from tests.cluster.serving import Team, artifact, manifest, team
from tests.support import gateway

HOST = "rain.example.org"
WEIGHT = 30
ENOUGH = 500

SERVER = """
import collections, os, random, socket, sys
sys.path.insert(0, "/opt")
import trivial

COLOUR, FAIL, POD = os.environ["COLOUR"], float(os.environ.get("FAIL", "0")), socket.gethostname()
answers = collections.Counter({200: 0, 500: 0})

class Server(trivial.Model):
    def do_GET(self):
        if self.path != "/metrics":
            super().do_GET()
            return
        lines = [f'model_answers_total{{pod="{POD}",code="{code}"}} {n}' for code, n in answers.items()]
        raw = "".join(line + chr(10) for line in lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self):
        if random.random() >= FAIL:
            super().do_POST()
            return
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(500, {})

    def _answer(self, code, body):
        answers[code] += self.command == "POST"
        super()._answer(code, {**body, "colour": COLOUR})

trivial.Model = Server
sys.exit(trivial.serve())
"""
SEND = """
import asyncio, collections, json, sys, time
import aiohttp

URL, HOST, RATE = f"http://{sys.argv[1]}/v2/models/{sys.argv[3]}/infer", sys.argv[2], 40
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}
told = collections.Counter()

async def ask(web):
    try:
        async with web.post(URL, json=BODY, headers={"host": HOST}) as answer:
            text = await answer.text()
            try:
                colour = json.loads(text)["colour"]
            except (ValueError, KeyError):
                colour = "nobody"
            told[f"{colour} {answer.status}"] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        told[type(error).__name__] += 1

async def main():
    due, said, tasks = time.monotonic(), 0, set()
    async with aiohttp.ClientSession() as web:
        while True:
            due = max(due + 1 / RATE, time.monotonic() - 1)
            await asyncio.sleep(max(0, due - time.monotonic()))
            tasks.add(task := asyncio.create_task(ask(web)))
            task.add_done_callback(tasks.discard)
            if time.monotonic() - said > 0.5:
                said = time.monotonic()
                print(json.dumps(told), flush=True)

asyncio.run(main())
"""


def deployment(stage: Stage, name: str, colour: str, **spec: Any) -> JsonObject:
    """The ModelDeployment `name`; another colour is another revision. red fails for half of its requests."""
    env = {"COLOUR": colour, "FAIL": "0.5" if colour == "red" else "0"}
    return manifest(stage, name, artifact(), env, {**spec, "traffic": {"timeoutSeconds": 5, **spec.get("traffic", {})}},
                    SERVER)  # fmt: skip


def through(stage: Stage, colour: str, parent: str = "edge", name: str = "rain") -> JsonObject:
    """One whose requests come through a Gateway, judged by the metric of the canary's pods."""
    steps = [{"weight": WEIGHT, "holdSeconds": 10}]
    rollout = {
        "steps": steps,
        "scaleDownDelaySeconds": 30,
        "analysis": {"warmupSeconds": 4, "metrics": [metrics.errors()]},
    }
    asked = {"parentRefs": [{"name": parent}], "hostnames": [HOST if name == "rain" else f"{name}.example.org"]}
    return deployment(stage, name, colour, rollout=rollout, traffic={"gateway": asked})


class Client:
    """Steady requests from inside the cluster to the Gateway."""

    def __init__(self, stage: Stage, job: str) -> None:
        self.stage = stage
        self.job = job

    async def start(self, address: str, host: str, model: str) -> None:
        """Begin; returns when requests are answered. What was answered before the route was there does not count."""
        image = self.stage.tags["perennial"]
        await self.stage.job(self.job, image, ["python3", "-c", SEND, address, host, model])

        async def answered() -> bool | None:
            return (await self.told()).get("blue 200", 0) > 20 or None

        await self.stage.wait("the first answers through the Gateway", answered, 60)
        self.before = await self.told()

    async def told(self) -> dict[str, int]:
        """Answers by who gave them and their code."""
        lines = (await self.stage.job_log(self.job)).strip().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}

    async def since(self, start: dict[str, int], least: int) -> dict[str, int]:
        """What was answered since `start`, once those are `least`."""

        async def look() -> dict[str, int] | None:
            now = await self.told()
            new = {key: n - start.get(key, 0) for key, n in now.items() if n > start.get(key, 0)}
            return new if sum(new.values()) >= least else None

        return await self.stage.wait(f"{least} more answers", look, 90)


async def rests(all_: Team, name: str, other_than: str | None) -> JsonObject:
    """The status once something else than `other_than` is stable and no rollout is in progress."""

    async def look() -> JsonObject | None:
        status = await all_.status(name)
        found = status.get("stable", {}).get("revision")
        return status if found and found != other_than and "rollout" not in status else None

    return await all_.stage.wait(f"another revision of {name} to serve", look, 120)


async def backends(stage: Stage, name: str) -> dict[str, int]:
    """The Services and weights of a route."""
    route = await stage.store.get(kinds.HTTP_ROUTE, stage.namespace, name) or {}
    (rule,) = route["spec"]["rules"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


async def test_a_rollout_and_an_abort_through_a_gateway_fail_no_request(
    installed: Stage, gateway_class: str, quiet_operator: None
) -> None:
    async with team(installed) as all_, metrics.watching(all_.stage, "rain"):
        stage = all_.stage
        address = gateway.gateway(stage.cluster, stage.namespace, gateway_class, "edge")
        stage.apply(through(stage, "blue"))
        first = await rests(all_, "rain", None)
        assert first["gateway"]["accepted"] is True
        client = Client(stage, "sender")
        await client.start(address, HOST, "rain")

        stage.apply(through(stage, "green"))

        async def shared() -> dict[str, int] | None:
            told = await client.told()
            return told if told.get("green 200") else None

        start = await stage.wait("the canary to answer", shared, 60, every=0.1)
        told = await client.since(start, ENOUGH)
        status = await all_.status("rain")
        assert (status["rollout"]["state"], status["canary"]["weight"]) == ("Analysing", WEIGHT)
        assert "Requests through the Gateway are not counted: metrics decide" in status["rollout"]["analysis"]["reason"]
        assert status["rollout"]["analysis"]["requests"] == 0
        share, error = told["green 200"] / sum(told.values()), math.sqrt(0.3 * 0.7 / ENOUGH)
        assert abs(share - WEIGHT / 100) < 4 * error, told
        second = await rests(all_, "rain", first["stable"]["revision"])
        assert await backends(stage, "rain") == {f"rain-rev-{second['stable']['revision']}": 100}

        stage.apply(through(stage, "red"))

        async def rejected() -> dict[str, Any] | None:
            found = await all_.status("rain")
            return found["rejected"][0] if found.get("rejected") and "rollout" not in found else None

        entry = await stage.wait("the verdict of the metric", rejected, 90)
        assert entry["reason"] == "CanaryFailed"
        assert "Metric errors failed 3 looks in a row" in entry["message"]
        assert await backends(stage, "rain") == {f"rain-rev-{second['stable']['revision']}": 100}

        async def withdrawn() -> dict[str, int] | None:
            told = await client.told()
            new = await client.since(told, 80)
            return new if new.keys() == {"green 200"} else None

        await stage.wait("only stable to answer", withdrawn, 30)

        async def gone() -> bool | None:
            return not await all_.pods(first["stable"]["revision"]) or None

        await stage.wait("the pods of the first revision to leave", gone, 60)
        ended = await client.since(client.before, 1)
        print(f"answers through the Gateway: {ended}", flush=True)
        assert ended.keys() <= {"blue 200", "green 200", "red 200", "red 500"}, ended


async def test_a_gateway_that_is_not_there_holds_everything_in_words_until_it_is(
    installed: Stage, gateway_class: str, quiet_operator: None
) -> None:
    async with team(installed) as all_:
        stage = all_.stage
        stage.apply(through(stage, "blue", "nowhere", "lost"))

        words = "the Gateway does not: Gateway nowhere does not exist in this namespace: make it"

        async def waits() -> JsonObject | None:
            """The status once all but the Gateway confirms the weight."""
            status = await all_.status("lost")
            ready = find(status.get("conditions", ()), "Ready") or {}
            return status if words in ready.get("message", "") else None

        await stage.wait("the words about the Gateway", waits, 90)
        await asyncio.sleep(3)  # time for passes that must not go on
        status = await waits()
        assert status is not None, "it goes on"
        assert status["rollout"]["state"] == "Shifting" and "stable" not in status
        assert status["gateway"]["accepted"] is False

        gateway.gateway(stage.cluster, stage.namespace, gateway_class, "nowhere")
        assert (await rests(all_, "lost", None))["gateway"]["accepted"] is True
        all_.wait_ready("lost", 30)


async def test_requests_through_a_teams_own_route_to_the_service_are_counted(
    installed: Stage, gateway_class: str
) -> None:
    async with team(installed) as all_:
        stage = all_.stage
        address = gateway.gateway(stage.cluster, stage.namespace, gateway_class, "edge")
        rollout = {"steps": [{"weight": 50}], "analysis": {"warmupSeconds": 1, "maxErrorRate": "0.05"}}
        stage.apply(deployment(stage, "own", "blue", rollout=rollout))
        first = await rests(all_, "own", None)
        assert "gateway" not in first
        path = {"path": {"type": "PathPrefix", "value": "/v2/models/own/"}}
        rule = {"matches": [path], "backendRefs": [{"name": "own", "port": 80}]}
        stage.apply(
            {
                "apiVersion": kinds.HTTP_ROUTE.api_version,
                "kind": kinds.HTTP_ROUTE.kind,
                "metadata": {"name": "models"},
                "spec": {"parentRefs": [{"name": "edge"}], "hostnames": ["models.example.org"], "rules": [rule]},
            }
        )
        client = Client(stage, "sender")
        await client.start(address, "models.example.org", "own")
        stage.apply(deployment(stage, "own", "green", rollout=rollout))

        async def counted() -> int | None:
            analysis = (await all_.status("own")).get("rollout", {}).get("analysis", {})
            return analysis.get("requests") or None

        assert await stage.wait("the canary's requests to be counted", counted, 60, every=0.2) > 0
        await rests(all_, "own", first["stable"]["revision"])
        ended = await client.since(client.before, 1)
        assert ended.keys() == {"blue 200", "green 200"}, ended
