"""The outcome of one decision before it is written as status, and the small steps that several decisions share.

Must not look at the world's clock; `now` is passed in.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

from perennial.domain import reasons
from perennial.domain.authors import Author
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote
from perennial.domain.rollout.commands import BadCommand, Command, remembered
from perennial.domain.rollout.spec import FULL
from perennial.domain.rollout.state import Event, State, after
from perennial.domain.rollout.verdict import Finding
from perennial.domain.rollout.world import Recorded, Rejection, RevisionRef, Rollout, Target, World
from perennial.domain.times import rfc3339

MAX_REJECTED = 32
MAX_HISTORY = 51


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass makes of the recorded facts.

    resting: the state when no rollout is in progress, with its `reason`; words: why it stands where it stands, one
    sentence; requeue: seconds until the clock alone may change something.
    """

    recorded: Recorded
    resting: State | None = None
    reason: str | None = None
    words: str = ""
    finding: Finding | None = None
    events: tuple[EventNote, ...] = ()
    requeue: float | None = None


def moved(rollout: Rollout, event: Event, now: datetime, **fields: object) -> Rollout:
    """The rollout after an event, in the state that the table gives."""
    return replace(rollout, state=after(rollout.state, event), state_since=now, **fields)  # type: ignore[arg-type]


def with_traffic(recorded: Recorded, traffic: tuple[tuple[str, int], ...]) -> Recorded:
    """Other weights, counted in trafficVersion; the same ones change nothing."""
    if traffic == recorded.traffic:
        return recorded
    return replace(recorded, traffic=traffic, traffic_version=recorded.traffic_version + 1)


def split(recorded: Recorded, target: str, weight: int) -> tuple[tuple[str, int], ...]:
    """Traffic with `weight` percent to the target and the rest to stable; none at all while there is no stable."""
    if recorded.stable is None:
        return ((target, weight),)
    return ((recorded.stable.revision, FULL - weight), (target, weight))


def all_to_stable(world: World, recorded: Recorded) -> tuple[tuple[str, int], ...]:
    """Traffic with everything to stable. A version that served before stays in it, without weight, while it has pods:
    the routers turn to it when stable has none that is ready."""
    assert recorded.stable is not None
    stable, bad = recorded.stable.revision, {entry.revision for entry in recorded.rejected}
    good = {entry.revision for entry in recorded.history} - bad - {stable}
    up = {seen.revision for seen in world.revisions.values() if seen.replicas > 0}
    return ((stable, FULL), *((revision, 0) for revision, _ in recorded.traffic if revision in good & up))


def executed(recorded: Recorded, command: Command | BadCommand) -> Recorded:
    """Remember a command, so that it is never executed again."""
    return replace(recorded, commands=remembered(recorded.commands, command))


def ignored(words: str) -> EventNote:
    """The event for a command that does not fit what is going on."""
    return EventNote(reasons.COMMAND_IGNORED, words, "Warning")


def pending_command(world: World) -> Command | BadCommand | None:
    """The command that was not executed yet."""
    command = world.command
    return command if command is not None and command.id not in world.recorded.commands else None


def start(world: World, recorded: Recorded, target: Target, now: datetime) -> Change:
    """Record the intent to roll the target out: nothing of it exists yet."""
    weight = world.spec.weights[0] if recorded.stable is not None else FULL
    rollout = Rollout(
        id=hashlib.sha256(f"{world.uid}/{target.revision}/{rfc3339(now, micro=True)}".encode()).hexdigest()[:8],
        state=after(State.SETTLED, Event.TARGET_NAMED),
        target=target_ref(target),
        weight=weight,
        started=now,
        state_since=now,
        step_started=now,
        stable_replicas=world.base_replicas,
        commit=world.commit,
        authors=authors_of(world, recorded, target),
        short_since=now,
    )
    words = f"Roll out {target.label} (revision {target.revision})"
    first = f", first at {world.spec.portion(weight)}."
    words += first if recorded.stable is not None else "; there is no stable version, so at once."
    events = [EventNote(reasons.ROLLOUT_STARTED, words)]
    if target.note:
        events.append(EventNote(reasons.NOT_GATED, target.note, "Warning"))
    known = target.revision in dict(recorded.traffic)
    changed = recorded if known else with_traffic(recorded, (*recorded.traffic, (target.revision, 0)))
    return Change(replace(changed, rollout=rollout, expired=None), words=words, events=tuple(events), requeue=0.0)


OPERATOR = Author("Perennial", "")
"""The author of what the operator chose by itself: anybody may approve it."""


def authors_of(world: World, recorded: Recorded, target: Target) -> tuple[Author, ...]:
    """Who wrote the change that names the target; empty when nobody knows."""
    stable = recorded.stable
    chosen = world.spec.update_policy == "Direct" and target.version is not None
    if chosen and (stable is None or stable.version != target.version):
        return (OPERATOR,)
    return world.authors


def target_ref(target: Target) -> RevisionRef:
    """The target as status names it."""
    return RevisionRef(target.revision, target.version, target.artifact.digest)


def withdraw(
    world: World, recorded: Recorded, event: Event, reason: str, message: str, now: datetime, *, reject: bool
) -> Change:
    """Weight 0 in the same write as the reason: abort beats everything and forgets nothing."""
    rollout = recorded.rollout
    assert rollout is not None
    message = bounded(message)
    gone = moved(rollout, event, now, reason=reason, message=message, verified=None, short_since=None, refusal=None)
    entry = Rejection(rollout.target.revision, rollout.target.version, reason, message, rfc3339(now))
    if reject:
        others = tuple(r for r in recorded.rejected if r.revision != entry.revision)
        recorded = replace(recorded, rejected=(entry, *others)[:MAX_REJECTED])
    if event is Event.HOLD_EXPIRED:
        recorded = replace(recorded, expired=entry)
    # A new trafficVersion even where the weight was 0 already: routers must also confirm that no header chooses it.
    traffic = split(recorded, rollout.target.revision, 0)
    changed = replace(recorded, traffic=traffic, traffic_version=recorded.traffic_version + 1)
    note = EventNote(reason, message, "Warning" if reject else "Normal")
    return Change(replace(changed, rollout=gone), words=message, events=(note,), requeue=0.0)
