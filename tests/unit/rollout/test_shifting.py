"""A weight that is not confirmed: who or what keeps it is told, and a router that does not follow is replaced."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from perennial.domain.rollout.plan import DeleteRouter
from perennial.domain.rollout.world import RouterSeen
from perennial.router.assemble import read_deployment
from perennial.router.model import cluster_name, effective_weights
from tests.unit.rollout.play import Play, spec_of, started
from tests.unit.rollout.test_looks import SILENT, Patchy

A, B = "aaaaaaaa", "bbbbbbbb"
CRASH = "container server: CrashLoopBackOff"


@dataclass
class AsRouted(Play):
    """Routers apply and confirm by the functions of the router's agent: none sends requests where nobody is ready."""

    as_wanted: bool = True

    def _routers_apply(self) -> None:
        read = read_deployment({"metadata": {"name": "rain"}, "spec": self.spec, "status": self.status})
        ready = {cluster_name("rain", name) for name, seen in self.revisions.items() if seen.ready}
        weights = effective_weights(read, ready)
        self.as_wanted = all(weights.get(share.revision, 0) == share.weight for share in read.traffic)
        for pod in self.routers:
            self.applied[pod] = (read.traffic_version, {name: weight for name, weight in weights.items() if weight})

    def _router(self, pod: str) -> RouterSeen:
        seen = super()._router(pod)
        return seen if self.as_wanted else replace(seen, confirmed=False, reading=None)


@dataclass
class Newborn(Play):
    """Routers whose pods were made at one time."""

    made: datetime | None = None

    def _router(self, pod: str) -> RouterSeen:
        return replace(super()._router(pod), created=self.made)


def fixing() -> AsRouted:
    """B is the fix of a stable whose only pod crashes."""
    play = AsRouted(spec=spec_of()).begin()
    assert isinstance(play, AsRouted)
    play.lose(A)
    play.revisions[A] = replace(play.revisions[A], trouble=CRASH)
    play.settle()
    return play


def deleted(play: Play) -> list[str]:
    return [action.pod for action in play.actions if isinstance(action, DeleteRouter)]


def test_the_fix_of_a_stable_without_any_pod_waits_for_a_person_and_says_so() -> None:
    play = fixing()
    play.tick(300)
    assert (play.state, play.applied["r1"][1]) == ("Shifting", {B: 100})
    assert play.condition("Available") == ("True", "StableLost")
    assert f"no pod of stable (rain-{A}) is ready: {CRASH}" in play.words()
    assert f"the routers send everything to rain-{B}" in play.words()
    assert "`kubectl perennial promote rain` or `abort` decides" in play.words()
    assert deleted(play) == [], "no router is to blame"
    play.order("promote")
    assert play.status["stable"]["revision"] == B


def test_the_fix_goes_on_by_itself_when_a_pod_of_stable_comes_back() -> None:
    play = fixing()
    play.recover(A)
    play.run(100)
    assert play.status["stable"]["revision"] == B


@pytest.mark.parametrize("held", [False, True])
def test_a_stable_that_is_lost_while_requests_are_counted_is_told_too(held: bool) -> None:
    play = started(AsRouted, analysis={"maxSeconds": 20})
    play.lose(A)
    play.tick(40 if held else 10)
    assert play.state == ("Holding" if held else "Analysing")
    assert f"No pod of stable (rain-{A}) is ready" in play.words() and "nothing is counted" in play.words()
    assert "`kubectl perennial promote rain`" in play.words()


@pytest.mark.parametrize("weight", [5, 100])
def test_a_router_that_does_not_hear_of_a_weight_is_named_and_replaced_after_a_minute(weight: int) -> None:
    play = started(steps=[{"weight": 5}, {"weight": 25}])
    play.deaf.add("r1")
    play.order("promote" if weight == 100 else "skip")
    play.tick(59)
    assert (play.state, deleted(play)) == ("Shifting", [])
    assert "1 of 2 routers confirm" in play.words() and "not r1" in play.words()
    play.tick(2)
    assert deleted(play) == ["r1"]
    play.run(200)
    assert play.status["stable"]["revision"] == B


def test_no_router_is_replaced_that_another_one_could_not_stand_in_for() -> None:
    for routers in (["r1"], ["r1", "r2"]):
        play = started()
        play.routers = routers
        play.tick(1)
        play.deaf |= set(play.routers)
        play.order("promote")
        play.tick(300)
        assert (play.state, deleted(play)) == ("Shifting", [])
        play.order("abort", id_="c2")
        assert play.state == "Withdrawing"


def test_a_router_that_only_did_not_answer_is_not_replaced() -> None:
    play = started(Patchy)
    assert isinstance(play, Patchy)
    play.moods = {"r1": SILENT}
    play.order("promote")
    play.tick(120)
    assert (play.state, deleted(play)) == ("Shifting", [])
    play.moods = {}
    play.tick(1)
    assert play.status["stable"]["revision"] == B


def test_a_router_that_has_just_begun_gets_its_own_minute() -> None:
    play = started(Newborn)
    assert isinstance(play, Newborn)
    play.deaf.add("r1")
    play.order("promote")
    play.now += timedelta(seconds=50)
    play.made = play.now
    play.tick(40)
    assert deleted(play) == []
    play.tick(25)
    assert deleted(play) == ["r1"]
