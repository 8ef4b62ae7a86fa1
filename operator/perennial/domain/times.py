"""RFC 3339 text and datetimes, both ways. Must not read a clock."""

from datetime import UTC, datetime


def rfc3339(moment: datetime, *, micro: bool = False) -> str:
    """`moment` (timezone-aware) as UTC text, whole seconds unless `micro`."""
    utc = moment.astimezone(UTC)
    text = utc.isoformat(timespec="microseconds" if micro else "seconds")
    return text.replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The timezone-aware datetime of an RFC 3339 text; ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def is_fresh(seen: datetime, now: datetime, seconds: float) -> bool:
    """Whether what was seen then need not be looked at again yet. Never after the clock was set back before it: until
    it came to the old time again, nothing would be looked at.
    """
    return 0 <= (now - seen).total_seconds() < seconds


def seconds_between(earlier: str, later: datetime) -> float:
    """Seconds from an RFC 3339 text to a datetime; negative when the text lies ahead."""
    return (later - parse_time(earlier)).total_seconds()
