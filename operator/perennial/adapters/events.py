"""Events of events.k8s.io: repeats become one series, and nothing ever waits for them.

A pass only puts a note into a bounded queue. One task writes; when the API server is slow the queue fills and further
notes are dropped and counted. Must not raise into a pass.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api import kinds
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote, JsonObject
from perennial.domain.errors import Conflict, PerennialError
from perennial.domain.times import rfc3339
from perennial.ports import Clock, ObjectStore, PatchTarget
from perennial.runtime import metrics

log = logging.getLogger(__name__)

QUEUE = 500
REMEMBERED = 2000
SERIES_SECONDS = 300.0
"""A repeat within this time of the last one continues its series; later it is a new event."""

WRITE_AT_MOST_EVERY = 30.0
"""A series is written at most this often, as client-go does not write each repeat either."""


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float
    written: float
    made: bool = False


class EventWriter:
    """Implements ports.EventSink. `run` must be running for anything to be written; cancel it to stop."""

    def __init__(self, store: ObjectStore, clock: Clock, *, instance: str) -> None:
        """`store` must not be a TrackedStore; `instance` names this process (the pod)."""
        self._store = store
        self._clock = clock
        self._instance = bounded(instance, 128)
        self._queue: asyncio.Queue[tuple[JsonObject, EventNote]] = asyncio.Queue(QUEUE)
        self._series: OrderedDict[str, _Series] = OrderedDict()

    def emit(self, obj: Mapping[str, Any], note: EventNote) -> None:
        """Queue one event; dropped when the queue is full."""
        meta = obj["metadata"]
        regarding = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": meta["name"],
            "namespace": meta.get("namespace") or "default",
            "uid": meta.get("uid") or "",
            "resourceVersion": meta.get("resourceVersion") or "",
        }
        try:
            self._queue.put_nowait((regarding, note))
        except asyncio.QueueFull:
            metrics.EVENTS_DROPPED_TOTAL.inc()

    async def run(self) -> None:
        """Write queued events one after another, for ever."""
        while True:
            regarding, note = await self._queue.get()
            try:
                await self._write(regarding, note)
            except PerennialError as error:
                metrics.EVENTS_DROPPED_TOTAL.inc()
                log.info("an event %s was not written: %s", note.reason, error.message)
            except Exception:  # an answer that is none; no later event may be lost by it
                metrics.EVENTS_DROPPED_TOTAL.inc()
                log.exception("an event %s was not written; this is a bug", note.reason)
            finally:
                self._queue.task_done()

    async def flush(self, seconds: float) -> None:
        """Wait until the queue is empty, at most `seconds`."""
        try:
            await asyncio.wait_for(self._queue.join(), seconds)
        except TimeoutError:
            log.info("%d events were not written before the end", self._queue.qsize())

    async def _write(self, regarding: JsonObject, note: EventNote) -> None:
        identity = f"{regarding['uid']}\n{note.type}\n{note.reason}\n{note.message}"
        now = self._clock.now().timestamp()
        series = self._series.get(identity)
        if series is None or now - series.last > SERIES_SECONDS:
            digest = hashlib.sha256(f"{identity}\n{now}\n{self._instance}".encode()).hexdigest()[:16]
            series = _Series(f"{regarding['name'][:200]}.{digest}", 0, now, 0.0)
        self._series[identity] = series
        self._series.move_to_end(identity)
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        series.count += 1
        series.last = now
        if not series.made:
            await self._create(series, regarding, note)
        elif now - series.written >= WRITE_AT_MOST_EVERY or series.count == 2:
            await self._count(series, regarding["namespace"])

    async def _create(self, series: _Series, regarding: JsonObject, note: EventNote) -> None:
        body = {
            "apiVersion": kinds.EVENT.api_version,
            "kind": kinds.EVENT.kind,
            "metadata": {"name": series.name, "namespace": regarding["namespace"]},
            "eventTime": rfc3339(self._clock.now(), micro=True),
            "type": note.type,
            "reason": note.reason,
            "action": note.reason,
            "note": bounded(note.message),
            "regarding": regarding,
            "reportingController": "perennial.dev/operator",
            "reportingInstance": self._instance,
        }
        try:
            await self._store.create(body, manager="perennial-events")
        except Conflict as conflict:
            if conflict.reason != "AlreadyExists":
                raise
        series.made = True
        series.written = series.last

    async def _count(self, series: _Series, namespace: str) -> None:
        body = {"series": {"count": series.count, "lastObservedTime": rfc3339(self._clock.now(), micro=True)}}
        target = PatchTarget(kinds.EVENT, namespace, series.name)
        if await self._store.patch(target, body, manager="perennial-events") is None:
            series.made = False
        series.written = series.last
