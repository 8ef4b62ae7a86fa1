"""The sixteen rules that keep a rollout correct: each is one that other rollout controllers broke in production.

Most are shown on the toy cluster of `play`; where another layer holds a rule, the test goes there.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from perennial.api import kinds
from perennial.api.v1alpha1.model_deployment import Rollout as RolloutSpec
from perennial.domain.revision import revision_hash
from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.plan import Action, MarkDrain, ScaleRevision, SetAutoscaler
from perennial.domain.rollout.state import AT_REST, TRANSITIONS, State
from perennial.router.model import Deployment, Share, effective_weights
from tests.component.serving.rig import V2, Rig
from tests.unit.rollout.play import Play, spec_of, target
from tests.unit.rollout.play import started as analysed

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"


class Watched(Play):
    """Checks the order of every change: pods, weight, confirmation on the way up, the reverse on the way down."""

    def step(self) -> bool:
        before = self.recorded
        changed = super().step()
        after = self.recorded
        for revision, weight in after.traffic:
            if weight > before.weight_of(revision):
                self._check_rise(revision, weight)
        return changed

    def _check_rise(self, revision: str, weight: int) -> None:
        rollout = self.recorded.rollout
        if rollout is None or rollout.target.revision != revision:
            return  # back to stable, which was kept whole
        needed = self.world().replicas_for(weight)
        assert self.revisions[revision].available >= needed, f"{weight}% on too few pods of {revision}"

    def _apply(self, action: Action) -> None:
        if isinstance(action, ScaleRevision) and action.replicas < self.revisions[action.revision].replicas:
            assert self.recorded.weight_of(action.revision) == 0, "pods go only when status gives them no weight"
            served = [pod for pod in self.routers if self.applied[pod][1].get(action.revision)]
            assert not served, f"pods go although {served} still send requests to them"
        super()._apply(action)


def started(**spec: object) -> Play:
    """A canary of B beside stable A at its first weight, being analysed; the rules of pods and weights are watched."""
    return analysed(Watched, **spec)


def weights(play: Play) -> dict[str, int]:
    return {share["revision"]: share["weight"] for share in play.status["traffic"]}


def bring_to(state: str, **spec: object) -> Play:
    """A canary of B in a state of its rollout (Full: on its way to 100 %); one of two routers is deaf where needed."""
    analysis = {"maxSeconds": 20, **(spec.pop("analysis", None) or {})}  # type: ignore[dict-item]
    play = Watched(spec=spec_of(steps=[{"weight": 5, "approval": state == "Approval"}], analysis=analysis, **spec))
    play.begin()
    if state == "Scaling":
        play.stuck.add(B)
    if state == "Shifting":
        play.deaf.add("r1")
    if state == "Holding":
        play.per_second = 0
    play.settle()
    if state in ("Approval", "Holding"):
        play.run(60, until=state)
    if state == "Full":
        play.deaf.add("r1")
        play.order("promote", id_="c0")
        assert (play.state, play.status["rollout"]["weight"]) == ("Shifting", 100)
    elif state == "Withdrawing":
        play.deaf.add("r1")
        play.order("abort", id_="c0")
    elif state == "Refused":
        play.order("abort", id_="c0")
    assert play.state == {"Full": "Shifting", "Refused": "Rest"}.get(state, state)
    return play


@pytest.mark.parametrize("path", ["steps", "skip", "promote", "back to an older revision"])
def test_rule_01_weight_rises_only_when_all_pods_for_it_are_available_on_every_path(path: str) -> None:
    """An older revision that is named again comes back from zero pods: it too gets no weight before they are there."""
    play = started(replicas=8, steps=[{"weight": 25}], scaleDownDelaySeconds=30)
    canary = B
    if path == "back to an older revision":
        play.run(200)
        play.tick(40)
        assert play.revisions[A].replicas == 0
        play.begin(canary := A)
    play.stuck.add(canary)
    if path == "back to an older revision":
        play.settle()
        assert (play.state, weights(play)[canary]) == ("Scaling", 0)
        play.recover(canary)
        play.settle()
        play.stuck.add(canary)
    if path in ("skip", "promote"):
        play.order(path)
    else:
        play.run(200, until="Scaling")
    assert (play.status["rollout"]["weight"], weights(play)[canary]) == (100, 25)
    play.revisions[canary] = replace(play.revisions[canary], available=7)
    play.tick(3)
    assert weights(play)[canary] == 25
    play.revisions[canary] = replace(play.revisions[canary], available=8)
    play.settle()
    assert play.status["stable"]["revision"] == canary


def test_rule_02_no_weight_stays_where_nobody_answers_and_a_new_revision_sets_weight_zero_first() -> None:
    play = started()
    play.tick(8)
    shares = tuple(Share(revision, weight) for revision, weight in play.recorded.traffic)
    split = Deployment("rain", traffic=shares, stable=A)
    assert effective_weights(split, {split.cluster(A)}) == {A: 100, B: 0}  # the routers, by themselves
    play.target = target(C)
    seen = []
    for _ in range(12):
        play.step()
        seen.append(weights(play))
    first_c = next(i for i, shares in enumerate(seen) if C in shares)
    assert any(shares.get(B) == 0 for shares in seen[:first_c])
    assert all(shares.get(B, 0) == 0 for shares in seen[first_c:])
    assert play.status["stable"]["revision"] == A
    assert "Superseded" in play.reasons()
    play.run(100)
    assert play.status["stable"]["revision"] == C
    assert "rejected" not in play.status


def test_rule_03_up_pods_weight_confirmation_and_down_weight_confirmation_delay_pods() -> None:
    """Watched checks the order at every pass; here it is walked up and, after an abort with a deaf router, down."""
    play = Watched(spec=spec_of(replicas=8, steps=[{"weight": 25}, {"weight": 60}])).begin()
    play.stuck.add(B)
    play.settle()
    assert (play.revisions[B].replicas, weights(play)[B]) == (2, 0)
    play.recover(B)
    play.settle()
    play.deaf.add("r2")
    play.run(100, until="Shifting")
    assert [a.replicas for a in play.actions if isinstance(a, ScaleRevision) and a.revision == B] == [5]
    play.tick(30)
    assert (play.state, weights(play)[B]) == ("Shifting", 60), "a weight that one router has not confirmed is not done"
    play.order("abort")
    play.tick(5)
    assert (play.state, play.revisions[B].replicas) == ("Withdrawing", 5)
    play.deaf.clear()
    play.tick(29)
    assert (play.state, play.revisions[B].replicas) == ("Rest", 5), "after weight 0 comes the delay, then the pods go"
    play.tick(2)
    assert play.revisions[B].replicas == 0


def test_rule_04_the_old_version_stays_by_an_absolute_time_on_its_object() -> None:
    minimum = next(m.ge for m in RolloutSpec.model_fields["scale_down_delay_seconds"].metadata if hasattr(m, "ge"))
    assert minimum >= 30
    play = started(scaleDownDelaySeconds=60)
    play.run(100)
    until = play.revisions[A].drain_until
    assert until is not None
    assert until - play.now >= timedelta(seconds=59)
    play.tick(58)
    assert play.revisions[A].replicas == 1
    play.tick(4)
    assert play.revisions[A].replicas == 0


def test_rule_04_an_old_version_that_becomes_current_again_is_no_longer_drained() -> None:
    play = started(scaleDownDelaySeconds=300)
    play.run(100)
    assert play.revisions[A].drain_until is not None
    play.begin(A)
    play.settle()
    assert play.revisions[A].drain_until is None
    assert play.state == "Analysing"


def test_rule_05_an_abort_is_weight_zero_in_the_same_write_whatever_stable_has_available() -> None:
    play = started(replicas=2)
    play.revisions[A] = replace(play.revisions[A], available=1, ready=1)
    play.error_rates[B] = 0.4
    while "rejected" not in play.status:
        play.now += timedelta(seconds=1)
        play._serve(1)
        play.step()
    assert play.state == "Withdrawing"
    assert play.status["canary"]["weight"] == 0
    assert weights(play) == {A: 100, B: 0}


def test_rule_05_the_canarys_drain_begins_when_stable_can_take_everything() -> None:
    play = started()
    play.order("abort")
    play.tick(5)
    assert play.revisions[B].drain_until is not None
    play.lose(A)
    play.tick(60)
    assert play.revisions[B].replicas == 1
    play.recover(A)
    play.tick(5)
    assert play.revisions[B].replicas == 0


def test_rule_05_no_state_waits_for_itself() -> None:
    for state, row in TRANSITIONS.items():
        assert set(row.values()) - {state}, state
        if state not in AT_REST and state is not State.WITHDRAWING:
            assert State.WITHDRAWING in row.values(), state
    reached = {target for row in TRANSITIONS.values() for target in row.values()}
    assert reached == set(State)


@pytest.mark.parametrize("state", ["Scaling", "Shifting", "Analysing", "Approval", "Holding", "Full"])
@pytest.mark.parametrize("suspended", [False, True])
def test_rule_06_an_abort_works_in_every_state_after_promote_and_while_suspended(state: str, suspended: bool) -> None:
    play = bring_to(state)
    if suspended:
        play.spec["suspend"] = True
        before = (play.state, weights(play))
        play.tick(60)
        assert (play.state, weights(play)) == before
    play.deaf.clear()
    play.order("abort")
    assert play.state == "Rest"
    assert play.status["stable"]["revision"] == A
    assert play.status["rejected"][0]["revision"] == B


def test_rule_06_a_failing_canary_is_aborted_even_after_promote_was_ordered() -> None:
    play = started(replicas=4)
    play.error_rates[B] = 0.4
    play.stuck.add(B)
    play.order("promote")
    assert (play.state, play.status["rollout"]["weight"]) == ("Scaling", 100)
    play.run(30)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"


def test_rule_07_what_is_asked_for_is_stable_so_all_steps_are_skipped_and_the_canary_is_no_failure() -> None:
    play = started()
    play.tick(8)
    play.target = target(A)
    play.settle()
    assert play.state == "Rest"
    assert "Reverted" in play.reasons()
    assert play.condition("Ready") == ("True", "Serving")
    assert weights(play) == {A: 100}
    assert "rejected" not in play.status


def test_rule_07_stable_named_again_after_an_abort_is_ready_at_once() -> None:
    play = started()
    play.order("abort")
    assert play.condition("Stalled")[0] == "True"
    play.target = target(A)
    play.settle()
    assert (play.condition("Ready"), play.condition("Stalled")) == (("True", "Serving"), ("", ""))


@pytest.mark.parametrize(
    "state", ["Scaling", "Shifting", "Analysing", "Approval", "Holding", "Full", "Withdrawing", "Refused"]
)
def test_rule_08_a_revision_named_at_any_moment_is_never_forgotten(state: str) -> None:
    play = bring_to(state)
    play.target = target(C)
    play.step()
    play.per_second = 100
    play.tick(3)
    play.deaf.clear()
    play.spec["rollout"]["steps"] = [{"weight": 5}]
    play.run(120, until="Analysing")
    assert play.status["rollout"]["targetRevision"] == C
    play.run(100)
    assert play.status["stable"]["revision"] == C
    assert [entry["revision"] for entry in play.status["history"]] == [C, A]


def test_rule_08_the_hash_is_of_what_the_user_set_in_any_order() -> None:
    """Defaults that a newer API adds, and another order of keys, are no other revision."""
    limits = {"memory": "1Gi", "cpu": "2"}
    one = {"model": {"name": "rain"}, "resources": {"limits": limits, "requests": {"cpu": "1"}}}
    other = {"resources": {"requests": {"cpu": "1"}, "limits": dict(reversed(limits.items()))}, "model": one["model"]}
    digest, entry = "sha256:" + "a" * 64, {"image": "s:1", "port": 8080}
    same = revision_hash(other, digest, dict(reversed(entry.items())))
    assert revision_hash(one, digest, entry) == same


def test_rule_09_steps_are_gated_by_times_in_status_not_by_timers() -> None:
    """An operator that was away for a part of holdSeconds waits for the rest of it, no less and no more."""
    play = started(steps=[{"weight": 5, "holdSeconds": 60}, {"weight": 50, "holdSeconds": 60}])
    play.tick(20)
    play.now += timedelta(seconds=30)  # away: no pass at all
    play._serve(30)
    play.settle()
    assert weights(play)[B] == 5
    play.tick(9)
    assert weights(play)[B] == 5
    play.tick(2)
    assert weights(play)[B] == 50


def test_rule_09_one_step_is_taken_per_pass_however_much_evidence_waits() -> None:
    play = started()
    play.tick(6)
    play.now += timedelta(hours=1)
    play._serve(3600)
    seen = [5]
    while play.state != "Rest":
        play.now += timedelta(seconds=1)
        play._serve(1)
        play.step()
        seen.append(weights(play).get(B, 0))
    assert list(dict.fromkeys(seen)) == [5, 25, 50, 100]


def test_rule_10_autoscaled_replicas_make_no_revision_and_the_scale_counts_stable_alone() -> None:
    spec = spec_of(replicas=3, steps=[{"weight": 50}])
    spec["scaling"] = {"minReplicas": 2, "maxReplicas": 9}
    play = Play(spec=spec).begin()
    play.settle()
    play.revisions[A] = replace(play.revisions[A], replicas=6, available=6, ready=6)  # the autoscaler
    play.tick(3)
    assert (play.status["replicas"], play.revisions[A].replicas) == (6, 6)
    assert play.status["selector"].endswith(f"revision={A}")
    pointed = {a.revision for a in play.actions if isinstance(a, SetAutoscaler)}
    assert pointed == {A}
    assert play.status["rollout"]["targetRevision"] == B
    digest, entry = "sha256:" + "a" * 64, {"image": "s:1"}
    assert revision_hash({**spec, "replicas": 9}, digest, entry) == revision_hash(spec, digest, entry)


@pytest.mark.parametrize(
    ("outcome", "looks", "ends"),
    [(Outcome.FAILED, 3, True), (Outcome.FAILED, 2, False), (Outcome.ERROR, 0, False), (Outcome.NO_DATA, 0, False)],
)
def test_rule_11_only_failed_aborts_an_error_or_no_data_holds_until_its_own_deadline(
    outcome: Outcome, looks: int, ends: bool
) -> None:
    play = started(analysis={"maxSeconds": 60, "holdMaxSeconds": 900})
    play.more["metrics"] = (MetricFinding("auc", outcome, "connection refused", looks),)
    play.tick(50)
    if ends:
        assert play.status["rejected"][0]["reason"] == "CanaryFailed"
        return
    assert (play.state, weights(play)[B]) == ("Analysing", 5)
    assert "metric auc" in play.words() and "connection refused" in play.words()
    play.tick(20)
    assert (play.state, weights(play)[B]) == ("Holding", 5)
    play.more["metrics"] = (MetricFinding("auc", Outcome.PASSED),)
    play.run(100)
    assert play.status["stable"]["revision"] == B


def test_rule_11_not_enough_data_holds_too() -> None:
    play = started(analysis={"maxSeconds": 20})
    play.per_second = 40  # two canary requests a second: fewer than minRequests by then
    play.tick(22)
    assert (play.state, weights(play)[B]) == ("Holding", 5)
    assert 0 < play.status["rollout"]["analysis"]["requests"] < 50
    assert "rejected" not in play.status


def test_rule_12_the_analysis_of_a_superseded_revision_ends_without_a_verdict_and_its_counts_are_its_own() -> None:
    play = started()
    play.error_rates[B] = 0.3
    play.tick(7)
    before = play.status["rollout"]
    assert play.recorded.rollout is not None and play.recorded.rollout.evidence.tally(5).failures > 0
    play.target = target(C)
    play.settle()
    now = play.status["rollout"]
    assert (now["targetRevision"], now["id"] != before["id"]) == (C, True)
    assert play.recorded.rollout.evidence.tallies == ()
    assert B not in {entry["revision"] for entry in play.status["history"]}
    assert "rejected" not in play.status
    assert "Superseded" in play.reasons() and "Promoted" not in play.reasons()


def test_rule_13_a_command_is_bound_to_a_revision_and_consumed_once() -> None:
    play = started()
    spec = str(play.spec)
    for verb in ("promote", "skip", "abort", "retry"):
        play.order(verb, revision=C, id_=f"for-{verb}")
        assert (play.state, weights(play)[B]) == ("Analysing", 5)
        assert f"for-{verb}" in play.status["commands"]
    assert play.reasons().count("CommandIgnored") == 4
    play.order("skip")
    assert weights(play)[B] == 25
    play.settle()
    assert weights(play)[B] == 25
    assert str(play.spec) == spec, "no command touches what Git owns"


async def test_rule_14_a_read_older_than_ones_own_last_write_is_not_acted_on() -> None:
    """A late copy of the object from before an abort arrives by the watch: the canary gets no weight back."""
    rig = await Rig().serve_first()
    await rig.name(V2)
    old = rig.world.obj(kinds.MODEL_DEPLOYMENT, "rain")
    assert [share["weight"] for share in old["status"]["traffic"]] == [95, 5]
    await rig.order("abort")
    version = rig.status["trafficVersion"]
    for on_event in rig.world.store.on_event:
        on_event("MODIFIED", old)
    await rig.cluster.run_for(5)
    assert rig.status["trafficVersion"] == version
    assert [share["weight"] for share in rig.status["traffic"]] == [100]


def test_rule_15_when_stable_is_lost_the_healthy_copy_is_kept_not_the_one_called_stable() -> None:
    play = started()
    play.lose(A)
    play.order("abort")
    play.tick(120)
    assert play.revisions[B].replicas == 1
    assert B in weights(play)
    play.recover(A)
    play.tick(60)
    assert weights(play) == {A: 100}
    assert play.revisions[B].replicas == 0


def test_rule_15_a_promoted_version_that_dies_keeps_its_healthy_predecessor() -> None:
    play = started(scaleDownDelaySeconds=30)
    play.run(100)
    play.lose(B)
    play.tick(90)
    assert play.revisions[A].replicas == 1, "no healthy copy is removed while stable has no ready pod"
    shares = tuple(Share(revision, weight) for revision, weight in play.recorded.traffic)
    routed = Deployment("rain", traffic=shares, stable=B)
    assert effective_weights(routed, {routed.cluster(A)}) == {A: 100, B: 0}, "the routers turn to it"
    assert play.condition("Available") == ("True", "StableLost")
    assert play.condition("Ready") == ("False", "PodsNotReady")
    play.recover(B)
    assert weights(play) == {A: 0, B: 100}
    play.tick(40)
    assert play.revisions[A].replicas == 0
    assert weights(play) == {B: 100}


def test_rule_15_a_rejected_version_stands_in_for_nobody_once_stable_could_answer() -> None:
    play = started()
    play.order("abort")
    assert play.revisions[B].ready > 0
    play.lose(A)
    play.tick(5)
    assert weights(play) == {A: 100}
    assert play.condition("Available") == ("False", "PodsNotReady")


@pytest.mark.parametrize("state", ["Scaling", "Shifting", "Analysing", "Approval", "Holding"])
@pytest.mark.parametrize("suspended", [False, True])
def test_rule_16_the_deadline_counts_in_every_step_also_a_held_one(state: str, suspended: bool) -> None:
    play = bring_to(state, progressDeadlineSeconds=30, analysis={"holdMaxSeconds": 900})
    play.spec["suspend"] = suspended
    play.lose(B)
    play.tick(29)
    assert play.state == ("Holding" if state == "Analysing" and not suspended else state)
    play.deaf.clear()
    play.run(5)
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"
    assert play.status["stable"]["revision"] == A


def test_rule_16_a_deadline_marks_nothing_for_removal_before_weight_zero_is_confirmed() -> None:
    play = bring_to("Analysing", progressDeadlineSeconds=30)
    play.lose(B)
    play.deaf.add("r1")
    play.tick(31)
    assert play.state == "Withdrawing"
    assert not [a for a in play.actions if isinstance(a, MarkDrain) and a.revision == B and a.at]
