"""Surge: when a canary finds no room beside stable it takes its place, and gives it back when it fails."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perennial.domain.rollout.plan import ScaleRevision
from perennial.domain.rollout.smoke import JobSeen, Samples
from tests.unit.rollout.play import Play, all_good, spec_of, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
SCHEDULER = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu"


def crowded(**rollout: Any) -> Play:
    """The scheduler finds no room for a pod of B, and says so from now on."""
    play = Play(spec=spec_of(**{"progressDeadlineSeconds": 60, **rollout})).begin()
    play.stuck.add(B)
    play.settle()
    play.revisions[B] = replace(play.revisions[B], trouble=SCHEDULER, unschedulable_since=play.now)
    return play


def pods(play: Play) -> tuple[int, int]:
    return play.revisions[A].replicas, play.revisions[B].replicas


def room(play: Play) -> None:
    """B's pods start: stable's have left."""
    play.recover(B)
    play.revisions[B] = replace(play.revisions[B], trouble=None, unschedulable_since=None)
    play.settle()


@pytest.mark.parametrize(("surge", "seconds"), [("Auto", 30), ("Replace", 0)])
def test_stable_makes_room_only_after_the_schedulers_half_minute(surge: str, seconds: int) -> None:
    play = crowded(surge=surge)
    if seconds:
        play.tick(seconds - 1)
        assert pods(play) == (1, 1)
        play.tick(1)
    assert play.state == "Replacing"
    assert pods(play) == (0, 1)


def test_a_short_deadline_leaves_time_to_make_room() -> None:
    play = crowded(progressDeadlineSeconds=20)
    play.tick(9)
    assert pods(play) == (1, 1)
    play.tick(1)
    assert play.state == "Replacing"


def test_the_schedulers_words_are_on_the_object_and_in_the_event() -> None:
    play = crowded()
    play.tick(3)
    assert SCHEDULER in play.words()
    play.tick(28)
    note = next(note for note in play.events if note.reason == "NoRoom")
    assert (note.type, SCHEDULER in note.message, "downtime" in note.message) == ("Warning", True, True)


def test_surge_never_replaces() -> None:
    play = crowded(surge="Surge", progressDeadlineSeconds=600)
    play.tick(300)
    assert (play.state, pods(play)) == ("Scaling", (1, 1))
    assert SCHEDULER in play.words()


def test_a_scheduler_that_finds_room_in_time_changes_nothing() -> None:
    play = crowded()
    play.tick(20)
    play.revisions[B] = replace(play.revisions[B], unschedulable_since=None)
    play.tick(20)
    assert pods(play) == (1, 1)
    assert "NoRoom" not in play.reasons()


def test_pods_that_fail_for_another_reason_do_not_replace_stable() -> None:
    play = Play(spec=spec_of(progressDeadlineSeconds=60)).begin()
    play.stuck.add(B)
    play.settle()
    play.revisions[B] = replace(play.revisions[B], trouble="image not found")
    play.tick(50)
    assert pods(play) == (1, 1)


def test_the_only_pod_leaves_before_the_new_one_counts_and_the_deadline_begins_anew() -> None:
    play = crowded()
    play.tick(31)
    assert play.recorded.weight_of(B) == 0, "no request goes to it before it is there"
    play.tick(58)
    assert play.state == "Replacing", "its time counts from when there is room"
    room(play)
    assert play.status["stable"]["revision"] == B
    assert play.status["traffic"] == [{"revision": B, "weight": 100}]


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_the_old_one_comes_back_by_itself_when_the_new_one_never_becomes_ready(replicas: int) -> None:
    play = crowded(replicas=replicas, steps=[{"weight": 50}])
    play.tick(31)
    assert play.revisions[A].replicas == replicas - 1
    play.tick(62)
    assert (play.state, pods(play)) == ("Rest", (replicas, 0))
    assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"
    assert SCHEDULER in play.status["rejected"][0]["message"]
    assert play.condition("Available") == ("True", "Serving")
    assert play.condition("Stalled") == ("True", "ProgressDeadlineExceeded")
    scaled = [(a.revision, a.replicas) for a in play.actions if isinstance(a, ScaleRevision)]
    assert scaled[-2:] == [(A, replicas), (B, 0)], "at once, not after a delay"


def test_several_replicas_never_exceed_the_room_and_always_serve() -> None:
    play = crowded(replicas=2, steps=[{"weight": 50}])
    play.tick(31)
    assert (play.state, pods(play)) == ("Scaling", (1, 1))
    room(play)
    assert play.state == "Analysing"
    while play.state != "Rest":
        play.tick()
        if play.state != "Rest":
            assert pods(play) == (1, 1)
    assert play.status["stable"]["revision"] == B
    play.tick(330)
    assert pods(play) == (0, 2)
    assert play.condition("Ready") == ("True", "Serving")


def test_a_bad_canary_that_took_places_gives_them_back_at_once() -> None:
    play = crowded(replicas=2, steps=[{"weight": 50}])
    play.tick(31)
    room(play)
    play.error_rates[B] = 0.5
    play.run(30)
    assert pods(play) == (2, 0)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"


def test_a_canary_with_weight_keeps_its_pods_until_every_router_has_let_go() -> None:
    play = crowded(replicas=2, steps=[{"weight": 50}])
    play.tick(31)
    room(play)
    play.deaf.add("r1")
    play.error_rates[B] = 0.5
    play.run(30, until="Withdrawing")
    play.tick(3)
    assert (play.state, pods(play)) == ("Withdrawing", (2, 1))
    play.deaf.clear()
    play.settle()
    assert (play.state, pods(play)) == ("Rest", (2, 0))


def test_an_operator_that_was_away_judges_by_the_schedulers_time() -> None:
    play = crowded()
    play.now += timedelta(seconds=45)
    play.settle()
    assert play.state == "Replacing"


def crowd_out(play: Play) -> None:
    """The pods of B that are missing find no room, and those that are there go on."""
    seen = play.revisions[B]
    if seen.replicas > 1:
        since = seen.unschedulable_since or play.now
        play.revisions[B] = replace(seen, available=1, ready=1, trouble=SCHEDULER, unschedulable_since=since)


@pytest.mark.parametrize("autoscaled", [False, True])
def test_a_stable_that_has_grown_since_the_start_gives_up_only_some_of_its_pods(autoscaled: bool) -> None:
    play = Play(spec=spec_of())
    if autoscaled:
        play.spec["scaling"] = {"minReplicas": 1, "maxReplicas": 9}
    play.begin().settle()
    if autoscaled:
        play.revisions[A] = replace(play.revisions[A], replicas=6, available=6, ready=6)
    else:
        play.spec["replicas"] = 6
    for _ in range(120):
        play.now += timedelta(seconds=1)
        play._serve(1)
        crowd_out(play)
        play.step()
        assert play.revisions[A].replicas >= 3, (play.state, play.recorded.traffic)
    assert play.recorded.rollout is not None and play.recorded.rollout.replacing


@pytest.mark.parametrize("replicas", [1, 4])
def test_suspended_between_the_decision_to_make_room_and_the_deed_stable_keeps_its_pods(replicas: int) -> None:
    play = Play(spec=spec_of(surge="Replace", replicas=replicas, steps=[{"weight": 50}])).begin()
    play.stuck.add(B)
    while play.recorded.rollout is None or not play.recorded.rollout.replacing:
        play.step()
    play.spec["suspend"] = True
    play.tick(5)
    assert play.revisions[A].ready == replicas
    play.spec["suspend"] = False
    play.tick(1)
    assert play.revisions[A].ready < replicas


def test_a_router_that_keeps_a_bad_canary_which_took_places_is_deleted_and_stable_gets_them_back() -> None:
    play = crowded(replicas=4, surge="Replace")
    room(play)
    assert play.state == "Analysing" and play.revisions[A].ready >= 1
    play.deaf.add("r1")
    play.order("abort")
    play.tick(9)
    assert (play.state, play.routers) == ("Withdrawing", ["r1", "r2"])
    play.tick(3)
    assert (play.state, play.routers, pods(play)) == ("Rest", ["r2"], (4, 0))


def withdrawn_beside_a_lost_stable() -> Play:
    """A canary that took some of stable's places is aborted; r1 does not follow, and then stable has no ready pod."""
    play = crowded(replicas=4, surge="Replace")
    room(play)
    play.deaf.add("r1")
    play.order("abort")
    play.lose(A)
    play.settle()
    assert play.state == "Withdrawing"
    return play


@pytest.mark.parametrize("deaf", [{"r1"}, set()])
def test_a_withdrawn_canary_keeps_its_pods_while_stable_has_none_that_is_ready(deaf: set[str]) -> None:
    """Routers that follow send it everything then, whatever its weight."""
    play = withdrawn_beside_a_lost_stable()
    play.deaf = deaf
    play.tick(60)
    assert play.revisions[B].ready > 0
    play.deaf = set()
    play.recover(A)
    play.tick(1)
    assert (play.state, pods(play)) == ("Rest", (4, 0))


def test_a_withdrawn_canary_leaves_when_stable_finds_no_room_for_half_a_minute() -> None:
    play = withdrawn_beside_a_lost_stable()
    play.revisions[A] = replace(play.revisions[A], trouble=SCHEDULER, unschedulable_since=play.now)
    play.tick(29)
    assert play.revisions[B].ready > 0
    play.tick(1)
    assert play.revisions[B].replicas == 0


def test_another_version_starts_while_a_withdrawn_canary_stands_in_for_a_stable_that_cannot_come_back() -> None:
    play = withdrawn_beside_a_lost_stable()
    play.deaf = set()
    play.target = target(C)
    play.tick(2)
    assert play.recorded.rollout is not None and play.recorded.rollout.target.revision == C
    assert play.revisions[B].ready > 0, "it answers until another one does"


@pytest.mark.parametrize("replicas", [1, 4])
def test_a_canary_can_be_tried_again_when_stable_cannot_come_back(replicas: int) -> None:
    play = crowded(surge="Replace", replicas=replicas)
    if replicas > 1:
        room(play)
    play.lose(A)
    play.stuck.add(A)
    play.order("abort")
    assert play.state == "Withdrawing"
    play.tick(600)
    assert play.state == "Withdrawing", "stable is what is to serve, and comes back"
    play.stuck.discard(B)
    play.order("retry", id_="c2")
    play.tick(2)
    assert play.status["canary" if replicas > 1 else "stable"]["revision"] == B and play.state != "Withdrawing"
    assert "rejected" not in play.status
    assert "c2" in play.status["commands"]


class Full(Play):
    """A cluster with room for `places` pods: stable's have theirs, B's get what is left, one a pass, `most` in all."""

    places = 10
    most = 1000

    def step(self) -> bool:
        seen = self.revisions.get(B)
        if seen is not None and self.recorded.rollout is not None:
            there = min(seen.replicas, seen.ready + 1, self.places - self.revisions[A].replicas, self.most)
            self.revisions[B] = replace(seen, available=there, ready=there)
        changed = super().step()
        if self.recorded.rollout is not None and self.recorded.rollout.replacing:
            self.check()
        return changed

    def check(self) -> None:
        """Stable has pods for the requests that routers send it, but for what it gives up at once."""
        share = max(weights.get(A, 0) for _, weights in self.applied.values())
        needed = (share - 1) * self.places / 100 - max(1, -(-self.places // 20))
        assert self.revisions[A].replicas >= needed, (share, self.revisions[A].replicas)


def full(places: int = 10, **spec: Any) -> Full:
    """B is at its first weight of 5 % and has the places that stable has left for that."""
    play = Full(spec=spec_of(replicas=places, surge="Replace", **spec))
    play.places = places
    play.begin().settle()
    assert (play.state, play.recorded.weight_of(B)) == ("Analysing", 5)
    return play


@pytest.mark.parametrize("places", [2, 3, 10, 47, 150])
@pytest.mark.parametrize("ordered", [False, True])
def test_stable_keeps_pods_for_the_requests_that_it_still_gets(places: int, ordered: bool) -> None:
    play = full(places)
    if ordered:
        play.order("promote")
    play.run(400)
    assert play.status["stable"]["revision"] == B
    assert play.weights == sorted(play.weights)


def test_a_canary_that_fails_under_more_load_is_aborted_on_its_way_to_the_next_step() -> None:
    play = full()
    play.rates = lambda play, revision: 0.5 * (revision == B and play.recorded.weight_of(B) > 30)
    play.most = 4
    play.order("promote")
    assert (play.state, play.recorded.weight_of(B)) == ("Scaling", 40)
    play.run(60)
    assert play.status["rejected"][0]["reason"] == "CanaryFailed"
    assert play.revisions[A].replicas == 10


def test_stable_gives_up_no_more_while_a_router_does_not_follow_and_no_deadline_counts() -> None:
    play = full(progressDeadlineSeconds=30)
    play.deaf.add("r1")
    play.order("promote")
    play.tick(100)
    assert (play.state, pods(play)) == ("Scaling", (9, 1))
    assert "until all routers confirm 10%" in play.words()
    play.deaf.clear()
    play.run(100)
    assert play.status["stable"]["revision"] == B


@pytest.mark.parametrize("seconds", [30, 50])
def test_each_place_that_is_handed_over_has_the_deadline_for_itself(seconds: int) -> None:
    play = full(progressDeadlineSeconds=40)
    play.most = 1
    play.order("promote")
    while play.state == "Scaling":
        play.tick(seconds)  # a pod loads its model
        play.most += 1
        play.settle()
    if seconds < 40:
        assert play.status["stable"]["revision"] == B
    else:
        assert play.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"


def test_sample_inputs_may_take_their_time_with_the_first_pod_that_got_a_place() -> None:
    spec = {"steps": [{"weight": 50}], "smoke": {"requests": 100}, "progressDeadlineSeconds": 30}
    play = Full(spec=spec_of(replicas=10, surge="Replace", **spec))
    play.replay = lambda made: JobSeen(made.name, "u", started=True)
    play.begin(samples=Samples("s3://m/s.csv", "sha256:" + "5" * 64))
    play.most = 1
    play.settle()
    play.tick(100)
    assert (play.state, play.revisions[B].ready) == ("Smoke", 1)
    play.replay, play.most = all_good, 10
    play.run(200)
    assert play.status["stable"]["revision"] == B
