"""A whole little cluster for component tests: store, cache, clock, events, and controllers driven to quiescence.

    world = World()
    world.add(lambda w: TrainingJobController(w.store, w.cache, w.events, w.clock, Settings()))
    await world.person({...manifest...})
    await world.settle()            # every pass that is due now
    await world.run_for(30)         # time passes; every pass that becomes due on the way runs

`stop_after_every_write` proves that killing the operator after any of its writes leads to the same end.
"""

import difflib
import itertools
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.runtime.backoff import Backoff
from perennial.runtime.cache import Cache
from perennial.runtime.controller import Controller, Loop, Reconciler, in_a_pass
from perennial.runtime.outcome import Key
from tests.fakes.clock import START, FakeClock
from tests.fakes.events import RecordingEvents
from tests.fakes.store import MemoryStore

Make = Callable[["World"], Reconciler]


class Crash(BaseException):
    """The operator was killed. Not an Exception, so that no code under test catches it."""


class Restless(AssertionError):
    """The controllers do not come to rest."""


class World:
    """See the module. `store`, `cache`, `events` and `clock` are what controllers are made with."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock(START)
        self.store = MemoryStore(self.clock)
        self.events = RecordingEvents()
        self.cache = Cache()
        self.passes: list[tuple[str, Key]] = []
        self.crashes = 0
        self.writes_in_passes = 0
        self._crash_after: int | None = None
        self._makers: list[Make | Reconciler] = []
        self._loop = Loop(self.cache)
        self.store.on_event.append(lambda type_, obj: self._loop.on_event(type_, obj))
        self.store.on_write.append(self._count_write)

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """The controllers as they run now (new ones after a restart)."""
        return self._loop.controllers

    def add(self, maker: Make | Reconciler) -> None:
        """Add a controller; a function of the world (needed for restarts) or a ready-made one."""
        self._makers.append(maker)
        self._start(maker)

    async def person(self, obj: Mapping[str, Any], manager: str = "person") -> JsonObject:
        """Apply an object as a person would with `kubectl apply --server-side`."""
        return await self.store.apply(obj, manager=manager, force=True)

    async def settle(self, *, max_passes: int = 500) -> int:
        """Run every pass that is due now until none is; returns how many ran. Restless after `max_passes`."""
        ran = 0
        while True:
            item = next(((c, i) for c in self.controllers if (i := c.queue.pop_ready()) is not None), None)
            if item is None:
                return ran
            controller, (key, _) = item
            ran += 1
            if ran > max_passes:
                raise Restless(f"no rest after {max_passes} passes; the last ones: {self.passes[-6:]}")
            self.passes.append((controller.reconciler.name, key))
            try:
                await controller.run_pass(key)
            except Crash:
                self._restart()
            except BaseExceptionGroup as group:
                if group.split(Crash)[1] is not None:
                    raise
                self._restart()

    async def run_for(self, seconds: float, *, max_passes: int = 5000) -> int:
        """Let time pass from due time to due time, settling at each; returns the passes that ran."""
        end = self.clock.monotonic() + seconds
        ran = await self.settle(max_passes=max_passes)
        while True:
            dues = [due for c in self.controllers if (due := c.queue.next_due()) is not None and due <= end]
            if not dues:
                self.clock.advance(max(0.0, end - self.clock.monotonic()))
                return ran
            ahead = min(dues) - self.clock.monotonic()
            self.clock.advance(max(1, math.ceil(ahead * 1e6)) / 1e6)  # datetimes count microseconds: never fall short
            ran += await self.settle(max_passes=max_passes)
            if ran > max_passes:
                raise Restless(f"no rest after {max_passes} passes; the last ones: {self.passes[-6:]}")

    async def run_until(self, condition: Callable[[], bool], *, seconds: float = 3600, step: float = 1.0) -> None:
        """Let time pass until `condition`; AssertionError after `seconds` of fake time."""
        end = self.clock.monotonic() + seconds
        await self.settle()
        while not condition():
            if self.clock.monotonic() >= end:
                raise AssertionError(f"still not true after {seconds} s of fake time")
            await self.run_for(step)

    def restart(self) -> None:
        """Stop the operator and start it again: new cache from the store, new queues, new controllers."""
        self.cache = Cache()
        self._loop = Loop(self.cache)
        for obj in self.store.all():
            self.cache.apply_event(None, obj)
        for maker in self._makers:
            self._start(maker)
        for obj in self.store.all():
            self._loop.wake_for(obj)

    def crash_after(self, write: int | None) -> None:
        """Kill the operator right after its write number `write` from now (1 = the next one)."""
        self._crash_after = None if write is None else self.writes_in_passes + write

    def obj(self, kind: Kind, name: str, namespace: str = "default") -> JsonObject:
        """A copy of an object; AssertionError when it is not there."""
        found = [
            o
            for o in self.store.all(kind)
            if (o["metadata"]["name"], o["metadata"].get("namespace", ""))
            == (name, namespace if kind.namespaced else "")
        ]
        assert found, f"there is no {kind.kind} {namespace}/{name}; there are {[n(o) for o in self.store.all(kind)]}"
        return found[0]

    def snapshot(self) -> dict[str, Any]:
        """All objects by kind and name, without what differs between two equal runs (uids, versions, times)."""
        return {n(obj): _masked(obj) for obj in self.store.all()}

    def created(self) -> list[tuple[str, str]]:
        """(kind, name) of every object that was made, in order, also of those deleted since."""
        return list(self.store.created)

    def _start(self, maker: Make | Reconciler) -> None:
        is_made = hasattr(maker, "reconcile") and not isinstance(maker, type)
        reconciler = maker if is_made else maker(self)  # type: ignore[operator]
        backoff = Backoff(uniform=lambda low, high: high)
        self._loop.add(
            Controller(reconciler, self.store, self.cache, self.clock, now=self.clock.monotonic, backoff=backoff)
        )

    def _restart(self) -> None:
        self.crashes += 1
        self._crash_after = None
        self.restart()

    def _count_write(self, verb: str, obj: JsonObject) -> None:
        if in_a_pass():
            self.writes_in_passes += 1
            if self._crash_after is not None and self.writes_in_passes >= self._crash_after:
                raise Crash(f"after {verb} of {n(obj)}")


def n(obj: Mapping[str, Any]) -> str:
    """kind/namespace/name."""
    meta = obj["metadata"]
    return f"{obj['kind']}/{meta.get('namespace', '')}/{meta['name']}"


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"00000000-0000-4000-8000-\d{12}")


def _masked(obj: JsonObject) -> Any:
    meta = {k: v for k, v in obj["metadata"].items() if k not in ("uid", "resourceVersion", "generation")}
    text = json.dumps({**obj, "metadata": meta}, sort_keys=True)
    return json.loads(_UID.sub("<uid>", _TIME.sub("<time>", text)))


async def stop_after_every_write(
    build: Callable[[], Awaitable[World]],
    scenario: Callable[[World], Awaitable[None]],
    *,
    compare: Callable[[World], Any] = lambda world: (sorted(world.created()), world.snapshot()),
    every: int = 1,
) -> int:
    """Run `scenario` undisturbed, then once for every `every`-th write of the controllers with a kill right after it.

    `build` makes a fresh world (with factories, not ready-made controllers). `compare` must come out equal each time;
    by default: every object made exactly once, and the same objects with uids and times masked. Returns the number of
    kills tried, so that a test can assert that there were some.
    """
    calm = await build()
    await scenario(calm)
    wanted = compare(calm)
    kills = 0
    for write in itertools.islice(range(1, calm.writes_in_passes + 1), 0, None, every):
        world = await build()
        world.crash_after(write)
        await scenario(world)
        assert world.crashes == 1, f"the kill after write {write} did not happen"
        found = compare(world)
        assert found == wanted, f"a kill after write {write} of {calm.writes_in_passes} led elsewhere:\n" + _diff(
            wanted, found
        )
        kills += 1
    return kills


def _diff(wanted: Any, found: Any) -> str:
    left = json.dumps(wanted, indent=1, default=str, sort_keys=True).splitlines()
    right = json.dumps(found, indent=1, default=str, sort_keys=True).splitlines()
    return "\n".join(itertools.islice(difflib.unified_diff(left, right, "undisturbed", "killed", lineterm=""), 80))
