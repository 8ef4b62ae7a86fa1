"""Verdicts on counts: tables, and seeded simulations of whole rollouts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from perennial.domain.rollout.evidence import Evidence, Tally
from perennial.domain.rollout.failures import Arm
from perennial.domain.rollout.spec import Analysis, Latency, Step
from perennial.domain.rollout.verdict import Finding, MetricFinding, Outcome, Verdict, find_verdict, must_abort

ONE = (Step(5),)
THREE = (Step(5), Step(25), Step(50))
STRICT = Analysis(max_error_rate=0.01)


def tally(weight: int, canary: tuple[int, int], stable: tuple[int, int] = (0, 0), **more: int) -> Tally:
    return Tally(
        weight,
        more.get("milliseconds", 10_000),
        Arm(*canary, **_logged(more, "")),
        Arm(*stable, **_logged(more, "stable_")),
    )


def _logged(more: dict[str, int], prefix: str) -> dict[str, int]:
    return {key: more[prefix + key] for key in ("logged", "slow", "client_errors") if prefix + key in more}


def judge(
    *tallies: Tally,
    analysis: Analysis = STRICT,
    steps: tuple[Step, ...] = ONE,
    index: int = 0,
    held: float = 60,
    metrics: tuple[MetricFinding, ...] = (),
) -> Finding:
    return find_verdict(Evidence(tuple(tallies)), analysis, steps, index, held_seconds=held, metrics=metrics)


BAD_CLIENT = tally(5, (60, 0), (1100, 0), client_errors=6, stable_client_errors=110)


@pytest.mark.parametrize(
    ("name", "here", "verdict", "reason"),
    [
        ("no traffic", tally(5, (0, 0), (500, 0)), Verdict.WAIT, "NoTraffic"),
        ("too few requests", tally(5, (49, 0), (900, 0)), Verdict.WAIT, "NotEnoughRequests"),
        ("good but not shown", tally(5, (700, 0), (9000, 9)), Verdict.WAIT, "NotEnoughEvidence"),
        ("shown good", tally(5, (725, 0), (9000, 9)), Verdict.PROMOTE, "ShownGood"),
        ("bad beside a good stable", tally(5, (60, 12), (1100, 1)), Verdict.ABORT, "TooManyFailures"),
        ("bad but too few failures", tally(5, (60, 4), (1100, 0)), Verdict.WAIT, "MayBeFailing"),
        ("both bad: a shared outage", tally(5, (60, 30), (1100, 560)), Verdict.WAIT, "MayBeFailing"),
        ("no stable traffic: the rate alone", tally(5, (60, 12)), Verdict.ABORT, "TooManyFailures"),
        ("ten times worse, far below the limit", tally(25, (40_000, 20), (120_000, 2)), Verdict.PROMOTE, "ShownGood"),
        ("a wrong schema", tally(5, (60, 0), (1100, 0), client_errors=60), Verdict.ABORT, "TooManyFailures"),
        ("clients err", tally(5, (60, 0), client_errors=60), Verdict.WAIT, "NotEnoughEvidence"),
        ("a bad client", BAD_CLIENT, Verdict.WAIT, "MayBeFailing"),
    ],
)  # fmt: skip
def test_verdict_of_one_step(name: str, here: Tally, verdict: Verdict, reason: str) -> None:
    finding = judge(here, steps=(Step(here.weight),))
    assert (finding.verdict, finding.reason) == (verdict, reason), name
    assert finding.message.endswith(".")
    assert len(finding.message.encode()) <= 1000


def test_a_service_that_always_fails_a_little_is_promoted_by_ratio() -> None:
    """3 % on both arms with a limit of 1 %: the rate never clears it, the ratio does once enough failures were seen."""
    always = [
        tally(5, (2000, 30), (38_000, 1140)),
        tally(25, (5000, 75), (15_000, 450)),
        tally(50, (8000, 120), (8000, 240)),
    ]
    finding = judge(*always, steps=THREE, index=2)
    assert (finding.verdict, finding.reason) == (Verdict.PROMOTE, "ShownGood")
    assert finding.needed == 0


def test_promotion_sums_all_steps_but_abort_only_this_one() -> None:
    before = tally(5, (400, 0), (8000, 0)), tally(25, (300, 0), (900, 0))
    assert judge(*before, tally(50, (50, 0), (50, 0)), steps=THREE, index=2).verdict is Verdict.PROMOTE
    bad = judge(*before, tally(50, (50, 14), (50, 0)), steps=THREE, index=2)
    assert (bad.verdict, bad.reason) == (Verdict.ABORT, "TooManyFailures")


def test_steps_before_the_last_need_no_promotion_evidence() -> None:
    assert judge(tally(5, (50, 0), (900, 0)), steps=THREE).verdict is Verdict.ADVANCE


def test_hold_seconds_are_kept() -> None:
    held = (Step(5, hold_seconds=30), Step(50))
    assert judge(tally(5, (500, 0), (900, 0)), steps=held, held=29).reason == "HoldSeconds"
    assert judge(tally(5, (500, 0), (900, 0)), steps=held, held=30).verdict is Verdict.ADVANCE


@pytest.mark.parametrize(("rate", "needed"), [(0.02, 361), (0.01, 725)])
def test_says_how_many_clean_requests_are_needed(rate: float, needed: int) -> None:
    finding = judge(tally(5, (0, 0)), analysis=Analysis(max_error_rate=rate))
    assert finding.needed == needed
    assert f"{needed} without a failure" in finding.message
    assert finding.eta_seconds is None


def test_eta_follows_the_request_rate() -> None:
    """10 canary requests/s at 5 %: 200 counted, 525 more are needed for 1 %."""
    finding = judge(tally(5, (200, 0), (3800, 0), milliseconds=20_000))
    assert finding.needed == 525
    assert finding.eta_seconds == 53


def test_slow_answers_are_a_count_too() -> None:
    slow = Analysis(max_error_rate=0.01, latency=Latency(95, 200))
    bad = judge(tally(5, (200, 0), (3800, 0), logged=200, slow=80, stable_logged=3800, stable_slow=40), analysis=slow)
    assert (bad.verdict, bad.reason) == (Verdict.ABORT, "TooSlow")
    shared = judge(
        tally(5, (200, 0), (3800, 0), logged=200, slow=80, stable_logged=3800, stable_slow=1500), analysis=slow
    )
    assert shared.verdict is Verdict.WAIT
    good = judge(
        tally(5, (800, 0), (15_000, 0), logged=790, slow=9, stable_logged=14_000, stable_slow=150), analysis=slow
    )
    assert good.verdict is Verdict.PROMOTE


@pytest.mark.parametrize(
    ("outcome", "looks", "verdict", "reason"),
    [
        (Outcome.FAILED, 3, Verdict.ABORT, "MetricFailed"),
        (Outcome.FAILED, 2, Verdict.WAIT, "MetricFailing"),
        (Outcome.ERROR, 0, Verdict.WAIT, "MetricError"),
        (Outcome.NO_DATA, 0, Verdict.WAIT, "MetricNoData"),
        (Outcome.PASSED, 0, Verdict.PROMOTE, "ShownGood"),
    ],
)
def test_only_a_failed_metric_aborts(outcome: Outcome, looks: int, verdict: Verdict, reason: str) -> None:
    finding = judge(tally(5, (900, 0)), metrics=(MetricFinding("auc", outcome, "0.6 is below 0.7", looks),))
    assert (finding.verdict, finding.reason) == (verdict, reason)


def simulate(
    rng: np.random.Generator,
    steps: tuple[Step, ...],
    analysis: Analysis,
    rates: Callable[[int], tuple[float, float]],
    *,
    per_second: int,
    seconds: int,
    first_counted: int = 0,
) -> int | None:
    """Second of the abort, None when there is none: random routing, one look a second, `rates(second)` per arm."""
    for number, step in enumerate(steps):
        canary = rng.binomial(per_second, step.weight / 100, seconds)
        good, bad = Arm(), Arm()
        for second in range(first_counted, seconds):
            mine, other = rates(second)
            failed = int(rng.binomial(canary[second], mine)), int(rng.binomial(per_second - canary[second], other))
            bad += Arm(int(canary[second]), failed[0])
            good += Arm(per_second - int(canary[second]), failed[1])
            if failed[0] and must_abort(Tally(step.weight, 1, bad, good), analysis, len(steps)):
                return number * seconds + second + 1
    return None


def test_of_a_thousand_good_canaries_at_most_one_percent_is_aborted() -> None:
    """At the limit itself (1 % failures on both arms, limit 1 %, ratio limit 1): the hardest good canary there is."""
    rng = np.random.default_rng(20260817)
    edge = Analysis(max_error_rate=0.01, max_error_ratio=1.0)
    aborted = sum(
        simulate(rng, THREE, edge, lambda _: (0.01, 0.01), per_second=100, seconds=30) is not None for _ in range(1000)
    )
    assert aborted <= 10


def test_a_shared_outage_aborts_no_innocent_canary() -> None:
    rng = np.random.default_rng(1)

    def outage(second: int) -> tuple[float, float]:
        return (0.5, 0.5) if 10 <= second < 20 else (0.001, 0.001)

    assert all(simulate(rng, ONE, STRICT, outage, per_second=100, seconds=30) is None for _ in range(100))
    alone = Tally(5, 1, Arm(50, 25))
    assert must_abort(alone, STRICT, 1)  # the rate alone would have


def test_a_tiny_difference_far_below_the_limit_aborts_no_canary() -> None:
    rng = np.random.default_rng(2)
    steps = (Step(25),)
    runs = [simulate(rng, steps, STRICT, lambda _: (0.0005, 0.00002), per_second=2000, seconds=60) for _ in range(40)]
    assert runs == [None] * 40


def test_one_cold_second_before_counting_rejects_no_model() -> None:
    rng = np.random.default_rng(3)

    def cold(second: int) -> tuple[float, float]:
        return (0.6, 0.001) if second == 0 else (0.001, 0.001)

    counted = [simulate(rng, ONE, STRICT, cold, per_second=100, seconds=20) for _ in range(100)]
    warm = [simulate(rng, ONE, STRICT, cold, per_second=100, seconds=20, first_counted=5) for _ in range(100)]
    assert warm == [None] * 100
    eager = Analysis(max_error_rate=0.01, min_failures=1)
    hasty = [simulate(rng, ONE, eager, cold, per_second=100, seconds=20) for _ in range(100)]
    assert sum(run is not None for run in hasty) > 30 >= sum(run is not None for run in counted)


def test_twenty_percent_errors_at_five_requests_a_second_are_found_in_seconds() -> None:
    rng = np.random.default_rng(4)
    times = sorted(
        simulate(rng, ONE, STRICT, lambda _: (0.2, 0.0005), per_second=100, seconds=60) or 999 for _ in range(300)
    )
    assert times[149] <= 6
    assert times[269] <= 10


def test_sticky_callers_are_compared_by_the_requests_that_were_seen_not_by_the_weight() -> None:
    """At 5 % the canary has a busy caller and half of the requests; both arms fail alike."""
    here = tally(5, (1000, 40), (1000, 40))
    assert judge(here).reason == "TooManyFailures"
    assert judge(here, analysis=replace(STRICT, sticky=True)).reason == "MayBeFailing"
    worse = tally(5, (1000, 90), (1000, 3))
    assert judge(worse, analysis=replace(STRICT, sticky=True)).reason == "TooManyFailures"


def test_sticky_without_a_canary_request_is_no_evidence() -> None:
    finding = judge(tally(5, (0, 0), (900, 20)), analysis=replace(STRICT, sticky=True))
    assert (finding.verdict, finding.reason) == (Verdict.WAIT, "NoTraffic")
