"""What stops a rollout, and how a withdrawn one ends. Pure. Abort beats everything and works while suspended."""

from dataclasses import replace
from datetime import datetime

from perennial.domain import reasons
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote
from perennial.domain.rollout.change import (
    Change,
    all_to_stable,
    executed,
    ignored,
    pending_command,
    with_traffic,
    withdraw,
)
from perennial.domain.rollout.commands import BadCommand, Command
from perennial.domain.rollout.comparison import OF_PREDICTIONS
from perennial.domain.rollout.looking import look_seconds
from perennial.domain.rollout.spec import FULL
from perennial.domain.rollout.state import Event, State, after
from perennial.domain.rollout.verdict import LEANING, Finding, Verdict
from perennial.domain.rollout.world import Recorded, Rollout, RouterSeen, Target, Untargeted, World

VERIFY_SECONDS = 0.5
"""How often routers are asked whether they have applied a weight."""
ROUTER_SECONDS = 10.0
"""A router that does not apply weight 0 within this time is deleted, one at a time while another one is ready."""
UNSCHEDULABLE_SECONDS = 30.0
"""A scheduler that found no room for so long is believed; half of a deadline that is shorter than twice that."""
LAST_ROUTER_SECONDS = 30.0
"""The only ready router is given this long: deleting it costs requests until the next one is ready."""
BEHIND_SECONDS = 60.0
"""A router that has not even heard of a canary's weight by then is deleted, where another one confirms it."""
_WORDS = 400
"""Bytes of why it is withdrawn, where a condition must also hold what it waits for."""


def stop(
    world: World, recorded: Recorded, finding: Finding | None, command: Command | BadCommand | None, now: datetime
) -> Change | None:
    """Withdraw the rollout when anything demands it, by precedence; None when nothing does."""
    rollout = recorded.rollout
    assert rollout is not None
    label = rollout.target.label
    if is_abort_of(command, rollout):
        assert isinstance(command, Command)
        words = f"{command.by} aborted the rollout of {label}; it is not tried again by itself."
        return withdraw(world, recorded, Event.ABORT_ORDERED, reasons.ABORTED, words, now, reject=True)
    if finding is not None and finding.verdict is Verdict.ABORT:
        words = f"The canary {label} failed: {finding.message}"
        reason = finding.reason if finding.reason in OF_PREDICTIONS else reasons.CANARY_FAILED
        return withdraw(world, recorded, Event.ABORT_SHOWN, reason, words, now, reject=True)
    changed = _other_target(world, rollout)
    if changed is not None and not becomes_stable_first(world, recorded):
        return withdraw(world, recorded, Event.TARGET_CHANGED, *changed, now, reject=False)
    if past_deadline(world, rollout, now) and recorded.stable is not None:
        seen = world.revisions.get(rollout.target.revision)
        why = f": {seen.trouble}" if seen is not None and seen.trouble else ""
        seconds = world.spec.progress_deadline_seconds
        words = f"The pods of {label} were not available for progressDeadlineSeconds ({seconds} s){why}."
        return withdraw(world, recorded, Event.DEADLINE_PASSED, reasons.PROGRESS_DEADLINE, words, now, reject=True)
    return _inconclusive(world, recorded, finding, now)


def is_abort_of(command: Command | BadCommand | None, rollout: Rollout) -> bool:
    """Whether the command ends this very rollout."""
    return isinstance(command, Command) and command.verb == "abort" and command.revision == rollout.target.revision


def becomes_stable_first(world: World, recorded: Recorded) -> bool:
    """Whether another version is named while the first one answers already, by at least one router: then
    it becomes stable before the other is rolled out. Without it nothing would answer until then."""
    rollout = recorded.rollout
    assert rollout is not None
    changed = _other_target(world, rollout)
    if recorded.stable is not None or changed is None or changed[0] != reasons.SUPERSEDED or world.edge.waiting:
        return False
    seen = world.revisions.get(rollout.target.revision)
    full = rollout.state is State.SHIFTING and recorded.weight_of(rollout.target.revision) == FULL
    return full and seen is not None and seen.ready > 0 and any(router.serves(recorded) for router in world.routers)


def past_deadline(world: World, rollout: Rollout, now: datetime) -> bool:
    """Whether the canary has lacked pods for longer than it may; counted in every step, also a held one."""
    since = rollout.short_since
    return since is not None and (now - since).total_seconds() >= world.spec.progress_deadline_seconds


def unverified(world: World, now: datetime) -> RouterSeen | None:
    """The router to delete: ready, and weight 0 not applied within ROUTER_SECONDS of an abort.

    None while stable has no ready pod: what the router has may be all that answers. Where there is no stable, nothing
    is meant to answer.
    """
    rollout, stable = world.recorded.rollout, world.recorded.stable
    if rollout is None or rollout.state is not State.WITHDRAWING or (stable is not None and world.stable_lost):
        return None
    patience = ROUTER_SECONDS if len(world.routers) > 1 else LAST_ROUTER_SECONDS
    if (now - rollout.state_since).total_seconds() < patience:
        return None
    return next((router for router in world.routers if not _let_go(world, router, rollout)), None)


def behind(world: World, now: datetime) -> RouterSeen | None:
    """The router to delete because a rising weight waits for it alone: it answers, and tells of older weights.

    None while no other one confirms the weight: then the cause is another, and nobody would stand in.
    """
    recorded = world.recorded
    rollout = recorded.rollout
    if rollout is None or rollout.state is not State.SHIFTING or not any(r.serves(recorded) for r in world.routers):
        return None

    def waited(router: RouterSeen) -> float:
        return (now - max(rollout.state_since, router.created or rollout.state_since)).total_seconds()

    late = (r for r in world.routers if r.answered and r.traffic_version != recorded.traffic_version)
    return next((router for router in late if waited(router) >= BEHIND_SECONDS), None)


def let_go_by_all(world: World, rollout: Rollout) -> bool:
    """Whether no ready router and no Gateway sends the withdrawn revision anything."""
    return world.edge.follows and all(_let_go(world, router, rollout) for router in world.routers)


def finish(world: World, now: datetime) -> Change:
    """The next facts while weight 0 is being confirmed: the rollout ends when every ready router confirms it."""
    recorded = world.recorded
    rollout = recorded.rollout
    assert rollout is not None
    command = pending_command(world)
    notes: tuple[EventNote, ...] = ()
    if command is not None and not (isinstance(command, Command) and command.verb == "retry"):  # that one waits
        recorded, notes = executed(recorded, command), (too_late(command, rollout),)
    return replace(_confirmed(world, recorded, rollout, now), events=notes)


def too_late(command: Command | BadCommand, rollout: Rollout) -> EventNote:
    """The answer to a command that meets the end of its rollout."""
    if isinstance(command, BadCommand):
        return ignored(command.message)
    return ignored(f"{command.verb} of {command.revision} is ignored: {rollout.target.label} is being withdrawn.")


def _confirmed(world: World, recorded: Recorded, rollout: Rollout, now: datetime) -> Change:
    if rollout.replacing and world.stable_lost and not _goes_elsewhere(world, rollout):
        seen = world.stable_seen
        why = f": {seen.trouble}" if seen is not None and seen.trouble else ""
        return Change(recorded, words=f"{rollout.message} Stable comes back{why}.", requeue=VERIFY_SECONDS)
    left = [router for router in world.routers if not _let_go(world, router, rollout)]
    if left:
        words = f"{rollout.message} {len(left)} of {len(world.routers)} routers still confirm weight 0."
        return Change(recorded, words=words, requeue=VERIFY_SECONDS)
    stands_in = recorded.stable is not None and world.stable_lost  # the revision answers for stable, and stays
    if not stands_in and not world.edge.follows:
        why = bounded(rollout.message or "", _WORDS)
        words = f"{why} Its pods stay until the Gateway sends them nothing: {world.edge.waiting}"
        return Change(recorded, words=words, requeue=look_seconds(recorded, now, world.gateway))
    seen = world.revisions.get(rollout.target.revision)
    if rollout.replacing and not stands_in and seen is not None and seen.replicas > 0:
        words = f"{rollout.message} It gives stable's places back."
        return Change(recorded, words=words, requeue=VERIFY_SECONDS)
    state = after(rollout.state, Event.ZERO_VERIFIED)
    ended = replace(recorded, rollout=None)
    if recorded.stable is None:
        ended = with_traffic(ended, ())
    elif not world.stable_lost:
        ended = with_traffic(ended, all_to_stable(world, ended))
    return Change(ended, resting=state, words=rollout.message or "", requeue=0.0)


def _goes_elsewhere(world: World, rollout: Rollout) -> bool:
    """Whether something else than stable is asked for, another version or the withdrawn one again: then a stable that
    cannot come back must not keep it from starting. A canary that holds stable's only place leaves it first."""
    mine, stable, target = rollout.target.revision, world.recorded.stable, world.target
    seen, command = world.revisions.get(mine), pending_command(world)
    if not isinstance(target, Target) or (stable is not None and target.revision == stable.revision):
        return False
    again = isinstance(command, Command) and (command.verb, command.revision) == ("retry", mine)
    left = seen is None or seen.replicas == 0 or rollout.stable_replicas > 1
    return left and (target.revision != mine or again)


def _let_go(world: World, router: RouterSeen, rollout: Rollout) -> bool:
    """Whether a router sends the withdrawn revision nothing: it says so, or it was born knowing the weights.

    One without a stable to send to keeps the canary and confirms nothing: it need only know the weights.
    """
    if router.created is not None and router.created > rollout.state_since:
        return True
    if world.stable_lost:
        return router.traffic_version == world.recorded.traffic_version
    return router.serves_nothing_to(rollout.target.revision, world.recorded)


def _other_target(world: World, rollout: Rollout) -> tuple[str, str] | None:
    """(reason, words) when what is asked for is no longer what is being rolled out."""
    target, mine = world.target, rollout.target
    if isinstance(target, Untargeted):
        if target.version is not None and target.version == mine.version:
            return None  # the same version is still named; what is missing is expected back
        return reasons.WITHDRAWN, f"{mine.label} is no longer named, so its rollout ends: {target.message}"
    if target.revision == mine.revision:
        if target.refused is not None:
            return reasons.REJECTED, f"{mine.label} was rejected for this deployment: {target.refused.message}"
        return None
    stable = world.recorded.stable
    if stable is not None and target.revision == stable.revision:
        return reasons.REVERTED, f"Stable ({stable.label}) is named again, so the rollout of {mine.label} ends."
    return reasons.SUPERSEDED, f"{_label(target)} is named now, so the rollout of {mine.label} ends first."


def _inconclusive(world: World, recorded: Recorded, finding: Finding | None, now: datetime) -> Change | None:
    """Abort without a verdict when the spec wants that; expire after holdMaxSeconds. Not while it is suspended.

    Time ends nothing while no router tells its counts or a Gateway does not follow: unknown is not bad.
    """
    rollout, analysis = recorded.rollout, world.spec.analysis
    assert rollout is not None
    if world.spec.suspend or finding is None or finding.verdict is not Verdict.WAIT:
        return None
    label, aborts = rollout.target.label, analysis.on_inconclusive == "Abort"
    if rollout.state is State.SMOKE and aborts and finding.reason in LEANING:
        words = f"No verdict on {label}, and onInconclusive is Abort: {finding.message}"
        return withdraw(world, recorded, Event.ABORT_SHOWN, reasons.INCONCLUSIVE, words, now, reject=True)
    if not any(router.answered for router in world.routers) or world.edge.waiting is not None:
        return None
    in_state = (now - rollout.state_since).total_seconds()
    if rollout.state is State.HOLDING and in_state >= analysis.hold_max_seconds:
        words = (
            f"The rollout of {label} expired after {analysis.hold_max_seconds} s without a verdict: "
            f"{finding.message} It is not rejected: `kubectl perennial retry {world.name}` starts it again; a step of "
            "more weight or a longer holdMaxSeconds gives it more evidence."
        )
        return withdraw(world, recorded, Event.HOLD_EXPIRED, reasons.EXPIRED, words, now, reject=False)
    if rollout.state is State.ANALYSING and aborts and _had_its_time(world, recorded, rollout, now):
        words = f"No verdict on {label} after {analysis.max_seconds} s, and onInconclusive is Abort: {finding.message}"
        return withdraw(world, recorded, Event.ABORT_SHOWN, reasons.INCONCLUSIVE, words, now, reject=True)
    return None


def _had_its_time(world: World, recorded: Recorded, rollout: Rollout, now: datetime) -> bool:
    """Whether maxSeconds have passed at this weight, and routers told their counts for so long."""
    analysis = world.spec.analysis
    passed = (now - (rollout.verified or rollout.state_since)).total_seconds()
    counted = rollout.evidence.tally(recorded.weight_of(rollout.target.revision)).milliseconds / 1000
    return passed >= analysis.max_seconds <= counted + analysis.warmup_seconds


def _label(target: Target) -> str:
    return f"{target.label} (revision {target.revision})"
