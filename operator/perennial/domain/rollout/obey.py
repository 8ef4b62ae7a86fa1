"""A person's order to go on: promote, skip, retry, and answers to questions. Pure; abort comes before (stops.py)."""

from perennial.domain import reasons
from perennial.domain.decision import EventNote
from perennial.domain.rollout.approval import MAX_APPROVALS, Approval, Said
from perennial.domain.rollout.ask import not_ones_own
from perennial.domain.rollout.change import Change, ignored
from perennial.domain.rollout.commands import BadCommand, Command
from perennial.domain.rollout.moment import Moment, next_weight
from perennial.domain.rollout.smoking import again, passed_over
from perennial.domain.rollout.spec import FULL
from perennial.domain.rollout.state import Event, State
from perennial.domain.times import rfc3339

_ANSWERS = ("approve", "promote")


def obey(moment: Moment, command: Command | BadCommand) -> Change | EventNote:
    """approve, promote: answer a question that is asked; else promote: to 100 at once; skip: to the next weight.

    abort came before. Two people who answer one question with `approve` do not let the rollout pass the next one.
    """
    rollout = moment.rollout
    if isinstance(command, BadCommand):
        return ignored(command.message)
    once_more = again(moment.world, rollout, moment.now)
    if command.verb == "retry" and once_more is None:
        return ignored(f"retry is ignored: {rollout.target.label} is being rolled out.")
    if command.revision != rollout.target.revision:
        words = (
            f"{command.verb} of {command.revision} is ignored: revision {rollout.target.revision} is being rolled out."
        )
        return ignored(words)
    if command.verb == "retry":
        assert once_more is not None and once_more.event is not None
        words = f"{command.by} ordered retry of {rollout.target.label}. {once_more.words}"
        return moment.go(once_more.event, words, EventNote(once_more.reason, words), smoke=once_more.smoke)
    label = rollout.target.label
    on_its_way = rollout.state in (State.SCALING, State.SHIFTING) and rollout.weight == FULL
    if rollout.state is State.REPLACING or on_its_way:
        return ignored(f"{command.verb} is ignored: {label} already is on its way to 100%.")
    refusal = not_ones_own(moment.world, rollout, command.verb, command.by)
    if refusal is not None:
        return EventNote(reasons.APPROVAL_REFUSED, refusal, "Warning")
    if rollout.state is State.APPROVAL and (command.verb in _ANSWERS or moment.live == 0):
        return _approve(moment, command)
    if command.verb == "approve":
        return ignored(f"approve is ignored: {label} does not wait for approval.")
    skip = command.verb == "skip"
    smoke = passed_over(moment.world, rollout, moment.now)
    before = rollout.smoking or (smoke is not None and rollout.smoke is None)  # then that is what a skip passes over
    weight = (rollout.weight if before else next_weight(moment.world, rollout.weight)) if skip else FULL
    words = f"{command.by} ordered {command.verb} of {label}; next is {moment.world.spec.portion(weight)}."
    event = Event.SKIP_ORDERED if skip else Event.PROMOTE_ORDERED
    approvals = _approvals(moment, command, Said.SKIP if skip else Said.PROMOTE)
    note = EventNote(reasons.COMMAND_DONE, words)
    return moment.next_step(event, weight, words, note, approvals=approvals, smoke=smoke)


def _approve(moment: Moment, command: Command) -> Change | EventNote:
    """A person's answer: to a step's question the next weight follows, to that about changed inputs the first one."""
    label = moment.rollout.target.label
    if moment.live > 0:
        weight = next_weight(moment.world, moment.live)
        words = f"{command.by} approved {label} at {moment.live}%; next is {weight}%."
        approvals = _approvals(moment, command, Said.STEP)
        note = EventNote(reasons.APPROVED, words)
        return moment.next_step(Event.APPROVED, weight, words, note, approved_weight=moment.live, approvals=approvals)
    if command.verb not in _ANSWERS:
        return ignored(
            f"{command.verb} is ignored: the inputs of {label} differ from stable's, and only approve lets them pass."
        )
    weight = moment.rollout.weight
    words = f"{command.by} approved the changed inputs of {label}; next is {moment.world.spec.portion(weight)}."
    approvals = _approvals(moment, command, Said.SIGNATURE)
    return moment.next_step(Event.APPROVED, weight, words, EventNote(reasons.APPROVED, words), approvals=approvals)


def _approvals(moment: Moment, command: Command, said: Said) -> tuple[Approval, ...]:
    """The record with this word added."""
    entry = Approval(command.by, said, moment.live, rfc3339(moment.now))
    return (*moment.rollout.approvals, entry)[:MAX_APPROVALS]
