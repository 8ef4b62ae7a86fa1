"""How many pods each revision has: beside an autoscaler, by weight, and on the way down. Rules 1, 3, 4 and 10."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.plan import MarkDrain, ScaleRevision, SetAutoscaler, plan
from tests.unit.rollout.play import Play, spec_of, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"


def scaled(pods: int = 8, **rollout: Any) -> Play:
    """A is stable under an autoscaler of 2 to 10 pods, which has given it that many."""
    spec = spec_of(**{"steps": [{"weight": 10}, {"weight": 50}], **rollout})
    spec["scaling"] = {"minReplicas": 2, "maxReplicas": 10}
    play = Play(spec=spec)
    play.settle()
    give(play, A, pods)
    return play.begin(B)


def give(play: Play, revision: str, pods: int) -> None:
    """The autoscaler sets a revision's replicas."""
    play.revisions[revision] = replace(play.revisions[revision], replicas=pods, available=pods, ready=pods)


def autoscaler(play: Play) -> SetAutoscaler:
    """What the autoscaler is told now."""
    return next(action for action in plan(play.world(), play.now) if isinstance(action, SetAutoscaler))


def own_scalings(play: Play, revision: str) -> list[int]:
    return [a.replicas for a in play.actions if isinstance(a, ScaleRevision) and a.revision == revision]


def order(play: Play, verb: str) -> None:
    play.command = Command(verb, B, f"{verb}-1", "ann")
    play.settle()


def test_replicas_of_an_autoscaled_stable_are_left_alone() -> None:
    play = scaled()
    for pods in (3, 10, 5):
        give(play, A, pods)
        play.tick(3)
    assert own_scalings(play, A) == []


def test_stable_keeps_at_least_its_count_at_the_start_during_a_canary() -> None:
    play = scaled(8)
    assert autoscaler(play) == SetAutoscaler(A, 2)
    play.settle()
    assert autoscaler(play) == SetAutoscaler(A, 8)
    order(play, "abort")
    assert play.revisions[A].replicas == 8
    assert autoscaler(play) == SetAutoscaler(A, 2)


def test_canary_pods_are_the_weight_of_stables_count_and_come_before_the_weight() -> None:
    play = scaled(8)
    for _ in range(200):
        play.tick()
        weight = play.status.get("canary", {}).get("weight", 0)
        assert play.revisions[B].available >= -(-weight * 8 // 100)
        if play.state == "Rest":
            break
    assert own_scalings(play, B) == [4, 8]


def test_an_autoscaler_that_grows_stable_grows_the_canary_and_an_aborted_one_not_at_all() -> None:
    play = scaled(4)
    play.settle()
    play.spec["rollout"]["steps"] = [{"weight": 10}, {"weight": 50, "holdSeconds": 100}]
    order(play, "skip")
    assert play.revisions[B].replicas == 2
    give(play, A, 10)
    play.tick(2)
    assert play.revisions[B].replicas == 5
    give(play, A, 4)
    play.tick(2)
    assert play.revisions[B].replicas == 5, "never fewer than it has until it is withdrawn"
    order(play, "abort")
    before = own_scalings(play, B)
    for pods in (9, 3, 10):
        give(play, A, pods)
        play.tick(5)
    assert own_scalings(play, B) == before
    play.tick(30)
    assert own_scalings(play, B) == [*before, 0]


def test_the_autoscaler_moves_with_the_promotion_and_the_new_stable_has_all_the_pods() -> None:
    play = scaled(8)
    play.settle()
    play.run(200)
    assert play.recorded.stable is not None and play.recorded.stable.revision == B
    assert autoscaler(play) == SetAutoscaler(B, 2)
    assert play.revisions[B].replicas == 8
    play.tick(5)
    assert play.revisions[A].replicas == 8, "the old one stays whole for its delay"


def test_counts_for_others_are_those_of_stable_alone() -> None:
    """An autoscaler on our scale subresource never counts canary or draining pods."""
    play = scaled(8)
    play.settle()
    order(play, "skip")
    assert (play.status["replicas"], play.status["canary"]["replicas"]) == (8, 4)
    assert play.status["selector"].endswith(f"revision={A}")


def test_without_scaling_replicas_are_the_specs_and_there_is_no_autoscaler() -> None:
    play = Play(spec=spec_of(replicas=3))
    play.settle()
    assert autoscaler(play).revision is None
    play.spec["replicas"] = 1
    play.settle()
    assert play.revisions[A].replicas == 1


def test_scaling_that_is_removed_together_with_a_new_version_takes_the_autoscaler_along() -> None:
    play = scaled(8)
    del play.spec["scaling"]
    play.step()
    assert play.state == "Scaling"
    assert autoscaler(play).revision is None


def test_order_down_is_weight_then_verified_then_delay_then_scale() -> None:
    play = Play(spec=spec_of(replicas=2)).begin()
    play.settle()
    play.tick(3)
    play.deaf.add("r1")
    order(play, "abort")
    play.tick(8)
    assert play.recorded.weight_of(B) == 0
    assert play.revisions[B].drain_until is None, "a router may still send to it"
    play.deaf.clear()
    play.settle()
    marked = next(a for a in play.actions if isinstance(a, MarkDrain) and a.revision == B)
    assert marked.at is not None
    assert play.revisions[B].drain_until is not None
    assert play.revisions[B].drain_until - play.now >= timedelta(seconds=29)
    play.tick(28)
    assert play.revisions[B].replicas == 1
    play.tick(4)
    assert play.revisions[B].replicas == 0


def test_pods_of_a_step_are_scaled_by_what_an_earlier_pass_recorded() -> None:
    play = Play(spec=spec_of(replicas=8, steps=[{"weight": 25}, {"weight": 50}])).begin()
    play.settle()
    play.command = Command("skip", B, "s", "ann")
    play.step()
    assert (play.status["rollout"]["weight"], play.revisions[B].replicas) == (50, 2)
    play.step()
    assert (play.recorded.weight_of(B), play.revisions[B].replicas) == (25, 4)
    play.step()
    assert play.recorded.weight_of(B) == 50


def test_a_replaced_stable_has_no_autoscaler_and_gets_back_what_it_gave() -> None:
    """An autoscaler would undo at once what stable gives up."""
    play = scaled(4, surge="Replace", steps=[{"weight": 50, "holdSeconds": 1000}])
    play.settle()
    assert (play.revisions[A].replicas, play.revisions[B].replicas) == (2, 2)
    assert autoscaler(play).revision is None
    play.deaf.add("r1")
    order(play, "abort")
    assert (play.state, play.revisions[A].replicas, play.revisions[B].replicas) == ("Withdrawing", 4, 2)
    assert autoscaler(play) == SetAutoscaler(A, 4)
    play.deaf.clear()
    play.settle()
    assert (play.revisions[A].replicas, play.revisions[B].replicas) == (4, 0)
    assert autoscaler(play) == SetAutoscaler(A, 2)


def test_another_version_is_not_kept_from_starting_by_a_stable_that_cannot_come_back() -> None:
    play = Play(spec=spec_of(surge="Replace")).begin()
    play.stuck.add(B)
    play.settle()
    play.stuck.add(A)  # its place went to somebody else
    order(play, "abort")
    play.tick(5)
    assert play.state == "Withdrawing"
    assert "Stable comes back" in play.words()
    play.target = target(C)
    play.settle()
    assert play.recorded.stable is not None and play.recorded.stable.revision == C
