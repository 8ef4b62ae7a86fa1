"""Servers that stand still for a while: what Envoy does with requests that no server has seen. Seconds of waiting."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.component.router.harness import Router, Upstream, answering, eventually, router

REVISION = "aaaaaaaa"
STALL_SECONDS = 3.0
REQUESTS = 100


@contextmanager
def full() -> Iterator[tuple[socket.socket, Upstream]]:
    """A server that accepts nobody: the one place in its queue is taken, all others wait outside."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener, Upstream("full", listener.getsockname()[1], answering("full"))


async def test_requests_wait_for_a_server_whose_accept_queue_is_full(tmp_path: Path) -> None:
    with full() as (listener, server):
        async with router(tmp_path) as running:
            await running.ready("rain", REVISION, server)
            await running.split("rain", 1, {REVISION: 100})
            await running.confirmed("rain", 1)
            sent: list[asyncio.Task[tuple[int, bytes]]] = []
            for _ in range(REQUESTS):  # steadily through the stall: when one gives up, the others must not suffer
                sent.append(asyncio.create_task(running.post()))
                await asyncio.sleep(STALL_SECONDS / REQUESTS)
            answered = [task.result() for task in sent if task.done()]
            assert not answered
            await start(running, server, listener)
            answers = await asyncio.gather(*sent)
    assert [status for status, _ in answers] == [200] * REQUESTS, answers
    assert server.seen == REQUESTS


async def test_a_pod_that_cannot_be_reached_fails_no_request_and_is_left_out(tmp_path: Path) -> None:
    with full() as (_, lost):
        async with router(tmp_path) as running:
            good = await running.serve("good")
            await running.ready("rain", REVISION, good, lost)
            await running.split("rain", 1, {REVISION: 100})
            await running.confirmed("rain", 1)
            answers = await asyncio.gather(*(running.post() for _ in range(60)))
            assert [status for status, _ in answers] == [200] * 60, answers
            assert good.seen == 60

            async def left_out() -> list[int]:
                failed = [host for host in await hosts(running) if host["health_status"].get("failed_outlier_check")]
                return [host["address"]["socket_address"]["port_value"] for host in failed]

            assert await eventually(left_out, "Envoy leaves a pod out") == [lost.port]


async def test_the_only_pod_is_never_left_out(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        server = Upstream("only", listener.getsockname()[1], answering("only"))
        async with router(tmp_path) as running:
            await running.ready("rain", REVISION, server)
            await running.split("rain", 1, {REVISION: 100})
            await running.confirmed("rain", 1)
            sent = [asyncio.create_task(running.post()) for _ in range(10)]

            async def refused_often() -> bool:
                stats = [stat for host in await hosts(running) for stat in host["stats"]]
                return any(stat["name"] == "cx_connect_fail" and int(stat.get("value", 0)) > 10 for stat in stats)

            await eventually(refused_often, "every request was refused once, some more often")
            await start(running, server, listener)
            answers = await asyncio.gather(*sent)
    assert [status for status, _ in answers] == [200] * 10, answers


async def start(running: Router, server: Upstream, listener: socket.socket) -> None:
    """The server listens at last, and has places for all who wait."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    running.runners.append(runner)
    await web.SockSite(runner, listener, backlog=128).start()


async def hosts(running: Router) -> list[dict[str, Any]]:
    """What Envoy knows of the servers."""
    url = f"http://127.0.0.1:{running.layout.admin_port}/clusters?format=json"
    async with running.session.get(url) as response:
        clusters = (await response.json())["cluster_statuses"]
    of_models = [cluster for cluster in clusters if cluster["name"].startswith("rain-")]
    return [host for cluster in of_models for host in cluster.get("host_statuses", ())]
