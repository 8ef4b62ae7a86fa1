"""When a calendar asks for training. Cron with an IANA time zone, as cronsim reads it (daylight saving as in Debian's
cron). Must not read a clock.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from perennial.domain.drift.spec import ScheduleSpec


class ScheduleError(ValueError):
    """A calendar that cannot be followed; the message is one sentence."""


def last_due(spec: ScheduleSpec, now: datetime) -> datetime:
    """The last time (UTC) at or before `now` at which the calendar asks; ScheduleError when it never does."""
    return _beside(spec, now + timedelta(microseconds=1), reverse=True)


def next_due(spec: ScheduleSpec, now: datetime) -> datetime:
    """The next time (UTC) after `now` at which the calendar asks."""
    return _beside(spec, now, reverse=False)


def _beside(spec: ScheduleSpec, now: datetime, *, reverse: bool) -> datetime:
    try:
        zone = ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"schedule.timeZone {spec.time_zone!r} is no time zone of the IANA database; write one like Europe/Berlin"
        ) from error
    try:
        found: datetime = next(CronSim(spec.cron, now.astimezone(zone), reverse=reverse))
    except (CronSimError, StopIteration) as error:
        raise ScheduleError(
            f"schedule.cron {spec.cron!r} cannot be followed ({error or 'it never comes due'}); "
            "write minute, hour, day of month, month and day of week, like 0 3 * * 0"
        ) from error
    return found.astimezone(UTC)
