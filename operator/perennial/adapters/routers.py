"""Asks router pods for their pages over HTTP, in parallel, each with a short time-out. Must not believe or judge.

A router that does not answer in time, or not with JSON for its own pod uid, is left out: the caller holds.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import orjson

from perennial.ports import RouterReport

log = logging.getLogger(__name__)

PORT = 9910
TIMEOUT_SECONDS = 2.0
MAX_BYTES = 16 << 20


class HttpRouterReports:
    """Implements ports.RouterReports. `close` ends its connections."""

    def __init__(self, *, port: int = PORT, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def collect(
        self,
        namespace: str,
        pods: Sequence[tuple[str, str, str]],
        token: str,
        *,
        want: Literal["status", "all"],
        deployment: str | None = None,
    ) -> list[RouterReport]:
        """The reports of the pods that answered, in the order given."""
        pages = ["status"] if want == "status" else ["status", "counts"]
        if deployment is not None:
            pages = [f"{page}?deployment={quote(deployment)}" for page in pages]
        asked = [self._one(namespace, pod, token, pages) for pod in pods]
        return [report for report in await asyncio.gather(*asked) if report is not None]

    async def _one(
        self, namespace: str, pod: tuple[str, str, str], token: str, pages: Sequence[str]
    ) -> RouterReport | None:
        name, uid, ip = pod
        host = f"[{ip}]" if ":" in ip else ip
        try:
            bodies = await asyncio.gather(
                *(self._page(f"http://{host}:{self._port}/v1/{page}", token) for page in pages)
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.info("router %s/%s does not answer: %r", namespace, name, error)
            return None
        if any(body.get("podUid") != uid for body in bodies):
            log.warning("router %s/%s answers for another pod; it is not believed", namespace, name)
            return None
        return RouterReport(name, uid, bodies[0], bodies[1] if len(bodies) > 1 else {})

    async def _page(self, url: str, token: str) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"{url}: HTTP {response.status}")
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise ValueError(f"{url}: more than {MAX_BYTES} bytes")
        body: Any = orjson.loads(bytes(raw))
        if not isinstance(body, dict):
            raise ValueError(f"{url}: no JSON object")
        return body
