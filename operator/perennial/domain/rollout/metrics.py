"""What a rollout's Prometheus checks said, and what that means for the canary. Pure.

Passed, failed, provider error and no data are four different things: only failed may abort, only passed may go on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from perennial.domain.rollout.spec import Analysis, MetricCheck, Step

LOOKS = 3
"""So many looks in a row at one weight are believed: one scrape may be an accident."""
LOOK_SECONDS = 10.0
"""The time from one look to the next."""


class Outcome(StrEnum):
    """What a check said at one look."""

    PASSED = "Passed"
    FAILED = "Failed"
    ERROR = "Error"
    NO_DATA = "NoData"


@dataclass(frozen=True, slots=True)
class MetricFinding:
    """The outcome of one check; `failed_looks` and `passed_looks` count those in a row, up to this one."""

    name: str
    outcome: Outcome
    detail: str = ""
    failed_looks: int = 0
    passed_looks: int = 0


def with_names(checks: Sequence[MetricCheck], **names: str) -> tuple[MetricCheck, ...]:
    """The checks with `$(NAME)` in their queries replaced, so that a query can ask about the canary's pods alone."""

    def filled(query: str) -> str:
        for name, value in names.items():
            query = query.replace(f"$({name})", value)
        return query

    return tuple(replace(check, query=filled(check.query)) for check in checks)


MAY_FAIL = "MetricFailing"
"""A check fails, and not for long enough to abort."""
_UNCLEAR = {
    Outcome.FAILED: (MAY_FAIL, "fails"),
    Outcome.ERROR: ("MetricError", "cannot be read"),
    Outcome.NO_DATA: ("MetricNoData", "has no data"),
}


def condemned(metrics: Sequence[MetricFinding]) -> MetricFinding | None:
    """A check that has failed often enough to abort the canary."""
    return next((metric for metric in metrics if metric.failed_looks >= LOOKS), None)


def unclear(metrics: Sequence[MetricFinding]) -> tuple[str, str] | None:
    """(reason, words) of the first check that did not pass; None when all did."""
    found = next((metric for metric in metrics if metric.outcome is not Outcome.PASSED), None)
    if found is None:
        return None
    reason, verb = _UNCLEAR[found.outcome]
    return reason, f"waiting, because metric {found.name} {verb}: {found.detail}"


def looks_left(metrics: Sequence[MetricFinding]) -> int:
    """How many looks, all passed, are still needed until every check has passed LOOKS of them in a row."""
    return max((max(0, LOOKS - metric.passed_looks) for metric in metrics), default=LOOKS)


def told(metrics: Sequence[MetricFinding]) -> str:
    """What checks that pass have said, in words."""
    return ", ".join(
        f"{metric.name} is {metric.detail} and passed {min(metric.passed_looks, LOOKS)} of {LOOKS} looks in a row"
        for metric in metrics
    )


def eta_by_looks(
    metrics: Sequence[MetricFinding], analysis: Analysis, steps: Sequence[Step], index: int, held_seconds: float
) -> int | None:
    """Seconds until the promotion, from step `index` (0-based) on, when every check passes from now on; None while one
    does not."""
    if unclear(metrics) is not None:
        return None
    here = max(steps[index].hold_seconds - held_seconds, looks_left(metrics) * LOOK_SECONDS)
    each = (LOOKS - 1) * LOOK_SECONDS
    later = [analysis.warmup_seconds + max(step.hold_seconds, each) for step in steps[index + 1 :]]
    return math.ceil(here + sum(later))
