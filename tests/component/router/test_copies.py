"""Copies of requests for a canary without weight, through a real Envoy: nobody waits for them, and each is counted."""

import asyncio
from typing import Any

import grpc
from aiohttp import web

from tests.component.router.harness import NAMESPACE, Router, Upstream, answering, eventually, grpc_server

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
ALL = {"mirrorPercent": 100}


class Counted:
    """A canary that answers well, and how many requests it has seen; the agent asks every server for its inputs."""

    def __init__(self) -> None:
        self.seen = 0

    async def answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """One request."""
        self.seen += request.method == "POST"
        return await answering("canary")(request, body)


async def rolled_out(running: Router, canary: Any, **spec: Any) -> Upstream:
    """`rain` with a good stable and that canary at weight 0, copied to as `spec.rollout` says."""
    await running.ready("rain", STABLE, await running.serve("stable"))
    upstream = await running.serve("canary", canary)
    await running.ready("rain", CANARY, upstream)
    await running.split("rain", 1, {STABLE: 100, CANARY: 0}, rolling="Analysing", **{"rollout": ALL, **spec})
    await running.confirmed("rain", 1)
    return upstream


async def copies(running: Router, deployment: str, done: int) -> dict[str, Any]:
    """What the counts page says of the canary's copies once that many were answered."""

    async def check() -> dict[str, Any] | None:
        page = (await running.page(f"/v1/counts?deployment={deployment}"))["deployments"][deployment]
        assert not page["revisions"].get(CANARY, {}).get("requests"), "copies are no requests of the canary"
        found = page["copies"].get(CANARY, {"requests": 0, "active": 1})
        assert found["requests"] <= done, found
        return found if found["requests"] == done and not found["active"] else None

    return await eventually(check, f"{done} copies are answered")


async def test_a_canary_without_weight_is_asked_the_same_and_nobody_hears_its_answers(running: Router) -> None:
    heard: list[tuple[str, str, bytes]] = []

    async def canary(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response()  # the agent asks every server for its inputs
        heard.append((request.path_qs, request.headers["Host"], body))
        assert not [name for name in request.headers if name.lower().startswith("x-perennial")]
        return web.Response(status=500)

    await rolled_out(running, canary)
    for number in range(20):
        path = f"/v2/models/rain/infer?number={number}"
        status, body = await running.post(body=b"%d" % number, path=path, x_perennial_copy="agent")
        assert status == 200 and b"stable" in body
    assert (await copies(running, "rain", 20))["codes"] == {"500": 20}
    assert sorted(heard) == sorted(
        (f"/v2/models/rain/infer?number={number}", f"rain.{NAMESPACE}", b"%d" % number) for number in range(20)
    )


async def test_copies_are_the_share_that_is_asked_for_and_end_with_weight_or_abort(running: Router) -> None:
    canary = Counted()
    await rolled_out(running, canary.answer, rollout={"mirrorPercent": 30})
    assert (await running.who(400)).keys() == {"stable"}

    async def quiet() -> bool:
        page = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]
        return page["copies"][CANARY]["active"] == 0 and page["copies"][CANARY]["requests"] == canary.seen

    await eventually(quiet, "every copy is counted")
    assert 65 <= canary.seen <= 175  # 120 expected; six standard deviations either way
    await running.split("rain", 2, {STABLE: 50, CANARY: 50}, rolling="Analysing", rollout=ALL)
    await running.confirmed("rain", 2)
    before = canary.seen
    answers = await running.who(80)
    assert canary.seen - before == answers["canary"]  # with weight it gets requests in place of copies
    await running.split("rain", 3, {STABLE: 100, CANARY: 0}, rolling="Withdrawing", rollout=ALL)
    await running.confirmed("rain", 3)
    before = canary.seen
    assert (await running.who(40)).keys() == {"stable"}
    assert canary.seen == before


async def test_a_canary_that_hangs_holds_nobody_and_its_copies_time_out(running: Router) -> None:
    release = asyncio.Event()

    async def hangs(request: web.Request, _body: bytes) -> web.StreamResponse:
        if request.method == "POST":
            await release.wait()
        return web.Response()

    await rolled_out(running, hangs, traffic={"timeoutSeconds": 1})
    try:
        assert await running.who(16) == {"stable": 16}
        assert (await copies(running, "rain", 16))["codes"] == {"504": 16}
    finally:
        release.set()


async def test_large_requests_are_copied_while_they_pass_and_a_canary_that_does_not_read_holds_nobody(
    running: Router,
) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    await rolled_out(running, answering("canary"))
    large = bytes(4 << 20)
    assert (await running.post(body=large))[0] == 200
    assert (await copies(running, "rain", 1))["codes"] == {"200": 1}
    server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
    await running.ready("rain", CANARY, running.upstreams["canary"], ready=False)
    await running.ready("rain", CANARY, Upstream("deaf", server.sockets[0].getsockname()[1], answering("nobody")))
    try:
        for _ in range(20):
            status, body = await asyncio.wait_for(running.post(body=large), 5)
            assert status == 200 and b"stable" in body
            if connections:
                break
        assert connections, "the deaf canary was asked"
        assert (await asyncio.wait_for(running.post(body=large), 5))[0] == 200
    finally:
        for writer in connections:
            writer.close()
        server.close()


async def test_predictions_of_copies_are_counted_beside_stables(running: Router) -> None:
    def predicting(value: float) -> Any:
        async def behaviour(_request: web.Request, _body: bytes) -> web.StreamResponse:
            output = {"name": "y", "shape": [1], "datatype": "FP64", "data": [value]}
            return web.json_response({"outputs": [output]})

        return behaviour

    asked = {"rollout": {**ALL, "analysis": {"predictions": {"maxDistance": "0.2"}}}}
    await running.ready("rain", STABLE, await running.serve("stable", predicting(0.25)))
    await running.ready("rain", CANARY, await running.serve("canary", predicting(0.75)))
    await running.split("rain", 1, {STABLE: 100, CANARY: 0}, rolling="Analysing", **asked)
    await running.confirmed("rain", 1)
    body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}'

    async def both(done: int) -> tuple[dict[str, Any], dict[str, Any]]:
        async def check() -> tuple[dict[str, Any], dict[str, Any]] | None:
            page = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]
            stable, canary = (found.get("predictions") or {"rows": -1} for found in arms(page))
            return (stable, canary) if stable["rows"] == canary["rows"] == done else None

        return await eventually(check, f"{done} predictions of each are counted")

    def arms(page: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return page["revisions"].get(STABLE, {}), page["copies"].get(CANARY, {})

    await both(0)
    for _ in range(8):
        await running.post(body=body)
    stable, canary = await both(8)
    assert sum(stable["counts"]) == sum(canary["counts"]) == 8 and stable["counts"] != canary["counts"]
    assert (canary["same"], stable["same"]) == (7, 0)
    logged = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]["revisions"][CANARY]
    assert logged["latency"]["logged"] == 0  # what copies take is nobody's latency


async def test_a_copy_goes_by_the_name_that_the_canarys_server_has_for_the_model(running: Router) -> None:
    heard: list[str] = []

    async def canary(request: web.Request, _body: bytes) -> web.StreamResponse:
        if request.method == "POST":
            heard.append(request.path)
        return web.json_response({})

    await running.ready("rain", STABLE, await running.serve("stable"), served_name="old")
    await running.ready("rain", CANARY, await running.serve("canary", canary), served_name="new")
    await running.split("rain", 1, {STABLE: 100, CANARY: 0}, rolling="Analysing", rollout=ALL)
    await running.confirmed("rain", 1)
    for path in ("/v2/models/rain/infer", "/v1/models/rain:predict", "/v2/models/rainy/infer"):
        assert (await running.post(path=path))[0] == 200
    await copies(running, "rain", 3)
    assert sorted(heard) == ["/v1/models/new:predict", "/v2/models/new/infer", "/v2/models/rainy/infer"]


async def test_statuses_of_copied_grpc_calls_are_counted(running: Router) -> None:
    async def good(_request: bytes, _context: Any) -> bytes:
        return b"stable"

    async def bad(_request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "broken")
        return b""

    servers = []
    for revision, method in ((STABLE, good), (CANARY, bad)):
        server, port = await grpc_server(Say=grpc.unary_unary_rpc_method_handler(method))
        servers.append(server)
        await running.ready("fog", revision, Upstream(revision, port, answering("nobody")))
    try:
        await running.split("fog", 1, {STABLE: 100, CANARY: 0}, rolling="Analysing", rollout=ALL)
        await running.confirmed("fog", 1)
        options = [("grpc.default_authority", f"fog.{NAMESPACE}")]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.layout.port}", options=options) as channel:
            call = channel.unary_unary("/test.Echo/Say")
            assert [await call(b"x", timeout=5) for _ in range(5)] == [b"stable"] * 5
        found = await copies(running, "fog", 5)
        assert (found["codes"], found["grpc"]) == ({"200": 5}, {"13": 5})
    finally:
        for server in servers:
            await server.stop(None)
