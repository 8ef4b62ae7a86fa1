"""The orderly end of a router pod, and the restart of the agent alone."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from perennial.router import agent
from perennial.router.admin import EnvoyAway
from perennial.router.envoy import Layout
from perennial.router.http import Token
from tests.component.router.harness import Router, eventually

STABLE = "aaaaaaaa"


async def readiness(running: Router) -> int:
    """The status of the agent's readiness page."""
    async with running.session.get(f"http://127.0.0.1:{running.agent_port}/readyz") as response:
        return response.status


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
        return await readiness(running) == 503

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


async def test_an_envoy_that_its_probe_had_restarted_serves_again_and_ends_in_order(
    running: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet runs the preStop hook before such a restart too."""
    monkeypatch.setattr(agent, "_DRAIN_AT_LEAST_SECONDS", 0.0)
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    drained = tmp_path.joinpath(agent.DRAINED)

    async def is_drained() -> bool:
        return drained.exists()

    async def is_ready() -> bool:
        return await readiness(running) == 200

    for _ in range(2):
        await eventually(is_ready, "the pod is ready")
        assert (await running.post(Connection="close"))[0] == 200
        tmp_path.joinpath(agent.TERMINATING).touch()
        await eventually(is_drained, "Envoy is drained")
        assert running.envoy is not None
        await asyncio.wait_for(running.envoy.wait(), 10)
        for marker in (agent.TERMINATING, agent.DRAINED):  # as Envoy's container does when it starts
            tmp_path.joinpath(marker).unlink()
        await running.start_envoy()
        await running.envoy_ready()


class SlowOnce:
    """An Envoy with requests in progress that does not answer the first question in time."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.active = 3
        self.slow = True

    async def post(self, path: str) -> None:
        if self.slow:
            self.slow = False
            raise EnvoyAway(f"{path}: TimeoutError()")
        self.orders.append(path)

    async def stats(self, *_: object) -> dict[str, int]:
        return {"http.serving.downstream_rq_active": self.active}


async def test_one_slow_answer_of_envoy_does_not_end_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_DRAIN_AT_LEAST_SECONDS", 0.0)
    admin = SlowOnce()
    mine = agent.Agent(agent.AgentSettings("ns", "r1", "uid", Layout(directory=str(tmp_path)), Token("t")))
    monkeypatch.setattr(mine, "_admin", admin)
    monkeypatch.setattr(mine._requests, "refresh", admin.stats)
    draining = asyncio.create_task(mine._drain())

    async def told() -> bool:
        return len(admin.orders) == 2

    await eventually(told, "both orders are given")
    assert not draining.done()
    admin.active = 0
    await asyncio.wait_for(draining, 5)
    assert admin.orders == ["/healthcheck/fail", "/drain_listeners?graceful", "/quitquitquit"]
