"""The agent's pages on :9910: /v1/status, /v1/counts, /metrics, and the probes /healthz and /readyz.

Everything but the probes needs the bearer token of the namespace. Only counts leave this pod. The pages are described
in docs/reference/router.md.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from perennial.router.admin import EnvoyAway
from perennial.router.apply import Applier
from perennial.router.observer import DeploymentCounts, Observer, RevisionLog
from perennial.router.signatures import Signatures
from perennial.router.tallies import RequestCounts

_OPEN = frozenset({"/healthz", "/readyz"})

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers: the reader compares counts only within one (pod uid, start of the agent, start of Envoy)."""

    pod: str
    pod_uid: str
    started: float


@dataclass(frozen=True, slots=True)
class Token:
    """The bearer token, given or in a file; a file is read anew each time, because Secrets rotate."""

    text: str = ""
    file: str = ""

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header carries it; never when there is no token."""
        expected = self.text or Path(self.file).read_text().strip()
        return bool(expected) and hmac.compare_digest(header.encode(), f"Bearer {expected}".encode())


class Pages:
    """Builds every page from the parts of the agent."""

    def __init__(
        self,
        identity: Identity,
        token: Token,
        applier: Applier,
        observer: Observer,
        requests: RequestCounts,
        signatures: Signatures,
        clock: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._token = token
        self._applier = applier
        self._observer = observer
        self._requests = requests
        self._signatures = signatures
        self._clock = clock
        self.draining = False
        self.final_read = asyncio.Event()
        """Set when all counts have been read."""

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[_guard(self._token)])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/counts", self._counts)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self.draining:
            return web.Response(status=503, text="draining\n")
        if not self._applier.applied:
            return web.Response(status=503, text="no route table yet\n")
        return web.Response(text="ok\n")

    async def _status(self, request: web.Request) -> web.Response:
        await self._current(self._requests.check())
        deployments = await self._applier.status(request.query.get("deployment"))
        for name, state in deployments.items():
            state["baseline"] = self._observer.baseline(name)
            state["inputs"] = self._signatures.of(name)
        return _json({**self._head(), "deployments": deployments})

    async def _counts(self, request: web.Request) -> web.Response:
        only = request.query.get("deployment")
        if only is not None and only not in self._observer.counts:
            names: list[str] = []
            await self._current(self._requests.check())
        else:
            names = sorted(self._observer.counts) if only is None else [only]
            await self._current(self._requests.refresh(only))
        deployments = {n: self._deployment(n, self._observer.counts[n]) for n in names if n in self._observer.counts}
        if only is None:
            self.final_read.set()
        return _json({**self._head(), "deployments": deployments})

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._current(self._requests.refresh())
        registry = CollectorRegistry()
        registry.register(_Metrics(self._observer, self._requests, await self._applier.status()))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    @staticmethod
    async def _current(reading: Awaitable[None]) -> None:
        try:
            await reading
        except EnvoyAway:
            return  # the totals seen last still hold; `confirmed` says that Envoy is away

    def _head(self) -> dict[str, Any]:
        started = {"agent": self._identity.started, "envoy": self._requests.started}
        return {"pod": self._identity.pod, "podUid": self._identity.pod_uid, "started": started}

    def _deployment(self, name: str, counts: DeploymentCounts) -> dict[str, Any]:
        exact = self._requests.revisions(name)
        revisions = {}
        for revision in sorted(exact.keys() | counts.revisions.keys()):
            log = counts.revisions.get(revision, RevisionLog())
            revisions[revision] = {
                **exact.get(revision, {"requests": 0, "codes": {}, "grpc": {}, "active": 0}),
                "resets": log.resets,
                "latency": {"logged": log.logged, "overLimit": log.over_limit},
            }
        copies = self._requests.copies(name)
        if counts.compared is not None:
            for revision, page in counts.compared.to_json().items():
                for arms in (revisions, copies):
                    if revision in arms:
                        arms[revision]["predictions"] = page
        now = self._clock()
        windows = [window for spec in sorted(counts.series) for window in counts.series[spec].to_json(now)]
        # Envoy counts dropped log entries for the whole pod: for each deployment they are an upper bound.
        return {
            "revisions": revisions,
            "overrides": self._requests.overrides(name),
            "copies": copies,
            "dropped": counts.lost + self._requests.dropped,
            "windows": windows,
        }


class _Metrics:
    """Prometheus metrics of one scrape."""

    def __init__(self, observer: Observer, requests: RequestCounts, status: dict[str, dict[str, Any]]) -> None:
        self._observer = observer
        self._requests = requests
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        by_revision = ["deployment", "revision"]
        answers = CounterMetricFamily(
            "perennial_router_requests", "Answers by status code", labels=[*by_revision, "code"]
        )
        active = GaugeMetricFamily("perennial_router_active_requests", "Requests in progress", labels=by_revision)
        chosen = CounterMetricFamily(
            "perennial_router_overrides", "Answers to requests that chose their revision", labels=[*by_revision, "code"]
        )
        copied = CounterMetricFamily(
            "perennial_router_copies", "Answers to copies of requests", labels=[*by_revision, "code"]
        )
        for name in self._observer.counts:
            for family, apart in ((chosen, self._requests.overrides(name)), (copied, self._requests.copies(name))):
                for revision, counts in apart.items():
                    for code, count in counts["codes"].items():
                        family.add_metric([name, revision, code], count)
            for revision, counts in self._requests.revisions(name).items():
                active.add_metric([name, revision], counts["active"])
                for code, count in counts["codes"].items():
                    answers.add_metric([name, revision, code], count)
        weight = GaugeMetricFamily("perennial_router_weight", "Weight in the route table", labels=by_revision)
        confirmed = GaugeMetricFamily(
            "perennial_router_confirmed", "1 when Envoy has the wanted weights", labels=["deployment"]
        )
        for name, state in self._status.items():
            confirmed.add_metric([name], int(state["confirmed"]))
            for revision, share in state["weights"].items():
                weight.add_metric([name, revision], share)
        dropped = CounterMetricFamily("perennial_router_log_entries_dropped", "Access-log entries that Envoy dropped")
        dropped.add_metric([], self._requests.dropped)
        yield from (answers, chosen, copied, active, weight, confirmed, dropped)


def _guard(token: Token) -> Middleware:
    """Refuses every page but the probes to callers without the token."""

    @web.middleware
    async def guard(request: web.Request, handler: Page) -> web.StreamResponse:
        if request.path not in _OPEN and not token.accepts(request.headers.get("Authorization", "")):
            return web.json_response({"error": "this page needs the namespace's router token"}, status=401)
        return await handler(request)

    return guard


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
