"""The access-log service: Envoy hands it batches of finished requests over a Unix socket, and it counts them.

Off the critical path: when this is slow, Envoy drops entries and counts that. Bodies are read from the entry's dynamic
metadata (see observe.lua), binned, and forgotten with the batch.
"""

import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from perennial.domain.drift.baseline import BaselineError, parse_baseline
from perennial.router.counters import Plan, WindowSeries, plan_of
from perennial.router.model import Deployment, Snapshot, WindowSpec, split_cluster, split_copy
from perennial.router.parse import Unparsed, Value, parse_request, parse_response
from perennial.router.predictions import Compared

METADATA = "perennial"
_BROKEN_OFF = ("upstream_reset_after_response_started", "stream_idle_timeout")
"""Envoy's words for an answer whose status was sent before its server, or our limit for idle streams, ended it."""
_MAX_DIGITS = 12
_SERVICE = "envoy.service.accesslog.v3.AccessLogService"


@dataclass(slots=True)
class RevisionLog:
    """What the access log says of one revision. resets: answers that broke off after a good status had been sent."""

    logged: int = 0
    over_limit: int = 0
    resets: int = 0


@dataclass(slots=True)
class DeploymentCounts:
    """All counters of one deployment. lost: rows that could not be binned for a reason on our side.
    compared: the predictions of canary and stable, while a rollout compares them."""

    revisions: dict[str, RevisionLog] = field(default_factory=dict)
    series: dict[WindowSpec, WindowSeries] = field(default_factory=dict)
    compared: Compared | None = None
    lost: int = 0


class Observer:
    """Counts access-log entries for the deployments of the latest snapshot."""

    def __init__(self) -> None:
        self.counts: dict[str, DeploymentCounts] = {}
        self._deployments: dict[str, Deployment] = {}
        self._plans: dict[str, Plan | None] = {}
        self._plan_sources: dict[str, Any] = {}
        self._targets: dict[str, _Target] = {}

    def follow(self, snapshot: Snapshot) -> None:
        """Takes over deployments, windows and baselines. Counters of what went away are dropped."""
        self._deployments = {deployment.name: deployment for deployment in snapshot.deployments}
        self.counts = {name: self.counts.get(name) or DeploymentCounts() for name in self._deployments}
        for gone in self._plan_sources.keys() - snapshot.baselines.keys():
            del self._plans[gone], self._plan_sources[gone]
        for version, raw in snapshot.baselines.items():
            if version not in self._plan_sources or self._plan_sources[version] is not raw:
                self._plans[version] = _plan(raw)
                self._plan_sources[version] = raw
        for deployment in snapshot.deployments:
            series = self.counts[deployment.name].series
            self.counts[deployment.name].series = {
                spec: series.get(spec) or WindowSeries(spec) for spec in deployment.windows
            }
            self._compare(deployment)
        self._targets.clear()

    def restart(self) -> None:
        """Sets every counter to zero: the reader takes a new pair of start times for a new source."""
        specs = {name: counts.series.keys() for name, counts in self.counts.items()}
        self.counts = {
            name: DeploymentCounts(series={spec: WindowSeries(spec) for spec in kept}) for name, kept in specs.items()
        }
        for deployment in self._deployments.values():
            self._compare(deployment)
        self._targets.clear()

    def _compare(self, deployment: Deployment) -> None:
        """Makes both arms' counters when predictions are compared and the bins are known; else there are none."""
        counts, canary = self.counts[deployment.name], deployment.compared
        plan = self._stable_plan(deployment) if canary is not None else None
        if canary is None or deployment.stable is None or plan is None:
            counts.compared = None
            return
        fresh = Compared(plan, stable=deployment.stable, canary=canary)
        if counts.compared is None or counts.compared.identity != fresh.identity:
            counts.compared = fresh
        for revision in (deployment.stable, canary):
            counts.revisions.setdefault(revision, RevisionLog())

    def baseline(self, name: str) -> str | None:
        """By which bins stable's rows are counted: a digest, `grid`, or None while they are not known yet."""
        deployment = self._deployments.get(name)
        plan = self._stable_plan(deployment) if deployment else None
        return plan.digest if plan else None

    def _stable_plan(self, deployment: Deployment) -> Plan | None:
        version = deployment.versions.get(deployment.stable or "")
        return plan_of(None) if version is None else self._plans.get(version)

    def consume(self, message: Any, now: float) -> None:
        """Counts one batch (StreamAccessLogsMessage). `now` is epoch seconds."""
        targets = self._targets
        for entry in message.http_logs.log_entry:
            common = entry.common_properties
            cluster = common.upstream_cluster
            target = targets.get(cluster)
            if target is None:
                target = targets[cluster] = self._target(cluster)
            target.count(entry, common, now)

    def _target(self, cluster: str) -> "_Target":
        copied = split_copy(cluster)
        parts = copied or split_cluster(cluster)
        deployment = self._deployments.get(parts[0]) if parts else None
        if parts is None or deployment is None:
            return _Target(RevisionLog())
        counts = self.counts[deployment.name]
        log = RevisionLog() if copied else counts.revisions.setdefault(parts[1], RevisionLog())
        compared = counts.compared if counts.compared is not None and counts.compared.has(parts[1]) else None
        if parts[1] != deployment.stable:
            return _Target(log, deployment, revision=parts[1], compared=compared)
        return _Target(log, deployment, counts, parts[1], self._stable_plan(deployment), compared)


def _plan(raw: Mapping[str, Any] | None) -> Plan:
    """An unreadable baseline counts as none: the drift decision reports it, and the grid's counts cannot be wrong."""
    try:
        return plan_of(parse_baseline(raw) if raw and raw.get("features") else None)
    except BaselineError:
        return plan_of(None)


class _Target:
    """Everything that counting an entry of one cluster needs, looked up once per snapshot."""

    __slots__ = ("_compared", "_counts", "_limit", "_log", "_max_rows", "_plan", "_revision")

    def __init__(
        self,
        log: RevisionLog,
        deployment: Deployment | None = None,
        counts: DeploymentCounts | None = None,
        revision: str = "",
        plan: Plan | None = None,
        compared: Compared | None = None,
    ) -> None:
        self._log = log
        limit = deployment.latency_limit_ms if deployment else None
        self._limit = limit / 1000 if limit is not None else None
        self._max_rows = deployment.max_rows if deployment else 0
        self._counts = counts
        self._revision = revision
        self._plan = plan
        self._compared = compared

    def count(self, entry: Any, common: Any, now: float) -> None:
        """One access-log entry."""
        log = self._log
        log.logged += 1
        took = common.time_to_last_downstream_tx_byte
        seconds = took.seconds + took.nanos * 1e-9
        if self._limit is not None and seconds > self._limit:
            log.over_limit += 1
        code = entry.response.response_code.value
        if entry.response.response_code_details.startswith(_BROKEN_OFF) and code < 500:
            log.resets += 1
        if (self._counts is None and self._compared is None) or not 200 <= code < 300:
            return
        metadata = common.metadata.filter_metadata.get(METADATA)
        if metadata is None:
            return
        noted = dict(metadata.fields.items())  # a plain dict: it is asked often, and a protobuf map is slow to ask
        if "n" in noted or ("g" in noted and not _text(noted, "r")):
            return  # not to be binned; or a gRPC call that failed, which HTTP calls 200
        if self._compared is not None:
            self._compared.count(self._revision, _predictions(noted, self._max_rows), stream="s" in noted)
        if self._counts is None:
            return
        started = common.start_time
        self._observe(self._counts, noted, started.seconds + started.nanos * 1e-9 + seconds, now)

    def _observe(self, counts: DeploymentCounts, noted: Mapping[str, Any], ended: float, now: float) -> None:
        plan = self._plan
        if plan is None:
            counts.lost += 1
            return
        table, prediction, stream = None, None, "s" in noted
        if not stream:
            try:
                table, prediction = _read(noted, self._max_rows)
            except (Unparsed, Base64Error):
                table = None
        for series in counts.series.values():
            window = series.at(ended, self._revision, plan, now)
            if window is None:
                counts.lost += 1
            elif stream:
                window.streams += 1
            elif table is None:
                window.unparsed += 1
            else:
                try:
                    window.add(table, prediction)
                except Unparsed:
                    window.unparsed += 1


def _read(noted: Mapping[str, Any], max_rows: int) -> tuple[Any, Any]:
    """The rows and the predictions of one entry; predictions None when only they cannot be read."""
    if "t" in noted or "q" not in noted:
        raise Unparsed("the body was too long to be observed")
    grpc_call = "g" in noted
    request = a2b_base64(_text(noted, "q"))
    table = parse_request(request, max_rows, json_length=_length(noted, "qh"), grpc=grpc_call)
    try:
        return table, _answer(noted, max_rows)
    except Unparsed:
        return table, None


def _answer(noted: Mapping[str, Any], max_rows: int) -> list[Value]:
    answer = a2b_base64(_text(noted, "r"))
    return parse_response(answer, max_rows, json_length=_length(noted, "rh"), grpc="g" in noted)


def _predictions(noted: Mapping[str, Any], max_rows: int) -> list[Value] | None:
    """The predictions alone, whatever was asked; None when they cannot be read or were longer than the limit."""
    try:
        return _answer(noted, max_rows) if "r" in noted else None
    except (Unparsed, Base64Error):
        return None


def _text(noted: Mapping[str, Any], key: str) -> str:
    value = noted.get(key)
    return "" if value is None else str(value.string_value)


def _length(noted: Mapping[str, Any], key: str) -> int | None:
    if key not in noted:
        return None
    text = _text(noted, key)
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise Unparsed("the JSON length is no number, or one that no body has")
    return int(text)


def handlers(observer: Observer) -> grpc.GenericRpcHandler:
    """The gRPC access-log service of this observer."""

    async def stream(messages: AsyncIterator[Any], _context: Any) -> Any:
        async for message in messages:
            observer.consume(message, time.time())
        return StreamAccessLogsResponse()

    handler = grpc.stream_unary_rpc_method_handler(
        stream,
        request_deserializer=StreamAccessLogsMessage.FromString,
        response_serializer=StreamAccessLogsResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {"StreamAccessLogs": handler})
