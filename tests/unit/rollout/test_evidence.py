"""Counters become evidence exactly once, and only from stretches that compare like with like."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from perennial.domain.rollout.evidence import Evidence, Reading, Tally, evidence_from_status, evidence_to_status
from perennial.domain.rollout.failures import NOTHING, Arm
from perennial.domain.rollout.predictions import NO_PREDICTIONS, Pair, Predictions

T0 = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
NONE: frozenset[str] = frozenset()


def reading(canary: Arm = NOTHING, stable: Arm = NOTHING, uid: str = "r1", **changes: object) -> Reading:
    return replace(Reading(uid, ("100.0", "101.0"), 7, True, canary, stable), **changes)  # type: ignore[arg-type]


def look(evidence: Evidence, second: float, *readings: Reading, warm: float | None = 0, **changes: object) -> Evidence:
    call: dict = {"weight": 5, "traffic_version": 7, "codes": NONE, **changes}
    counts_from = None if warm is None else T0 + timedelta(seconds=warm)
    return evidence.look(readings, counts_from=counts_from, now=T0 + timedelta(seconds=second), **call)


def test_first_sight_of_a_router_counts_nothing() -> None:
    seen = look(Evidence(), 0, reading(Arm(900, 50)))
    assert seen.tallies == ()
    assert look(seen, 1, reading(Arm(905, 51), Arm(95, 1))).tally(5) == Tally(5, 1000, Arm(5, 1), Arm(95, 1))


def test_same_counters_twice_count_once() -> None:
    seen = look(look(Evidence(), 0, reading()), 1, reading(Arm(5, 1)))
    again = look(seen, 2, reading(Arm(5, 1)))
    assert again.tally(5).canary == Arm(5, 1)


def test_evidence_survives_its_json() -> None:
    seen = look(look(Evidence(), 0, reading(), reading(uid="r2")), 1.25, reading(Arm(5, 1, 2, 3, 1)), reading(uid="r2"))
    back = evidence_from_status(evidence_to_status(seen))
    assert back == seen
    assert look(back, 2, reading(Arm(6, 1, 2, 4, 1))) == look(seen, 2, reading(Arm(6, 1, 2, 4, 1)))
    assert evidence_from_status(None) == Evidence()


def test_warm_up_is_not_counted() -> None:
    seen = look(Evidence(), 0, reading(), warm=5)
    seen = look(seen, 4.9, reading(Arm(50, 30)), warm=5)
    assert look(seen, 5.9, reading(Arm(55, 33)), warm=5).tallies == ()  # that stretch began before its end
    seen = look(seen, 5.9, reading(Arm(55, 33)), warm=5)
    assert look(seen, 6.9, reading(Arm(60, 33)), warm=5).tally(5).canary == Arm(5, 0)


def test_nothing_counts_before_the_weight_is_verified() -> None:
    assert look(look(Evidence(), 0, reading()), 1, reading(Arm(5)), warm=None).tallies == ()


def test_a_restarted_envoy_or_agent_starts_anew() -> None:
    seen = look(Evidence(), 0, reading(Arm(100, 9)))
    fresh = look(seen, 1, reading(Arm(120, 9), started=("100.0", "555.0")))
    assert fresh.tallies == ()
    assert look(fresh, 2, reading(Arm(125, 9), started=("100.0", "555.0"))).tally(5).canary == Arm(5, 0)


def test_counters_that_run_backwards_are_not_believed() -> None:
    seen = look(Evidence(), 0, reading(Arm(100, 9)))
    assert look(seen, 1, reading(Arm(3, 0))).tallies == ()


def test_unconfirmed_weights_at_either_end_do_not_count() -> None:
    seen = look(Evidence(), 0, reading(confirmed=False))
    assert look(seen, 1, reading(Arm(5))).tallies == ()
    seen = look(Evidence(), 0, reading())
    assert look(seen, 1, reading(Arm(5), confirmed=False)).tallies == ()


def test_a_stretch_across_a_weight_change_does_not_count() -> None:
    seen = look(Evidence(), 0, reading())
    assert look(seen, 1, reading(Arm(5), traffic_version=8), traffic_version=8, weight=25).tallies == ()


def test_a_router_that_went_away_does_not_stop_the_others() -> None:
    seen = look(Evidence(), 0, reading(), reading(uid="r2"))
    assert look(seen, 1, reading(Arm(5), uid="r2")).tally(5).canary == Arm(5)


def test_a_router_that_misses_every_second_look_loses_no_request() -> None:
    """Its counters say all the same what happened, also when the operator is killed between two looks."""
    seen = Evidence()
    for second in range(61):
        late = reading(Arm(100 * second, 50 * second), Arm(100 * second), uid="late")
        told = [reading(Arm(second), Arm(second)), *([late] if second % 2 == 0 else [])]
        seen = evidence_from_status(evidence_to_status(look(seen, second, *told)))
    assert seen.tally(5) == Tally(5, 60_000, Arm(60 + 6000, 3000), Arm(60 + 6000))


@pytest.mark.parametrize(
    "changes",
    [{"uid": "r3"}, {"started": ("555.0", "101.0")}, {"started": ("100.0", "555.0")}, {"confirmed": False}],
    ids=["another pod", "another agent", "another Envoy", "unconfirmed"],
)
def test_a_router_that_comes_back_as_another_one_is_counted_from_then_on(changes: dict) -> None:
    seen = look(Evidence(), 0, reading(), reading(Arm(100), uid="r2"))
    seen = look(seen, 1, reading(Arm(5)))
    seen = look(seen, 2, reading(Arm(10)), reading(Arm(900, 90), **{"uid": "r2", **changes}))
    assert seen.tally(5).canary == Arm(10)
    seen = look(seen, 3, reading(Arm(15)), reading(Arm(907, 91), **{"uid": "r2", **changes}))
    assert seen.tally(5).canary == (Arm(15) if "confirmed" in changes else Arm(22, 1))
    assert look(seen, 4, reading(Arm(15))).tally(5) == replace(seen.tally(5), milliseconds=4000)


def test_a_missed_look_carries_nothing_across_the_warm_up_a_weight_or_other_codes() -> None:
    seen = look(Evidence(), 4, reading(), reading(uid="r2"), warm=5)
    seen = look(seen, 5, reading(Arm(9)), warm=5)
    assert look(seen, 6, reading(Arm(9)), reading(Arm(9), uid="r2"), warm=5).tally(5).canary == NOTHING
    for changes in ({"traffic_version": 8}, {"codes": frozenset({"429"})}):
        seen = look(Evidence(), 0, reading(), reading(uid="r2"))
        version = {"traffic_version": changes.get("traffic_version", 7)}
        seen = look(seen, 1, reading(**version), **changes)
        assert [cursor.pod_uid for cursor in seen.cursors] == ["r1"]


def test_other_failure_codes_or_another_latency_limit_start_anew() -> None:
    """Counts by other rules cannot be added: what a limit that was too strict has counted goes when it is relaxed."""
    seen = look(look(Evidence(), 0, reading(Arm(100, 0))), 1, reading(Arm(110, 2)))
    assert seen.tally(5).canary == Arm(10, 2)
    for codes in ({"429"}, {"over 200 ms"}):
        other = look(seen, 2, reading(Arm(115, 20)), codes=frozenset(codes))
        assert other.tallies == ()
        assert look(other, 3, reading(Arm(120, 20)), codes=frozenset(codes)).tally(5).canary == Arm(5)


def test_each_weight_has_its_own_tally() -> None:
    seen = look(look(Evidence(), 0, reading()), 1, reading(Arm(5)))
    seen = look(seen, 2, reading(Arm(6), traffic_version=8), weight=25, traffic_version=8)
    seen = look(seen, 3, reading(Arm(31), traffic_version=8), weight=25, traffic_version=8)
    assert [(t.weight, t.canary.requests) for t in seen.tallies] == [(5, 5), (25, 25)]


def predicted(canary: int, stable: int, bins: str = "d") -> Pair:
    """Rows of each arm, all in the second of three bins."""
    return Pair(*(Predictions(bins, rows, other=rows, counts=(0, rows, 0)) for rows in (canary, stable)))


def test_predictions_are_counted_like_requests_between_two_looks() -> None:
    seen = look(Evidence(), 0, reading(Arm(100), predictions=predicted(90, 900)))
    seen = look(seen, 1, reading(Arm(105), predictions=predicted(94, 940)))
    assert seen.tally(5).predictions == predicted(4, 40)
    back = evidence_from_status(evidence_to_status(seen))
    assert back == seen, "a killed operator goes on from status"
    again = look(back, 2, reading(Arm(105), predictions=predicted(94, 940)))
    assert again.tally(5).predictions == predicted(4, 40), "nothing is counted twice"
    later = look(again, 3, reading(Arm(110), predictions=predicted(99, 980)), weight=25)
    assert (later.tally(5).predictions, later.tally(25).predictions) == (predicted(4, 40), predicted(5, 40))


def test_predictions_of_two_routers_add_up() -> None:
    seen = look(Evidence(), 0, reading(predictions=predicted(5, 50)), reading(uid="r2", predictions=predicted(700, 10)))
    seen = look(seen, 1, reading(predictions=predicted(6, 52)), reading(uid="r2", predictions=predicted(703, 11)))
    assert seen.tally(5).predictions == predicted(4, 3)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, predicted(5, 5)), (predicted(5, 5), None), (predicted(5, 5), predicted(9, 9, "grid")),
     (predicted(5, 5), predicted(4, 9))],
    ids=["not counted before", "not counted any more", "other bins", "backwards"],
)  # fmt: skip
def test_predictions_that_cannot_be_told_apart_are_left_out_alone(before: Pair | None, after: Pair | None) -> None:
    seen = look(look(Evidence(), 0, reading(predictions=before)), 1, reading(Arm(5), predictions=after))
    assert seen.tally(5).canary == Arm(5)
    assert seen.tally(5).predictions == NO_PREDICTIONS


def test_one_tally_holds_predictions_by_one_kind_of_bins() -> None:
    seen = look(look(Evidence(), 0, reading(predictions=predicted(0, 0))), 1, reading(predictions=predicted(5, 5)))
    seen = look(seen, 2, reading(predictions=predicted(0, 0, "grid")))
    seen = look(seen, 3, reading(predictions=predicted(9, 9, "grid")))
    assert seen.tally(5).predictions == predicted(5, 5)
