"""One number, or honestly none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from perennial.adapters.prometheus import Prometheus, PrometheusSource
from perennial.domain.errors import Stalled, Unavailable

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Provider:
    """A query API that answers what the test says."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(await request.post()))
        self.headers.append(request.headers.get("Authorization"))
        assert self.answer is not None
        return await self.answer(request)

    def says(self, body: Any, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self.answer = answer

    def vector(self, *values: Any) -> None:
        result = [{"metric": {"i": str(i)}, "value": [1.0, value]} for i, value in enumerate(values)]
        self.says({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def authorization(tmp_path: Path) -> Path:
    file = tmp_path / "authorization"
    file.write_text("t\n")
    return file


@pytest.fixture
async def source(provider: Provider, authorization: Path) -> AsyncIterator[Prometheus]:
    app = web.Application()
    app.router.add_post("/prom/api/v1/query", provider.serve)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("/prom/"))
        yield Prometheus(
            session, {"main": PrometheusSource(url, timeout_seconds=0.5, authorization_file=authorization)}
        )


async def test_one_finite_number_is_the_value(source: Prometheus, provider: Provider) -> None:
    provider.vector("0.25")
    at = datetime(2026, 11, 25, 10, tzinfo=UTC)
    assert (await source.query("main", "up", at=at)).value == 0.25
    assert provider.asked == [{"query": "up", "time": "2026-11-25T10:00:00Z"}]
    assert provider.headers == ["t"]


async def test_a_scalar_is_a_value_too(source: Prometheus, provider: Provider) -> None:
    provider.says({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "3"]}})
    assert (await source.query("main", "3")).value == 3.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "no series"),
        (["1", "2"], "2 series"),
        (["NaN"], "finite"),
        (["+Inf"], "finite"),
        (["-Inf"], "finite"),
        (["abc"], "not a number"),
        ([None], "not a number"),
    ],
)
async def test_what_is_not_one_finite_number_is_no_value(
    source: Prometheus, provider: Provider, values: list[Any], words: str
) -> None:
    provider.vector(*values)
    sample = await source.query("main", "up")
    assert sample.value is None
    assert words in sample.detail


@pytest.mark.parametrize("kind", ["matrix", "string"])
async def test_another_type_is_no_value(source: Prometheus, provider: Provider, kind: str) -> None:
    provider.says({"status": "success", "data": {"resultType": kind, "result": []}})
    assert (await source.query("main", "up")).value is None


@pytest.mark.parametrize("status", [302, 400, 422, 500, 503])
async def test_an_error_of_the_provider_is_unavailable_with_its_words(
    source: Prometheus, provider: Provider, status: int
) -> None:
    provider.says({"status": "error", "error": "parse error at char 3"}, status)
    with pytest.raises(Unavailable, match="parse error at char 3"):
        await source.query("main", "up")


async def test_a_slow_or_babbling_provider_is_unavailable(source: Prometheus, provider: Provider) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    provider.answer = slow
    with pytest.raises(Unavailable, match="no answer within"):
        await source.query("main", "up")

    async def text(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>login</html>")

    provider.answer = text
    with pytest.raises(Unavailable, match="without JSON"):
        await source.query("main", "up")

    async def huge(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * (2 << 20))

    provider.answer = huge
    with pytest.raises(Unavailable, match="more than"):
        await source.query("main", "up")


async def test_an_unknown_source_names_the_known_ones(source: Prometheus) -> None:
    with pytest.raises(Stalled, match="allowed: main"):
        await source.query("other", "up")


async def test_a_token_that_is_renewed_in_its_file_is_used_at_once(
    source: Prometheus, provider: Provider, authorization: Path
) -> None:
    provider.vector("1")
    await source.query("main", "up")
    authorization.write_text("renewed")  # noqa: ASYNC240
    await source.query("main", "up")
    assert provider.headers == ["t", "renewed"]
    authorization.write_text("Bearer a\nBearer b\n")  # noqa: ASYNC240
    with pytest.raises(Unavailable, match="source main cannot be read: it must hold one line"):
        await source.query("main", "up")
    authorization.unlink()  # noqa: ASYNC240
    with pytest.raises(Unavailable, match="authorizationFile of Prometheus source main cannot be read"):
        await source.query("main", "up")
