"""Servers that stand still for a while: what Envoy does with requests that no server has seen. Seconds of waiting."""

import asyncio
import socket
from pathlib import Path

from aiohttp import web

from tests.component.router.harness import Upstream, answering, router

REVISION = "aaaaaaaa"
STALL_SECONDS = 3.0
REQUESTS = 100


async def test_requests_wait_for_a_server_whose_accept_queue_is_full(tmp_path: Path) -> None:
    with socket.socket() as listener, socket.socket() as first:
        async with router(tmp_path) as running:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            first.connect(listener.getsockname())  # the one place in the queue is taken: all others wait outside
            server = Upstream("starved", listener.getsockname()[1], answering("starved"))
            await running.ready("rain", REVISION, server)
            await running.split("rain", 1, {REVISION: 100})
            await running.confirmed("rain", 1)
            sent: list[asyncio.Task[tuple[int, bytes]]] = []
            for _ in range(REQUESTS):  # steadily through the stall: when one gives up, the others must not suffer
                sent.append(asyncio.create_task(running.post()))
                await asyncio.sleep(STALL_SECONDS / REQUESTS)
            answered = [task.result() for task in sent if task.done()]
            assert not answered
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", server.answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            running.runners.append(runner)
            await web.SockSite(runner, listener, backlog=128).start()
            answers = await asyncio.gather(*sent)
    assert [status for status, _ in answers] == [200] * REQUESTS, answers
    assert server.seen == REQUESTS
