"""The one place that reads the wall clock. Everything else gets a `Clock`.

Must not know anything of the domain; pure time arithmetic lives in `domain/times.py`.
"""

from datetime import UTC, datetime


class SystemClock:
    """Wall-clock time of this machine, in UTC."""

    def now(self) -> datetime:
        """The time now, timezone-aware UTC."""
        return datetime.now(UTC)
