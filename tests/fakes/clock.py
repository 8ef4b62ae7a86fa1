"""A clock that moves only when told to."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)


class FakeClock:
    """Implements ports.Clock; `monotonic` is for queues."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._now = start

    def now(self) -> datetime:
        """The time told last."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._now += timedelta(seconds=seconds)
