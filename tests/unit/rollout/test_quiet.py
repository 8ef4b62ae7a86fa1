"""A rollout that waits for a person writes seldom, judges every look, and neither loses nor doubles a request."""

import pytest

from perennial.domain.rollout import decide
from tests.unit.rollout.play import Play, spec_of

B = "bbbbbbbb"
WEIGHT = 50


def waiting(state: str) -> Play:
    """A step that is held without a verdict, or that waits for approval; requests flow on."""
    approval = state == "Approval"
    steps = [{"weight": WEIGHT, "approval": approval}]
    play = Play(spec=spec_of(steps=steps, analysis={"maxSeconds": 20, "maxErrorRate": "0.05"}), per_second=800).begin()
    if not approval:
        play.error_rates = {"aaaaaaaa": 0.05, B: 0.075}  # above the limit, but no more so than it may be beside stable
    play.run(60, until=state)
    return play


def counted(play: Play) -> int:
    rollout = play.recorded.rollout
    assert rollout is not None
    return rollout.evidence.tally(WEIGHT).canary.requests


def count_writes(play: Play, seconds: int) -> int:
    writes = 0
    for _ in range(seconds):
        before = play.status
        play.tick()
        writes += play.status != before
    return writes


@pytest.mark.parametrize("state", ["Holding", "Approval"])
def test_counts_are_written_at_growing_intervals(state: str) -> None:
    play = waiting(state)
    writes = [count_writes(play, 40) for _ in range(5)]
    assert play.state == state
    assert writes[0] <= 25
    assert writes[-1] <= 3


def test_no_request_is_lost_or_doubled_between_two_writes() -> None:
    play = waiting("Approval")
    before, told = counted(play), play.recorded.rollout
    assert told is not None and told.evidence.looked is not None
    begin = told.evidence.looked
    count_writes(play, 120)
    after = play.recorded.rollout
    assert after is not None and after.evidence.looked is not None
    elapsed = (after.evidence.looked - begin).total_seconds()
    assert elapsed > 80
    assert counted(play) - before == round(elapsed) * play.per_second * WEIGHT // 100


@pytest.mark.parametrize("state", ["Holding", "Approval"])
def test_a_canary_that_turns_bad_is_aborted_as_quickly_as_ever(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds() -> int:
        play = waiting(state)
        count_writes(play, 30)
        play.error_rates[B] = 1.0
        taken = play.run(60)
        assert play.status["rejected"][0]["reason"] == "CanaryFailed"
        return taken

    quiet = seconds()
    monkeypatch.setattr(decide, "is_unremarkable", lambda *_: False)
    assert quiet == seconds()


def test_a_router_that_changes_is_written_at_once() -> None:
    play = waiting("Approval")
    count_writes(play, 100)
    assert count_writes(play, 1) == 0
    play.routers = ["r1", "r3"]
    assert count_writes(play, 1) == 1
