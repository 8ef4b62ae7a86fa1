"""One pass over a DriftPolicy, decided: the whole status, and what to do about intents that it already held.

Must do no I/O and read no clock. Expected trouble is a condition, never an exception.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from perennial.domain import reasons
from perennial.domain.decision import Decision, EventNote
from perennial.domain.drift import report, trigger
from perennial.domain.drift.commands import accepted
from perennial.domain.drift.examine import WindowResult, due_windows, examined, grace, instant, is_told
from perennial.domain.drift.rule import advanced
from perennial.domain.drift.schedule import ScheduleError, last_due, next_due
from perennial.domain.drift.spec import RetrainSpec
from perennial.domain.drift.standing import Standing, recorded_standing
from perennial.domain.drift.windows import FINAL_AFTER_SECONDS
from perennial.domain.drift.world import Action, CreateProbe, CreateTrainingJob, DeleteProbe, DeleteTrainingJob, World
from perennial.domain.errors import Stalled
from perennial.domain.times import parse_time, rfc3339

KEPT_JOBS = 10
DEFAULT_MAX_WAIT = 2_592_000


@dataclass(frozen=True, slots=True)
class Draft:
    """What the pass has found so far. later: seconds after which something becomes due by itself."""

    standing: Standing
    results: tuple[WindowResult, ...] = ()
    actions: tuple[Action, ...] = ()
    events: tuple[EventNote, ...] = ()
    later: tuple[float, ...] = ()
    held: trigger.Guard = field(default_factory=lambda: trigger.Guard("Free"))
    waits_for_data: str = ""
    faults: tuple[report.Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftDecision:
    """The decision, and the windows that were examined (their scores go into the book)."""

    decision: Decision[Action]
    results: tuple[WindowResult, ...]


def decide(world: World, now: datetime) -> DriftDecision:
    """What must be true of the policy now. See the module."""
    draft = Draft(recorded_standing(world), faults=report.faults_of(world, now))
    draft = _obey(world, draft)
    if not world.spec.suspend:
        draft = _examine(world, draft, now)
    draft = _follow(world, draft, now)
    if not world.spec.suspend:
        draft = _start(world, draft, now)
        draft = _release(world, draft, now)
    draft = _tidy(world, draft)
    status = report.status_of(world, draft.standing, draft.held, draft.waits_for_data, draft.faults, now)
    events = (*draft.events, *report.news(world, draft.standing, status))
    later = min((seconds for seconds in draft.later if seconds > 0), default=None)
    return DriftDecision(Decision(status, draft.actions, later, events), draft.results)


def refused(decided: DriftDecision, world: World, error: Stalled, now: datetime) -> DriftDecision:
    """The decision when a child was refused: its words on the policy, and another try within a minute."""
    status = report.with_fault(decided.decision.status, world, report.Fault(error.reason, error.message), now)
    wait = min(60.0, decided.decision.requeue_after or 60.0)
    told = report.news_of_faults(world.recorded.get("conditions") or (), status["conditions"])
    return replace(
        decided,
        decision=replace(
            decided.decision, status=status, actions=(), requeue_after=wait, events=(*decided.decision.events, *told)
        ),
    )


def _obey(world: World, draft: Draft) -> Draft:
    """Carry out a person's accept-data command, once."""
    command = accepted(world.policy, draft.standing)
    if command is None:
        return draft
    return replace(draft, standing=command.standing, events=(*draft.events, command.event))


def _examine(world: World, draft: Draft, now: datetime) -> Draft:
    """Examine every window that is due and can be told, in order."""
    spec, epoch = world.spec.window, now.timestamp()
    born = parse_time(world.policy["metadata"]["creationTimestamp"]).timestamp()
    for start in due_windows(spec, draft.standing.window_end, born, epoch):
        if world.spec.source == "observations" and not is_told(world, start, epoch):
            return replace(draft, later=(*draft.later, start + spec.seconds + grace(spec) - epoch))
        if world.spec.source == "prometheus" and _reading_is_awaited(world, start, epoch):
            return replace(draft, later=(*draft.later, 1.0))
        result = examined(world, start, epoch)
        draft = replace(draft, standing=_after(world, draft.standing, result), results=(*draft.results, result))
        if world.spec.source == "prometheus":  # one query a pass: the next window's number is asked in the next one
            return replace(draft, later=(*draft.later, 0.05))
    closing = spec.start_of(epoch - FINAL_AFTER_SECONDS) + spec.seconds + FINAL_AFTER_SECONDS + 0.05
    return replace(draft, later=(*draft.later, closing - epoch))


def _reading_is_awaited(world: World, start: int, epoch: float) -> bool:
    end = start + world.spec.window.seconds
    told = world.reading is not None and world.reading.end == end and not world.reading.failed
    return not told and epoch < end + grace(world.spec.window)


def _after(world: World, standing: Standing, result: WindowResult) -> Standing:
    """Where the policy stands after one more window."""
    progress = advanced(standing.progress, result.outcome, world.spec.rule)
    healthy = None if result.violations is None else not result.violations
    left = standing.progress.drifting and not progress.drifting
    return replace(
        standing,
        progress=progress,
        armed=standing.armed or left,
        window_end=float(result.end),
        last=result,
        broken_windows=standing.broken_windows if healthy is None else 0 if healthy else standing.broken_windows + 1,
        data_accepted=standing.data_accepted and not healthy,
    )


def _follow(world: World, draft: Draft, now: datetime) -> Draft:
    """Follow the trigger in flight, and record its end."""
    active = draft.standing.active
    if active is None:
        return draft
    max_wait = world.spec.retrain.max_wait if world.spec.retrain is not None else DEFAULT_MAX_WAIT
    record = trigger.followed(active, world, now)
    end = trigger.ending(record, world, now, max_wait)
    if end is None:
        expires = (trigger.exit_time(record, max_wait) - now).total_seconds() + 0.05
        return replace(draft, standing=replace(draft.standing, active=record), later=(*draft.later, expires))
    over = trigger.ended_record(record, end, now)
    standing = replace(
        draft.standing, active=None, last_trigger=over, history=(over, *draft.standing.history)[: trigger.HISTORY]
    )
    return replace(draft, standing=standing, events=(*draft.events, report.ended_note(over, end.message)))


def _start(world: World, draft: Draft, now: datetime) -> Draft:
    """Record a new trigger when there is a reason and nothing holds it back."""
    rule, standing = world.spec.retrain, draft.standing
    if rule is None or standing.active is not None or world.champion is None or draft.faults:
        return draft
    draft = _rearm(world, draft, rule, now)
    kind, moment, reason, later = _reason(world, draft.standing, now)
    draft = replace(draft, later=(*draft.later, *later))
    if kind is None:
        return draft
    held = trigger.guard(_policies(world, draft.standing), rule, now)
    draft = replace(draft, held=held)
    if draft.standing.blocked(world.spec.quality):
        return draft
    if held.state != "Free":
        until = () if held.until is None else ((held.until - now).total_seconds() + 0.05,)
        return replace(draft, later=(*draft.later, *until))
    record = trigger.new_trigger(world, kind, moment, reason, now)
    known = [str(item.get("id")) for item in draft.standing.history]
    if record["id"] in known:
        return draft
    armed = draft.standing.armed and kind != "Drift"
    return replace(draft, standing=replace(draft.standing, active=record, armed=armed))


def _policies(world: World, standing: Standing) -> list[Any]:
    """All policies of the deployment, this one with what the pass has found so far."""
    own = {**world.policy, "status": {"activeTrigger": standing.active, "history": list(standing.history)}}
    return [own, *world.siblings]


def _reason(world: World, standing: Standing, now: datetime) -> tuple[Any, str, str, tuple[float, ...]]:
    """(kind or None, the moment that names the trigger, the sentence, when to look again) of a new trigger."""
    if (
        world.spec.action == "Retrain"
        and standing.armed
        and standing.progress.drifting
        and standing.last_drifted(world)
    ):
        return "Drift", instant(standing.window_end or 0), report.drift_sentence(world, standing), ()
    schedule = world.spec.schedule
    if schedule is None or schedule.action != "Retrain":
        return None, "", "", ()
    try:
        due, following = last_due(schedule, now), next_due(schedule, now)
    except ScheduleError:
        return None, "", "", ()
    later = ((following - now).total_seconds() + 0.05,)
    moments = [item.get("windowEnd") for item in standing.history if item.get("kind") == "Schedule"]
    created = parse_time(world.policy["metadata"]["creationTimestamp"])
    if due <= created or (moments and parse_time(str(moments[0])) >= due):
        return None, "", "", later
    return "Schedule", rfc3339(due), f"the calendar {schedule.cron} ({schedule.time_zone}) asks for it", later


def _rearm(world: World, draft: Draft, rule: RetrainSpec, now: datetime) -> Draft:
    """Arm again while drift goes on, once the cooldown is over and there is training data that was not tried.

    A rejected retrain must not end the loop for ever.
    """
    standing = draft.standing
    if standing.armed or not standing.progress.drifting or not standing.last_drifted(world):
        return draft
    if world.spec.action != "Retrain" or standing.last_trigger is None:
        return draft
    held = trigger.guard(_policies(world, standing), rule, now)
    if held.state != "Free":
        until = () if held.until is None else ((held.until - now).total_seconds() + 0.05,)
        return replace(draft, held=held, later=(*draft.later, *until))
    number = _probe_number(world, now)
    data = trigger.data_now(world, number)
    if data.digest is not None and not data.stale:
        return replace(draft, standing=replace(standing, armed=True))
    return _probed(world, draft, data, now)


def _release(world: World, draft: Draft, now: datetime) -> Draft:
    """Let a waiting trigger start once its training data is new; carry out a start that was recorded before."""
    active, rule = draft.standing.active, world.spec.retrain
    if active is None or rule is None:
        return draft
    if active.get("trainingJob"):
        recorded = world.recorded.get("activeTrigger") or {}
        if world.job is None and recorded.get("trainingJob") == active["trainingJob"]:
            return replace(draft, actions=(*draft.actions, CreateTrainingJob(active)))
        return draft
    if world.template is None:
        return draft
    data = trigger.data_now(world, _probe_number(world, now))
    if not rule.require_new_data or (data.digest is not None and not data.stale):
        digest = data.digest if rule.require_new_data else None
        return replace(draft, standing=replace(draft.standing, active=trigger.released(active, world.name, digest)))
    if (world.recorded.get("activeTrigger") or {}).get("id") != active["id"]:
        return replace(draft, waits_for_data="its digest is being read")
    return _probed(world, draft, data, now)


def _probe_number(world: World, now: datetime) -> int:
    """Probes are numbered by window: at most one is made in each."""
    return int(now.timestamp() // world.spec.window.seconds)


def _probed(world: World, draft: Draft, data: trigger.Data, now: datetime) -> Draft:
    """Say what is waited for, and have the digests read once a window."""
    number = _probe_number(world, now)
    if data.pinned:
        fault = report.Fault(
            reasons.DATA_PINNED,
            f"retrain.requireNewData waits for new data, but every training dataset of TrainingJob "
            f"{world.spec.retrain.training_job if world.spec.retrain else ''} has a pinned digest: remove the digests, "
            "or set requireNewData to false",
        )
        return replace(draft, faults=(*draft.faults, fault), waits_for_data="its digest is pinned")
    following = (number + 1) * world.spec.window.seconds - now.timestamp() + 0.05
    words = data.problem or "it is still the data that was trained on before"
    running = any(not probe.done for probe in world.probes)
    asked = any(probe.number >= number for probe in world.probes)
    actions = draft.actions if running or asked else (*draft.actions, CreateProbe(number))
    return replace(draft, actions=actions, later=(*draft.later, following), waits_for_data=words)


def _tidy(world: World, draft: Draft) -> Draft:
    """Remove probes that were read, and the oldest TrainingJobs beyond ten."""
    active = draft.standing.active
    needed = bool(draft.waits_for_data)
    newest = max((probe.number for probe in world.probes), default=-1)
    stale = [DeleteProbe(p.name, p.uid) for p in world.probes if p.done and (not needed or p.number < newest)]
    ours = sorted(world.jobs, key=lambda job: (str(job["metadata"].get("creationTimestamp")), job["metadata"]["name"]))
    kept = (active or {}).get("trainingJob")
    old = [
        DeleteTrainingJob(job["metadata"]["name"], job["metadata"]["uid"])
        for job in ours[:-KEPT_JOBS]
        if job["metadata"]["name"] != kept
    ]
    return replace(draft, actions=(*draft.actions, *stale, *old))
