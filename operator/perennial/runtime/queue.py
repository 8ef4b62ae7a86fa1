"""A keyed work queue with the semantics of client-go's: one pass per key at a time, and no wake-up lost or doubled.

Must not know what a key stands for. It never sleeps by itself except in `get`, and it reads time only through `now`,
so that a test can drive it with a fake clock and `pop_ready`.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from perennial.runtime.backoff import Backoff

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(slots=True)
class _Delayed:
    due: float
    alive: bool = True


class WorkQueue(Generic[KeyT]):
    """Rules.

    - `add` while the key is queued does nothing; while its pass runs, the key runs once more afterwards.
    - `add_after` keeps the earliest time of a key. Starting a pass drops the key's timer: the pass looks at
      everything and says anew when it wants to be called.
    - `retry` backs off per key; `forget` (a pass went well) starts the back-off over.
    - A *soft* add is what a pass causes by its own writes: it counts when the pass ends well, and is dropped when the
      pass fails, so that a pass that writes and then fails cannot spin past its back-off.
    """

    def __init__(self, now: Callable[[], float], backoff: Backoff | None = None) -> None:
        self._now = now
        self._backoff = backoff or Backoff()
        self._ready: deque[KeyT] = deque()
        self._queued: dict[KeyT, float] = {}
        self._running: set[KeyT] = set()
        self._again: dict[KeyT, float] = {}
        self._soft: set[KeyT] = set()
        self._delayed: dict[KeyT, _Delayed] = {}
        self._heap: list[tuple[float, int, KeyT, _Delayed]] = []
        self._count = 0
        self._failures: dict[KeyT, int] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Keys that wait for a worker now (neither running nor delayed)."""
        return len(self._ready)

    def add(self, key: KeyT, *, soft: bool = False) -> None:
        """Ask for a pass as soon as a worker is free."""
        if key in self._running:
            if soft:
                self._soft.add(key)
            else:
                self._again.setdefault(key, self._now())
            return
        if key in self._queued:
            return
        self._queued[key] = self._now()
        self._ready.append(key)
        self._wake.set()

    def add_after(self, key: KeyT, seconds: float) -> None:
        """Ask for a pass in `seconds`; an earlier time already asked for stays."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._now() + seconds
        old = self._delayed.get(key)
        if old is not None:
            if old.due <= due:
                return
            old.alive = False
        entry = _Delayed(due)
        self._delayed[key] = entry
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key, entry))
        self._wake.set()

    def retry(self, key: KeyT, *, at_least: float = 0.0) -> float:
        """After a failed pass: ask for the next one after a back-off; returns the seconds until then."""
        self.drop_soft(key)
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = max(at_least, self._backoff.delay(failures))
        self.add_after(key, seconds)
        return seconds

    def drop_soft(self, key: KeyT) -> None:
        """The pass did not end well: what its own writes asked for does not count."""
        self._soft.discard(key)

    def failures(self, key: KeyT) -> int:
        """Failed passes of the key in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: KeyT) -> None:
        """The key's pass went well: its next failure starts with the shortest back-off."""
        self._failures.pop(key, None)

    def pop_ready(self) -> tuple[KeyT, float] | None:
        """The next key whose turn is now and the seconds it waited, or None. The caller must call `done` afterwards."""
        self._move_due()
        if not self._ready:
            return None
        key = self._ready.popleft()
        waited = self._now() - self._queued.pop(key)
        self._running.add(key)
        timer = self._delayed.pop(key, None)
        if timer is not None:
            timer.alive = False
        return key, max(0.0, waited)

    def done(self, key: KeyT) -> None:
        """The key's pass ended; it runs again when it was added meanwhile."""
        self._running.discard(key)
        again = self._again.pop(key, None) is not None
        soft = key in self._soft
        self._soft.discard(key)
        if again or soft:
            self.add(key)

    def next_due(self) -> float | None:
        """When (in terms of `now`) the next delayed key is due; None when nothing is delayed."""
        while self._heap and not self._heap[0][3].alive:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def idle(self) -> bool:
        """Whether no key waits for a worker and none runs (delayed keys do not count)."""
        self._move_due()
        return not self._ready and not self._running

    async def get(self) -> tuple[KeyT, float] | None:
        """Wait for the next key; None once the queue is closed."""
        while not self._closed:
            item = self.pop_ready()
            if item is not None:
                return item
            self._wake.clear()
            due = self.next_due()
            timeout = None if due is None else max(0.0, due - self._now())
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                continue
        return None

    def close(self) -> None:
        """No further key is handed out; every waiting `get` returns None."""
        self._closed = True
        self._wake.set()

    def _move_due(self) -> None:
        now = self._now()
        while True:
            due = self.next_due()
            if due is None or due > now:
                return
            _, _, key, entry = heapq.heappop(self._heap)
            if self._delayed.get(key) is entry:
                del self._delayed[key]
            self.add(key)
