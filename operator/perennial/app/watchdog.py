"""Whether every watch still lives and the event loop still turns. Must not act: main ends the process when it fails.

kopf hides bookmarks, so a quiet kind shows life by answered list and watch requests only; those come at least every
`watching.server_timeout` (120 s), which is why 150 s of silence means a dead watch.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from perennial.runtime import metrics

SILENCE_SECONDS = 150.0
LAG_SECONDS = 10.0
PERIOD_SECONDS = 1.0


class Watchdog:
    """`watches` are URL paths; once `open` was called each must be seen every 150 s."""

    def __init__(self, watches: Iterable[str], *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._watches = tuple(watches)
        self._seen: dict[str, float] = {}
        self._lag = 0.0

    def open(self) -> None:
        """Count every silence from now on: the watches are about to be opened."""
        self._seen = dict.fromkeys(self._watches, self._now())

    def saw(self, path: str) -> None:
        """A watch showed life: an event, or an answered list or watch request."""
        if path in self._seen:
            self._seen[path] = self._now()

    def trouble(self) -> str | None:
        """One sentence when a watch is silent or the loop was held up, else None."""
        now = self._now()
        for path, seen in self._seen.items():
            if now - seen > SILENCE_SECONDS:
                return f"the watch on {path} has shown no life for {now - seen:.0f} s"
        return f"the event loop was held up for {self._lag:.1f} s" if self._lag > LAG_SECONDS else None

    async def run(self) -> str:
        """Measure once a second; returns the first trouble of a silent watch."""
        while True:
            before = self._now()
            await asyncio.sleep(PERIOD_SECONDS)
            now = self._now()
            self._lag = max(0.0, now - before - PERIOD_SECONDS)
            for path, seen in self._seen.items():
                metrics.WATCH_LAST_EVENT_SECONDS.labels(path).set(round(now - seen, 1))
                if now - seen > SILENCE_SECONDS:
                    return f"the watch on {path} has shown no life for {now - seen:.0f} s"
