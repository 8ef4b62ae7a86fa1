"""The level-triggered loop around a reconciler: wake keys, run passes, map how they ended to what comes next.

Must not know any domain rule. The only status it ever writes is the sentence of an error that a reconciler let escape.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain.conditions import Condition, merged
from perennial.domain.decision import JsonObject
from perennial.domain.errors import PerennialError, Stalled, Transient, Waiting
from perennial.domain.owners import controller_of
from perennial.domain.times import rfc3339
from perennial.ports import Clock, ObjectStore
from perennial.runtime import metrics
from perennial.runtime.backoff import Backoff
from perennial.runtime.cache import Cache, kind_of
from perennial.runtime.outcome import Key, Outcome
from perennial.runtime.queue import WorkQueue
from perennial.runtime.status import write_status

log = logging.getLogger(__name__)

TELL_AFTER_FAILURES = 3
"""A passing trouble is worth a condition only from this many failed passes in a row."""

UNCHANGED_SECONDS = 0.2
"""A pass that changed nothing is not repeated sooner by itself: whatever it asked for, it would only spin."""

MAX_OWNER_DEPTH = 4

_current_pass: ContextVar[tuple[str, Key] | None] = ContextVar("current_pass", default=None)


class Reconciler(Protocol):
    """What each kind's controller implements."""

    kind: Kind
    name: str

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """Keys that a change of any watched object wakes (cross references only; owners are found by the loop)."""

    async def reconcile(self, key: Key) -> Outcome:
        """One whole pass: observe, decide, act, report."""


def in_a_pass() -> bool:
    """Whether the caller runs inside a pass (for test doubles that count a controller's own writes)."""
    return _current_pass.get() is not None


class Controller:
    """One reconciler, its queue, and its workers."""

    def __init__(
        self,
        reconciler: Reconciler,
        store: ObjectStore,
        cache: Cache,
        clock: Clock,
        *,
        now: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
        pass_timeout: float = 600.0,
    ) -> None:
        """`store` is used for the error conditions only; it must not wake keys (not a TrackedStore)."""
        self.reconciler = reconciler
        self.queue: WorkQueue[Key] = WorkQueue(now, backoff)
        self._store = store
        self._cache = cache
        self._clock = clock
        self._pass_timeout = pass_timeout

    @property
    def kind(self) -> Kind:
        """The kind whose keys the reconciler gets."""
        return self.reconciler.kind

    def wake(self, key: Key) -> None:
        """Ask for a pass; when asked from within the key's own pass it counts only if that pass ends well."""
        self.queue.add(key, soft=_current_pass.get() == (self.reconciler.name, key))

    async def work(self) -> None:
        """One worker: run passes until the queue is closed."""
        while (item := await self.queue.get()) is not None:
            key, waited = item
            metrics.QUEUE_WAIT_SECONDS.labels(self.kind.kind).observe(waited)
            metrics.QUEUE_DEPTH.labels(self.kind.kind).set(len(self.queue))
            await self.run_pass(key)
            await asyncio.sleep(0)  # a pass without I/O never gives way by itself

    async def run_pass(self, key: Key) -> None:
        """Run one pass of a key taken with `queue.pop_ready` or `queue.get`, and settle what comes next."""
        started = time.perf_counter()
        token = _current_pass.set((self.reconciler.name, key))
        try:
            async with asyncio.timeout(self._pass_timeout) as limit:
                outcome = await self.reconciler.reconcile(key)
        except Exception as error:
            result = await self._failed(key, self._late() if limit.expired() else error)
            self.queue.drop_soft(key)  # its own writes must not lead past the back-off
        else:
            result = self._ended(key, outcome)
        finally:
            _current_pass.reset(token)
            self.queue.done(key)
        metrics.RECONCILE_TOTAL.labels(self.kind.kind, result).inc()
        metrics.RECONCILE_SECONDS.labels(self.kind.kind).observe(time.perf_counter() - started)

    def _ended(self, key: Key, outcome: Outcome) -> str:
        self.queue.forget(key)
        if outcome.changed:
            self.queue.add(key, soft=True)
        if outcome.requeue_after is not None:
            least = 0.0 if outcome.changed else UNCHANGED_SECONDS
            self.queue.add_after(key, max(least, outcome.requeue_after))
        return "changed" if outcome.changed else "done"

    async def _failed(self, key: Key, error: Exception) -> str:
        where = f"{self.kind.kind} {key.namespace}/{key.name}"
        if isinstance(error, Waiting):
            self.queue.forget(key)
            self.queue.add_after(key, error.retry_after)
            await self._tell(key, Condition("Reconciling", "True", error.reason, error.message))
            return "waiting"
        if isinstance(error, Stalled):
            self.queue.forget(key)
            log.info("%s is stalled (%s): %s", where, error.reason, error.message)
            await self._tell(
                key,
                Condition("Ready", "False", error.reason, error.message),
                Condition("Stalled", "True", error.reason, error.message),
            )
            return "stalled"
        if isinstance(error, PerennialError):
            return await self._transient(key, error, where)
        seconds = self.queue.retry(key)
        log.exception("a pass over %s failed; this is a bug; next try in %.1f s", where, seconds)
        message = f"The operator failed unexpectedly ({type(error).__name__}); see its log; it tries again by itself."
        await self._tell(key, Condition("Ready", "False", "InternalError", message))
        return "error"

    async def _transient(self, key: Key, error: PerennialError, where: str) -> str:
        """Back off; from the third failure in a row on the object says why nothing happens."""
        asked = error.retry_after if isinstance(error, Transient) else None
        seconds = self.queue.retry(key, at_least=asked or 0.0)
        log.info("a pass over %s is tried again in %.1f s (%s): %s", where, seconds, error.reason, error.message)
        if self.queue.failures(key) >= TELL_AFTER_FAILURES:
            await self._tell(key, Condition("Reconciling", "True", error.reason, error.message))
        return "transient"

    def _late(self) -> Transient:
        return Transient("PassTimedOut", f"one pass took longer than {self._pass_timeout:g} s and was ended")

    async def _tell(self, key: Key, *conditions: Condition) -> None:
        """Put conditions on the object beside its others; a failure to do so must not hide the first error."""
        obj = self._cache.get(self.kind, key.namespace, key.name)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return
        status = dict(obj.get("status") or {})
        recorded = status.get("conditions") or []
        types = {condition.type for condition in conditions}
        mine = merged(
            recorded,
            conditions,
            generation=int(obj["metadata"].get("generation") or 0),
            now=rfc3339(self._clock.now()),
        )
        others = [condition for condition in recorded if condition.get("type") not in types]
        status["conditions"] = sorted([*others, *mine], key=lambda condition: str(condition["type"]))
        try:
            manager = f"{names.FIELD_MANAGER_PREFIX}{self.reconciler.name}"
            await write_status(self._store, self._cache, obj, status, manager=manager)
        except PerennialError as second:
            log.info("could not say so on %s %s/%s: %s", self.kind.kind, key.namespace, key.name, second.message)


class Loop:
    """All controllers on one cache: routes each change to the keys that must look again."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._controllers: dict[str, Controller] = {}

    def add(self, controller: Controller) -> None:
        """Register the one controller of a kind; ValueError for a second one."""
        if controller.kind.kind in self._controllers:
            raise ValueError(f"two controllers for {controller.kind.kind}")
        self._controllers[controller.kind.kind] = controller

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """All registered controllers."""
        return tuple(self._controllers.values())

    def on_event(self, type_: str | None, obj: Mapping[str, Any]) -> None:
        """A watch event: cache it and, when it is news, wake whom it concerns. No I/O, never awaits."""
        if self.cache.apply_event(type_, obj):
            self.wake_for(obj)

    def on_written(self, obj: JsonObject) -> None:
        """The server's answer to an own write (see TrackedStore)."""
        if self.cache.upsert(obj):
            self.wake_for(obj)

    def wake_for(self, obj: Mapping[str, Any]) -> None:
        """Wake the object's own key, its owner's key, and the keys of controllers that refer to it."""
        kind = kind_of(obj).kind
        meta = obj["metadata"]
        own = self._controllers.get(kind)
        if own is not None:
            own.wake(Key(meta["namespace"], meta["name"]))
        owner = self._owner_of(obj)
        if owner is not None:
            owner[0].wake(owner[1])
        for controller in self._controllers.values():
            for key in self._referring(controller, obj):
                controller.wake(key)

    def wake_all(self, spread: Callable[[], float]) -> None:
        """Ask for a pass over every cached object of our kinds, each after `spread()` seconds."""
        for controller in self._controllers.values():
            for obj in self.cache.list(controller.kind):
                meta = obj["metadata"]
                controller.queue.add_after(Key(meta["namespace"], meta["name"]), spread())

    def close(self) -> None:
        """Let every worker end after its current pass."""
        for controller in self._controllers.values():
            controller.queue.close()

    def _referring(self, controller: Controller, obj: Mapping[str, Any]) -> list[Key]:
        """Keys by cross reference; a bug in one controller must not take the event from the others."""
        try:
            return list(controller.reconciler.keys_for(dict(obj), self.cache))
        except Exception:
            metrics.RECONCILE_TOTAL.labels(controller.kind.kind, "error").inc()
            log.exception("%s could not tell whom a change of %s concerns", controller.reconciler.name, obj.get("kind"))
            return []

    def _owner_of(self, obj: Mapping[str, Any]) -> tuple[Controller, Key] | None:
        """The controller and key of the object of ours at the top of the owner chain, by reference or by label."""
        namespace = str(obj["metadata"].get("namespace") or "")
        current: Mapping[str, Any] | None = obj
        for _ in range(MAX_OWNER_DEPTH):
            owner = controller_of(current) if current is not None else None
            if owner is None:
                break
            if str(owner.get("apiVersion", "")).startswith(f"{kinds.GROUP}/"):
                controller = self._controllers.get(str(owner.get("kind")))
                return None if controller is None else (controller, Key(namespace, str(owner.get("name"))))
            current = self.cache.by_uid(str(owner.get("uid")))
        labels = obj["metadata"].get("labels") or {}
        controller = self._controllers.get(str(labels.get(names.LABEL_OWNER_KIND)))
        name = labels.get(names.LABEL_OWNER_NAME)
        return (controller, Key(namespace, str(name))) if controller is not None and name else None
