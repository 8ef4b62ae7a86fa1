"""Envoy's admin interface on loopback, as far as the agent needs it. Must not interpret what it reads."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

import aiohttp
import orjson

_TIMEOUT = aiohttp.ClientTimeout(total=2)

Stats = dict[str, int | str]


class EnvoyAway(Exception):
    """Envoy does not answer on its admin port; it is starting, restarting, or gone."""


class EnvoyDown(EnvoyAway):
    """Nobody listens on the admin port: there is no Envoy right now, not just a slow one."""


AnswerT = TypeVar("AnswerT")


class Shared(Generic[AnswerT]):
    """A question whose answer is shared by all who ask while it is on its way: a hundred rollouts that look at once
    cost Envoy one answer. The answer may have been true a moment before a caller asked.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, AnswerT]]) -> None:
        self._ask = ask
        self._under_way: asyncio.Task[AnswerT] | None = None

    async def __call__(self) -> AnswerT:
        """The answer, or what the question raised."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._ask())
        return await asyncio.shield(self._under_way)


class EnvoyAdmin:
    """Questions to one Envoy; every method raises EnvoyAway when there is no answer within 2 s."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._session: aiohttp.ClientSession | None = None
        self.started = Shared(self._started)
        """(the node id that Envoy was started with, epoch seconds when it ends in `@<epoch>`)."""

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()

    async def stats(self, pattern: str, only: Literal["Counters", "Gauges", "TextReadouts"] | None = None) -> Stats:
        """The counters, gauges and texts whose names match the regular expression. only: look at no others; Envoy
        looks at every name, of which there are thousands, but few of them are texts.
        """
        query = {"format": "json", "filter": pattern, **({"type": only} if only else {})}
        raw = await self._call("GET", "/stats", query)
        return {item["name"]: item["value"] for item in raw["stats"] if "name" in item}

    async def _started(self) -> tuple[str, float | None]:
        node = (await self._call("GET", "/server_info", {}))["node"]["id"]
        stamp = re.fullmatch(r".*@(\d+(?:\.\d+)?)", node)
        return node, float(stamp[1]) if stamp else None

    async def down(self) -> bool:
        """Whether there is no Envoy process to ask; False for one that is merely slow."""
        try:
            await self._call("GET", "/ready", None)
        except EnvoyDown:
            return True
        except EnvoyAway:
            return False
        return False

    async def post(self, path: str) -> None:
        """An order, such as `/healthcheck/fail`."""
        await self._call("POST", path, None)

    async def _call(self, method: str, path: str, params: dict[str, str] | None) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.request(method, self._base + path, params=params) as response:
                body = await response.read()
                if response.status != 200:
                    raise EnvoyAway(f"{path} answered {response.status}")
                return None if params is None else orjson.loads(body)
        except aiohttp.ClientConnectorError as error:
            raise EnvoyDown(f"{path}: {error!r}") from error
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise EnvoyAway(f"{path}: {error!r}") from error
