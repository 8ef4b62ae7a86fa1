"""Rollout decisions on a toy cluster: promotion, abort, commands, deadlines, changes of mind."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perennial.api.v1alpha1.model_deployment import PredictionStatus
from perennial.domain.rollout.commands import VERBS, Command
from perennial.domain.rollout.plan import DeleteRevision, DeleteRouter, ScaleRevision
from perennial.domain.rollout.smoke import Answers, JobSeen, Samples
from perennial.domain.rollout.world import Rejection, Untargeted
from tests.unit.rollout.play import Play, all_good, spec_of, started, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
SAMPLES = Samples("s3://m/samples/s.csv", "sha256:" + "5" * 64)
REPLAYS = [
    all_good,
    lambda made: JobSeen(made.name, "u", started=True),
    lambda made: JobSeen(made.name, "u", over=True, trouble="no room"),
    lambda made: JobSeen(made.name, "u", over=True, answers=Answers(sent=60, good=50, codes=(("500", 10),))),
    lambda made: JobSeen(made.name, "u", over=True, answers=Answers(sent=60, good=50, codes=(("404", 10),))),
]
"""What becomes of Jobs that send sample inputs."""


def test_first_revision_gets_everything_when_available() -> None:
    play = Play(stuck={A})
    play.settle()
    assert (play.state, play.condition("Available")[0]) == ("Scaling", "False")
    play.recover(A)
    play.settle()
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]
    assert play.condition("Ready") == ("True", "Serving")
    assert "Reconciling" not in {c["type"] for c in play.status["conditions"]}


def test_first_revision_says_so_on_its_deadline_and_still_comes_up_later() -> None:
    play = Play(spec=spec_of(progressDeadlineSeconds=20), stuck={A})
    play.settle()
    play.tick(21)
    assert play.condition("Stalled") == ("True", "ProgressDeadlineExceeded")
    assert play.condition("Available")[0] == "False"
    assert "rejected" not in play.status
    play.recover(A)
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_canary_is_promoted_by_steps_without_restarting_a_pod() -> None:
    play = started()
    play.run(100)
    assert play.status["stable"]["revision"] == B
    assert [w for w, before in zip(play.weights, [0, *play.weights], strict=False) if w != before] == [5, 25, 50, 100]
    assert play.status["history"][0]["commit"] == "abc1234"
    scaled = [a for a in play.actions if isinstance(a, ScaleRevision) and a.revision == B]
    assert scaled == []


def test_old_revisions_are_kept_to_the_limit() -> None:
    play = Play(spec=spec_of(revisionHistoryLimit=2, scaleDownDelaySeconds=30, analysis={"minRequests": 1}))
    for name in ("aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee"):
        play.begin(name) if play.status else None
        play.target = target(name)
        play.settle()
        play.run(100)
        play.tick(40)
    assert sorted(play.revisions) == ["cccccccc", "dddddddd", "eeeeeeee"]
    assert [a.revision for a in play.actions if isinstance(a, DeleteRevision)] == ["aaaaaaaa", "bbbbbbbb"]


def test_failing_canary_is_aborted_and_not_tried_again() -> None:
    play = started()
    play.error_rates[B] = 0.4
    play.run(30)
    assert play.status["stable"]["revision"] == A
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]
    assert (play.status["rejected"][0]["revision"], play.status["rejected"][0]["reason"]) == (B, "CanaryFailed")
    assert play.condition("Ready") == ("False", "CanaryFailed")
    assert play.condition("Stalled") == ("True", "CanaryFailed")
    assert play.condition("Available")[0] == "True"
    play.tick(60)
    assert play.state == "Rest"
    assert play.revisions[B].replicas == 0
    assert play.reasons().count("RolloutStarted") == 1


def test_abort_waits_for_every_router_and_replaces_a_deaf_one_after_ten_seconds() -> None:
    play = started()
    play.deaf.add("r1")
    play.order("abort")
    assert play.state == "Withdrawing"
    play.tick(9)
    assert play.state == "Withdrawing"
    assert not any(isinstance(a, DeleteRouter) for a in play.actions)
    play.tick(2)
    assert [a.pod for a in play.actions if isinstance(a, DeleteRouter)] == ["r1"]
    assert play.state == "Rest"


def test_abort_by_a_person_rejects_the_revision() -> None:
    play = started()
    play.order("abort")
    assert play.state == "Rest"
    assert play.status["rejected"][0]["reason"] == "Aborted"
    assert "ann aborted" in play.status["rejected"][0]["message"]


def test_a_retry_right_after_an_abort_waits_until_the_canary_is_withdrawn() -> None:
    play = started()
    play.deaf.add("r1")
    play.order("abort")
    play.order("retry", id_="c2")
    assert play.state == "Withdrawing"
    play.deaf.clear()
    play.settle()
    assert play.state == "Analysing"
    assert play.status["rollout"]["targetRevision"] == B


def test_an_abort_before_the_first_weight_is_confirmed_by_every_router_too() -> None:
    """Testers may have reached the canary by header at weight 0: that must have ended before the rollout has."""
    play = Play(stuck={B}).begin()
    play.settle()
    assert (play.state, play.recorded.weight_of(B)) == ("Scaling", 0)
    before = play.status["trafficVersion"]
    play.deaf = {play.routers[0]}
    play.order("abort")
    assert (play.state, play.status["trafficVersion"]) == ("Withdrawing", before + 1)
    play.deaf = set()
    play.settle()
    assert play.state == "Rest"


def test_other_commands_for_a_canary_that_is_being_withdrawn_are_told_to_be_ignored() -> None:
    play = started()
    play.deaf.add("r1")
    play.order("abort")
    play.events.clear()
    play.order("promote", id_="c2")
    assert [note.reason for note in play.events] == ["CommandIgnored"]
    assert "promote of bbbbbbbb is ignored" in play.events[0].message


def test_an_abort_of_another_revision_says_which_one_is_rolled_out() -> None:
    play = started()
    play.order("abort", revision=C)
    assert play.state == "Analysing"
    assert f"revision {B} is being rolled out" in play.events[-1].message


def test_promote_goes_to_the_end_at_once() -> None:
    play = started()
    play.order("promote")
    assert play.state == "Rest"
    assert play.status["stable"]["revision"] == B
    assert play.status["commands"] == ["c1"]


def test_skip_goes_to_the_next_weight() -> None:
    play = started()
    play.order("skip")
    assert play.status["canary"]["weight"] == 25


def test_retry_starts_a_rejected_revision_again() -> None:
    play = started()
    play.order("abort")
    play.order("retry", id_="c2")
    assert play.state == "Analysing"
    assert "rejected" not in play.status
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_approval_waits_for_a_person() -> None:
    play = started(steps=[{"weight": 5}, {"weight": 25, "approval": True}, {"weight": 50}])
    play.run(100, until="Approval")
    play.tick(60)
    assert (play.state, play.status["canary"]["weight"]) == ("Approval", 25)
    assert "kubectl perennial approve rain" in play.words()
    play.order("approve")
    assert play.status["canary"]["weight"] == 50
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_two_people_who_answer_one_question_do_not_answer_the_next_one() -> None:
    play = started(steps=[{"weight": 5, "approval": True}, {"weight": 25, "approval": True}])
    play.run(100, until="Approval")
    play.order("approve", id_="ann")
    play.order("approve", id_="bob")
    assert play.events[-1].message == "approve is ignored: rain-bbbbbbbb does not wait for approval."
    play.run(100, until="Approval")
    assert play.status["canary"]["weight"] == 25
    assert len(play.status["rollout"]["approvals"]) == 1


def test_a_failing_canary_is_aborted_soon_though_the_clock_was_set_back() -> None:
    play = started()
    play.tick(3)
    play.now -= timedelta(hours=1)
    play.error_rates[B] = 0.9
    play.run(60)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"


def test_same_revision_under_a_new_name_is_no_rollout() -> None:
    play = Play()
    play.settle()
    version = play.status["trafficVersion"]
    play.target = target(A, version="rain-renamed")
    play.commit = "def5678"
    play.settle()
    assert play.status["stable"]["version"] == "rain-renamed"
    assert (play.status["history"][0]["version"], play.status["history"][0]["commit"]) == ("rain-renamed", "def5678")
    assert play.status["trafficVersion"] == version


def test_canary_that_never_becomes_ready_ends_on_its_deadline_with_the_reason() -> None:
    play = Play(spec=spec_of(progressDeadlineSeconds=20)).begin()
    play.stuck.add(B)
    play.settle()
    play.revisions[B] = replace(play.revisions[B], trouble="container fetch exits 65: the model directory is empty")
    play.run(40)
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"
    assert "the model directory is empty" in play.words()
    assert play.condition("Available")[0] == "True"


def test_no_traffic_holds_and_says_how_many_requests_are_needed() -> None:
    play = Play(per_second=0).begin()
    play.tick(30)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    assert play.status["rollout"]["analysis"]["requestsNeeded"] == 142
    assert "142 without a failure are needed" in play.words()


def test_inconclusive_holds_then_expires_without_rejecting() -> None:
    play = Play(per_second=0, spec=spec_of(analysis={"maxSeconds": 20, "holdMaxSeconds": 40})).begin()
    play.run(60, until="Holding")
    assert "Inconclusive" in play.reasons()
    play.run(60)
    assert "rejected" not in play.status
    assert play.status["expired"]["revision"] == B
    assert play.condition("Stalled") == ("True", "RolloutExpired")
    play.tick(30)
    assert play.state == "Rest"
    play.per_second = 100
    play.order("retry")
    assert play.state == "Analysing"
    assert "expired" not in play.status


def test_a_held_rollout_goes_on_when_evidence_arrives() -> None:
    play = Play(per_second=0, spec=spec_of(analysis={"maxSeconds": 10})).begin()
    play.run(60, until="Holding")
    play.per_second = 100
    play.run(100)
    assert play.status["stable"]["revision"] == B


@pytest.mark.parametrize(("choice", "stable"), [("Abort", A), ("Promote", B)])
def test_inconclusive_follows_the_spec(choice: str, stable: str) -> None:
    play = Play(per_second=0, spec=spec_of(analysis={"maxSeconds": 10, "onInconclusive": choice})).begin()
    play.settle()
    play.run(200)
    assert play.status["stable"]["revision"] == stable


def test_routers_away_hold_the_weight() -> None:
    play = started()
    play.tick(3)
    play.routers = []
    play.tick(60)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    assert "No router tells its counts" in play.words()
    play.routers = ["r1"]
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_no_router_ready_holds_before_the_weight_counts() -> None:
    play = Play().begin()
    play.routers = []
    play.settle()
    play.tick(10)
    assert (play.state, play.status["canary"]["weight"]) == ("Scaling", 0)
    assert "No router is ready" in play.words()


def test_one_router_behind_holds_the_step() -> None:
    play = Play().begin()
    play.deaf.add("r2")
    play.settle()
    assert play.state == "Shifting"
    assert "1 of 2 routers confirm 5%" in play.words()


def test_operator_away_for_a_minute_counts_once_and_goes_on() -> None:
    play = started()
    play.tick(8)
    before = play.recorded.rollout
    assert before is not None
    play.now += timedelta(seconds=60)
    play._serve(60)
    play.step()
    after = play.recorded.rollout
    assert after is not None
    grown = after.evidence.tally(5).canary.requests - before.evidence.tally(5).canary.requests
    assert grown == 300
    assert grown == 60 * play.per_second * 5 // 100


def test_available_says_stable_lost() -> None:
    play = started()
    play.lose(A)
    play.tick(1)
    assert play.condition("Available") == ("True", "StableLost")


def test_auto_replaces_a_single_stable_when_there_is_no_room_and_restores_it_on_failure() -> None:
    play = Play(spec=spec_of(progressDeadlineSeconds=60)).begin()
    play.stuck.add(B)
    play.settle()
    play.revisions[B] = replace(
        play.revisions[B],
        trouble="0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
        unschedulable_since=play.now,
    )
    play.tick(29)
    assert play.state == "Scaling"
    play.tick(2)
    assert play.state == "Replacing"
    assert play.revisions[A].replicas == 0
    assert "Insufficient nvidia.com/gpu" in next(n.message for n in play.events if n.reason == "NoRoom")
    play.run(90)
    assert play.revisions[A].replicas == 1
    assert play.revisions[B].replicas == 0
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"


def test_replace_promotes_without_analysis_when_it_comes_up() -> None:
    play = Play(spec=spec_of(surge="Replace")).begin()
    play.settle()
    assert play.status["stable"]["revision"] == B
    assert "downtime" in next(n.message for n in play.events if n.reason == "NoRoom")


def test_replace_with_several_replicas_keeps_the_analysis() -> None:
    play = Play(spec=spec_of(surge="Replace", replicas=4)).begin()
    play.settle()
    assert play.state == "Analysing"
    assert (play.revisions[A].replicas, play.revisions[B].replicas) == (3, 1)
    sizes = set()
    while play.state != "Rest":
        play.tick()
        sizes.add(play.revisions[A].replicas + play.revisions[B].replicas if play.state != "Rest" else 0)
    assert max(sizes) <= 4
    assert play.revisions[B].replicas == 4


def test_a_version_rejected_in_git_is_not_rolled_out_and_may_be_tried_when_that_is_removed() -> None:
    play = Play().begin()
    refused = Rejection(B, f"rain-{B}", "CanaryFailed", "It failed.", "2026-11-25T09:00:00Z")
    play.target = target(B, refused=refused)
    play.settle()
    assert (play.state, play.condition("Stalled")) == ("Rest", ("True", "CanaryFailed"))
    play.order("retry")
    assert "remove that in Git" in play.events[-1].message
    play.target = target(B)
    play.settle()
    assert play.state == "Analysing"


def test_a_rejection_that_went_to_git_ends_with_it() -> None:
    play = started()
    play.order("abort")
    entry = play.recorded.rejected[0]
    play.more["version_rejections"] = {entry.version: None}
    play.settle()
    assert play.state == "Rest"  # Git does not hold it yet: status keeps it
    play.more["version_rejections"] = {entry.version: entry}
    play.settle()
    assert play.status["rejected"][0]["recorded"] is True
    play.more["version_rejections"] = {entry.version: None}
    play.settle()
    assert play.state == "Analysing"


def test_a_version_that_vanishes_for_a_moment_does_not_end_its_rollout() -> None:
    play = started()
    play.target = Untargeted("VersionUnknown", "ModelVersion rain-bbbbbbbb does not exist.", version=f"rain-{B}")
    play.tick(3)
    assert play.state == "Analysing"
    play.target = Untargeted("NoVersionYet", "spec.model.version is not set.")
    play.settle()
    assert play.state == "Rest"
    assert "Withdrawn" in play.reasons()
    assert play.condition("Ready") == ("True", "NoVersionYet")


def test_no_version_yet_is_ready_but_not_available() -> None:
    play = Play(target=Untargeted("NoVersionYet", "spec.model.version is not set."))
    play.settle()
    assert play.condition("Ready") == ("True", "NoVersionYet")
    assert play.condition("Available")[0] == "False"


def test_changed_steps_in_the_middle_go_on_from_the_live_weight() -> None:
    play = started()
    play.tick(3)
    play.spec["rollout"]["steps"] = [{"weight": 2}, {"weight": 40}]
    play.run(100, until="Rest")
    assert {5, 40, 100} <= set(play.weights)
    assert 25 not in play.weights


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**9))
def test_whatever_happens_weights_are_sound_and_decisions_settle(seed: int) -> None:
    """Random worlds: weights sum to 100, never exceed the step's, no weight on too few pods, applying settles."""
    rng = random.Random(seed)
    play = Play(
        spec=spec_of(
            replicas=rng.choice([1, 1, 3]),
            surge=rng.choice(["Auto", "Surge", "Replace"]),
            progressDeadlineSeconds=20,
            mirrorPercent=rng.choice([0, 0, 40]),
            analysis={
                "maxSeconds": 15,
                "holdMaxSeconds": 20,
                "onInconclusive": rng.choice(["Hold", "Promote", "Abort"]),
            },
            steps=[{"weight": 5}, {"weight": 50, "approval": rng.random() < 0.3}],
            **rng.choice([{}, {"smoke": {"requests": 60}}]),
        )
    )
    for turn in range(25):
        _happen(play, rng, turn)
        play.tick(rng.choice([1, 1, 5, 12]))
        _check(play)


def _happen(play: Play, rng: random.Random, turn: int) -> None:
    revision = rng.choice([A, B, C])
    match rng.randrange(10):
        case 0 | 1:
            play.target = target(revision, samples=rng.choice([SAMPLES, SAMPLES, None]))
        case 2:
            play.command = Command(rng.choice(VERBS), revision, f"id-{turn}", "ann")
        case 3 if revision in play.revisions:
            play.lose(revision)
        case 4 if revision in play.revisions:
            play.recover(revision)
        case 5:
            play.error_rates[revision] = rng.choice([0.0, 0.0, 0.5])
        case 6:
            play.routers = rng.choice([["r1", "r2"], ["r1"], [], ["r1", "r2", "r3"]])
        case 7:
            play.deaf = set(rng.choice([[], ["r1"]]))
        case 8:
            play.per_second = rng.choice([0, 100, 100])
        case 9:
            play.replay = rng.choice(REPLAYS)


def _check(play: Play) -> None:
    traffic = play.recorded.traffic
    if play.recorded.stable is not None:
        assert sum(weight for _, weight in traffic) == 100
    rollout = play.recorded.rollout
    if rollout is not None:
        assert play.recorded.weight_of(rollout.target.revision) <= rollout.weight
        assert (
            rollout.target.revision not in {r.revision for r in play.recorded.rejected} or play.state == "Withdrawing"
        )
        assert not (rollout.smoking and play.recorded.weight_of(rollout.target.revision))
    assert len(play.jobs) <= (play.state == "Smoke")
    assert not play.step()  # settled: deciding again yields nothing
    types = {c["type"] for c in play.status["conditions"]}
    assert {"Ready", "Available"} <= types
    assert all(c["message"] for c in play.status["conditions"])


def test_more_replicas_in_the_middle_are_there_before_the_promotion() -> None:
    play = started()
    play.spec["replicas"] = 4
    play.run(100)
    assert play.revisions[B].replicas == 4
    seen = [a.replicas for a in play.actions if isinstance(a, ScaleRevision) and a.revision == B]
    assert seen[-1] == 4
    first_full = play.weights.index(100)
    assert max(play.weights[:first_full]) == 50


def test_an_inconclusive_step_still_waits_for_its_approval() -> None:
    steps = [{"weight": 5, "approval": True}]
    play = Play(
        per_second=0, spec=spec_of(steps=steps, analysis={"maxSeconds": 10, "onInconclusive": "Promote"})
    ).begin()
    play.settle()
    play.run(60, until="Approval")
    play.tick(30)
    assert play.state == "Approval"


def test_old_revisions_are_pruned_with_an_autoscaler_too() -> None:
    spec = spec_of(revisionHistoryLimit=1, scaleDownDelaySeconds=30, analysis={"minRequests": 1})
    spec["scaling"] = {"minReplicas": 1, "maxReplicas": 3}
    play = Play(spec=spec)
    for name in (A, B, C):
        play.target = target(name)
        play.settle()
        play.run(100)
        play.tick(40)
    assert sorted(play.revisions) == [B, C]


def comparing(canary: tuple[int, ...]) -> Play:
    """A canary beside a stable whose predictions are spread over three bins."""
    steps = [{"weight": 5}, {"weight": 50, "holdSeconds": 30}]
    play = Play(spec=spec_of(steps=steps, analysis={"predictions": {"maxDistance": "0.2"}}))
    play.predicts = {A: (40, 40, 20), B: canary}
    return play.begin()


def test_a_canary_that_fails_no_request_is_aborted_for_its_predictions_and_everybody_reads_why() -> None:
    play = comparing((5, 15, 80))
    play.settle()
    for _ in range(200):
        if play.state != "Analysing":
            break
        shown = play.status["rollout"].get("analysis", {}).get("predictions")
        play.tick()
    assert shown["verdict"] == "NotEnough" and shown["rowsNeeded"] > 0
    assert play.weights[-1] == 0 and "PredictionsDiffer" in play.reasons()
    play.run(30)
    rejected = play.status["rejected"][0]
    assert rejected["reason"] == "PredictionsDiffer" and "requests failed" in rejected["message"]
    assert "maxDistance 0.2" in rejected["message"] and len(rejected["message"].encode()) <= 1000
    assert rejected["message"] in play.words()


def test_a_canary_that_predicts_alike_is_promoted_and_shows_the_comparison_on_its_way() -> None:
    play = comparing((41, 39, 20))
    seen = []
    for _ in range(300):
        if play.state == "Rest" and play.status["stable"]["revision"] == B:
            break
        play.tick()
        seen.append(play.status.get("rollout", {}).get("analysis", {}).get("predictions"))
    else:
        raise AssertionError(play.words())
    last = [shown for shown in seen if shown][-1]
    assert (last["verdict"], last["limit"], last["rowsNeeded"]) == ("Passed", "0.2", 0)
    assert float(last["distance"]) < 0.2
    PredictionStatus.model_validate(last)


@pytest.mark.parametrize("asked", ["the canary", "a rejected version", "nothing"])
def test_a_deleted_stable_is_made_again_whatever_is_asked_for(asked: str) -> None:
    play = started(replicas=3)
    if asked != "the canary":
        play.order("abort")
    if asked == "nothing":
        play.target = Untargeted("VersionUnknown", "No such version.", version="rain-c")
    del play.revisions[A]
    play.tick(2)
    assert play.revisions[A].replicas == 3
    play.order("abort", id_="c9")
    assert (play.recorded.traffic, play.condition("Available")) == (((A, 100),), ("True", "Serving"))
