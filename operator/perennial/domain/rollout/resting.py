"""What to do while no rollout is in progress: settle, refuse, wait, or start one. Pure."""

from dataclasses import replace
from datetime import datetime

from perennial.domain import reasons
from perennial.domain.decision import EventNote
from perennial.domain.rollout.change import (
    Change,
    all_to_stable,
    executed,
    ignored,
    pending_command,
    start,
    with_traffic,
)
from perennial.domain.rollout.commands import BadCommand, Command
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import Recorded, Rejection, Target, Untargeted, World


def rest(world: World, now: datetime) -> Change:
    """The next facts when status.rollout is absent."""
    recorded = tidied(world)
    command = pending_command(world)
    if command is not None:
        recorded, note = _obey(world, executed(recorded, command), command)
        change = rest(replace(world, recorded=recorded, command=None), now)
        return replace(change, events=(note, *change.events))
    if world.choice is not None and world.choice != recorded.chosen_version:
        chosen = replace(recorded, chosen_version=world.choice)  # the next pass sees it as the target
        words = f"Version {world.choice} is chosen: the newest accepted one."
        waits = Untargeted(reasons.VERSION_CHOSEN, words)  # nothing is started on the old choice, nor is it ready
        return rest(replace(world, recorded=chosen, choice=None, target=waits), now)
    target = world.target
    if isinstance(target, Untargeted):
        return Change(recorded, resting=State.IDLE, reason=target.reason, words=target.message)
    stable = recorded.stable
    if stable is not None and target.revision == stable.revision:
        return _settle(world, recorded, target)
    refused = refusal(recorded, target)
    if refused is not None:
        words = f"{target.label} is not tried again: {refused.message or refused.reason}"
        if not refused.recorded:
            words += f" Name another version, or try it again with `kubectl perennial retry {world.name}`."
        return Change(recorded, resting=State.REFUSED, reason=refused.reason, words=words)
    if recorded.expired is not None and recorded.expired.revision == target.revision:
        return Change(recorded, resting=State.EXPIRED, reason=reasons.EXPIRED, words=recorded.expired.message)
    if world.spec.suspend:
        words = f"spec.suspend is set, so {target.label} is not rolled out."
        return Change(recorded, resting=State.IDLE, reason=reasons.SUSPENDED, words=words)
    return start(world, recorded, target, now)


def refusal(recorded: Recorded, target: Target) -> Rejection | None:
    """Why the target may not be rolled out: its ModelVersion says so for this deployment, or status by revision."""
    if target.refused is not None:
        return target.refused
    return next((r for r in recorded.rejected if r.revision == target.revision), None)


def tidied(world: World) -> Recorded:
    """The facts after what happened outside: rejections that went to Git or were removed there, leftover traffic."""
    recorded = world.recorded
    kept = []
    for entry in recorded.rejected:
        seen = entry.version is not None and entry.version in world.version_rejections
        in_git = seen and world.version_rejections[entry.version or ""] is not None
        if in_git:
            kept.append(replace(entry, recorded=True))
        elif not (seen and entry.recorded):  # a person removed it from Git: it may be tried again
            kept.append(entry)
    target = world.target
    expired = recorded.expired
    if expired is not None and isinstance(target, Target) and target.revision != expired.revision:
        expired = None
    recorded = replace(recorded, rejected=tuple(kept), expired=expired)
    if recorded.stable is None:
        return with_traffic(recorded, ())
    return recorded if world.stable_lost else with_traffic(recorded, all_to_stable(world, recorded))


def _settle(world: World, recorded: Recorded, target: Target) -> Change:
    """Stable is what is asked for; the same revision under a new version name only changes the name."""
    stable = recorded.stable
    assert stable is not None
    words = f"{target.label} (revision {target.revision}) serves."
    if target.version != stable.version:
        recorded = replace(recorded, stable=replace(stable, version=target.version))
        if recorded.history and recorded.history[0].revision == stable.revision:
            newest = replace(recorded.history[0], version=target.version, commit=world.commit)
            recorded = replace(recorded, history=(newest, *recorded.history[1:]))
    return Change(recorded, resting=State.SETTLED, words=words)


def _obey(world: World, recorded: Recorded, command: Command | BadCommand) -> tuple[Recorded, EventNote]:
    """Only `retry` means something at rest; each command is consumed, whatever came of it."""
    if isinstance(command, BadCommand):
        return recorded, ignored(command.message)
    if command.verb != "retry":
        return recorded, ignored(f"{command.verb} of {command.revision} is ignored: no rollout is going on.")
    blocked = any(entry.revision == command.revision for entry in recorded.rejected)
    expired = recorded.expired is not None and recorded.expired.revision == command.revision
    target = world.target
    if isinstance(target, Target) and target.revision == command.revision and target.refused is not None:
        return recorded, ignored(
            f"retry of {command.revision} is ignored: ModelVersion {target.version} holds its rejection; "
            "remove that in Git (a git revert of the rejection works) and it is tried again."
        )
    if not blocked and not expired:
        return recorded, ignored(f"retry of {command.revision} is ignored: it was neither rejected nor expired.")
    rejected = tuple(entry for entry in recorded.rejected if entry.revision != command.revision)
    recorded = replace(recorded, rejected=rejected, expired=None if expired else recorded.expired)
    words = f"{command.by} ordered a retry of revision {command.revision}."
    return recorded, EventNote(reasons.COMMAND_DONE, words)
