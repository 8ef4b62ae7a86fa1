"""Streams that outlive a weight: WebSockets, gRPC streams and long connections, through a real Envoy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
from aiohttp import web

from tests.component.router.harness import NAMESPACE, Router, Upstream, answering, eventually, grpc_server

STABLE, CANARY, NEXT = "aaaaaaaa", "bbbbbbbb", "cccccccc"
LIMIT = 5.0


@dataclass
class GrpcArm:
    """A gRPC server of `fog` that says its revision: to one request, or to every message of a stream."""

    revision: str
    server: Any
    upstream: Upstream


@asynccontextmanager
async def grpc_arms(running: Router, *revisions: str) -> AsyncIterator[dict[str, GrpcArm]]:
    """One for each revision, its endpoint published."""
    arms = {revision: await grpc_arm(running, revision) for revision in revisions}
    try:
        yield arms
    finally:
        for arm in arms.values():
            await arm.server.stop(None)


async def grpc_arm(running: Router, revision: str) -> GrpcArm:
    """Starts one and publishes its endpoint."""

    async def unary(_request: bytes, _context: Any) -> bytes:
        return revision.encode()

    async def stream(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield revision.encode() + message

    server, port = await grpc_server(
        Say=grpc.unary_unary_rpc_method_handler(unary), Talk=grpc.stream_stream_rpc_method_handler(stream)
    )
    upstream = Upstream(f"grpc-{revision}", port, answering("nobody"))
    await running.ready("fog", revision, upstream)
    return GrpcArm(revision, server, upstream)


@asynccontextmanager
async def connected(running: Router) -> AsyncIterator[grpc.aio.Channel]:
    """One connection of a gRPC client to `fog`."""
    options = [("grpc.default_authority", f"fog.{NAMESPACE}"), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.layout.port}", options=options) as channel:
        yield channel


async def said(call: Any, message: bytes) -> bytes:
    """What a stream answers to a message."""
    await call.write(message)
    return await asyncio.wait_for(call.read(), LIMIT)


class Sockets:
    """A WebSocket server of `rain` that says its revision; `leave` closes its sockets as servers do on SIGTERM."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.open: list[tuple[web.WebSocketResponse, web.Request]] = []

    async def answer(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """One socket, until either side closes it."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.open.append((socket, request))
        async for message in socket:
            await socket.send_str(self.revision + message.data)
        return socket

    async def leave(self) -> None:
        """Closes all."""
        for socket, _ in self.open:
            await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    def die(self) -> None:
        """As a killed process: its connections are reset."""
        for _, request in self.open:
            assert request.transport is not None
            request.transport.abort()


@asynccontextmanager
async def socket_of(running: Router) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client's socket to `rain`."""
    async with running.session.ws_connect(f"{running.url}/chat", headers={"Host": f"rain.{NAMESPACE}"}) as socket:
        yield socket


async def echo(socket: aiohttp.ClientWebSocketResponse) -> str:
    """Who answers on that socket."""
    await socket.send_str("")
    return str(await socket.receive_str(timeout=LIMIT))


async def sockets(running: Router) -> dict[str, Sockets]:
    """`rain` with a WebSocket server for each revision, all weight on the canary."""
    found = {revision: Sockets(revision) for revision in (STABLE, CANARY)}
    for revision, server in found.items():
        await running.ready("rain", revision, await running.serve(revision, server.answer))
    await running.split("rain", 1, {STABLE: 0, CANARY: 100}, rolling="Analysing")
    await running.confirmed("rain", 1)
    return found


async def idle(running: Router, deployment: str, revision: str) -> None:
    """Waits until the revision has no request in progress."""

    async def check() -> bool:
        found = (await running.page(f"/v1/counts?deployment={deployment}"))["deployments"][deployment]
        return found["revisions"][revision]["active"] == 0

    await eventually(check, f"nothing is in progress at {revision}")


async def test_websockets_leave_a_withdrawn_revision_when_its_server_says_goodbye(running: Router) -> None:
    servers = await sockets(running)
    async with socket_of(running) as old:
        assert await echo(old) == CANARY
        await running.split("rain", 2, {STABLE: 100, CANARY: 0}, rolling="Withdrawing")
        await running.confirmed("rain", 2)
        async with socket_of(running) as new:
            assert await echo(new) == STABLE  # a new one goes to the right arm at once
            assert await echo(old) == CANARY  # and the old one is cut off by nobody
            await running.ready("rain", CANARY, running.upstreams[CANARY], ready=False)  # its pod is leaving
            await running.split("rain", 3, {STABLE: 100})
            await running.confirmed("rain", 3)
            assert await echo(old) == CANARY
            await servers[CANARY].leave()  # and has been told to
            end = await old.receive(timeout=LIMIT)
            assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
            assert await echo(new) == STABLE
        await idle(running, "rain", CANARY)
    counts = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]["revisions"]
    assert {revision: counts[revision]["codes"] for revision in (STABLE, CANARY)} == {
        STABLE: {"101": 1},
        CANARY: {"101": 1},
    }


async def test_a_websocket_ends_at_once_with_its_server(running: Router) -> None:
    servers = await sockets(running)
    async with socket_of(running) as old:
        assert await echo(old) == CANARY
        servers[CANARY].die()
        end = await old.receive(timeout=LIMIT)
        assert end.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)


async def test_grpc_streams_leave_a_withdrawn_revision_when_its_server_stops(running: Router) -> None:
    async with grpc_arms(running, STABLE, CANARY) as arms, connected(running) as channel:
        await running.split("fog", 1, {STABLE: 0, CANARY: 100}, rolling="Analysing")
        await running.confirmed("fog", 1)
        old = channel.stream_stream("/test.Echo/Talk")()
        assert await said(old, b"1") == CANARY.encode() + b"1"
        await running.split("fog", 2, {STABLE: 100, CANARY: 0}, rolling="Withdrawing")
        await running.confirmed("fog", 2)
        new = channel.stream_stream("/test.Echo/Talk")()
        assert await said(new, b"1") == STABLE.encode() + b"1"  # on the same connection
        assert await said(old, b"2") == CANARY.encode() + b"2"
        await running.ready("fog", CANARY, arms[CANARY].upstream, ready=False)
        await running.split("fog", 3, {STABLE: 100})
        await running.confirmed("fog", 3)
        assert await said(old, b"3") == CANARY.encode() + b"3"
        await arms[CANARY].server.stop(0)
        assert await asyncio.wait_for(old.code(), LIMIT) is grpc.StatusCode.UNAVAILABLE  # clients call again on this
        assert await said(new, b"2") == STABLE.encode() + b"2"
        again = channel.stream_stream("/test.Echo/Talk")()
        assert await said(again, b"1") == STABLE.encode() + b"1"
        for call in (new, again):
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        await idle(running, "fog", CANARY)
        counts = (await running.page("/v1/counts?deployment=fog"))["deployments"]["fog"]["revisions"]
        assert counts[CANARY]["grpc"] == {"14": 1}
        assert counts[STABLE]["grpc"] == {"0": 2}


async def test_unary_calls_on_one_connection_never_fail_through_promotion_scale_down_and_abort(running: Router) -> None:
    answers: dict[int, Counter[str]] = {0: Counter()}
    version, calling = 0, True

    async def answered(calls: int) -> set[str]:
        """Who answers so many calls that begin from now on."""
        mine = answers[len(answers)] = Counter()

        async def enough() -> bool:
            return mine.total() >= calls

        await eventually(enough, "more calls")
        return set(mine)

    async def to(weights: dict[str, int], rolling: str | None = None) -> set[str]:
        """New weights; who answers 30 calls after the first ten (Envoy reports a table before its workers use it)."""
        nonlocal version
        version += 1
        await running.split("fog", version, weights, rolling=rolling)
        await running.confirmed("fog", version)
        await answered(10)
        return await answered(30)

    async def load(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary("/test.Echo/Say")
        while calling:
            begun = answers[len(answers) - 1]
            try:
                begun[(await call(b"", timeout=LIMIT)).decode()] += 1
            except grpc.aio.AioRpcError as error:
                begun[str(error.code())] += 1

    async with grpc_arms(running, STABLE, CANARY, NEXT) as arms, connected(running) as channel:
        await running.split("fog", version, {STABLE: 100})
        await running.confirmed("fog", version)
        clients = [asyncio.create_task(load(channel)) for _ in range(4)]
        for weight in (5, 25, 50):
            await to({STABLE: 100 - weight, CANARY: weight}, "Analysing")
        await to({STABLE: 0, CANARY: 100}, "Shifting")
        assert await to({CANARY: 100}) == {CANARY}
        await running.ready("fog", STABLE, arms[STABLE].upstream, ready=False)
        await arms[STABLE].server.stop(LIMIT)  # scaled down
        await to({CANARY: 50, NEXT: 50}, "Analysing")
        assert await to({CANARY: 100, NEXT: 0}, "Withdrawing") == {CANARY}  # aborted
        calling = False
        await asyncio.gather(*clients)
    assert set().union(*answers.values()) == {STABLE, CANARY, NEXT}
