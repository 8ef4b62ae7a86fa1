"""What users of other rollout controllers complain about, where it could happen here too: shown not to.

Complaints that a correctness rule answers are in `test_correctness_rules`: an image that cannot be pulled (16), a
second image during a paused canary (08), an abort that comes after promote or while paused (06), later revisions that
are never analysed after a failed one (08), a rollback that sends everything to one ready pod (01), traffic left on a
version that is scaled down (02, 03), replicas counted for both versions (10), a provider that is away (11), an analysis
that was stopped and is shown as a success (12), an unready copy that is preferred because it is called primary (15).
An upgrade that rolls out everything: tests/component/serving and `test_revision`. An old leader that goes on:
tests/unit/runtime. Not possible here: routes, selectors or replicas that a rollout changes in what Git owns, header
rules that a weight rewrites (the two are separate), a copied configuration, a second load of a model to promote it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.plan import ScaleRevision, SetAutoscaler
from tests.unit.rollout.play import Play, spec_of, started, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"


def scaled(play: Play, revision: str, replicas: int) -> None:
    """What an autoscaler, or a person with kubectl scale, does to a Deployment."""
    play.revisions[revision] = replace(play.revisions[revision], replicas=replicas, available=replicas, ready=replicas)


def autoscaled(**rollout: object) -> dict:
    spec = spec_of(**rollout)
    spec["scaling"] = {"minReplicas": 2, "maxReplicas": 10}
    return spec


def test_an_image_that_cannot_be_pulled_can_be_aborted_by_hand_too() -> None:
    """A canary that cannot start stays in progress, and neither the deadline nor a person ends it."""
    play = Play().begin()
    play.stuck.add(B)
    play.settle()
    play.revisions[B] = replace(play.revisions[B], trouble="container server: ImagePullBackOff")
    play.tick(5)
    assert "ImagePullBackOff" in play.words()
    play.order("abort")
    assert (play.state, play.status["rejected"][0]["reason"]) == ("Rest", "Aborted")


def test_broken_pods_of_stable_block_no_good_canary() -> None:
    """The version to be replaced has crashing pods, and just therefore its fix does not get through."""
    play = Play(spec=spec_of(replicas=4)).begin()
    play.revisions[A] = replace(play.revisions[A], available=1, ready=1, trouble="container server: CrashLoopBackOff")
    play.settle()
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_a_person_can_promote_though_no_pod_of_stable_is_left() -> None:
    """With stable gone there is nothing to compare with, so nothing moves by itself; but it is not stuck."""
    play = started()
    play.lose(A)
    play.tick(3)
    assert play.condition("Available") == ("True", "StableLost")
    play.order("promote")
    assert play.status["stable"]["revision"] == B


def test_an_aborted_rollout_does_not_come_back_by_itself() -> None:
    """A version that was aborted is rolled out again because something unrelated changed."""
    play = Play(spec=autoscaled()).begin()
    play.settle()
    play.order("abort")
    version, begun = play.status["trafficVersion"], play.reasons().count("RolloutStarted")
    for turn, replicas in enumerate((3, 7, 2, 5)):
        scaled(play, A, replicas)
        play.spec["rollout"]["steps"] = [{"weight": 10 + turn}]
        play.routers = ["r1", "r2", f"r{turn + 3}"]
        play.tick(20)
        play.lose(A) if turn == 1 else play.recover(A)
        play.tick(20)
    assert (play.state, play.reasons().count("RolloutStarted")) == ("Rest", begun)
    assert play.status["trafficVersion"] == version


def test_an_aborted_canary_is_not_scaled_up_by_the_autoscaler_and_routes_do_not_flap() -> None:
    """Every change of the autoscaler wakes the aborted canary's pods, and selectors swing several times a second."""
    play = Play(spec=autoscaled()).begin()
    play.settle()
    play.order("abort")
    play.tick(40)
    version, before = play.status["trafficVersion"], len(play.actions)
    assert play.revisions[B].replicas == 0
    for replicas in (4, 9, 2, 6):
        scaled(play, A, replicas)
        play.tick(5)
    assert play.revisions[B].replicas == 0
    assert not [a for a in play.actions[before:] if isinstance(a, ScaleRevision)]
    assert play.status["trafficVersion"] == version


def test_after_an_abort_the_next_version_is_rolled_out() -> None:
    """After an abort the next image cannot be synced."""
    play = started()
    play.order("abort")
    play.target = target(C)
    play.settle()
    assert (play.state, play.status["rollout"]["targetRevision"]) == ("Analysing", C)
    play.run(100)
    assert play.condition("Ready") == ("True", "Serving")


def _failing(play: Play) -> None:
    play.error_rates[B] = 0.5


def _dying(play: Play) -> None:
    play.lose(B)


def _silent(play: Play) -> None:
    play.per_second = 0


@pytest.mark.parametrize("trouble", [_failing, _dying, _silent])
def test_no_ending_leaves_the_rollout_in_progress_for_good(trouble: Callable[[Play], None]) -> None:
    """A failed experiment leaves the rollout progressing for ever, so that every tool that waits for it hangs."""
    play = started(progressDeadlineSeconds=60, analysis={"maxSeconds": 30, "holdMaxSeconds": 60})
    trouble(play)
    play.run(120)
    assert not {"Reconciling", "Progressing"} & {c["type"] for c in play.status["conditions"]}
    assert play.condition("Stalled")[0] == "True"
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]


def test_waiting_for_a_person_does_not_start_the_analysis_again() -> None:
    """A gate that is refused restarts the analysis from the first weight."""
    play = Play(spec=spec_of(steps=[{"weight": 5, "approval": True}, {"weight": 50}])).begin()
    play.run(100, until="Approval")
    rollout, version = play.status["rollout"]["id"], play.status["trafficVersion"]
    seen = play.status["rollout"]["analysis"]["requests"]
    play.tick(300)
    assert (play.state, play.status["rollout"]["id"], play.status["trafficVersion"]) == ("Approval", rollout, version)
    assert play.status["rollout"]["analysis"]["requests"] > seen + 1000


def test_the_weight_never_jumps_or_falls_while_pods_are_added() -> None:
    """A step that changes the canary's size sends everything to stable for a moment."""
    play = Play(spec=spec_of(replicas=10, steps=[{"weight": 10}, {"weight": 40}, {"weight": 80}])).begin()
    play.settle()
    play.run(200)
    assert play.weights == sorted(play.weights)
    assert list(dict.fromkeys(play.weights)) == [0, 10, 40, 80, 100]


def test_nothing_of_the_old_version_is_touched_at_the_final_switch() -> None:
    """The last switch brings a burst of 503, because pods go while proxies still send to them."""
    play = started(replicas=3, scaleDownDelaySeconds=60)
    play.run(100)
    assert play.status["stable"]["revision"] == B
    play.tick(30)
    assert (play.revisions[A].replicas, play.revisions[A].ready) == (3, 3)
    assert not [a for a in play.actions if isinstance(a, ScaleRevision) and a.revision == A]


def test_an_abort_while_the_canary_takes_stables_place_brings_stable_back_whole() -> None:
    """A canary that borrows stable's pods and an abort's delay wait for each other for ever."""
    play = Play(spec=spec_of(surge="Replace", replicas=4, steps=[{"weight": 25}, {"weight": 50}])).begin()
    play.settle()
    play.run(100, until="Shifting") if play.state != "Analysing" else None
    assert 0 < play.revisions[A].replicas < 4
    play.order("abort")
    play.tick(40)
    assert play.state == "Rest"
    assert (play.revisions[A].replicas, play.revisions[B].replicas) == (4, 0)


def test_a_canary_that_breaks_at_the_promotion_leaves_the_old_version_whole() -> None:
    """At the promotion all traffic goes to a copy that is not ready, and nothing is left to go back to."""
    play = started(progressDeadlineSeconds=30)
    play.deaf.add("r1")
    play.order("promote")
    assert (play.state, play.status["rollout"]["weight"]) == ("Shifting", 100)
    play.lose(B)
    play.tick(31)
    play.deaf.clear()
    play.run(10)
    assert play.status["traffic"] == [{"revision": A, "weight": 100}]
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"


def test_the_autoscaler_keeps_stable_large_enough_for_an_abort_and_is_not_pushed_to_its_maximum() -> None:
    """During a canary the autoscaler drives stable to its maximum, or an abort meets a stable at minReplicas."""
    play = Play(spec=autoscaled(steps=[{"weight": 50}]))
    play.settle()
    scaled(play, A, 6)
    play.begin()
    play.settle()
    asked = [a for a in play.actions if isinstance(a, SetAutoscaler)][-1]
    assert (asked.revision, asked.min_replicas) == (A, 6)
    assert play.revisions[B].replicas == 3, "half of what stable had: no pod of the canary is overloaded at 50 %"
    assert not [a for a in play.actions if isinstance(a, ScaleRevision) and a.revision == A]
    play.run(100)
    asked = [a for a in play.actions if isinstance(a, SetAutoscaler)][-1]
    assert (asked.revision, asked.min_replicas) == (B, 2)
    assert play.revisions[B].replicas == 6, "the new stable takes the full load with as many pods as the old one had"


def test_an_autoscaler_that_changes_stable_does_not_start_the_analysis_again() -> None:
    """A change of the autoscaler restarts the analysis in a loop."""
    play = Play(spec=autoscaled(analysis={"minRequests": 100_000})).begin()
    play.settle()
    rollout, counted = play.status["rollout"]["id"], 0
    for replicas in (3, 8, 2, 5):
        scaled(play, A, replicas)
        play.tick(10)
        assert play.status["rollout"]["id"] == rollout
        assert play.status["rollout"]["analysis"]["requests"] > counted
        counted = play.status["rollout"]["analysis"]["requests"]


def test_no_request_is_no_failure() -> None:
    """Without traffic there are no values, and the release fails."""
    play = started(analysis={"maxSeconds": 30})
    play.per_second = 0
    play.tick(300)
    assert (play.state, play.status["canary"]["weight"]) == ("Holding", 5)
    assert "rejected" not in play.status
    assert "are needed" in play.words()


def test_traffic_that_stops_in_the_middle_advances_nothing() -> None:
    """Requests stop after some good ones, and the canary still gets more weight and is promoted."""
    play = started()
    play.tick(10)
    assert 0 < play.status["rollout"]["analysis"]["requests"] < 50
    play.per_second = 0
    play.tick(600)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    assert play.status["stable"]["revision"] == A


def test_a_hold_that_ends_while_nobody_sees_the_canary_advances_nothing() -> None:
    """Enough good requests were counted, then the view of the traffic is lost, and the next step is taken blindly."""
    play = started(steps=[{"weight": 5, "holdSeconds": 30}, {"weight": 50}])
    play.tick(20)
    assert play.status["rollout"]["analysis"]["requests"] >= 50
    play.routers = []
    play.tick(60)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    assert "No router tells its counts" in play.words()
    play.routers = ["r1", "r2"]
    play.tick(2)
    assert play.status["canary"]["weight"] == 50


def test_a_metric_without_data_holds_the_weight_until_it_has_some() -> None:
    """Users want a rollout to wait while the metric has no data yet, and get a failure or a blind step."""
    play = started()
    play.more["metrics"] = (MetricFinding("auc", Outcome.NO_DATA, "no series"),)
    play.tick(100)
    assert (play.state, play.status["canary"]["weight"]) == ("Analysing", 5)
    play.more["metrics"] = (MetricFinding("auc", Outcome.PASSED),)
    play.tick(10)
    assert play.status["canary"]["weight"] > 5


def test_enough_evidence_ends_the_analysis_early() -> None:
    """A canary with a thousand good requests a second waits the same minutes as one with a request a minute."""
    play = Play(spec=spec_of(analysis={"warmupSeconds": 0})).begin()
    play.per_second = 1000
    play.settle()
    assert play.run(30) <= 10


@pytest.mark.parametrize("seed", range(3))
def test_a_canary_that_fails_a_hundred_times_as_often_in_seven_seconds_of_ten_is_aborted(seed: int) -> None:
    """A rank test over time points lets a canary through that is a hundred times worse in seven points of ten."""
    play = Play(rng=np.random.default_rng(seed))

    def bursts(play: Play, revision: str) -> float:
        second = int((play.now - begun).total_seconds())
        return 0.5 if revision == B and second % 10 < 7 else 0.005

    begun = play.now
    play.rates = bursts
    play.begin()
    play.settle()
    play.run(60)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"


def test_an_operator_that_was_away_for_a_day_goes_on_where_it_stood() -> None:
    """A restarted controller forgets what it saw, or moves a step early."""
    play = started(analysis={"maxSeconds": 3600})
    play.tick(8)
    rollout, weight = play.status["rollout"]["id"], play.status["canary"]["weight"]
    play.per_second = 0
    play.now += timedelta(days=1)
    play.settle()
    assert play.status["rollout"]["id"] == rollout
    assert play.status["canary"]["weight"] == weight
    assert "rejected" not in play.status
