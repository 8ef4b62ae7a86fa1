"""Servers with one port for HTTP and another for gRPC, through a real Envoy: one revision, one weight, one number."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aiohttp import web

from tests.component.router.harness import NAMESPACE, Router, Upstream, answering, eventually, grpc_server

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
LIMIT = 5.0


class Ports:
    """A server of `rain`: HTTP on one port unless it has none, gRPC on its second or only one; it says its revision."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.called = 0
        self.asked = 0
        self.server: Any = None
        self.http: Upstream | None = None
        self.port = 0

    async def start(self, running: Router, *, http: bool = True) -> "Ports":
        """Starts it and publishes its endpoint."""

        async def unary(_request: bytes, _context: Any) -> bytes:
            self.called += 1
            return self.revision.encode()

        self.server, self.port = await grpc_server(Say=grpc.unary_unary_rpc_method_handler(unary))
        self.http = await running.serve(self.revision, self.answer) if http else None
        await self.publish(running)
        return self

    async def answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """One request over HTTP; the agent's own questions do not count."""
        self.asked += request.method == "POST"
        return await answering(self.revision)(request, body)

    async def publish(self, running: Router, *, ready: bool = True) -> None:
        """Its endpoint, as it is now."""
        first = self.http or Upstream(self.revision, self.port, answering("nobody"))
        second = self.port if self.http else None
        await running.ready("rain", self.revision, first, ready=ready, grpc_port=second)


@asynccontextmanager
async def pods(running: Router, **http: bool) -> AsyncIterator[tuple[Ports, Ports]]:
    """Stable and canary. stable=False: it takes gRPC on its only port; canary likewise."""
    found = (
        await Ports(STABLE).start(running, http=http.get("stable", True)),
        await Ports(CANARY).start(running, http=http.get("canary", True)),
    )
    try:
        yield found
    finally:
        for one in found:
            await one.server.stop(None)


@asynccontextmanager
async def caller(running: Router) -> AsyncIterator[Any]:
    """Calls to `rain` over gRPC."""
    options = [("grpc.default_authority", f"rain.{NAMESPACE}"), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.layout.port}", options=options) as channel:
        yield channel.unary_unary("/test.Echo/Say")


async def called(call: Any, count: int, **metadata: str) -> Counter[str]:
    """Who answered that many calls, eight at a time; a call that failed counts under its status."""
    sent = [(key.replace("_", "-"), value) for key, value in metadata.items()]

    async def one() -> str:
        try:
            return (await call(b"", timeout=LIMIT, metadata=sent)).decode()
        except grpc.aio.AioRpcError as error:
            return str(error.code())

    answers: Counter[str] = Counter()
    for _ in range(0, count, 8):
        answers.update(await asyncio.gather(*(one() for _ in range(8))))
    return answers


async def counts(running: Router) -> dict[str, Any]:
    """The counts page of `rain`."""
    found: dict[str, Any] = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]
    return found


async def rolling(running: Router, version: int, weight: int, state: str = "Analysing", **spec: Any) -> None:
    """The canary at that weight, once Envoy has it."""
    await running.split("rain", version, {STABLE: 100 - weight, CANARY: weight}, rolling=state, **spec)
    await running.confirmed("rain", version)


async def test_both_protocols_go_by_the_same_weights_into_the_same_numbers_and_leave_with_an_abort(
    running: Router,
) -> None:
    async with pods(running) as (_, canary), caller(running) as call:
        await rolling(running, 1, 50)
        told, asked = await called(call, 80), await running.who(80)
        for answers in (told, asked):
            assert answers.keys() == {STABLE, CANARY}
            assert 13 <= answers[CANARY] <= 67  # six standard deviations either way

        async def logged() -> dict[str, Any] | None:
            found: dict[str, Any] = (await counts(running))["revisions"]
            return found if sum(one["latency"]["logged"] for one in found.values()) == 160 else None

        found = await eventually(logged, "the access log of both protocols is counted")
        for revision in (STABLE, CANARY):
            assert found[revision]["latency"]["logged"] == told[revision] + asked[revision]
            assert found[revision]["codes"] == {"200": told[revision] + asked[revision]}
            assert found[revision]["grpc"] == {"0": told[revision]}
        assert (canary.called, canary.asked) == (told[CANARY], asked[CANARY])

        await rolling(running, 2, 0, "Withdrawing")
        assert await called(call, 40) == await running.who(40) == {STABLE: 40}
        await running.split("rain", 3, {STABLE: 100})
        await running.confirmed("rain", 3)
        await canary.publish(running, ready=False)
        assert await called(call, 8) == await running.who(8) == {STABLE: 8}
        assert (await counts(running))["revisions"][CANARY]["requests"] == told[CANARY] + asked[CANARY]


async def test_a_revision_without_a_second_port_takes_grpc_on_its_only_one_whichever_arm_it_is(running: Router) -> None:
    for version, (stable, canary) in enumerate(((True, False), (False, True)), start=1):
        async with pods(running, stable=stable, canary=canary) as arms, caller(running) as call:
            await rolling(running, version, 50, traffic={"override": True})
            await called(call, 8)  # Envoy reports a table a moment before its workers use it
            assert (await called(call, 80)).keys() == {STABLE, CANARY}
            for one, word in zip(arms, ("stable", "canary"), strict=True):
                assert await called(call, 8, x_perennial_revision=word) == {one.revision: 8}
                if one.http:
                    status, body = await running.post(x_perennial_revision=word)
                    assert (status, json.loads(body)["who"]) == (200, one.revision)
                await one.publish(running, ready=False)


async def test_a_lost_stable_is_stood_in_for_on_both_ports(running: Router) -> None:
    async with pods(running) as (stable, _), caller(running) as call:
        await rolling(running, 1, 0)
        assert await called(call, 8) == await running.who(8) == {STABLE: 8}
        await stable.publish(running, ready=False)

        async def moved() -> bool:
            return (await running.page("/v1/status"))["deployments"]["rain"]["weights"].get(CANARY) == 100

        await eventually(moved, "the canary stands in")
        await called(call, 8)
        assert await called(call, 16) == await running.who(16) == {CANARY: 16}
        await stable.publish(running)
        await running.confirmed("rain", 1)
        await called(call, 8)
        assert await called(call, 16) == await running.who(16) == {STABLE: 16}


async def test_copies_arrive_on_the_port_of_their_protocol_and_are_counted_together(running: Router) -> None:
    async with pods(running) as (_, canary), caller(running) as call:
        await rolling(running, 1, 0, rollout={"mirrorPercent": 100})
        assert await called(call, 16) == await running.who(16) == {STABLE: 16}

        async def copied() -> dict[str, Any] | None:
            found = (await counts(running))["copies"].get(CANARY, {"requests": 0})
            return found if found["requests"] == 32 and not found["active"] else None

        found = await eventually(copied, "every copy is answered")
        assert (found["codes"], found["grpc"]) == ({"200": 32}, {"0": 16})
        assert (canary.called, canary.asked) == (16, 16)
        assert CANARY not in {r for r, told in (await counts(running))["revisions"].items() if told["requests"]}


async def test_a_caller_keeps_its_revision_over_both_protocols(running: Router) -> None:
    async with pods(running), caller(running) as call:
        await rolling(running, 1, 50, traffic={"stickyHeader": "X-User-Id"})
        chosen = set()
        for person in range(20):
            told = await called(call, 8, x_user_id=f"user-{person}")
            _, body = await running.post(x_user_id=f"user-{person}")
            assert told == {json.loads(body)["who"]: 8}
            chosen |= told.keys()
        assert chosen == {STABLE, CANARY}
