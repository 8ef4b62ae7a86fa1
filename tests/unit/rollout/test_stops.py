"""What stops a rollout stops it in every state: by the table, not by the states that somebody thought of."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.state import AT_REST, State
from perennial.domain.times import rfc3339
from tests.unit.rollout.play import Play, started, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
FAILED = (MetricFinding("auc", Outcome.FAILED, "0.1 is below 0.9", 3),)
GOING = [state for state in State if state not in AT_REST and state is not State.WITHDRAWING]


def _abort(play: Play) -> None:
    play.command = Command("abort", B, "c1", "ann")


def _fail(play: Play) -> None:
    play.more["metrics"] = FAILED


def _rename(play: Play) -> None:
    play.target = target(C)


def _lack_pods(play: Play) -> None:
    play.lose(B)
    play.status["rollout"]["shortTime"] = rfc3339(play.now - timedelta(days=1), micro=True)


STOPS: dict[str, Callable[[Play], None]] = {
    "Aborted": _abort,
    "CanaryFailed": _fail,
    "Superseded": _rename,
    "ProgressDeadlineExceeded": _lack_pods,
}


@pytest.mark.parametrize("state", GOING)
@pytest.mark.parametrize("reason", STOPS)
def test_whatever_stops_a_rollout_stops_it_in_every_state(reason: str, state: State) -> None:
    play = started()
    play.status["rollout"]["state"] = str(state)
    STOPS[reason](play)
    play.step()
    assert (play.state, play.recorded.weight_of(B)) == ("Withdrawing", 0)
    assert reason in play.reasons()


@pytest.mark.parametrize("state", [state for state in GOING if state is not State.SMOKE])  # nobody has weight there
@pytest.mark.parametrize("choice", ["Hold", "Abort"])
def test_time_alone_ends_the_states_that_say_so_and_no_other(choice: str, state: State) -> None:
    play = started(analysis={"onInconclusive": choice, "maxSeconds": 60, "holdMaxSeconds": 60})
    play.per_second = 0
    play.status["rollout"]["state"] = str(state)
    play.now += timedelta(days=1)
    play.step()
    ends = state is State.HOLDING or (choice == "Abort" and state is State.ANALYSING)
    assert (play.state == "Withdrawing") == ends
