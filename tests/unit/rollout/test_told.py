"""Every move of a rollout is an event with the sentence of the condition, and Ready is right at every instant.

`Play` checks both at every pass; here every entry of the table is made to happen once.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from perennial.domain.rollout import change, stops
from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.plan import RunSmoke
from perennial.domain.rollout.signature import Tensor
from perennial.domain.rollout.smoke import Answers, JobSeen, Samples
from perennial.domain.rollout.state import AT_REST, TRANSITIONS, Event, State, after
from perennial.domain.rollout.world import Untargeted
from tests.unit.rollout.play import Play, spec_of, target

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
SAMPLES = Samples("s3://m/samples/s.csv", "sha256:" + "5" * 64)


def ended(**answers: int) -> Callable[[RunSmoke], JobSeen]:
    """A Job that reports these answers."""
    return lambda made: JobSeen(made.name, "u", started=True, over=True, answers=Answers(**answers))


ENDS = {
    Event.STEP_DONE: ended(sent=100, good=100),
    Event.ABORT_SHOWN: ended(sent=100, good=50, nulls=50),
    Event.INCONCLUSIVE: ended(sent=100, good=90, unreadable=10),
}


def canary(samples: Samples | None = None, **spec: object) -> Play:
    """B beside stable A; not one pass was made yet."""
    return Play(spec=spec_of(**spec)).begin(samples=samples)


def in_scaling(event: Event) -> Play:
    """B lacks pods for its next weight, which matters to the verdict only when it has one already."""
    play = canary(replicas=4, steps=[{"weight": 25}, {"weight": 50}], progressDeadlineSeconds=60)
    if event in (Event.SAMPLES_DUE, Event.INCONCLUSIVE):
        play = canary(SAMPLES if event is Event.SAMPLES_DUE else None, smoke={"requests": 100})
    if event is Event.SOME_AVAILABLE:
        play = canary(replicas=4, steps=[{"weight": 50}], surge="Replace")
    if event in (Event.ABORT_SHOWN, Event.NO_ROOM):
        play.settle()
    play.stuck.add(B)
    if event is Event.ABORT_SHOWN:
        order(play, "skip")
    if event is Event.NO_ROOM:
        play = canary()
        play.stuck.add(B)
    play.settle()
    return play


def in_smoke(event: Event) -> Play:
    """A Job sends sample inputs, for as long as no event ends that."""
    play = canary(SAMPLES, smoke={"requests": 100}, progressDeadlineSeconds=60)
    play.replay = ENDS.get(event, lambda made: JobSeen(made.name, "u", started=True))
    play.settle()
    return play


def in_shifting(event: Event) -> Play:
    """A router does not confirm the weight."""
    play = canary(progressDeadlineSeconds=60)
    if event is Event.ABORT_SHOWN:
        play.settle()
    play.deaf.add("r1")
    if event is Event.ABORT_SHOWN:
        order(play, "skip")
    play.settle()
    if event is Event.FULL_WEIGHT_VERIFIED:
        order(play, "promote")
    return play


def in_analysing(event: Event) -> Play:
    """Requests are counted."""
    approval = event is Event.APPROVAL_NEEDED
    seconds = 10 if event is Event.INCONCLUSIVE else 3600
    play = canary(
        steps=[{"weight": 50, "approval": approval}]
        if event is not Event.STEP_DONE
        else [{"weight": 5}, {"weight": 50}],
        analysis={"maxSeconds": seconds},
        progressDeadlineSeconds=60,
    )
    play.settle()
    return play


def in_holding(event: Event) -> Play:
    """There was no request for maxSeconds."""
    if event is Event.RETRY_ORDERED:
        play = canary(SAMPLES, smoke={"requests": 100})
        play.replay = lambda made: JobSeen(made.name, "u", over=True, lasting=True)
        play.run(3, until="Holding")
        return play
    approval = event is Event.APPROVAL_NEEDED
    play = canary(
        steps=[{"weight": 50, "approval": approval}]
        if event is not Event.STEP_DONE
        else [{"weight": 5}, {"weight": 50}],
        analysis={"maxSeconds": 10, "holdMaxSeconds": 120},
        progressDeadlineSeconds=60,
    )
    play.per_second = 0
    play.run(30, until="Holding")
    play.per_second = 100
    return play


def in_approval(event: Event) -> Play:
    """The step is done."""
    play = canary(steps=[{"weight": 50, "approval": True}], progressDeadlineSeconds=60)
    play.run(60, until="Approval")
    return play


def in_replacing(event: Event) -> Play:
    """B takes the place of the only pod of A and does not come up yet; a verdict is there when it had a weight."""
    if event is Event.ABORT_SHOWN:
        play = canary()
        play.settle()
        play.lose(B)
        order(play, "skip")
        no_room(play)
        return play
    play = canary(surge="Replace", progressDeadlineSeconds=60)
    play.stuck.add(B)
    play.settle()
    return play


def in_withdrawing(event: Event) -> Play:
    """A router does not confirm weight 0."""
    play = canary()
    play.settle()
    play.deaf.add("r1")
    order(play, "abort")
    return play


def order(play: Play, verb: str) -> None:
    """A person's order, of a number not used before."""
    play.command = Command(verb, B, f"c{len(play.recorded.commands)}", "ann")
    play.settle()


def name(play: Play, revision: str) -> None:
    """A commit names another revision."""
    play.target = target(revision)
    play.settle()


def recover(play: Play) -> None:
    """Pods come up and routers listen."""
    play.deaf.clear()
    play.recover(B)
    play.settle()


def one_comes_up(play: Play) -> None:
    """There is room for one pod of several."""
    play.revisions[B] = replace(play.revisions[B], available=1, ready=1)
    play.settle()


def differ(play: Play) -> None:
    """Pods come up, and their model wants other inputs than stable's."""
    play.inputs = {revision: (Tensor(f"of-{revision}", "FP64", (-1,)),) for revision in play.revisions}
    recover(play)


def no_room(play: Play) -> None:
    """The scheduler finds no room for half a minute."""
    play.revisions[B] = replace(play.revisions[B], trouble="no GPU", unschedulable_since=play.now)
    play.now += timedelta(seconds=31)
    play.settle()


def fail(play: Play) -> None:
    """The canary fails half of its requests."""
    play.error_rates[B] = 0.5
    play.tick(20)


def drop_approval(play: Play) -> None:
    """A commit takes the approval out of the step."""
    play.spec = spec_of(steps=[{"weight": 50}], progressDeadlineSeconds=60)
    play.settle()


def lose_pods(play: Play) -> None:
    """The canary's pods go for longer than they may."""
    play.per_second = 0
    play.lose(B)
    play.settle()
    play.now += timedelta(seconds=61)
    play.settle()


def wait(seconds: int) -> Callable[[Play], None]:
    """Only time passes."""
    return lambda play: play.tick(seconds)


def expire(play: Play) -> None:
    """Nobody decides and no request comes."""
    play.per_second = 0
    play.tick(140)


STATES: dict[State, Callable[[Event], Play]] = {
    State.SCALING: in_scaling,
    State.SMOKE: in_smoke,
    State.SHIFTING: in_shifting,
    State.ANALYSING: in_analysing,
    State.HOLDING: in_holding,
    State.APPROVAL: in_approval,
    State.REPLACING: in_replacing,
    State.WITHDRAWING: in_withdrawing,
}
EVENTS: dict[Event, Callable[[Play], None]] = {
    Event.ABORT_ORDERED: lambda play: order(play, "abort"),
    Event.PROMOTE_ORDERED: lambda play: order(play, "promote"),
    Event.APPROVED: lambda play: order(play, "promote"),
    Event.SKIP_ORDERED: lambda play: order(play, "skip"),
    Event.TARGET_CHANGED: lambda play: name(play, C),
    Event.DEADLINE_PASSED: lose_pods,
    Event.ABORT_SHOWN: fail,
    Event.APPROVAL_DROPPED: drop_approval,
    Event.PODS_AVAILABLE: recover,
    Event.SOME_AVAILABLE: one_comes_up,
    Event.WEIGHT_VERIFIED: recover,
    Event.FULL_WEIGHT_VERIFIED: recover,
    Event.ZERO_VERIFIED: recover,
    Event.SIGNATURE_DIFFERS: differ,
    Event.NO_ROOM: no_room,
    Event.STEP_DONE: wait(40),
    Event.PROMOTE_SHOWN: wait(40),
    Event.APPROVAL_NEEDED: wait(40),
    Event.INCONCLUSIVE: lambda play: (setattr(play, "per_second", 0), play.tick(12))[1],
    Event.HOLD_EXPIRED: expire,
    Event.SAMPLES_DUE: recover,
    Event.RETRY_ORDERED: lambda play: order(play, "retry"),
}
OTHERWISE = {(State.SCALING, Event.INCONCLUSIVE): recover}
"""Where an event comes about in another way than in other states."""
NEVER = {(State.APPROVAL, Event.PROMOTE_ORDERED)}
"""A promote of a step that waits for approval is its approval."""
TABLE = [(state, event) for state, row in TRANSITIONS.items() if state not in AT_REST for event in row]


@pytest.mark.parametrize(("state", "event"), [pair for pair in TABLE if pair not in NEVER])
def test_every_move_is_told(state: State, event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []

    def spy(at: State, what: Event) -> State:
        happened.append((at, what))
        return after(at, what)

    monkeypatch.setattr(change, "after", spy)
    monkeypatch.setattr(stops, "after", spy)
    play = STATES[state](event)
    assert play.state == state
    happened.clear()
    OTHERWISE.get((state, event), EVENTS[event])(play)
    assert happened[0] == (state, event)


@pytest.mark.parametrize("untargeted", ["NoVersionYet", "VersionUnknown"])
def test_a_new_spec_is_never_ready_by_what_served_before(untargeted: str) -> None:
    """Through a whole day of changes; `Play` looks at Ready after every pass."""
    play = canary(replicas=2)
    play.settle()
    play.run(60)
    for asked in (target(C), target(B), Untargeted(untargeted, "Nothing is named."), target(A), target(B)):
        play.target = asked
        assert play.step()
        if asked not in (target(B), Untargeted("NoVersionYet", "Nothing is named.")):
            assert play.condition("Ready")[0] == "False", asked
        play.tick(5)
    play.run(60)
    assert play.condition("Ready") == ("True", "Serving")


def test_more_replicas_are_ready_when_all_their_pods_are() -> None:
    play = Play(spec=spec_of(replicas=1))
    play.settle()
    play.spec["replicas"] = 3
    play.stuck.add(A)
    play.step()
    assert play.condition("Ready") == ("False", "PodsNotReady")
    play.revisions[A] = replace(play.revisions[A], available=2, ready=2)
    play.settle()
    assert play.condition("Ready") == ("False", "PodsNotReady")
    assert "2 of 3 pods" in play.words()
    play.recover(A)
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_a_lost_pod_does_not_end_readiness_while_another_serves() -> None:
    play = Play(spec=spec_of(replicas=3))
    play.settle()
    play.revisions[A] = replace(play.revisions[A], available=1, ready=1)
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")
    play.lose(A)
    play.settle()
    assert play.condition("Ready") == ("False", "PodsNotReady")
    assert "No pod of rain-aaaaaaaa is ready" in play.words()
    play.recover(A)
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_the_choice_of_another_version_ends_readiness_in_the_same_write() -> None:
    play = Play()
    play.settle()
    play.more["choice"] = f"rain-{B}"
    play.step()
    assert (play.status["chosenVersion"], play.condition("Ready")) == (f"rain-{B}", ("False", "VersionChosen"))
