"""The verdict on a canary: abort, go on, promote, or not enough evidence yet. Pure arithmetic on counts.

Rules (docs/spec/modeldeployment.md, Verdict): abort needs evidence for the failure rate AND, beside concurrent stable
traffic, for the ratio to stable; promotion needs evidence that the rate OR the ratio is below its limit. Failed,
provider error, no data and not enough data are four different things, and only failed may abort.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from perennial.domain import reasons
from perennial.domain.rollout import eprocess
from perennial.domain.rollout.comparison import TESTS, Comparison, Result, compare
from perennial.domain.rollout.evidence import Evidence, Tally
from perennial.domain.rollout.metrics import (
    MAY_FAIL,
    MetricFinding,
    condemned,
    eta_by_looks,
    looks_left,
    told,
    unclear,
)
from perennial.domain.rollout.spec import FULL, Analysis, Step


class Verdict(StrEnum):
    """ABORT and PROMOTE are shown by evidence; ADVANCE: the step has what it needs; WAIT: not enough data yet."""

    ABORT = "Abort"
    ADVANCE = "Advance"
    PROMOTE = "Promote"
    WAIT = "Wait"


_ABORTS = {"failed": "TooManyFailures", "slow": "TooSlow", "null": reasons.NULL_PREDICTIONS}

_CHANCE = 0.001
"""Less likely than this is not by chance."""

LEANING = frozenset({"MayBeFailing", "PredictionsMayDiffer", MAY_FAIL})
"""Reasons to wait that speak against the canary: more than a lack of evidence."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The arms at one weight: bad answers and answers of each, `weight` (percent) of the routing to the canary. Copies
    of p percent of stable's requests are p / (100 + p) of all that were sent.

    sticky: callers keep their revision, so that the weight says nothing about the requests.
    """

    weight: float
    bad: int
    total: int
    stable_bad: int
    stable_total: int
    sticky: bool

    @property
    def shares(self) -> tuple[float, float]:
        """(least, most) of the requests that may have been the canary's: by its weight, or as they were counted.

        With random routing they differ by chance alone, otherwise because something else sent requests to one arm: each
        verdict takes the share that speaks against it. A few busy sticky callers may bring the canary at 5 % half of
        the requests: there only what was counted is known.
        """
        asked = self.weight / FULL
        seen = self.total / (self.total + self.stable_total) if self.total and self.stable_total else asked
        return (seen, seen) if self.sticky else (min(asked, seen), max(asked, seen))

    @property
    def alone(self) -> bool:
        """Whether stable answers nothing, and not by chance: so many requests in a row hardly all meet the canary."""
        return self.stable_total == 0 and self.total * math.log(self.weight / FULL) < math.log(_CHANCE)


@dataclass(frozen=True, slots=True)
class Counts:
    """One check (errors, or slow answers) as numbers: the arms at each weight, and (bad, all) answers of the canary
    that stable has none beside."""

    name: str
    limit: float
    pairs: tuple[Pair, ...]
    beforehand: tuple[int, int] = (0, 0)

    @property
    def bad(self) -> int:
        """Bad answers of the canary."""
        return sum(pair.bad for pair in self.pairs) + self.beforehand[0]

    @property
    def total(self) -> int:
        """Answers of the canary."""
        return sum(pair.total for pair in self.pairs) + self.beforehand[1]

    @property
    def stable_bad(self) -> int:
        """Bad answers of stable in the same stretches."""
        return sum(pair.stable_bad for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one look with its evidence (natural logs of e-values) and words for people."""

    verdict: Verdict
    reason: str
    message: str
    requests: int
    failures: int
    interval: tuple[float, float]
    abort_log: float
    promote_log: float
    abort_goal: float
    promote_goal: float
    needed: int
    eta_seconds: int | None
    comparison: Comparison | None = None


def find_verdict(
    evidence: Evidence,
    analysis: Analysis,
    steps: Sequence[Step],
    index: int,
    *,
    held_seconds: float,
    metrics: Sequence[MetricFinding] = (),
    beforehand: tuple[int, int] = (0, 0),
    parts: int = 0,
) -> Finding:
    """The verdict at step `index` (0-based) of `steps` after `held_seconds` since its weight was verified.

    beforehand: (failed, all) requests with sample inputs: evidence for the canary, by the rate alone. parts: weights
    between the steps at which the canary may be aborted too; they share alpha.
    """
    step = steps[index]
    here = evidence.tally(step.weight)
    checks = _checks([here], analysis)
    # Copies may speak against a canary, not for it: what it would do with real callers is shown by real requests.
    overall = _checks([tally for tally in evidence.tallies if tally.weight > 0], analysis, beforehand)
    alpha = alpha_of(analysis, len(steps) + parts)
    comparison = _comparison(here, analysis, alpha)
    abort_logs = [_abort_log(check, analysis) for check in checks]
    promote_log = min(_promote_log(check, analysis) for check in overall)
    promote_goal = -math.log(analysis.alpha / 2)
    needed = max(eprocess.clean_requests_needed(c.bad, c.total, c.limit, analysis.alpha / 2) for c in overall)
    if promote_log >= promote_goal:
        needed = 0
    needed = 0 if analysis.by_metrics else max(needed, analysis.min_requests - here.canary.requests, 0)
    last = index == len(steps) - 1
    if last and comparison is not None:
        needed = max(needed, comparison.needed)
    verdict, reason = _judge(here, checks, abort_logs, alpha, analysis, metrics)
    if reason in ("", "NoTraffic") and comparison is not None and comparison.result is Result.FAILED:
        verdict, reason = Verdict.ABORT, comparison.reason
    if verdict is Verdict.WAIT and not reason:
        verdict, reason = _progress(
            here, checks, analysis, step, held_seconds, metrics, promote_log >= promote_goal, last
        )
        verdict, reason = _with_predictions(verdict, reason, comparison, last)
    if analysis.by_metrics:
        eta = eta_by_looks(metrics, analysis, steps, index, held_seconds)
    else:
        eta = _eta(here, needed, analysis, steps, index, held_seconds)
    return Finding(
        verdict=verdict,
        reason=reason,
        message=_sentence(verdict, reason, here, checks, analysis, metrics, needed, eta, comparison),
        requests=here.canary.requests,
        failures=here.failures,
        interval=eprocess.wilson(here.failures, here.canary.requests),
        abort_log=max(abort_logs),
        promote_log=promote_log,
        abort_goal=-math.log(alpha),
        promote_goal=promote_goal,
        needed=needed,
        eta_seconds=eta,
        comparison=comparison,
    )


def must_abort(here: Tally, analysis: Analysis, number_of_steps: int) -> bool:
    """Whether the counts of the step abort the canary: the cheap half of `find_verdict`, for simulations too."""
    checks = _checks([here], analysis)
    alpha = alpha_of(analysis, number_of_steps)
    goal = -math.log(alpha)
    comparison = _comparison(here, analysis, alpha)
    if comparison is not None and comparison.result is Result.FAILED:
        return True
    return any(check.bad >= analysis.min_failures and _abort_log(check, analysis) >= goal for check in checks)


def alpha_of(analysis: Analysis, number_of_steps: int) -> float:
    """alpha of one check at one step: all that may abort share it. Sample inputs are one step more."""
    tests = len(_checks([], analysis)) + (TESTS if analysis.max_distance is not None else 0)
    return analysis.alpha / ((number_of_steps + (analysis.smoke_requests > 0)) * tests)


def _comparison(here: Tally, analysis: Analysis, alpha: float) -> Comparison | None:
    """Canary and stable predictions at this weight; None when they are not to be compared."""
    weight = _weight(here, analysis)
    if analysis.max_distance is None or not weight:
        return None
    return compare(
        here.predictions,
        weight=weight,
        place=_place(here),
        limit=analysis.max_distance,
        alpha=alpha,
        requests=here.canary.requests,
    )


def _with_predictions(verdict: Verdict, reason: str, comparison: Comparison | None, last: bool) -> tuple[Verdict, str]:
    """A step without evidence against the predictions may advance; the promotion waits until they have passed."""
    if comparison is None or comparison.result is not Result.NOT_ENOUGH:
        return verdict, reason
    if verdict is Verdict.PROMOTE or (verdict is Verdict.ADVANCE and comparison.hold):
        return Verdict.WAIT, comparison.reason
    waits_for_more = reason in ("NotEnoughEvidence", "MayBeFailing")
    return verdict, comparison.reason if waits_for_more and comparison.hold else reason


def _weight(tally: Tally, analysis: Analysis) -> float:
    """Percent of all that was sent that went to the canary; copies of p percent of stable's requests are p / (100 + p)
    of it. 0: nothing can have been sent.
    """
    return tally.weight or FULL * analysis.copy_percent / (FULL + analysis.copy_percent)


def _checks(tallies: Sequence[Tally], analysis: Analysis, beforehand: tuple[int, int] = (0, 0)) -> list[Counts]:
    sticky = analysis.sticky
    weighed = [(weight, t) for t in tallies if (weight := _weight(t, analysis))]
    failed = [
        Pair(weight, t.failures, t.canary.requests, t.stable_failures, t.stable.requests, sticky)
        for weight, t in weighed
    ]
    checks = [Counts("failed", analysis.max_error_rate, tuple(failed), beforehand)]
    if analysis.latency is not None:
        slow = [
            Pair(
                weight,
                min(t.canary.slow, t.canary.logged),
                t.canary.logged,
                t.stable.slow,
                t.stable.logged,
                sticky,
            )
            for weight, t in weighed
        ]
        checks.append(Counts("slow", analysis.latency.allowed_share, tuple(slow)))
    if analysis.max_distance is not None:
        arms = [
            (weight, t.predictions.canary, t.predictions.stable) for weight, t in weighed if t.predictions.stable.rows
        ]
        nulls = [Pair(weight, c.nulls, c.rows, s.nulls, s.rows, sticky) for weight, c, s in arms]
        checks.append(Counts("null", analysis.max_error_rate, tuple(nulls)))
    return checks


def _abort_log(check: Counts, analysis: Analysis) -> float:
    """Evidence against: the weaker of rate and ratio, or the rate alone when stable answers nothing."""
    rate = eprocess.log_rate_above(check.bad, check.total, check.limit)
    if all(pair.alone for pair in check.pairs):
        return rate
    pairs = [(pair.bad, pair.stable_bad, pair.shares[1]) for pair in check.pairs]
    return min(rate, eprocess.log_ratio(pairs, analysis.max_error_ratio, eprocess.ABORT_GRID))


def _promote_log(check: Counts, analysis: Analysis) -> float:
    """Evidence for the canary: the stronger of the two ways."""
    rate = eprocess.log_rate_below(check.bad, check.total, check.limit)
    pairs = [(pair.bad, pair.stable_bad, pair.shares[0]) for pair in check.pairs]
    return max(rate, eprocess.log_ratio(pairs, analysis.max_error_ratio, eprocess.PROMOTE_GRID))


def _judge(
    here: Tally,
    checks: Sequence[Counts],
    abort_logs: Sequence[float],
    alpha: float,
    analysis: Analysis,
    metrics: Sequence[MetricFinding],
) -> tuple[Verdict, str]:
    """What is failed; (WAIT, "") when nothing is."""
    for check, log in zip(checks, abort_logs, strict=True):
        if check.bad >= analysis.min_failures and log >= -math.log(alpha):
            return Verdict.ABORT, _ABORTS[check.name]
    if condemned(metrics) is not None:
        return Verdict.ABORT, "MetricFailed"
    if here.canary.requests == 0 and not analysis.by_metrics:
        return Verdict.WAIT, "NoTraffic"
    return Verdict.WAIT, ""


def _progress(
    here: Tally,
    checks: Sequence[Counts],
    analysis: Analysis,
    step: Step,
    held_seconds: float,
    metrics: Sequence[MetricFinding],
    shown_good: bool,
    last: bool,
) -> tuple[Verdict, str]:
    """Whether the step has what it needs; a canary that may be failing is given no more traffic meanwhile.

    Requests that no router counts make no evidence: there every metric must have passed often enough instead.
    """
    if here.canary.requests < analysis.min_requests and not analysis.by_metrics:
        return Verdict.WAIT, "NotEnoughRequests"
    waits = unclear(metrics)
    if waits is not None:
        return Verdict.WAIT, waits[0]
    if not shown_good and any(
        check.bad > 0 and eprocess.log_rate_above(check.bad, check.total, check.limit) >= 0 for check in checks
    ):
        return Verdict.WAIT, "MayBeFailing"
    if analysis.by_metrics and looks_left(metrics):
        return Verdict.WAIT, "NotEnoughLooks"
    if held_seconds < step.hold_seconds:
        return Verdict.WAIT, "HoldSeconds"
    if not last:
        return Verdict.ADVANCE, "StepDone"
    if analysis.by_metrics:
        return Verdict.PROMOTE, "MetricsPassed"
    return (Verdict.PROMOTE, "ShownGood") if shown_good else (Verdict.WAIT, "NotEnoughEvidence")


def _eta(
    here: Tally, needed: int, analysis: Analysis, steps: Sequence[Step], index: int, held_seconds: float
) -> int | None:
    """Seconds until promotion at the present request rate when nothing fails any more; None without traffic, and
    where copies were just taken out of the spec."""
    both = here.stable.requests + (here.canary.requests if here.weight else 0)
    if here.milliseconds <= 0 or both == 0:
        return None
    per_percent = both / (here.milliseconds / 1000) / (FULL if here.concurrent else here.weight)
    total = 0.0
    for position in range(index, len(steps)):
        step = steps[position]
        rate = per_percent * (step.weight or analysis.copy_percent)
        if rate == 0:
            return None
        done = here.canary.requests if position == index else 0
        seconds = max(0, analysis.min_requests - done) / rate
        hold = step.hold_seconds - (held_seconds if position == index else 0)
        seconds = max(seconds, hold, 0.0)
        if position == len(steps) - 1:
            seconds = max(seconds, needed / rate)
        warmup = analysis.warmup_seconds if position > index else 0
        total += seconds + warmup
        if step.weight:
            needed = max(0, needed - round(seconds * rate))
    return math.ceil(total)


def _sentence(
    verdict: Verdict,
    reason: str,
    here: Tally,
    checks: Sequence[Counts],
    analysis: Analysis,
    metrics: Sequence[MetricFinding],
    needed: int,
    eta: int | None,
    comparison: Comparison | None,
) -> str:
    """The words for status, events and the commit."""
    errors = checks[0]
    place = _place(here)
    counted = f"{errors.bad} of {errors.total} canary requests failed {place}"
    if here.concurrent:
        counted += f" (stable: {errors.stable_bad} of {here.stable.requests})"
    nulls = next((check for check in checks if check.name == "null" and check.bad), None)
    if nulls is not None:
        counted += f", {nulls.bad} of {nulls.total} predictions were null, NaN or infinite"
        counted += f" (stable: {nulls.stable_bad} of {sum(pair.stable_total for pair in nulls.pairs)})"
    if comparison is not None and reason == comparison.reason:
        return f"{counted}; {comparison.words}"
    if analysis.by_metrics:
        counted = f"inside the cluster {counted}"
    when = f", about {_long(eta)} at the present traffic" if eta is not None else ""
    if reason in ("TooManyFailures", reasons.NULL_PREDICTIONS):
        beside = ""
        if here.concurrent:
            beside = f" and more than {analysis.max_error_ratio:g} times stable's rate"
        return f"{counted}: more than maxErrorRate {analysis.max_error_rate:g} allows{beside}."
    if reason == "TooSlow" and analysis.latency is not None:
        slow = checks[1]
        return (
            f"{slow.bad} of {slow.total} canary requests took longer than {analysis.latency.max_milliseconds} ms "
            f"{place}; {slow.limit:.1%} may."
        )
    if reason == "MetricFailed":
        failed = condemned(metrics)
        assert failed is not None
        return f"Metric {failed.name} failed {failed.failed_looks} looks in a row: {failed.detail}."
    if analysis.by_metrics:
        unseen = "Requests through the Gateway are not counted: metrics decide"
        counted, when = f"{unseen}; {counted}" if errors.total else unseen, f", about {_long(eta)}" if eta else ""
    if reason == "NoTraffic":
        none = f"No canary request has been counted {place} yet"
        return f"{none}; {needed} without a failure are needed to promote{when}."
    waits = unclear(metrics)
    if waits is not None and reason == waits[0]:
        return f"{counted}; {waits[1]}."
    if reason == "NotEnoughLooks":
        return f"{counted}; {told(metrics) or 'no metric was looked at yet'}."
    if verdict in (Verdict.ADVANCE, Verdict.PROMOTE) and analysis.by_metrics:
        return f"{counted}; {told(metrics)}; this is within the limits."
    if verdict in (Verdict.ADVANCE, Verdict.PROMOTE):
        return f"{counted}; this is within the limits."
    if reason == "NotEnoughRequests":
        short = analysis.min_requests - here.canary.requests
        return f"{counted}; {short} more are needed at this weight, {needed} without a failure to promote{when}."
    if reason == "MayBeFailing":
        return f"{counted}; the evidence leans towards too many failures, so the weight stays."
    if reason == "HoldSeconds":
        return f"{counted}; waiting for holdSeconds of this step{when}."
    return f"{counted}; {needed} more without a failure are needed to promote{when}."


def _place(here: Tally) -> str:
    """Where requests were counted, in words."""
    return f"at {here.weight}%" if here.weight else "in copies that nobody waited for"


def _long(seconds: int) -> str:
    """A length of time in the unit that people would use."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds} s"
