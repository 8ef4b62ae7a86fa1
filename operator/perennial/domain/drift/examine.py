"""Which windows are due, and what each of them says: the step from counts to one word per window.

Must not know of the rule over windows or of triggers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from perennial.domain import reasons
from perennial.domain.drift.quality import Violation, violations
from perennial.domain.drift.rule import WindowOutcome, window_outcome
from perennial.domain.drift.spec import Limit, WindowSpec
from perennial.domain.drift.test import Column, FeatureVerdict, columns_of, judge, needed_rows
from perennial.domain.drift.windows import FINAL_AFTER_SECONDS, KEPT_BY_ROUTERS, all_told, counted
from perennial.domain.drift.world import World
from perennial.domain.times import rfc3339

VALUE = "value"
"""What the one number of a metrics query is called among the drifted features."""


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What one closed window says. start, end: epoch seconds. reason, message: why it is Unknown, else "".

    violations None: the data could not be looked at. complete: every ready router had reported to its end.
    """

    start: int
    end: int
    outcome: WindowOutcome
    reason: str = ""
    message: str = ""
    rows: int = 0
    requests: int = 0
    needed: int | None = None
    lost: int = 0
    verdicts: tuple[FeatureVerdict, ...] = ()
    violations: tuple[Violation, ...] | None = None
    complete: bool = True

    @property
    def drifted(self) -> list[FeatureVerdict]:
        """Drifted features, largest effect first."""
        found = [verdict for verdict in self.verdicts if verdict.outcome == "Drifted"]
        return sorted(found, key=lambda verdict: (-verdict.effect, verdict.feature))

    @property
    def foremost(self) -> FeatureVerdict | None:
        """The feature that is farthest towards (or beyond) its threshold."""
        able = [verdict for verdict in self.verdicts if verdict.outcome != "TooFew"]
        return max(able, key=lambda v: v.effect / v.threshold if v.threshold else v.effect, default=None)

    def score(self) -> dict[str, Any]:
        """What the book keeps of the window for 64 windows."""
        return {
            "end": self.end,
            "outcome": self.outcome,
            "rows": self.rows,
            "effects": {verdict.feature: round(verdict.effect, 4) for verdict in self.verdicts if verdict.rows},
        }


def grace(spec: WindowSpec) -> float:
    """Seconds after a window's end for which routers that do not answer are waited for."""
    return min(60.0, max(5.0, spec.seconds / 4))


def instant(epoch: float) -> str:
    """Epoch seconds as RFC 3339 text."""
    return rfc3339(datetime.fromtimestamp(epoch, UTC))


def due_windows(spec: WindowSpec, last_end: float | None, since: float, now: float) -> list[int]:
    """Starts of the windows that have closed and were not examined, oldest first.

    since: when observing began; the window that it lies in is seen in part only and left out. After a long absence
    only as many as routers can still tell of, and one before them that stands for all the lost ones.
    """
    origin = since if last_end is None else last_end
    newest = spec.start_of(now - FINAL_AFTER_SECONDS) - spec.seconds
    first = spec.start_of(origin)
    if first < origin:
        first += spec.seconds
    first = max(first, newest - (KEPT_BY_ROUTERS + 1) * spec.seconds)
    return list(range(first, newest + 1, spec.seconds))


def is_told(world: World, start: int, now: float) -> bool:
    """Whether the window can be examined: all ready routers have told all of it, or time is up."""
    spec = world.spec.window
    return now >= start + spec.seconds + grace(spec) or all_told(world.book, start, spec.seconds, world.pull)


def examined(world: World, start: int, now: float) -> WindowResult:
    """What the window that starts at `start` says, by the policy's source."""
    if world.spec.source == "prometheus":
        return _by_reading(world, start)
    return _by_counts(world, start, now)


def _by_counts(world: World, start: int, now: float) -> WindowResult:
    spec, champion = world.spec, world.champion
    unknown = WindowResult(start, start + spec.window.seconds, "Unknown")
    if champion is None:
        return replace(unknown, reason=reasons.NOTHING_SERVES, message=f"{spec.deployment} serves no version")
    if start < champion.since:
        words = f"revision {champion.revision} became stable during the window, which is therefore not judged"
        return replace(unknown, reason=reasons.REVISION_CHANGED, message=words)
    if champion.baseline is None:
        return replace(unknown, reason=reasons.NO_BASELINE, message=champion.problem)
    columns = columns_of(champion.baseline, spec.features)
    total = counted(world.book, start, spec.window.seconds, champion.revision, champion.baseline.digest)
    verdicts = judge(columns, total.tallies, total.requests, spec.test)
    result = replace(
        unknown,
        outcome=window_outcome(verdicts, spec.rule),
        rows=total.rows,
        requests=total.requests,
        needed=needed(columns, world),
        lost=total.lost,
        verdicts=verdicts,
        violations=violations(champion.baseline, total.tallies, spec.features, spec.quality) if total.rows else None,
        complete=all_told(world.book, start, spec.window.seconds, world.pull),
    )
    if result.outcome != "Unknown":
        return result
    reason, message = _why_unknown(world, result, now)
    return replace(result, reason=reason, message=message)


def needed(columns: Sequence[Column], world: World) -> int | None:
    """The fewest rows at which the least demanding tested column gives a verdict; None when none can."""
    able = [rows for column in columns if (rows := needed_rows(column, world.spec.test, len(columns))) is not None]
    return min(able, default=None)


def _why_unknown(world: World, result: WindowResult, now: float) -> tuple[str, str]:
    if result.rows == 0:
        age = world.spec.window.start_of(now) - result.start
        if age > KEPT_BY_ROUTERS * world.spec.window.seconds:
            return reasons.WINDOW_LOST, "nobody read the routers' counts of the window in time"
        if not result.complete:
            return reasons.ROUTERS_SILENT, "not all routers could be asked and the others counted nothing"
        return reasons.NO_DATA, "no request of the window passed the routers and could be looked at"
    if result.needed is None:
        return reasons.EFFECT_NOT_TESTABLE, "the reference has too few rows for this effect and alpha"
    if min(result.rows, result.requests) < result.needed:
        words = f"{result.rows} rows of {result.requests} requests, {result.needed} of both are needed"
        return reasons.TOO_FEW_SAMPLES, words
    return reasons.TOO_FEW_SAMPLES, "most features are missing in most rows"


def _by_reading(world: World, start: int) -> WindowResult:
    assert world.spec.prometheus is not None
    unknown = WindowResult(start, start + world.spec.window.seconds, "Unknown")
    reading = world.reading
    if reading is None or reading.value is None or reading.end != unknown.end:
        words = reading.problem if reading is not None and reading.problem else "the query gave no data"
        return replace(
            unknown, reason=reasons.NO_DATA, message=words, complete=reading is not None and not reading.failed
        )
    bound, beyond, near = _compared(world.spec.prometheus.limit, reading.value, world.spec.test.clear_ratio)
    outcome: Literal["Drifted", "Elevated", "Calm"] = "Drifted" if beyond else "Elevated" if near else "Calm"
    verdict = FeatureVerdict(VALUE, 0, reading.value, reading.value, 0.0, bound, 0.0, 0, outcome)
    return replace(unknown, outcome=outcome, verdicts=(verdict,))


def _compared(limit: Limit, value: float, clear_ratio: float) -> tuple[float, bool, bool]:
    """(the limit, whether the value is beyond it, whether it has not come back far enough to clear).

    Far enough is a share (1 - clear_ratio) of the limit's size away from it, on its good side.
    """
    if limit.maximum is not None:
        return limit.maximum, value > limit.maximum, value >= limit.maximum - (1 - clear_ratio) * abs(limit.maximum)
    assert limit.minimum is not None
    return limit.minimum, value < limit.minimum, value <= limit.minimum + (1 - clear_ratio) * abs(limit.minimum)
