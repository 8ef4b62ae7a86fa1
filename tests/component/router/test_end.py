"""The orderly end of a router pod, and the restart of the agent alone."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from perennial.router import agent
from tests.component.router.harness import Router, eventually

STABLE = "aaaaaaaa"


async def test_a_terminating_pod_finishes_its_requests_and_lets_the_counts_be_read(
    running: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_DRAIN_AT_LEAST_SECONDS", 0.2)
    release = asyncio.Event()

    async def slow(_request: web.Request, _body: bytes) -> web.StreamResponse:
        await release.wait()
        return web.json_response({})

    stable = await running.serve("stable", slow)
    await running.ready("rain", STABLE, stable)
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    request = asyncio.create_task(running.post(Connection="close"))

    async def under_way() -> bool:
        return stable.seen == 1

    await eventually(under_way, "the request has reached the server")
    tmp_path.joinpath(agent.TERMINATING).touch()  # what the preStop hook of Envoy's container does
    os.kill(os.getpid(), signal.SIGTERM)

    async def unready() -> bool:
        async with running.session.get(f"http://127.0.0.1:{running.agent_port}/readyz") as response:
            return response.status == 503

    await eventually(unready, "the pod is not ready any more")
    assert not tmp_path.joinpath(agent.DRAINED).exists()
    release.set()
    assert (await request)[0] == 200
    assert running.envoy is not None and running.agent is not None
    assert await asyncio.wait_for(running.envoy.wait(), 10) == 0
    revisions = (await running.page("/v1/counts"))["deployments"]["rain"]["revisions"]
    assert revisions[STABLE]["codes"] == {"200": 1}
    await asyncio.wait_for(running.agent, 10)
    assert tmp_path.joinpath(agent.DRAINED).exists()


async def test_an_agent_that_restarts_alone_leaves_envoy_serving(
    running: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_HOOK_SECONDS", 0.2)
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert running.agent is not None
    await asyncio.wait_for(running.agent, 10)
    assert (await running.post())[0] == 200
    assert not tmp_path.joinpath(agent.DRAINED).exists()


async def test_an_envoy_that_starts_without_its_agent_is_not_ready_before_it_has_endpoints(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    await running.stop_agent()
    await running.stop_envoy()
    await running.start_envoy()

    async def waiting_for_endpoints() -> bool:
        page = f"http://127.0.0.1:{running.layout.admin_port}/ready"
        try:
            async with running.session.get(page) as response:
                return (await response.text()).strip() == "PRE_INITIALIZING"
        except aiohttp.ClientError:
            return False

    await eventually(waiting_for_endpoints, "Envoy waits")
    with pytest.raises(aiohttp.ClientConnectorError):
        await running.post()
    running.start_agent()
    await running.envoy_ready()
    assert (await running.post())[0] == 200
