"""Weights, flips, restarts and what is confirmed, through a real Envoy."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from perennial.router import apply
from tests.component.router.harness import Router, answering, eventually

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"


async def both(running: Router, *, weights: dict[str, int] | None = None) -> None:
    """A deployment `rain` with a stable and a canary server."""
    for name, revision in (("stable", STABLE), ("canary", CANARY)):
        await running.ready("rain", revision, await running.serve(name))
    await running.split("rain", 1, weights or {STABLE: 75, CANARY: 25})
    await running.confirmed("rain", 1)


async def counts(running: Router) -> dict[str, Any]:
    """The counts page of `rain`."""
    return (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]


async def test_splits_by_weight_and_counts_every_request_and_failure(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.ready("rain", CANARY, await running.serve("canary", answering("canary", 500)))
    await running.split("rain", 1, {STABLE: 75, CANARY: 25})
    status = await running.confirmed("rain", 1)
    assert status["weights"] == {STABLE: 75, CANARY: 25}
    answers = await running.who(800)
    assert answers.keys() == {"stable", "500"}
    assert 130 <= answers["500"] <= 270  # 200 expected; six standard deviations either way
    revisions = (await counts(running))["revisions"]
    assert revisions[STABLE]["codes"] == {"200": answers["stable"]}
    assert revisions[CANARY]["codes"] == {"500": answers["500"]}
    assert revisions[STABLE]["requests"] + revisions[CANARY]["requests"] == 800

    async def logged() -> bool:
        return (await counts(running))["revisions"][STABLE]["latency"]["logged"] == answers["stable"]

    await eventually(logged, "every request is in the access log")


async def test_no_request_fails_while_weights_and_endpoints_change(running: Router) -> None:
    await both(running)
    second = await running.serve("stable-2")
    answers: Counter[int] = Counter()
    flipping = True

    async def load() -> None:
        while flipping:
            answers[(await running.post())[0]] += 1

    clients = [asyncio.create_task(load()) for _ in range(6)]
    version = 1
    for weights in ({STABLE: 100}, {STABLE: 50, CANARY: 50}, {CANARY: 100}, {STABLE: 100, CANARY: 0}) * 3:
        version += 1
        await running.split("rain", version, weights)
        await running.ready("rain", STABLE, second, ready=version % 2 == 0)
        await running.confirmed("rain", version)
    flipping = False
    await asyncio.gather(*clients)
    assert answers.keys() == {200} and answers[200] > 50
    revisions = (await counts(running))["revisions"]
    assert sum(revision["requests"] for revision in revisions.values()) == answers[200]


async def test_counts_outlive_the_cluster_of_a_revision(running: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "KEEP_SECONDS", 0.05)
    await both(running, weights={STABLE: 50, CANARY: 50})
    first = await running.who(80)
    await running.split("rain", 2, {STABLE: 100})

    async def canary_is_gone() -> bool:
        return CANARY not in json.dumps(apply.read_file(running.layout.clusters))

    await eventually(canary_is_gone, "the canary's cluster is removed")
    await running.split("rain", 3, {STABLE: 50, CANARY: 50})
    await running.confirmed("rain", 3)
    second = await running.who(80)
    revisions = (await counts(running))["revisions"]
    assert revisions[CANARY]["codes"] == {"200": first["canary"] + second["canary"]}
    assert first["canary"] and second["canary"]


async def test_a_revision_without_ready_endpoints_gets_nothing(running: Router) -> None:
    stable, canary = await running.serve("stable"), await running.serve("canary")
    await running.ready("rain", STABLE, stable)
    await running.split("rain", 1, {STABLE: 50, CANARY: 50})

    async def weights() -> dict[str, int]:
        return (await running.page("/v1/status"))["deployments"].get("rain", {}).get("weights", {})

    async def all_to(revision: str) -> bool:
        return (await weights()).get(revision) == 100

    await eventually(lambda: all_to(STABLE), "stable has the canary's share")
    assert not (await running.page("/v1/status"))["deployments"]["rain"]["confirmed"]
    assert (await running.who(40)).keys() == {"stable"}
    await running.ready("rain", CANARY, canary)
    await running.confirmed("rain", 1)
    await running.ready("rain", STABLE, stable, ready=False)
    await eventually(lambda: all_to(CANARY), "the canary has all when stable is lost")
    assert (await running.who(40)).keys() == {"canary"}
    await running.ready("rain", STABLE, stable)
    await running.confirmed("rain", 1)


async def test_serves_the_last_weights_while_the_api_server_is_away_and_after_restarts(running: Router) -> None:
    await both(running, weights={STABLE: 0, CANARY: 100})
    running.api.away = True
    await running.api.put("driftpolicies", {"metadata": {"name": "wake"}, "spec": {}})  # ends the open watches
    await running.stop_agent()
    assert (await running.who(16)).keys() == {"canary"}
    await running.stop_envoy()
    await running.start_envoy()
    running.start_agent()
    status = await running.confirmed("rain", 1)
    assert status["weights"] == {STABLE: 0, CANARY: 100}
    await running.envoy_ready()
    assert (await running.who(16)).keys() == {"canary"}
    running.api.away = False
    await running.split("rain", 2, {STABLE: 100})
    await running.confirmed("rain", 2)
    assert (await running.who(16)).keys() == {"stable"}


async def test_status_is_not_confirmed_while_envoy_does_not_have_it(running: Router) -> None:
    await both(running)
    await running.stop_envoy()
    await running.split("rain", 2, {STABLE: 100})

    async def taken_over() -> bool:
        return (await running.page("/v1/status"))["deployments"]["rain"]["trafficVersion"] == 2

    await eventually(taken_over, "the agent has the new weights")
    before = await running.page("/v1/status")
    assert before["deployments"]["rain"]["confirmed"] is False
    await running.start_envoy()
    await running.confirmed("rain", 2)
    after = await running.page("/v1/status")
    assert after["started"]["envoy"] > before["started"]["envoy"]


async def test_finds_the_model_by_host_or_path_and_names_the_trouble_otherwise(running: Router) -> None:
    await both(running, weights={STABLE: 100})
    await running.split("sun", 1, {"cccccccc": 100})
    await running.ready("sun", "cccccccc", await running.serve("sun"))
    await running.confirmed("sun", 1)
    await running.split("fog", 1, {"dddddddd": 0})
    for host in ("rain", "rain.team", "rain.team.svc", "rain.team.svc.cluster.local", "rain:8080", "rain.team.svc:80"):
        status, body = await running.post(Host=host, path="/v2/models/rain/infer")
        assert (status, json.loads(body)["who"]) == (200, "stable"), host
    for path, who in (
        ("/v2/models/sun/infer", "sun"),
        ("/v1/models/sun:predict", "sun"),
        ("/v1/models/rain:predict", "stable"),
        ("/v2/models/rain", "stable"),
    ):
        status, body = await running.post(Host="10.0.0.1", path=path)
        assert (status, json.loads(body)["who"]) == (200, who), path
    status, body = await running.post(Host="10.0.0.1", path="/v2/models/rainy/infer")
    assert status == 404 and b"use its name as host or in the path" in body

    async def fog_is_known() -> bool:
        status, body = await running.post("fog")
        return status == 503 and b"serves no version yet" in body

    await eventually(fog_is_known, "a deployment without a version answers 503")


async def test_large_bodies_pass_unchanged_and_streams_are_not_held(running: Router) -> None:
    release = asyncio.Event()

    async def behaviour(request: web.Request, body: bytes) -> web.StreamResponse:
        if not request.path.endswith("_stream"):
            return web.Response(body=body[::-1])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await release.wait()
        await response.write(b"data: last\n\n")
        return response

    await running.ready("rain", STABLE, await running.serve("stable", behaviour))
    await running.api.put(
        "driftpolicies",
        {"metadata": {"name": "p"}, "spec": {"deploymentRef": {"name": "rain"}, "window": {"seconds": 3600}}},
    )
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    large = bytes(range(256)) * 16384  # 4 MiB
    status, body = await running.post(body=large)
    assert status == 200, body
    assert body == large[::-1]
    stream = f"{running.url}/v2/models/rain/generate_stream"
    async with running.session.post(stream, data=b"{}", headers={"Host": "rain"}) as response:
        first = await asyncio.wait_for(response.content.readline(), 5)
        assert first == b"data: first\n"  # the server has not ended its answer yet
        release.set()
        assert b"data: last" in await response.read()

    async def window() -> dict[str, Any] | None:
        windows = (await counts(running))["windows"]
        return windows[-1] if windows and windows[-1]["streams"] else None

    seen = await eventually(window, "the stream is counted")
    assert (seen["streams"], seen["unparsed"], seen["rows"]) == (1, 1, 0)


async def test_the_pages_need_the_token_and_the_probes_do_not(running: Router) -> None:
    await both(running)
    base = f"http://127.0.0.1:{running.agent_port}"
    for path, wanted in (
        ("/healthz", 200),
        ("/readyz", 200),
        ("/v1/counts", 401),
        ("/v1/status", 401),
        ("/metrics", 401),
    ):
        async with running.session.get(base + path, headers={"Authorization": "Bearer sesam"}) as response:
            assert response.status == wanted, path
    async with running.session.get(f"{base}/metrics", headers={"Authorization": "Bearer sesame"}) as response:
        text = await response.text()
    assert 'perennial_router_weight{deployment="rain",revision="aaaaaaaa"} 75.0' in text


async def test_the_time_limit_is_for_the_first_byte_and_broken_answers_are_resets(running: Router) -> None:
    async def behaviour(request: web.Request, _body: bytes) -> web.StreamResponse:
        if request.path.endswith("/infer"):
            await asyncio.sleep(1.5)
            return web.Response()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(4):
            await response.write(b"data: x\n\n")
            await asyncio.sleep(0.4)
        if request.path.endswith("/broken"):
            assert request.transport is not None
            request.transport.abort()
        return response

    await running.ready("rain", STABLE, await running.serve("stable", behaviour))
    await running.split("rain", 1, {STABLE: 100}, traffic={"timeoutSeconds": 1})
    await running.confirmed("rain", 1)
    slow, stream, broken = await asyncio.gather(
        running.post(),
        running.post(path="/v2/models/rain/generate_stream"),
        running.post(path="/v2/models/rain/broken"),
        return_exceptions=True,
    )
    assert isinstance(slow, tuple) and slow[0] == 504
    assert isinstance(stream, tuple) and stream == (200, b"data: x\n\n" * 4)
    assert isinstance(broken, aiohttp.ClientPayloadError)

    async def logged() -> dict[str, Any] | None:
        revision = (await counts(running))["revisions"][STABLE]
        return revision if revision["latency"]["logged"] == 3 else None

    seen = await eventually(logged, "all three are in the access log")
    assert seen["codes"] == {"200": 2, "504": 1} and seen["resets"] == 1


async def test_a_pod_gets_its_requests_whatever_it_answers(running: Router) -> None:
    broken = await running.serve("broken", answering("broken", 503))
    await running.ready("rain", STABLE, await running.serve("good"), broken)
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    await running.who(80)
    seen = broken.seen
    assert seen > 20
    await running.who(80)
    assert broken.seen - seen > 20  # errors are for the analysis to see; they must not move traffic


async def test_idle_connections_are_closed_before_any_common_server_closes_them(running: Router) -> None:
    kept: list[asyncio.Transport] = []

    async def behaviour(request: web.Request, _body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        kept.append(request.transport)
        return web.json_response({})

    await running.ready("rain", STABLE, await running.serve("stable", behaviour))
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    assert (await running.post())[0] == 200
    begun = time.monotonic()

    async def closed() -> bool:
        return kept[0].is_closing()

    await eventually(closed, "Envoy has closed the connection to the server")
    assert time.monotonic() - begun < 3  # one second is meant; gunicorn closes after 2 s, uvicorn after 5 s


async def test_every_answer_names_the_revision_that_gave_it(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.ready("rain", CANARY, await running.serve("canary", answering("canary", 500)))
    await running.split("rain", 1, {STABLE: 50, CANARY: 50})
    await running.confirmed("rain", 1)
    named: set[tuple[int, str | None]] = set()
    async with aiohttp.ClientSession() as session:
        for _ in range(60):
            async with session.post(f"{running.url}/v2/models/rain/infer", json={"inputs": []}) as answer:
                named.add((answer.status, answer.headers.get("x-perennial-revision")))
    assert named == {(200, STABLE), (500, CANARY)}


def telling_the_path(name: str) -> Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]:
    """A server that answers with the path it was asked for, or 404 when that is not of the model `name`."""

    async def behaviour(request: web.Request, _body: bytes) -> web.StreamResponse:
        known = re.match(rf"/v[12]/models/{re.escape(name)}(?=[/:?]|\Z)", request.path_qs)
        outputs = [{"name": "p", "shape": [1], "datatype": "FP64", "data": [0.5]}]
        return web.json_response({"who": request.path_qs, "outputs": outputs}, status=200 if known else 404)

    return behaviour


async def test_each_revision_is_asked_by_the_name_that_its_server_knows(running: Router) -> None:
    """A rollout from a server that knows the model as `rain` to one that knows it as `Forecast.v2`."""
    await running.ready("rain", STABLE, await running.serve("stable", telling_the_path("rain")))
    canary = await running.serve("canary", telling_the_path("Forecast.v2"))
    await running.ready("rain", CANARY, canary, served_name="Forecast.v2")
    await running.api.put(
        "driftpolicies",
        {"metadata": {"name": "p"}, "spec": {"deploymentRef": {"name": "rain"}, "window": {"seconds": 3600}}},
    )
    await running.split("rain", 1, {STABLE: 50, CANARY: 50})
    await running.confirmed("rain", 1)
    answers = await running.who(400)
    assert answers.keys() == {"/v2/models/rain/infer", "/v2/models/Forecast.v2/infer"}
    revisions = (await counts(running))["revisions"]
    assert revisions[CANARY]["codes"] == {"200": answers["/v2/models/Forecast.v2/infer"]}
    assert 130 <= answers["/v2/models/rain/infer"] <= 270  # 200 expected: the choice of the arm is not made again
    await running.split("rain", 2, {CANARY: 100, STABLE: 0})
    await running.confirmed("rain", 2)
    for host, asked, told in (
        ("10.0.0.1", "/v2/models/rain/infer?x=1", "/v2/models/Forecast.v2/infer?x=1"),
        ("10.0.0.1", "/v1/models/rain:predict", "/v1/models/Forecast.v2:predict"),
        ("rain", "/v2/models/rain", "/v2/models/Forecast.v2"),
        ("rain", "/v2/models/rain/versions/3/infer", "/v2/models/Forecast.v2/versions/3/infer"),
        ("rain", "/v2/models/Forecast.v2/infer", "/v2/models/Forecast.v2/infer"),
    ):
        status, body = await running.post(Host=host, path=asked)
        assert (status, json.loads(body)["who"]) == (200, told), asked
    for untouched in ("/v2/models/rainy/infer", "/v2/health/live", "/v1/chat/completions"):
        assert json.loads((await running.post(path=untouched))[1])["who"] == untouched
    async with running.session.get(f"{running.url}/v2/models/rain", headers={"Host": "rain"}) as answer:
        assert (await answer.json())["who"] == "/v2/models/Forecast.v2"
