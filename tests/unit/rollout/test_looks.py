"""Routers that tell nothing for a while, and what they may have done meanwhile: no request is lost, none is believed
that may have met other weights."""

from dataclasses import dataclass, field, replace

import pytest

from perennial.domain.rollout.world import RouterSeen
from tests.unit.rollout.play import Play, started

A, B = "aaaaaaaa", "bbbbbbbb"
SILENT, APART = "silent", "apart"


@dataclass
class Patchy(Play):
    """Routers may be silent, or say that their Envoy does not follow the weights; then nobody reads their counts."""

    moods: dict[str, str] = field(default_factory=dict)

    def _router(self, pod: str) -> RouterSeen:
        seen, mood = super()._router(pod), self.moods.get(pod)
        if mood == SILENT:
            return RouterSeen(pod, seen.uid)
        return replace(seen, confirmed=False, weights={B: 100}, reading=None) if mood == APART else seen


def counting() -> Patchy:
    """Both routers are counted, past the warm-up: each sends the canary 50 requests a second."""
    play = started(Patchy, steps=[{"weight": 50, "holdSeconds": 900}])
    assert isinstance(play, Patchy)
    play.per_second = 200
    play.tick(6)
    return play


def counted(play: Play) -> int:
    rollout = play.recorded.rollout
    assert rollout is not None
    return rollout.evidence.tally(50).canary.requests


def after(play: Patchy, seconds: int, **moods: str) -> int:
    """What is counted in these seconds and the next one, in which everybody tells again."""
    before = counted(play)
    play.moods = moods
    play.tick(seconds)
    play.moods = {}
    play.tick(1)
    return counted(play) - before


@pytest.mark.parametrize("routers", [("r1",), ("r1", "r2")])
def test_what_silent_routers_did_meanwhile_is_counted_once(routers: tuple[str, ...]) -> None:
    play = counting()
    assert after(play, 3, **dict.fromkeys(routers, SILENT)) == 4 * 100
    assert after(play, 1) == 2 * 100


@pytest.mark.parametrize(("routers", "whole"), [(("r1",), 4 * 50), (("r1", "r2"), 0)])
def test_what_a_router_did_that_left_the_weights_is_not_counted(routers: tuple[str, ...], whole: int) -> None:
    """Requests went to the canary that it was not meant to bear, so that they say nothing of it at this weight."""
    play = counting()
    assert after(play, 3, **dict.fromkeys(routers, APART)) == whole
    assert after(play, 1) == 2 * 100


def test_a_silent_router_is_not_believed_where_another_one_left_the_weights() -> None:
    assert after(counting(), 3, r1=SILENT, r2=APART) == 0


@pytest.mark.parametrize("routers", [("r1",), ("r1", "r2")])
def test_a_silent_router_is_not_believed_across_a_time_without_stable(routers: tuple[str, ...]) -> None:
    play = counting()
    before = counted(play)
    play.moods = dict.fromkeys(routers, SILENT)
    play.lose(A)
    play.tick(2)
    play.recover(A)
    play.tick(1)
    play.moods = {}
    play.tick(1)
    assert counted(play) - before == 4 * 50 * (2 - len(routers))


def test_status_forgets_a_router_that_is_gone() -> None:
    play = counting()
    play.routers = ["r1", "r3"]
    play.tick(2)
    rollout = play.recorded.rollout
    assert rollout is not None and {c.pod_uid for c in rollout.evidence.cursors} == {"uid-r1", "uid-r3"}
