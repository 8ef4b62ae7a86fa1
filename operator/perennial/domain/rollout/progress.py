"""What to do while a rollout is in progress: one step of the table per pass. Pure.

Order of precedence in every state: abort and everything else that stops the rollout, then a person's order to go on,
then what the state waits for.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from perennial.domain import reasons
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote
from perennial.domain.rollout import smoking
from perennial.domain.rollout.approval import names_of
from perennial.domain.rollout.ask import signature_words, signatures, step_waits
from perennial.domain.rollout.change import (
    MAX_HISTORY,
    Change,
    all_to_stable,
    executed,
    moved,
    pending_command,
    split,
    with_traffic,
)
from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.looking import look_seconds
from perennial.domain.rollout.moment import Moment, next_weight
from perennial.domain.rollout.obey import obey
from perennial.domain.rollout.room import give_part, held_up, may_have_part, needed_pods, no_room, replace_stable
from perennial.domain.rollout.spec import FULL, Step
from perennial.domain.rollout.state import Event, State
from perennial.domain.rollout.stops import (
    VERIFY_SECONDS,
    becomes_stable_first,
    is_abort_of,
    stop,
    too_late,
)
from perennial.domain.rollout.verdict import LEANING, Finding, Verdict, find_verdict
from perennial.domain.rollout.world import Promoted, Rollout, World
from perennial.domain.times import rfc3339

MAX_REFUSAL = 400
_NAMED = 3


def proceed(world: World, now: datetime) -> Change:
    """The next facts when status.rollout is present and not being withdrawn."""
    moment = look(world, now)
    command = pending_command(world)
    if command is not None:
        moment = replace(moment, recorded=executed(moment.recorded, command))
    stopped = stop(world, moment.recorded, moment.finding, command, now)
    if stopped is not None:
        unheard = command is not None and not is_abort_of(command, moment.rollout)
        notes = (too_late(command, moment.rollout),) if command is not None and unheard else ()
        return replace(stopped, finding=moment.finding, events=(*stopped.events, *notes))
    obeyed = obey(moment, command) if command is not None else None
    if isinstance(obeyed, Change):
        return obeyed
    if isinstance(command, Command) and obeyed is not None and obeyed.reason == reasons.APPROVAL_REFUSED:
        refused = replace(moment.rollout, refusal=bounded(obeyed.message, MAX_REFUSAL))
        moment = replace(moment, rollout=refused, recorded=replace(moment.recorded, rollout=refused))
    if world.spec.suspend:
        change = moment.wait("spec.suspend is set: the rollout goes no further; it may still be aborted.")
    else:
        change = _HANDLERS[moment.rollout.state](moment)
    return replace(change, events=(obeyed, *change.events)) if obeyed is not None else change


def look(world: World, now: datetime) -> Moment:
    """Take in the routers' counters and the canary's pods."""
    rollout = world.recorded.rollout
    assert rollout is not None
    if rollout.verified is not None and rollout.verified > now:
        rollout = replace(rollout, verified=now)  # the clock was set back: the warm-up begins anew, and ends
    live = world.recorded.weight_of(rollout.target.revision)
    analysis = world.spec.analysis
    readings = [router.reading for router in world.routers if router.reading is not None]
    finding = None
    if live > 0 or rollout.copying:
        evidence = rollout.evidence.of_routers(world.following)
        if readings:
            evidence = evidence.look(
                readings,
                weight=live,
                traffic_version=world.recorded.traffic_version,
                counts_from=rollout.counts_from(analysis.warmup_seconds),
                now=now,
                codes=analysis.counted,
            )
        rollout = replace(rollout, evidence=evidence)
        if live < FULL:
            finding = _finding(world, rollout, live, now)
    elif rollout.smoking:
        rollout = smoking.take_in(world, rollout)
        finding = smoking.smoke_finding(rollout, analysis, len(world.spec.steps))
    rollout = replace(rollout, short_since=_short_since(world, rollout, live, now))
    return Moment(world, replace(world.recorded, rollout=rollout), rollout, live, finding, now)


def _finding(world: World, rollout: Rollout, live: int, now: datetime) -> Finding:
    """The verdict at the live weight, which stays a step even when the spec no longer lists it."""
    steps = world.spec.steps
    if all(step.weight != live for step in steps):
        steps = tuple(sorted((*steps, Step(live)), key=lambda step: step.weight))
    index = next(i for i, step in enumerate(steps) if step.weight == live)
    held = (now - rollout.verified).total_seconds() if rollout.verified else 0.0
    analysis, said = world.spec.analysis, rollout.smoke.answers if rollout.smoke is not None else None
    codes = analysis.failure_codes
    beforehand = (said.failures(codes), said.counted(codes)) if said is not None else (0, 0)
    parts = -(-world.whole // world.at_once) - 1 if rollout.replacing else 0
    return find_verdict(
        rollout.evidence, analysis, steps, index,
        held_seconds=held, metrics=world.metrics, beforehand=beforehand, parts=parts,
    )  # fmt: skip


def _short_since(world: World, rollout: Rollout, live: int, now: datetime) -> datetime | None:
    """Since when the canary has fewer available pods than it needs now; None while it has them."""
    if _available(world, rollout) >= needed_pods(world, rollout, live):
        return None
    return rollout.short_since or now


def _available(world: World, rollout: Rollout) -> int:
    seen = world.revisions.get(rollout.target.revision)
    return seen.available if seen is not None else 0


def _scaling(moment: Moment) -> Change:
    """Pods first: the weight follows when all pods for it are available."""
    world, rollout = moment.world, moment.rollout
    needed, available = world.replicas_for(rollout.weight), _available(world, rollout)
    if available >= needed:
        return _first_look(moment) or _samples_first(moment) or _set_weight(moment)
    if no_room(moment):
        return replace_stable(moment)
    held = held_up(moment)
    if held is not None:
        return moment.wait(held)
    if may_have_part(moment, available):
        return _first_look(moment) or _samples_first(moment) or give_part(moment, available)
    return moment.wait(_pods_words(world, rollout, available, needed))


def _first_look(moment: Moment) -> Change | None:
    """Before the first weight: the inputs of stable and canary, as their servers tell them; None when it may go on."""
    world, rollout = moment.world, moment.rollout
    found = signatures(world, rollout, moment.now)
    if not found.known:
        words = f"The pods of {rollout.target.label} are available; the routers read which inputs its model wants."
        if not world.routers:
            words = (
                f"No router is ready: {world.spec.portion(rollout.weight)} for {rollout.target.label} waits for one."
            )
        since = rollout.checking_since or moment.now
        recorded = replace(moment.recorded, rollout=replace(rollout, checking_since=since))
        return Change(recorded, words=words, finding=moment.finding, requeue=VERIFY_SECONDS)
    if found.difference is None:
        return None
    words = signature_words(world, rollout, found.difference)
    note = EventNote(reasons.SIGNATURE_DIFFERS, words, "Warning")
    return moment.go(Event.SIGNATURE_DIFFERS, words, note, difference=found.difference)


def _samples_first(moment: Moment) -> Change | None:
    """Before anybody else asks the canary: sample inputs, when they are due; None when they are not."""
    if not smoking.is_due(moment.world, moment.rollout):
        return None
    begun = smoking.begin(moment.world, moment.rollout, moment.now)
    if begun is None:
        return moment.wait(f"Sample inputs of {moment.rollout.target.label} wait until its ModelVersion is back.")
    return _turned(moment, begun)


def _smoke(moment: Moment) -> Change:
    assert moment.finding is not None
    return _turned(moment, smoking.turn(moment.world, moment.rollout, moment.finding, moment.now))


def _turned(moment: Moment, turn: smoking.Turn) -> Change:
    """Carry out what follows from sample inputs."""
    notes = (EventNote(turn.reason, turn.words, "Warning" if turn.warning else "Normal"),) if turn.reason else ()
    if turn.event is Event.STEP_DONE:
        return moment.next_step(turn.event, moment.rollout.weight, turn.words, *notes, smoke=turn.smoke)
    if turn.event is not None:
        return moment.go(turn.event, turn.words, *notes, smoke=turn.smoke)
    changed = replace(moment.rollout, smoke=turn.smoke)
    waiting = replace(moment, rollout=changed, recorded=replace(moment.recorded, rollout=changed))
    return replace(waiting.wait(turn.words), events=notes)


def _set_weight(moment: Moment) -> Change:
    rollout = moment.rollout
    portion = moment.world.spec.portion(rollout.weight)
    words = f"Give {rollout.target.label} {portion} of the requests; the routers confirm it."
    change = moment.go(
        Event.PODS_AVAILABLE, words, EventNote(reasons.WEIGHT_SET, words), verified=None, short_since=None
    )
    traffic = split(change.recorded, rollout.target.revision, rollout.weight)
    return replace(change, recorded=with_traffic(change.recorded, traffic))


def _replacing(moment: Moment) -> Change:
    world, rollout = moment.world, moment.rollout
    needed, available = world.replicas_for(FULL), _available(world, rollout)
    if available >= needed:
        return _set_weight(moment)
    return moment.wait(_pods_words(world, rollout, available, needed))


def _shifting(moment: Moment) -> Change:
    """The weight counts only when every ready router confirms it from its Envoy."""
    world, rollout = moment.world, moment.rollout
    portion, label = world.spec.portion(rollout.weight), rollout.target.label
    confirmed = sum(router.serves(moment.recorded) for router in world.routers)
    if not world.routers:
        return moment.wait(f"No router is ready: {portion} for {label} waits for one.")
    if becomes_stable_first(world, moment.recorded):
        return _promoted(moment)
    if confirmed < len(world.routers):
        return moment.wait(f"{confirmed} of {len(world.routers)} routers confirm {portion} for {label}{_why(moment)}")
    if world.edge.waiting is not None:
        change = moment.wait(f"All routers confirm {portion} for {label}, the Gateway does not: {world.edge.waiting}")
        return replace(change, requeue=look_seconds(moment.recorded, moment.now, world.gateway))
    if rollout.weight == FULL:
        return _promoted(moment)
    words = f"All routers confirm {portion} for {label}; its requests are counted."
    return moment.go(Event.WEIGHT_VERIFIED, words, EventNote(reasons.WEIGHT_VERIFIED, words), verified=moment.now)


def _why(moment: Moment) -> str:
    """Who or what keeps the weight from being confirmed, as the end of a sentence."""
    lost = _stable_is_lost(moment)
    if lost is not None and moment.rollout.weight < FULL:
        return f", because {lost[:1].lower()}{lost[1:]} {_orders(moment.world)}"
    behind = sorted(router.pod for router in moment.world.routers if not router.serves(moment.recorded))
    more = f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
    return f", not {', '.join(behind[:_NAMED])}{more}."


def _stable_is_lost(moment: Moment) -> str | None:
    """What it means for this canary that stable has no ready pod, in sentences; None when it has one, or never was."""
    world, stable, label = moment.world, moment.recorded.stable, moment.rollout.target.label
    seen = world.revisions.get(moment.rollout.target.revision)
    if stable is None or not world.stable_lost or seen is None or seen.ready == 0:
        return None
    trouble = world.stable_seen.trouble if world.stable_seen is not None else None
    why = f": {trouble.rstrip('.')}" if trouble else ""
    return (
        f"No pod of stable ({stable.label}) is ready{why}. So the routers send everything to {label}, and nothing is "
        "counted: its pods are there for less. It goes on when stable is back."
    )


def _promoted(moment: Moment) -> Change:
    """The canary simply becomes stable; no pod restarts."""
    world, recorded, rollout = moment.world, moment.recorded, moment.rollout
    target = rollout.target
    moved(rollout, Event.FULL_WEIGHT_VERIFIED, moment.now)
    approved_by = names_of(rollout.approvals)
    entry = Promoted(target.revision, target.version, target.digest, rfc3339(moment.now), rollout.commit, approved_by)
    promoted = replace(
        recorded,
        stable=target,
        rollout=None,
        history=(entry, *recorded.history)[:MAX_HISTORY],
        rejected=tuple(r for r in recorded.rejected if r.revision != target.revision),
    )
    promoted = with_traffic(promoted, all_to_stable(world, promoted))
    words = f"{target.label} (revision {target.revision}) is promoted and serves all requests."
    return Change(
        promoted, resting=State.SETTLED, words=words, events=(EventNote(reasons.PROMOTED, words),), requeue=0.0
    )


def _analysing(moment: Moment) -> Change:
    """Advance or promote when shown; by maxSeconds without a verdict it is inconclusive."""
    world, rollout, finding = moment.world, moment.rollout, moment.finding
    if rollout.smoking:
        return _smoke(moment)
    assert finding is not None
    if rollout.copying and (rollout.replacing or world.spec.analysis.copy_percent == 0):
        weight = next_weight(world, 0)
        why = "There is no room beside stable" if rollout.replacing else "spec.rollout.mirrorPercent is 0 now"
        words = f"{why}, so no copies are sent any more. Next is {weight}%."
        return moment.next_step(Event.STEP_DONE, weight, words, EventNote(reasons.STEP_STARTED, words))
    if not any(router.answered for router in world.routers):  # what was counted before says nothing of now
        portion = world.spec.portion(moment.live)
        return moment.wait(f"No router tells its counts, so the canary stays at {portion}.")
    if world.edge.waiting is not None:
        portion = world.spec.portion(moment.live)
        return moment.wait(f"The canary stays at {portion}, because the Gateway does not: {world.edge.waiting}")
    if finding.verdict in (Verdict.ADVANCE, Verdict.PROMOTE):
        return _step_done(moment, finding)
    started = rollout.verified or rollout.state_since
    lost = None if any(router.serves(moment.recorded) for router in world.routers) else _stable_is_lost(moment)
    said = finding.message if lost is None else lost
    if rollout.state is State.HOLDING:
        return moment.wait(f"Inconclusive, so the weight stays: {said} {_orders(world)}")
    if (moment.now - started).total_seconds() < world.spec.analysis.max_seconds:
        return moment.wait(said if lost is None else f"{said} {_orders(world)}")
    portion = world.spec.portion(moment.live)
    words = f"No verdict after {world.spec.analysis.max_seconds} s at {portion}: {said}"
    if world.spec.analysis.on_inconclusive == "Promote" and finding.reason not in LEANING:
        if step_waits(world, rollout, moment.live):
            return _ask_approval(moment, words)
        words += " onInconclusive is Promote, so it goes on."
        note = EventNote(reasons.INCONCLUSIVE, words, "Warning")
        return moment.next_step(Event.STEP_DONE, next_weight(world, moment.live), words, note)
    if world.spec.analysis.on_inconclusive == "Promote":
        words += " onInconclusive is Promote, but what speaks against the canary is more than a lack of evidence."
    words += f" {_orders(world)}"
    return moment.go(Event.INCONCLUSIVE, words, EventNote(reasons.INCONCLUSIVE, words, "Warning"))


def _step_done(moment: Moment, finding: Finding) -> Change:
    if step_waits(moment.world, moment.rollout, moment.live):
        return _ask_approval(moment, finding.message)
    weight = next_weight(moment.world, moment.live)
    words = f"{finding.message} Next is {weight}%."
    event = Event.PROMOTE_SHOWN if finding.verdict is Verdict.PROMOTE else Event.STEP_DONE
    return moment.next_step(event, weight, words, EventNote(reasons.STEP_STARTED, words))


def _ask_approval(moment: Moment, said: str) -> Change:
    words = f"{said} The step waits for a person: `kubectl perennial approve {moment.world.name}` lets it go on."
    return moment.go(Event.APPROVAL_NEEDED, words, EventNote(reasons.APPROVAL_NEEDED, words))


def _approval(moment: Moment) -> Change:
    """Wait for a person, as long as the spec asks for one; then evidence decides as at any step."""
    if moment.live == 0 and moment.rollout.difference is not None:
        return moment.wait(signature_words(moment.world, moment.rollout, moment.rollout.difference))
    if not step_waits(moment.world, moment.rollout, moment.live):
        words = f"The step of {moment.live}% no longer asks for approval; the evidence decides."
        return moment.go(Event.APPROVAL_DROPPED, words, EventNote(reasons.STEP_STARTED, words))
    said = moment.finding.message if moment.finding is not None else ""
    return moment.wait(f"{said} Waits for a person: `kubectl perennial approve {moment.world.name}` lets it go on.")


def _orders(world: World) -> str:
    return f"`kubectl perennial promote {world.name}` or `abort` decides."


def _pods_words(world: World, rollout: Rollout, available: int, needed: int) -> str:
    seen = world.revisions.get(rollout.target.revision)
    why = f": {seen.trouble}" if seen is not None and seen.trouble else ""
    portion = world.spec.portion(rollout.weight)
    return f"{available} of {needed} pods of {rollout.target.label} for {portion} are available{why}."


_HANDLERS: Mapping[State, Callable[[Moment], Change]] = {
    State.SCALING: _scaling,
    State.SMOKE: _smoke,
    State.REPLACING: _replacing,
    State.SHIFTING: _shifting,
    State.ANALYSING: _analysing,
    State.HOLDING: _analysing,
    State.APPROVAL: _approval,
}
