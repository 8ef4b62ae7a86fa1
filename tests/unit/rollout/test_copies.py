"""The step before the first weight: a canary that is sent copies is judged before any caller sees it."""

from dataclasses import replace

import pytest

from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.evidence import Evidence, Tally
from perennial.domain.rollout.failures import Arm
from perennial.domain.rollout.predictions import Pair, Predictions
from perennial.domain.rollout.routers import read_router
from perennial.domain.rollout.spec import Analysis, Step
from perennial.domain.rollout.verdict import Finding, Verdict, find_verdict
from perennial.domain.rollout.world import Recorded
from tests.unit.rollout.play import Play, spec_of

A, B = "aaaaaaaa", "bbbbbbbb"


def copied(percent: int = 100, **more: object) -> Play:
    """A canary of B that is being sent copies."""
    play = Play(spec=spec_of(mirrorPercent=percent), **more).begin()  # type: ignore[arg-type]
    play.settle()
    assert play.state == "Analysing"
    assert (play.recorded.weight_of(A), play.recorded.weight_of(B)) == (100, 0)
    return play


def test_a_good_canary_answers_copies_first_and_is_then_promoted_as_ever() -> None:
    play = copied(20)
    assert play.status["rollout"]["progress"].startswith("1/")
    for _ in range(100):
        if play.recorded.weight_of(B) > 0:
            break
        play.tick()
    tallies = {t.weight: t for t in play.recorded.rollout.evidence.tallies}  # type: ignore[union-attr]
    assert tallies.keys() == {0} and tallies[0].canary.requests >= 50
    play.run(200)
    assert play.status["stable"]["revision"] == B
    assert play.weights[0] == 0 and play.weights == sorted(play.weights)


def test_a_failing_canary_is_aborted_before_any_caller_sees_it() -> None:
    play = copied(error_rates={B: 0.2})
    play.run(60)
    assert set(play.weights) == {0}
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"
    assert "canary requests failed in copies that nobody waited for" in play.status["rejected"][0]["message"]


def test_a_shared_outage_aborts_nobody_and_holds_the_weight_at_zero() -> None:
    play = copied(error_rates={A: 0.2, B: 0.2})
    play.tick(60)
    assert play.state == "Analysing" and set(play.weights) == {0}


def test_copies_need_pods_of_their_own() -> None:
    play = Play(spec=spec_of(mirrorPercent=50, replicas=4)).begin()
    play.settle()
    assert play.revisions[B].replicas == 2  # a first weight of 5 % would need one


def test_clean_copies_are_no_evidence_for_a_promotion() -> None:
    play = copied(per_second=10)
    play.tick(7)
    first = play.status["rollout"]["analysis"]
    play.tick(2)
    second = play.status["rollout"]["analysis"]
    assert 0 < first["requests"] < second["requests"] and play.recorded.weight_of(B) == 0
    assert first["requestsNeeded"] == second["requestsNeeded"] > 0


def test_a_person_may_skip_the_copies_and_a_spec_without_them_goes_on() -> None:
    play = copied(per_second=0)
    play.command = Command("skip", B, "c1", "ann")
    play.settle()
    assert play.recorded.weight_of(B) > 0
    play = copied(per_second=0)
    play.spec = spec_of()
    play.settle()
    assert play.recorded.weight_of(B) > 0


def test_copies_that_are_taken_out_of_the_spec_after_some_were_counted_end_there() -> None:
    play = copied(per_second=10)
    play.tick(8)
    rollout = play.recorded.rollout
    assert rollout is not None and 0 < rollout.evidence.tally(0).stable.requests < 50
    play.spec = spec_of()
    play.settle()
    assert play.recorded.weight_of(B) > 0


def test_an_abort_is_carried_out_when_copies_were_just_taken_out_of_the_spec() -> None:
    play = copied(per_second=10)
    play.tick(8)
    play.spec = spec_of(suspend=True)
    play.settle()
    assert play.status["rollout"].get("etaSeconds") is None, "nothing is sent, so nobody knows how long"
    play.order("abort")
    assert play.status["rejected"][0]["reason"] == "Aborted"


def test_a_canary_without_weight_is_read_from_its_copies() -> None:
    play = copied()
    recorded: Recorded = play.recorded
    weights = {"trafficVersion": recorded.traffic_version, "confirmed": True, "weights": {A: 100}}
    started = {"agent": 1, "envoy": 2}
    arms = {"revisions": {A: {"codes": {"200": 90}}}, "copies": {B: {"codes": {"200": 7, "500": 2}}}}
    seen = read_router(
        "router", "uid", {"started": started, "deployments": {"rain": weights}},
        {"started": started, "deployments": {"rain": arms}},
        deployment="rain", recorded=recorded, failure_codes=frozenset(),
    )  # fmt: skip
    assert seen.reading is not None and seen.reading.confirmed
    assert (seen.reading.canary.requests, seen.reading.canary.failures) == (9, 2)
    assert seen.reading.stable.requests == 90


def test_predictions_of_copies_abort_a_canary_that_answers_200_and_is_wrong() -> None:
    def found(canary: list[int], stable: list[int]) -> Finding:
        arms = [Predictions("b", sum(c), other=sum(c), counts=tuple(c)) for c in (canary, stable)]
        here = Tally(0, 10_000, Arm(400), Arm(400), predictions=Pair(*arms))
        analysis = Analysis(copy_percent=100, max_distance=0.2)
        return find_verdict(Evidence((here,)), analysis, (Step(0), Step(5)), 0, held_seconds=60)

    wrong = found([20, 380], [380, 20])
    assert (wrong.verdict, wrong.reason) == (Verdict.ABORT, "PredictionsDiffer")
    assert "canary predictions in copies that nobody waited for" in wrong.message
    assert found([200, 200], [205, 195]).verdict is Verdict.ADVANCE


@pytest.mark.parametrize("surge", ["Auto", "Replace"])
def test_a_canary_without_room_gets_its_first_weight_and_no_copies(surge: str) -> None:
    """The routers send it none: it and stable share the places that stable alone had, so neither has any to spare."""
    play = Play(spec=spec_of(mirrorPercent=50, replicas=4, surge=surge)).begin()
    play.stuck.add(B)
    play.settle()
    seen = play.revisions[B]
    play.revisions[B] = replace(seen, trouble="no room", unschedulable_since=play.now)
    play.tick(31)
    assert play.recorded.rollout is not None and play.recorded.rollout.replacing
    assert play.revisions[A].replicas == 3, "5 % need one pod, copies of 50 % would have needed two"
    play.recover(B)
    play.run(300)
    assert play.status["stable"]["revision"] == B
    assert 0 not in play.weights[play.weights.index(5) :]


def test_a_canary_that_waits_for_copies_which_it_cannot_get_goes_on() -> None:
    """Recorded by an earlier version of the operator."""
    play = copied()
    play.status = {**play.status, "rollout": {**play.status["rollout"], "replacing": True}}
    play.tick(2)
    assert play.recorded.weight_of(B) == 5
    assert "no copies" in next(note.message for note in play.events if note.reason == "StepStarted")
