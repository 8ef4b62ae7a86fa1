"""Asking routers over real HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from perennial.adapters.routers import HttpRouterReports

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
POD = ("router-a", "uid-a", "127.0.0.1")


class Router:
    """One router's pages on a free port of localhost; what they answer can be changed."""

    def __init__(self) -> None:
        self.body: dict[str, object] = {"pod": "router-a", "podUid": "uid-a", "deployments": {}}
        self.status = 200
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []

    async def page(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        await asyncio.sleep(self.delay)
        return web.json_response({**self.body, "page": request.path}, status=self.status)


@pytest.fixture
async def router() -> AsyncIterator[tuple[Router, HttpRouterReports]]:
    served = Router()
    app = web.Application()
    app.router.add_get("/v1/{page}", served.page)
    async with TestServer(app) as server:
        reports = HttpRouterReports(port=server.port or 0, timeout_seconds=0.5)
        yield served, reports
        await reports.close()


async def test_both_pages_with_the_token(router: tuple[Router, HttpRouterReports]) -> None:
    served, reports = router
    found = await reports.collect("ns", [POD], "secret", want="all")
    assert [(r.pod, r.status["page"], r.counts["page"]) for r in found] == [("router-a", "/v1/status", "/v1/counts")]
    assert {token for _, token in served.asked} == {"Bearer secret"}


async def test_status_alone(router: tuple[Router, HttpRouterReports]) -> None:
    served, reports = router
    found = await reports.collect("ns", [POD], "secret", want="status")
    assert found[0].counts == {}
    assert [path for path, _ in served.asked] == ["/v1/status"]


@pytest.mark.parametrize(
    "change",
    [{"status": 401}, {"status": 503}, {"delay": 5.0}, {"body": {"podUid": "another"}}, {"body": {}}],
    ids=["wrong token", "not ready", "slow", "another pod", "no uid"],
)
async def test_who_does_not_answer_well_is_left_out(
    router: tuple[Router, HttpRouterReports], change: dict[str, object]
) -> None:
    served, reports = router
    for key, value in change.items():
        setattr(served, key, value)
    started = time.monotonic()
    assert await reports.collect("ns", [POD], "secret", want="all") == []
    assert time.monotonic() - started < 3


async def test_one_that_is_away_does_not_hide_the_others(router: tuple[Router, HttpRouterReports]) -> None:
    _, reports = router
    found = await reports.collect("ns", [("gone", "uid-b", "127.0.0.9"), POD], "secret", want="status")
    assert [report.pod for report in found] == ["router-a"]
