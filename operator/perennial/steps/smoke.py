"""Step smoke: replays sample inputs of a version to its canary, past the routers, and reports what it answered.

Input (JSON): samples {uri, digest}, claims, url (http://host:port of the canary), model (its name there), requests,
timeoutSeconds (of each request), seconds (of all of them). The report is the termination message: what became of each
request (domain/rollout/smoke.py). Must not judge: a canary that fails every request makes a good report.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import aiohttp

from perennial.domain.rollout.signature import NOT_THERE_YET, Signature, read_signatures
from perennial.domain.rollout.smoke import Answers
from perennial.domain.training.record import record_line
from perennial.steps.errors import DataProblem, TemporaryProblem
from perennial.steps.locations import CLAIMS_ROOT, locate
from perennial.steps.output import Output
from perennial.steps.smoke_requests import Sample, difference, has_null, samples_of, values_of
from perennial.steps.store import download, verify

AT_ONCE = 4
STOP_AFTER = 20
"""After so many failures that are half of all requests or more, further ones would tell nothing new."""
PATIENCE_SECONDS = 60.0
"""How long the canary is given to tell its inputs."""
MAX_BYTES = 4 << 20
_RETRY_SECONDS = 0.5
_HEADERS = {"content-type": "application/json", "x-perennial-observe": "none"}


def run(given: Mapping[str, Any], environ: Mapping[str, str], output: Output) -> None:
    """Fetch the samples, send them, report."""
    text = _fetch(given, environ)
    url = f"{given['url']}/v2/models/{given['model']}"
    answers = asyncio.run(_replay(text, url, given, output))
    report = answers.to_json()
    output.record(record_line(report), report)


def _fetch(given: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    wanted = given["samples"]
    place = locate(wanted["uri"], environ, given.get("claims", CLAIMS_ROOT))
    with TemporaryDirectory() as folder:
        tree = download(place, Path(folder))
        verify(tree, wanted["digest"], f"what lies at {place.uri}")
        return (Path(folder) / tree.files[0].path).read_text()


async def _replay(text: str, url: str, given: Mapping[str, Any], output: Output) -> Answers:
    connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)  # no request meets a connection being closed
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_connected)
    async with aiohttp.ClientSession(connector=connector, trace_configs=[trace], trust_env=False) as session:
        samples = samples_of(text, await _signature(session, url))
        output.say(f"sending {given['requests']} requests of {len(samples)} sample inputs to {url}")
        sender = _Sender(session, f"{url}/infer", float(given["timeoutSeconds"]))
        await sender.send(samples, int(given["requests"]), float(given["seconds"]))
    return sender.answers()


async def _connected(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionCreateEndParams) -> None:
    """Notes on a request's own record that a server has taken its connection."""
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.made = True


async def _signature(session: aiohttp.ClientSession, url: str) -> Signature:
    """The inputs that the canary's server tells; DataProblem when it tells none."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            async with session.get(url, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=10)) as response:
                status, raw = response.status, await response.content.read(MAX_BYTES)
            if status not in NOT_THERE_YET:
                return _read_signature(status, raw, url)
            problem = f"it answers {status}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = f"it does not answer ({type(error).__name__})"
        if time.monotonic() > until:
            raise TemporaryProblem(f"the canary's server does not tell its inputs at {url}: {problem}")
        await asyncio.sleep(_RETRY_SECONDS)


def _read_signature(status: int, raw: bytes, url: str) -> Signature:
    try:
        page = json.loads(raw) if status == 200 else {}
    except (ValueError, RecursionError):
        page = {}
    inputs = page.get("inputs") if isinstance(page, dict) else None
    found = read_signatures({"canary": inputs})["canary"]
    if not found:
        raise DataProblem(
            f"the canary's server tells no inputs at {url} (it answers {status}), so no request can be made of sample "
            "inputs: they need a server of the Open Inference Protocol v2"
        )
    return found


@dataclass
class _Sender:
    """Sends a few requests at once and counts what becomes of them."""

    session: aiohttp.ClientSession
    url: str
    timeout: float
    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    differences: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    first: str | None = None

    async def send(self, samples: Sequence[Sample], requests: int, seconds: float) -> None:
        """Until all are sent, the time is up, or nothing new can come of it."""
        numbers, until = iter(range(requests)), time.monotonic() + seconds

        async def work() -> None:
            for number in numbers:
                if time.monotonic() > until or self._is_hopeless():
                    return
                await self._ask(samples[number % len(samples)])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    def _is_hopeless(self) -> bool:
        failed = sum(count for code, count in self.codes.items() if code.startswith("5"))
        failed += self.counts["timeouts"] + self.counts["broken"] + self.counts["nulls"] + self.counts["unreached"]
        return failed >= STOP_AFTER and 2 * failed >= self._sent()

    def _sent(self) -> int:
        return self.counts.total() + self.codes.total()

    async def _ask(self, sample: Sample) -> None:
        connection, began = SimpleNamespace(made=False), time.monotonic()
        try:
            async with asyncio.timeout(self.timeout):
                status, raw = await self._post(sample.body, connection)
        except TimeoutError:
            cause, what = ("timeouts", "answer") if connection.made else ("unreached", "connection")
            self._failed(cause, f"no {what} within {self.timeout:g} s")
            return
        except (aiohttp.ClientError, OSError) as error:
            self._failed("broken", f"the connection ended without a whole answer ({type(error).__name__})")
            return
        self.milliseconds.append((time.monotonic() - began) * 1000)
        self._answered(status, raw, sample.recorded)

    async def _post(self, body: bytes, connection: SimpleNamespace) -> tuple[int, bytes]:
        """(status, body of at most MAX_BYTES); tried again while no connection can be made, since then no server has
        seen the request: a pod may be on its way back."""
        sent: dict[str, Any] = {"data": body, "headers": _HEADERS, "trace_request_ctx": connection}
        while True:
            try:
                async with self.session.post(self.url, allow_redirects=False, **sent) as response:
                    raw = b""
                    async for chunk in response.content.iter_chunked(1 << 16):
                        raw += chunk
                        if len(raw) > MAX_BYTES:
                            break
                    return response.status, raw
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(_RETRY_SECONDS)

    def _answered(self, status: int, raw: bytes, recorded: str) -> None:
        if not 200 <= status < 300:
            self.codes[str(status)] += 1
            self.first = self.first or f"answered {status}: {raw[:200].decode(errors='replace')}"
            return
        values = values_of(raw)
        if values is None:
            self._failed("unreadable", f"answered {status} without outputs: {raw[:200].decode(errors='replace')}")
        elif has_null(values):
            self._failed("nulls", f"answered {json.dumps(values[:8])}")
        else:
            self.counts["good"] += 1
            apart = difference(values, recorded)
            if apart is not None:
                self.differences.append(apart)

    def _failed(self, cause: str, words: str) -> None:
        self.counts[cause] += 1
        self.first = self.first or words

    def answers(self) -> Answers:
        """The report."""
        apart = [number for number in self.differences if number]
        finite = [number for number in apart if number != float("inf")]
        times = sorted(self.milliseconds) or [0.0]
        return Answers(
            sent=self._sent(),
            codes=tuple(sorted(self.codes.items())),
            compared=len(self.differences),
            different=len(apart),
            largest=f"{max(finite):.4g}" if finite else None,
            p50=round(times[len(times) // 2]),
            p95=round(times[len(times) * 95 // 100]),
            first=" ".join(self.first.split()) if self.first is not None else None,
            **{name: self.counts[name] for name in ("good", "nulls", "unreadable", "timeouts", "broken", "unreached")},
        )
