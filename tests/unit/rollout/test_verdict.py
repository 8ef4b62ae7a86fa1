"""Verdicts on counts: tables, and seeded simulations of whole rollouts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from perennial.domain.rollout.evidence import Evidence, Tally
from perennial.domain.rollout.failures import Arm
from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.predictions import Pair, Predictions
from perennial.domain.rollout.spec import Analysis, Latency, Step
from perennial.domain.rollout.verdict import Finding, Verdict, find_verdict, must_abort
from tests.support.simulate import ONE, THREE, Ending, Scenario, Steady, first_abort, runs, share_of

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


def test_of_a_thousand_good_canaries_at_most_one_percent_is_aborted() -> None:
    """At the limit itself (1 % failures on both arms, limit 1 %, ratio limit 1): the hardest good canary there is."""
    rng = np.random.default_rng(20260817)
    edge = Scenario(
        Steady(0.01, 0.01), 100, analysis=Analysis(max_error_rate=0.01, max_error_ratio=1.0), step_seconds=30
    )
    assert sum(first_abort(rng, edge) is not None for _ in range(1000)) <= 10


def test_a_shared_outage_aborts_no_innocent_canary() -> None:
    def outage(second: int) -> tuple[float, float]:
        return (0.5, 0.5) if 10 <= second < 20 else (0.001, 0.001)

    rng = np.random.default_rng(1)
    assert all(first_abort(rng, Scenario(outage, 100, ONE, STRICT, 30)) is None for _ in range(100))
    alone = Tally(5, 1, Arm(50, 25))
    assert must_abort(alone, STRICT, 1)  # the rate alone would have


def test_a_tiny_difference_far_below_the_limit_aborts_no_canary() -> None:
    rng = np.random.default_rng(2)
    tiny = Scenario(Steady(0.0005, 0.00002), 2000, (Step(25),), STRICT, 60)
    assert [first_abort(rng, tiny) for _ in range(40)] == [None] * 40


def test_one_cold_second_before_counting_rejects_no_model() -> None:
    def cold(second: int) -> tuple[float, float]:
        return (0.6, 0.001) if second == 0 else (0.001, 0.001)

    def aborted(**changes: int) -> int:
        analysis = Analysis(max_error_rate=0.01, **changes)
        played = runs(3, Scenario(cold, 100, ONE, analysis, step_seconds=20), 100)
        return sum(one.ending is Ending.ABORTED for one in played)

    assert aborted() == 0
    assert aborted(warmup_seconds=0, min_failures=1) > 30 >= aborted(warmup_seconds=0)


def test_twenty_percent_errors_at_five_requests_a_second_are_found_in_seconds() -> None:
    played = runs(4, Scenario(Steady(0.2, 0.0005), 100, ONE, STRICT, 60), 300)
    assert share_of(Ending.ABORTED, played) == 1
    counted = sorted(one.counted for one in played)
    assert counted[149] <= 6
    assert counted[269] <= 10


def test_stable_without_a_request_by_chance_does_not_leave_the_rate_alone() -> None:
    """At 90 % the first requests may all meet the canary; that stable answers nothing is believed only later."""
    five = judge(tally(90, (5, 5)), steps=(Step(90),))
    assert five.verdict is Verdict.WAIT
    assert judge(tally(90, (100, 20)), steps=(Step(90),)).reason == "TooManyFailures"


def test_more_requests_than_its_weight_brings_do_not_condemn_the_canary() -> None:
    """At 5 % with half of all requests, whoever sent them, half of the failures of an outage are the canary's."""
    assert judge(tally(5, (1000, 100), (1000, 100))).verdict is Verdict.WAIT
    assert judge(tally(5, (1000, 300), (1000, 10))).verdict is Verdict.ABORT


def test_fewer_requests_than_its_weight_brings_do_not_promote_the_canary_by_ratio() -> None:
    """At 50 % by weight but 5 % of the requests, few failures are no sign that it is better than stable."""
    finding = judge(tally(50, (1000, 60), (19_000, 1140)), steps=(Step(50),))
    assert (finding.verdict, finding.reason) == (Verdict.WAIT, "MayBeFailing")
    assert judge(tally(50, (10_000, 60), (10_000, 1140)), steps=(Step(50),)).verdict is Verdict.PROMOTE


def test_the_time_to_a_verdict_is_known_before_the_canary_gets_its_first_request() -> None:
    """One request in ten seconds at 5 %: one for the canary in 200 s, 361 are needed."""
    quiet = judge(tally(5, (0, 0), (6, 0), milliseconds=60_000), analysis=Analysis())
    assert quiet.eta_seconds == 361 * 200
    assert "361 without a failure are needed to promote, about 20 h at the present traffic" in quiet.message


def test_sticky_callers_are_compared_by_the_requests_that_were_seen_not_by_the_weight() -> None:
    """At 5 % the canary has a busy caller and half of the requests; both arms fail alike."""
    here = tally(5, (1000, 40), (1000, 40))
    assert judge(here, analysis=replace(STRICT, sticky=True)).reason == "MayBeFailing"
    idle = tally(25, (50, 20), (3000, 60))  # by the weight, 20 of 80 failures would be no more than its share
    assert judge(idle, steps=(Step(25),), analysis=replace(STRICT, sticky=True)).reason == "TooManyFailures"
    assert judge(idle, steps=(Step(25),)).reason == "MayBeFailing"
    worse = tally(5, (1000, 90), (1000, 3))
    assert judge(worse, analysis=replace(STRICT, sticky=True)).reason == "TooManyFailures"


def test_sticky_without_a_canary_request_is_no_evidence() -> None:
    finding = judge(tally(5, (0, 0), (900, 20)), analysis=replace(STRICT, sticky=True))
    assert (finding.verdict, finding.reason) == (Verdict.WAIT, "NoTraffic")


COMPARING = Analysis(max_error_rate=0.01, max_distance=0.2)
ALIKE = (100,) * 10
UPPER, LOWER = (0,) * 5 + (40,) * 5, (400,) * 5 + (0,) * 5


def predicting(here: Tally, canary: tuple[int, ...], stable: tuple[int, ...], nulls: tuple[int, int] = (0, 0)) -> Tally:
    """The same tally with predictions in ten bins; nulls of canary and stable beside them."""
    arms = [
        Predictions("d", sum(counts) + null, null, other=sum(counts), counts=counts)
        for counts, null in zip((canary, stable), nulls, strict=True)
    ]
    return replace(here, predictions=Pair(*arms))


def test_a_canary_that_never_fails_is_aborted_for_what_it_predicts() -> None:
    found = judge(predicting(tally(5, (200, 0), (3800, 0)), UPPER, LOWER), analysis=COMPARING)
    assert (found.verdict, found.reason) == (Verdict.ABORT, "PredictionsDiffer")
    assert found.message.startswith(
        "0 of 200 canary requests failed at 5% (stable: 0 of 3800); 200 canary predictions at 5% are at a distance of "
    )
    assert found.message.endswith(
        "from 2000 of stable's on the same traffic (maxDistance 0.2): more than maxDistance allows."
    )
    assert judge(predicting(tally(5, (200, 0), (3800, 0)), UPPER, LOWER)).verdict is not Verdict.ABORT, "opt-in"


def test_null_predictions_abort_by_rate_and_ratio() -> None:
    here = tally(5, (200, 0), (3800, 0))
    found = judge(predicting(here, (18,) * 10, (370,) * 10, (20, 0)), analysis=COMPARING)
    assert (found.verdict, found.reason) == (Verdict.ABORT, "NullPredictions")
    assert "20 of 200 predictions were null, NaN or infinite (stable: 0 of 3700)" in found.message
    few = judge(predicting(here, (18,) * 10, (370,) * 10, (10, 0)), analysis=COMPARING)
    assert (few.verdict, few.reason) == (Verdict.WAIT, "MayBeFailing")
    both = judge(predicting(here, (18,) * 10, (370,) * 10, (20, 411)), analysis=COMPARING)
    assert both.verdict is Verdict.WAIT, "stable answers nulls as often"


def test_an_early_step_advances_without_enough_predictions_but_nothing_is_promoted() -> None:
    few = predicting(tally(5, (800, 0), (15_000, 0)), (6,) * 10, (100,) * 10)
    first = judge(few, analysis=COMPARING, steps=(Step(5), Step(25)))
    assert (first.verdict, first.reason) == (Verdict.ADVANCE, "StepDone")
    last = judge(few, analysis=COMPARING)
    assert (last.verdict, last.reason) == (Verdict.WAIT, "NotEnoughEvidence")
    enough = predicting(tally(5, (800, 0), (15_000, 0)), (80,) * 10, (1500,) * 10)
    assert judge(enough, analysis=COMPARING).verdict is Verdict.PROMOTE


def test_predictions_compared_at_the_last_weight_are_still_too_few_after_enough_at_others() -> None:
    before = predicting(tally(5, (800, 0), (15_000, 0)), (80,) * 10, (1500,) * 10)
    last = predicting(tally(50, (100, 0), (100, 0)), (10,) * 10, (10,) * 10)
    found = judge(before, last, analysis=COMPARING, steps=(Step(5), Step(50)), index=1)
    assert (found.verdict, found.reason) == (Verdict.WAIT, "NotEnoughPredictions")
    assert found.comparison is not None and f"{found.comparison.needed} more canary predictions" in found.message


def test_unreadable_predictions_hold_every_step_and_abort_none() -> None:
    here = tally(5, (800, 0), (15_000, 0))
    arms = Pair(Predictions("d", unparsed=800, counts=(0,) * 10), Predictions("d", 15_000, counts=(1500,) * 10))
    found = judge(replace(here, predictions=arms), analysis=COMPARING, steps=(Step(5), Step(25)))
    assert (found.verdict, found.reason) == (Verdict.WAIT, "PredictionsUnreadable")
    assert "observation.maxBodyBytes" in found.message and "remove analysis.predictions" in found.message


def test_alpha_is_shared_by_all_that_may_abort() -> None:
    assert judge(tally(5, (60, 0)), analysis=COMPARING).abort_goal == pytest.approx(math.log(4 / 0.01))
    assert judge(tally(5, (60, 0)), analysis=STRICT).abort_goal == pytest.approx(math.log(1 / 0.01))


def test_weights_between_the_steps_share_alpha_with_them() -> None:
    def failures_to_abort(parts: int) -> int:
        for failures in range(5, 60):
            evidence = Evidence((tally(5, (100, failures), (1900, 0)),))
            found = find_verdict(evidence, Analysis(), (Step(5),), 0, held_seconds=60, parts=parts)
            if found.verdict is Verdict.ABORT:
                return failures
        raise AssertionError("never aborted")

    assert failures_to_abort(0) < failures_to_abort(19) < failures_to_abort(9999)
