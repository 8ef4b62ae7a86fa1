"""What stops a rollout stops it in every state: by the table, not by the states that somebody thought of."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from perennial.domain.rollout.commands import VERBS, Command
from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.state import AT_REST, State
from perennial.domain.rollout.world import RouterSeen
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


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("reason", [reason for reason in STOPS if reason != "Aborted"])
def test_a_command_that_meets_the_end_of_its_rollout_is_answered(reason: str, verb: str) -> None:
    play = started()
    STOPS[reason](play)
    play.command = Command(verb, B if verb != "abort" else A, "c1", "ann")
    play.step()
    assert play.state == "Withdrawing" and "c1" in play.recorded.commands
    answers = [note.message for note in play.events if note.reason == "CommandIgnored"]
    assert answers == [f"{verb} of {play.command.revision} is ignored: rain-{B} is being withdrawn."]


def test_the_abort_that_ends_a_rollout_is_not_called_ignored() -> None:
    play = started()
    _rename(play)
    play.order("abort")
    assert "Aborted" in play.reasons() and "CommandIgnored" not in play.reasons()


@dataclass
class Mute(Play):
    """Routers serve on, and may tell nothing."""

    mute: bool = False

    def _router(self, pod: str) -> RouterSeen:
        return RouterSeen(pod, f"uid-{pod}") if self.mute else super()._router(pod)


def undecided(choice: str) -> Mute:
    """Time is about to end the rollout: by maxSeconds, or by holdMaxSeconds."""
    play = started(Mute, analysis={"onInconclusive": choice, "maxSeconds": 20, "holdMaxSeconds": 20})
    assert isinstance(play, Mute)
    play.per_second = 0
    if choice == "Hold":
        play.run(30, until="Holding")
    return play


@pytest.mark.parametrize("choice", ["Hold", "Abort"])
def test_time_ends_nothing_while_no_router_tells_its_counts(choice: str) -> None:
    """Unknown is not bad: what they tell afterwards decides."""
    play = undecided(choice)
    play.mute = True
    play.tick(60)
    assert "rejected" not in play.status and "expired" not in play.status and play.recorded.weight_of(B) == 5
    assert "No router tells its counts" in play.words()
    play.mute, play.per_second = False, 2000
    play.run(100)
    assert play.status["stable"]["revision"] == B


@pytest.mark.parametrize("choice", ["Hold", "Abort"])
def test_time_ends_nothing_while_the_rollout_is_suspended(choice: str) -> None:
    play = undecided(choice)
    play.spec["suspend"] = True
    play.tick(60)
    assert "rejected" not in play.status and "expired" not in play.status and play.recorded.weight_of(B) == 5
    play.spec["suspend"] = False
    play.tick(1)
    assert ("rejected" in play.status) == (choice == "Abort") and ("expired" in play.status) == (choice == "Hold")


@pytest.mark.parametrize("state", [state for state in GOING if state is not State.SMOKE])  # nobody has weight there
@pytest.mark.parametrize("choice", ["Hold", "Abort"])
def test_time_alone_ends_the_states_that_say_so_and_no_other(choice: str, state: State) -> None:
    play = started(analysis={"onInconclusive": choice, "maxSeconds": 60, "holdMaxSeconds": 60})
    play.per_second = 0
    play.tick(7)
    play.status["rollout"]["state"] = str(state)
    play.now += timedelta(days=1)
    play.step()
    ends = state is State.HOLDING or (choice == "Abort" and state is State.ANALYSING)
    assert (play.state == "Withdrawing") == ends


def _first_version(**more: object) -> Play:
    """The first version answers through r2, and r1 does not follow."""
    play = Play(deaf={"r1"}, **more)  # type: ignore[arg-type]
    play.settle()
    assert (play.state, play.recorded.weight_of(A)) == ("Shifting", 100)
    return play


def test_a_first_version_that_answers_becomes_stable_before_another_one_is_rolled_out() -> None:
    play = _first_version()
    play.target = target(C)
    for _ in range(40):
        play.tick()
        assert play.recorded.weight_of(A) > 0, "nothing else answers"
    assert (play.status["stable"]["revision"], play.state) == (A, "Shifting")
    play.deaf.clear()
    play.run(200)
    assert play.status["stable"]["revision"] == C


def test_a_first_version_is_withdrawn_where_no_router_or_pod_of_it_answers() -> None:
    play = Play(deaf={"r1", "r2"})
    play.settle()
    play.target = target(C)
    play.tick()
    assert (play.state, play.recorded.weight_of(A)) == ("Withdrawing", 0)
    play = _first_version()
    play.lose(A)
    play.target = target(C)
    play.tick()
    assert (play.state, play.recorded.weight_of(A)) == ("Withdrawing", 0)


def test_a_router_that_keeps_an_aborted_first_version_is_deleted_and_the_next_version_starts() -> None:
    play = _first_version()
    play.order("abort", A)
    play.tick(12)
    assert (play.state, play.routers) == ("Rest", ["r2"])
    play.target = target(C)
    play.tick(2)
    assert play.status["stable"]["revision"] == C
