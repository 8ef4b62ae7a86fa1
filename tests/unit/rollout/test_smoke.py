"""Sample inputs before the first request: evidence like any other, held against nobody when a Job cannot run."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perennial.domain.rollout import eprocess
from perennial.domain.rollout.plan import DeleteSmoke, RunSmoke
from perennial.domain.rollout.smoke import Answers, BadReport, JobSeen, Samples, read_answers, read_report
from perennial.domain.rollout.world import Untargeted
from tests.unit.rollout.play import Play, spec_of, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
SAMPLES = Samples("s3://m/samples/s.csv", "sha256:" + "5" * 64)
Replay = Callable[[RunSmoke], JobSeen]


def said(**answers: Any) -> Replay:
    """A Job whose requests ended so."""
    return lambda made: JobSeen(made.name, "u", started=True, over=True, answers=Answers(**answers))


def dead(words: str, *, lasting: bool = False) -> Replay:
    """A Job that ends without a report."""
    return lambda made: JobSeen(made.name, "u", started=True, over=True, trouble=words, lasting=lasting)


def runs(made: RunSmoke) -> JobSeen:
    """A Job that does not end."""
    return JobSeen(made.name, "u", started=True)


def waits(made: RunSmoke) -> JobSeen:
    """A Job whose pod does not start."""
    return JobSeen(made.name, "u", trouble="no node has room")


def smoked(replay: Replay = runs, requests: int = 400, samples: Samples | None = SAMPLES, **spec: Any) -> Play:
    """B before its first request beside stable A."""
    play = Play(spec=spec_of(smoke={"requests": requests}, **spec)).begin(samples=samples)
    play.replay = replay
    play.settle()
    return play


def made(play: Play) -> list[str]:
    return [action.name for action in play.actions if isinstance(action, RunSmoke)]


def test_a_job_sends_sample_inputs_before_the_first_weight_and_its_report_lets_the_rollout_go_on() -> None:
    play = smoked(said(sent=400, good=400, compared=256))
    assert (play.state, play.recorded.weight_of(B), play.status["rollout"]["progress"]) == ("Smoke", 0, "1/4")
    assert "400 requests with sample inputs" in play.words()
    job = next(iter(play.jobs.values()))
    assert job.target.samples == SAMPLES and job.requests == 400
    play.tick()
    assert (play.state, play.recorded.weight_of(B), play.status["rollout"]["progress"]) == ("Analysing", 5, "2/4")
    assert play.status["rollout"]["smoke"]["failures"] == 0
    passed = next(note for note in play.events if note.reason == "SmokePassed")
    assert passed.message.startswith("0 of 400 requests with sample inputs failed") and passed.type == "Normal"
    assert play.jobs == {}
    play.run(100)
    assert play.status["stable"]["revision"] == B and len(made(play)) == 1


def test_without_smoke_there_is_no_job() -> None:
    play = Play().begin(samples=SAMPLES)
    play.settle()
    assert play.state == "Analysing" and made(play) == []


def test_nobody_sees_a_canary_that_fails_its_sample_inputs() -> None:
    play = smoked(said(sent=100, good=80, codes=(("500", 15),), timeouts=5, first="answered 500: boom"))
    play.tick()
    play.run(10)
    assert set(play.weights) == {0}
    rejected = play.status["rejected"][0]
    assert (rejected["revision"], rejected["reason"]) == (B, "CanaryFailed")
    assert (
        "20 of 100 requests with sample inputs failed (500: 15, timeout: 5; the first: answered 500: boom)"
        in (rejected["message"])
    )
    assert "maxErrorRate 0.05" in rejected["message"] and play.jobs == {}


def test_null_outputs_are_failures_and_named_as_the_reason() -> None:
    play = smoked(said(sent=100, good=80, nulls=20))
    play.tick()
    play.run(10)
    assert play.status["rejected"][0]["reason"] == "NullPredictions"


def test_it_is_judged_as_one_step_more_with_its_share_of_alpha() -> None:
    """What would abort at one step of three does not at one of four."""
    goal = [math.log(steps / 0.01) for steps in (3, 4)]
    cases = [(bad, total) for total in range(20, 200) for bad in range(5, 20)]
    bad, total = next(c for c in cases if goal[0] <= eprocess.log_rate_above(*c, 0.05) < goal[1])
    play = smoked(said(sent=total, good=total - bad, codes=(("500", bad),)), requests=total)
    play.tick()
    assert play.state == "Holding"


def test_no_router_is_needed_to_reject_for_leaning_towards_failing() -> None:
    """Nor is it done under suspend, which ends nothing that is not shown."""
    play = smoked(said(sent=20, good=16, codes=(("503", 4),)), requests=20, analysis={"onInconclusive": "Abort"})
    play.routers, play.spec["suspend"] = [], True
    play.tick(10)
    assert play.state == "Smoke"
    play.spec["suspend"] = False
    play.tick(1)
    assert play.status["rejected"][0]["reason"] == "Inconclusive"


@pytest.mark.parametrize("choice", ["Hold", "Promote", "Abort"])
def test_leaning_towards_failing_without_proof_is_inconclusive_at_once(choice: str) -> None:
    play = smoked(said(sent=20, good=16, codes=(("503", 4),)), requests=20, analysis={"onInconclusive": choice})
    play.tick()
    if choice == "Abort":
        play.run(10)
        assert play.status["rejected"][0]["reason"] == "Inconclusive"
        return
    assert (play.state, play.recorded.weight_of(B)) == ("Holding", 0)
    assert "4 of 20 requests with sample inputs failed (503: 4)" in play.words()
    assert "leans towards too many failures" in play.words()
    play.tick(100)
    assert play.state == "Holding" and set(play.weights) == {0}


@pytest.mark.parametrize("choice", ["Hold", "Promote", "Abort"])
@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            {"sent": 400, "good": 390, "codes": (("422", 10),), "first": "answered 422: no x"},
            "(422: 10; the first: answ",
        ),
        ({"sent": 400, "good": 390, "unreached": 10}, "(no connection: 10)"),
        ({"sent": 400, "unreadable": 400}, "(no answer by the protocol: 400)"),
        ({"sent": 100, "good": 100}, "100 of 400 were sent within maxSeconds"),
    ],
)
def test_what_says_neither_good_nor_bad_is_held_for_a_person(choice: str, answers: Any, words: str) -> None:
    play = smoked(said(**answers), analysis={"onInconclusive": choice})
    play.tick(30)
    assert (play.state, play.recorded.weight_of(B), "rejected" in play.status) == ("Holding", 0, False)
    assert words in play.words() and "`kubectl perennial skip rain` goes on" in play.words()


def test_codes_that_the_spec_calls_failures_count_as_such_also_later() -> None:
    play = smoked(said(sent=400, good=300, codes=(("422", 100),)))
    play.tick()
    assert play.state == "Holding"
    play.spec["rollout"]["analysis"]["failureCodes"] = [422]
    play.settle()
    play.run(10)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"


@pytest.mark.parametrize("choice", ["Hold", "Promote", "Abort"])
def test_a_job_that_cannot_run_is_made_again_and_then_held_never_aborted(choice: str) -> None:
    play = smoked(dead("the store does not answer"), analysis={"onInconclusive": choice})
    play.tick(10)
    assert (play.state, play.recorded.weight_of(B), "rejected" in play.status) == ("Holding", 0, False)
    assert len(set(made(play))) == len(made(play)) == 3 and play.jobs == {}
    assert play.reasons().count("SmokeRetried") == 2
    assert "left no report: the store does not answer. That says nothing of the canary" in next(
        note.message for note in play.events if note.reason == "Inconclusive"
    )


def test_what_another_attempt_would_not_change_is_not_tried_again() -> None:
    play = smoked(dead("the model wants other inputs", lasting=True))
    play.tick(10)
    assert play.state == "Holding" and len(made(play)) == 1


def test_a_job_that_does_not_start_is_given_five_minutes() -> None:
    play = smoked(waits)
    play.tick(100)
    assert play.state == "Smoke" and len(made(play)) == 1 and "no node has room" in play.words()
    play.tick(90, every=10)
    assert play.state == "Holding" and len(made(play)) == 3


def test_a_person_may_have_the_job_made_once_more_where_the_last_one_left_no_report() -> None:
    play = smoked(dead("the store refuses the credentials", lasting=True))
    play.tick()
    assert play.state == "Holding" and "`retry` makes the Job once more" in play.words()
    play.order("retry", revision=A)
    assert play.state == "Holding"
    play.order("retry", id_="c2")
    assert (play.state, len(made(play))) == ("Smoke", 2)
    play.tick()
    assert (play.state, len(made(play))) == ("Holding", 2)
    play.replay = said(sent=400, good=400)
    play.order("retry", id_="c3")
    play.tick()
    assert play.state == "Analysing"


@pytest.mark.parametrize("samples", [SAMPLES, None])
def test_what_was_answered_or_cannot_be_asked_is_not_tried_again(samples: Samples | None) -> None:
    play = smoked(said(sent=400, good=390, unreadable=10), samples=samples)
    play.tick()
    play.order("retry")
    assert play.state == "Holding" and "CommandIgnored" in play.reasons()
    assert "`retry`" not in play.words()


def test_a_second_attempt_that_reports_lets_the_rollout_go_on() -> None:
    play = smoked(dead("evicted"))
    play.tick()
    assert "attempt 2 of 3 follows" in play.words() or "Attempt 2" in play.words()
    play.replay = said(sent=400, good=400)
    play.tick(2)
    assert play.state == "Analysing"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "rain-bbbbbbbb has none: a TrainingJob publishes them"), ({"version": None}, "no TrainingJob has published")],
)
def test_a_version_without_samples_is_held_in_one_sentence_until_a_person_skips(changes: Any, words: str) -> None:
    play = Play(spec=spec_of(smoke={"requests": 400}, analysis={"onInconclusive": "Promote"})).begin(**changes)
    play.settle()
    play.tick(60)
    assert (play.state, play.recorded.weight_of(B), made(play)) == ("Holding", 0, [])
    assert words in play.words() and play.condition("Available")[0] == "True"
    play.order("skip")
    assert (play.state, play.recorded.weight_of(B)) == ("Analysing", 5)
    assert play.status["rollout"]["approvals"][0]["said"] == "Skip"


def test_a_person_may_skip_promote_or_abort_meanwhile() -> None:
    play = smoked()
    play.order("skip")
    assert (play.state, play.recorded.weight_of(B), play.jobs) == ("Analysing", 5, {})
    play = smoked()
    play.order("promote")
    assert play.status["stable"]["revision"] == B
    play = smoked()
    play.order("abort")
    assert play.status["rejected"][0]["reason"] == "Aborted" and play.jobs == {}


def test_a_skip_before_the_pods_are_there_passes_over_the_sample_inputs_only() -> None:
    play = Play(spec=spec_of(smoke={"requests": 400}), stuck={B}).begin(samples=SAMPLES)
    play.settle()
    play.order("skip")
    play.recover(B)
    play.settle()
    assert (play.recorded.weight_of(B), made(play)) == (5, [])


def test_another_version_or_lost_pods_end_it() -> None:
    play = smoked()
    play.target = target(C, samples=SAMPLES)
    play.settle()
    assert (play.state, [job.target.revision for job in play.jobs.values()]) == ("Smoke", [C])
    play = smoked(progressDeadlineSeconds=30)
    play.lose(B)
    play.tick(40)
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"


def test_a_held_one_expires_without_a_rejection_and_a_retry_begins_anew() -> None:
    play = smoked(dead("no room", lasting=True), analysis={"holdMaxSeconds": 60})
    play.tick(70)
    assert play.condition("Stalled") == ("True", "RolloutExpired") and "rejected" not in play.status
    first = made(play)
    play.replay = said(sent=400, good=400)
    play.order("retry", id_="c2")
    play.run(100)
    assert play.status["stable"]["revision"] == B
    assert len(made(play)) == 2 and made(play)[1] not in first


def test_the_first_version_and_a_single_replica_without_room_have_none() -> None:
    play = Play(spec=spec_of(smoke={"requests": 400}), target=target(A, samples=SAMPLES))
    play.settle()
    assert play.status["stable"]["revision"] == A and made(play) == []
    play = Play(spec=spec_of(smoke={"requests": 400}, surge="Replace"), stuck={B}).begin(samples=SAMPLES)
    play.settle()
    play.recover(B)
    play.settle()
    assert play.status["stable"]["revision"] == B and made(play) == []


def test_it_comes_before_copies() -> None:
    play = smoked(mirrorPercent=100)
    play.tick(20)
    assert play.state == "Smoke" and not play.recorded.rollout.evidence.tallies  # type: ignore[union-attr]
    play.replay = said(sent=400, good=400)
    play.tick()
    assert (play.state, play.recorded.weight_of(B), play.status["rollout"]["progress"]) == ("Analysing", 0, "2/5")
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_a_spec_without_it_goes_on() -> None:
    for replay in (runs, dead("no room", lasting=True)):
        play = smoked(replay)
        play.tick()
        play.spec = spec_of()
        play.settle()
        assert (play.state, play.jobs) == ("Analysing", {})


def test_a_version_that_is_away_for_a_moment_is_waited_for() -> None:
    play = Play(spec=spec_of(smoke={"requests": 400}), stuck={B}).begin(samples=SAMPLES)
    play.settle()
    there = play.target
    play.target = Untargeted("VersionUnknown", "It is away.", version="rain-bbbbbbbb")
    play.recover(B)
    play.settle()
    assert (play.state, made(play)) == ("Scaling", [])
    play.target = there
    play.settle()
    assert play.state == "Smoke"


def test_nothing_is_sent_twice_while_the_job_is_there_and_no_other_rollouts_job_is_taken_for_it() -> None:
    play = smoked()
    play.jobs_seen["rain-smoke-0000abcd-1"] = JobSeen(
        "rain-smoke-0000abcd-1", "old", started=True, over=True, answers=Answers(sent=400, good=400)
    )
    play.jobs["rain-smoke-0000abcd-1"] = next(iter(play.jobs.values()))
    play.settle()
    assert play.state == "Smoke" and len(made(play)) == 1
    deleted = [action.name for action in play.actions if isinstance(action, DeleteSmoke)]
    assert deleted == ["rain-smoke-0000abcd-1"]


def test_a_paused_rollout_takes_the_report_and_stays() -> None:
    play = smoked()
    play.spec["suspend"] = True
    play.replay = said(sent=400, good=400)
    play.tick(3)
    assert (play.state, play.status["rollout"]["smoke"]["good"], play.recorded.weight_of(B)) == ("Smoke", 400, 0)
    assert play.jobs == {}  # its report is in status
    play.spec["suspend"] = False
    play.tick()
    assert play.state == "Analysing"


def test_answers_that_differ_from_training_are_told_and_stop_nothing() -> None:
    play = smoked(said(sent=400, good=400, compared=256, different=12, largest="0.31"))
    play.tick()
    assert play.state == "Analysing"
    passed = next(note for note in play.events if note.reason == "SmokePassed")
    assert passed.type == "Warning"
    assert "12 of 256 answers differ from what training recorded for the same inputs, by up to 0.31" in passed.message
    assert "12 of 256" in play.status["rollout"]["smoke"]["skew"]


# --- a service with one request a minute ----------------------------------------------------------------------------


def slow_service(seed: int, **rollout: Any) -> Play:
    """One request a minute, at random, and steps that want one canary request each."""
    analysis = {"maxErrorRate": "0.02", "minRequests": 1, "warmupSeconds": 0, "maxSeconds": 7200}
    spec = spec_of(steps=[{"weight": 20}, {"weight": 50}], analysis=analysis, **rollout)
    play = Play(spec=spec, per_second=1 / 60, rng=np.random.default_rng(seed)).begin(samples=SAMPLES)
    play.settle()
    return play


@pytest.mark.parametrize("seed", range(3))
def test_a_service_with_one_request_a_minute_is_promoted_with_sample_inputs(seed: int) -> None:
    play = slow_service(seed, smoke={"requests": 400})
    for _ in range(60):
        play.tick(every=60)
        if play.state == "Rest":
            break
    assert play.status["stable"]["revision"] == B
    assert sum(counts[B].requests for counts in play.counts.values() if B in counts) < 20


def test_and_is_not_without_them() -> None:
    play = slow_service(1)
    play.tick(2 * 60, every=60)
    assert play.status["stable"]["revision"] == A and play.recorded.weight_of(B) == 50
    assert "more without a failure are needed to promote" in play.words()


def test_a_canary_that_fails_one_in_five_is_aborted_before_any_caller() -> None:
    """The Job stops by itself once half of what it sent has failed; here it sent all."""
    play = slow_service(1, smoke={"requests": 400})
    play.replay = said(sent=400, good=320, codes=(("500", 80),))
    play.tick(every=60)
    play.run(10)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed" and set(play.weights) == {0}
    assert all(B not in counts for counts in play.counts.values())


# --- reports --------------------------------------------------------------------------------------------------------


def test_a_report_is_read_strictly() -> None:
    good = Answers(sent=10, good=7, nulls=1, codes=(("500", 2),), compared=7, different=1, largest="0.5", first="x")
    assert read_answers(good.to_json()) == good
    for wrong in ({"sent": 11}, {"good": -7}, {"good": "7"}, {"different": 8}, {"codes": []}, {"nulls": True}):
        with pytest.raises(BadReport):
            read_answers({**good.to_json(), **wrong})
    for text in ("", "[]", "{}", "[" * 10_000):
        with pytest.raises(BadReport):
            read_report(text)
