"""One number from a named Prometheus source.

A query that fails, times out or answers nonsense is Unavailable; one that has no single finite number (empty, several
series, NaN, Inf) is a sample without a value. Neither is ever good or bad news: the caller holds. Must not accept an
address from a tenant: sources are named in the operator's settings.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from perennial.domain.conditions import bounded
from perennial.domain.errors import Stalled, Unavailable
from perennial.domain.times import rfc3339
from perennial.ports import MetricSample

MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PrometheusSource:
    """`url` without /api/v1/query; `authorization_file` holds the Authorization header and is read for each request,
    because tokens are renewed in place."""

    url: str
    timeout_seconds: float = 10.0
    authorization_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """The headers of a request now; OSError or ValueError when the file cannot be read or is no header."""
        if self.authorization_file is None:
            return {}
        text = self.authorization_file.read_text(encoding="utf-8").strip()
        if not text.isprintable():
            raise ValueError("it must hold one line: the value of the Authorization header")
        return {"Authorization": text}


class Prometheus:
    """Implements ports.MetricsSource."""

    def __init__(self, session: aiohttp.ClientSession, sources: Mapping[str, PrometheusSource]) -> None:
        self._session = session
        self._sources = dict(sources)

    async def query(self, source: str, query: str, *, at: datetime | None = None) -> MetricSample:
        """See MetricsSource."""
        known = self._sources.get(source)
        if known is None:
            allowed = ", ".join(sorted(self._sources)) or "none"
            raise Stalled(
                "UnknownMetricsSource",
                f"the operator's settings have no Prometheus source named {source!r}; allowed: {allowed}",
            )
        form = {"query": query, **({"time": rfc3339(at)} if at is not None else {})}
        body = await self._post(source, known, form)
        return _sample(source, body)

    async def _post(self, name: str, source: PrometheusSource, form: Mapping[str, str]) -> Mapping[str, Any]:
        url = f"{source.url.rstrip('/')}/api/v1/query"
        timeout = aiohttp.ClientTimeout(total=source.timeout_seconds)
        try:
            headers = source.headers()
        except UnicodeDecodeError as error:
            raise _unreadable(name, "it is not UTF-8 text") from error
        except ValueError as error:
            raise _unreadable(name, str(error)) from error
        except OSError as error:
            raise _unreadable(name, error.strerror) from error
        try:
            async with self._session.post(
                url, data=dict(form), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                raw = await _bounded_body(response)
                code = response.status
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            words = str(error) or f"no answer within {source.timeout_seconds:g} s"
            raise Unavailable("MetricsUnavailable", f"Prometheus source {name} does not answer: {words}") from error
        if raw is None:
            raise Unavailable("MetricsUnavailable", f"Prometheus source {name} answered more than {MAX_BYTES} bytes")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Unavailable(
                "MetricsUnavailable", f"Prometheus source {name} answered HTTP {code} without JSON"
            ) from error
        if not isinstance(body, dict) or code != 200 or body.get("status") != "success":
            words = bounded(str(body.get("error") or "no reason given") if isinstance(body, dict) else "no object", 300)
            raise Unavailable("MetricsUnavailable", f"Prometheus source {name} answered HTTP {code}: {words}")
        return body


def _unreadable(name: str, words: str | None) -> Unavailable:
    return Unavailable(
        "MetricsUnavailable", f"the authorizationFile of Prometheus source {name} cannot be read: {words}"
    )


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is larger than MAX_BYTES."""
    raw = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        raw += chunk
        if len(raw) > MAX_BYTES:
            return None
    return bytes(raw)


def _sample(source: str, body: Mapping[str, Any]) -> MetricSample:
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    kind, result = data.get("resultType"), data.get("result")
    if kind == "vector" and isinstance(result, list):
        if len(result) != 1:
            words = "no series" if not result else f"{len(result)} series instead of one"
            return MetricSample(None, f"the query to {source} gave {words}")
        point = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind == "scalar":
        point = result
    else:
        return MetricSample(None, f"the query to {source} gave a {kind or 'nameless'} result, not a number")
    try:
        value = float(point[1]) if isinstance(point, list) else math.nan
    except (IndexError, TypeError, ValueError):
        return MetricSample(None, f"the query to {source} gave {str(point)[:60]!r}, not a number")
    if not math.isfinite(value):
        return MetricSample(None, f"the query to {source} gave no finite number")
    return MetricSample(value)
