"""What a pass tells people: the status, its conditions in one sentence each, and the events. Must not decide anything
but words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.domain import conditions, reasons
from perennial.domain.conditions import Condition
from perennial.domain.decision import EventNote, JsonObject
from perennial.domain.drift.examine import WindowResult, instant, needed
from perennial.domain.drift.psi import chi2_upper_quantile
from perennial.domain.drift.schedule import ScheduleError, next_due
from perennial.domain.drift.standing import MAX_LISTED, Standing
from perennial.domain.drift.state import OUTCOMES, State
from perennial.domain.drift.test import columns_of
from perennial.domain.drift.trigger import Guard
from perennial.domain.drift.world import World
from perennial.domain.times import rfc3339


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the policy cannot do what it says. stalled: only a person or a commit can mend it."""

    reason: str
    message: str
    stalled: bool = True


def faults_of(world: World, now: datetime) -> tuple[Fault, ...]:
    """What is wrong with the policy or with what it refers to, the gravest first."""
    spec = world.spec
    found = []
    if world.deployment is None:
        words = f"ModelDeployment {spec.deployment} does not exist in this namespace; nothing is watched until it does"
        found.append(Fault(reasons.DEPLOYMENT_NOT_FOUND, words, stalled=False))
    if "Propose" in (spec.action, spec.schedule.action if spec.schedule else ""):
        words = "action Propose is not available in this version; use Notify or Retrain"
        found.append(Fault(reasons.PROPOSE_NOT_AVAILABLE, words))
    if spec.schedule is not None and spec.schedule.action == "Notify":
        words = "schedule.action Notify is not available in this version; use Retrain, or remove the schedule"
        found.append(Fault(reasons.SCHEDULE_NOTIFY_NOT_AVAILABLE, words))
    if spec.source == "performance":
        words = "source.performance is not available in this version; use observations or prometheus"
        found.append(Fault(reasons.PERFORMANCE_NOT_AVAILABLE, words))
    if spec.schedule is not None:
        try:
            next_due(spec.schedule, now)
        except ScheduleError as error:
            found.append(Fault(reasons.SCHEDULE_INVALID, str(error)))
    if spec.retrain is not None and world.template is None:
        words = (
            f"TrainingJob {spec.retrain.training_job} (retrain.trainingJobRef) does not exist in this namespace; "
            "nothing can be retrained until it does"
        )
        found.append(Fault(reasons.TRAINING_JOB_NOT_FOUND, words, stalled=False))
    return (*found, *_untestable(world))


def _untestable(world: World) -> list[Fault]:
    """Faults of the test against the baseline that serves."""
    spec, champion = world.spec, world.champion
    if spec.source != "observations" or champion is None or champion.baseline is None:
        return []
    known = {feature.name for feature in champion.baseline.features}
    unknown = sorted((spec.features.names or frozenset()) - known)
    if unknown:
        words = f"version {champion.version} has no feature {unknown[0]!r}; it has {', '.join(sorted(known)[:20])}"
        return [Fault(reasons.FEATURE_NOT_FOUND, words)]
    columns = columns_of(champion.baseline, spec.features)
    if not columns:
        if spec.schedule is not None:
            return []
        words = (
            f"version {champion.version} has no reference for what the policy tests: write the tested columns "
            "(`prediction` for the prediction) to reference.csv when training"
        )
        return [Fault(reasons.NOTHING_TO_TEST, words)]
    if needed(columns, world) is not None:
        return []
    best = max(columns, key=lambda column: column.reference.rows)
    rows, bins = best.reference.rows, best.reference.bins
    least = chi2_upper_quantile(spec.test.alpha / len(columns), bins - 1) / max(rows, 1)
    words = (
        f"an effect of {spec.test.effect:g} at alpha {spec.test.alpha:g} cannot be told from chance with {rows} "
        f"reference rows, however many requests come: set test.effect above {least:.3g}, or train on more rows"
    )
    return [Fault(reasons.EFFECT_NOT_TESTABLE, words)]


def drift_sentence(world: World, standing: Standing) -> str:
    """Why drift was found: the leading features of the last window."""
    if standing.last is None:
        recorded = conditions.find(world.recorded.get("conditions") or (), "DriftDetected") or {}
        return str(recorded.get("message") or "drift goes on")
    parts = [f"{v.feature} {v.effect:.3g} (threshold {v.threshold:.3g})" for v in standing.last.drifted[:5]]
    more = len(standing.last.drifted) - len(parts)
    return (
        f"{', '.join(parts)}{f' and {more} more' if more > 0 else ''} in the window that ended at "
        f"{instant(standing.last.end)}, {standing.progress.drifted_windows} drifted in a row"
    )


def status_of(
    world: World, standing: Standing, held: Guard, waits: str, faults: Sequence[Fault], now: datetime
) -> JsonObject:
    """The whole status."""
    meta, recorded = world.policy["metadata"], world.recorded
    generation = int(meta.get("generation") or 0)
    wanted = [
        *_ready(world, faults, _holds(world, standing, held, waits)),
        _drift_detected(world, standing),
        _data_healthy(world, standing),
        _metrics_available(world, standing),
    ]
    status: JsonObject = {
        "observedGeneration": generation,
        "conditions": conditions.merged(
            recorded.get("conditions") or (), wanted, generation=generation, now=rfc3339(now)
        ),
        "state": _state(world, standing, held, waits),
        "armed": standing.armed,
        "consecutive": standing.progress.drifted_windows,
        "clear": standing.progress.clear_windows,
        "blockedWindows": standing.broken_windows,
        **_of_window(world, standing),
    }
    optional: dict[str, Any] = {
        "commands": list(standing.commands),
        "activeTrigger": standing.active,
        "lastTrigger": standing.last_trigger,
        "history": list(standing.history),
    }
    return {**status, **{key: value for key, value in optional.items() if value}}


def with_fault(status: Mapping[str, Any], world: World, fault: Fault, now: datetime) -> JsonObject:
    """The status with that fault in place of what Ready says."""
    generation = int(world.policy["metadata"].get("generation") or 0)
    others = [
        Condition(c["type"], c["status"], c["reason"], c["message"])
        for c in status["conditions"]
        if c["type"] not in ("Ready", "Stalled", "Reconciling")
    ]
    recorded = world.recorded.get("conditions") or ()
    wanted = [*others, *_ready(world, [fault], "")]
    return {**status, "conditions": conditions.merged(recorded, wanted, generation=generation, now=rfc3339(now))}


def _of_window(world: World, standing: Standing) -> JsonObject:
    """window, effect, threshold, drifted: of this pass's last window, else as recorded."""
    result = standing.last
    if result is None:
        kept = ("window",) if standing.fresh else ("window", "effect", "threshold", "drifted")
        return {key: world.recorded[key] for key in kept if key in world.recorded}
    found: JsonObject = {"window": _window(world, result)}
    leading = result.foremost
    if result.outcome != "Unknown" and leading is not None:
        found["effect"] = f"{leading.effect:.4g}"
        if leading.threshold >= 0:
            found["threshold"] = f"{leading.threshold:.4g}"
    if result.outcome != "Unknown" and result.drifted:
        found["drifted"] = [
            {
                "feature": verdict.feature,
                "effect": f"{verdict.effect:.4g}",
                "noise": f"{verdict.noise:.4g}",
                "pValue": f"{verdict.p_value:.3g}",
            }
            for verdict in result.drifted[:MAX_LISTED]
        ]
    return found


def _window(world: World, result: WindowResult) -> JsonObject:
    window: JsonObject = {
        "startTime": instant(result.start),
        "endTime": instant(result.end),
        "samples": result.rows,
        "requests": result.requests,
    }
    if result.needed is not None:
        window["minSamples"] = result.needed
    if result.lost:
        window["lost"] = result.lost
    if world.champion is not None:
        window["revision"] = world.champion.revision
    return window


def _judged(world: World, standing: Standing) -> bool:
    """Whether the last window got a verdict."""
    if standing.last is not None:
        return standing.last.outcome != "Unknown"
    return not standing.fresh and "effect" in world.recorded


def _state(world: World, standing: Standing, held: Guard, waits: str) -> State:
    """One word for people; what holds retraining comes before what was found."""
    active = standing.active
    if active is not None:
        return "Drifted" if active.get("trainingJob") else "WaitingForLabels"
    if world.spec.retrain is not None and standing.blocked(world.spec.quality):
        return "DataBlocked"
    if held.state in ("CoolingDown", "Exhausted"):
        return "CoolingDown" if held.state == "CoolingDown" else "Exhausted"
    if waits:
        return "WaitingForLabels"
    if not _judged(world, standing):
        return "Unknown"
    if standing.progress.drifting:
        return "Drifted"
    return "Warning" if standing.progress.drifted_windows else "Ok"


def _holds(world: World, standing: Standing, held: Guard, waits: str) -> str:
    """What retraining waits for or does now, as a clause; "" when there is no reason to retrain."""
    active = standing.active
    if active is not None and active.get("trainingJob"):
        version = active.get("resultVersion")
        doing = f"version {version} is being rolled out" if version else f"TrainingJob {active['trainingJob']} runs"
        return f"trigger {active['id']} is in flight: {doing}"
    if active is not None:
        return f"trigger {active['id']} waits for new training data: {waits or 'its TrainingJob does not exist'}"
    if world.spec.retrain is not None and standing.blocked(world.spec.quality):
        return "retraining is held by broken data (see DataHealthy)"
    if held.state != "Free":
        return f"retraining waits: {held.message}"
    return f"retraining waits for new training data: {waits}" if waits else ""


def _ready(world: World, faults: Sequence[Fault], holds: str) -> list[Condition]:
    if world.spec.suspend:
        return [Condition("Ready", "True", reasons.SUSPENDED, "The policy is suspended: nothing is tested or started.")]
    if not faults:
        words = f"ModelDeployment {world.spec.deployment} is watched{f'; {holds}' if holds else ''}."
        return [Condition("Ready", "True", reasons.WATCHING, words)]
    first = faults[0]
    words = f"{first.message[:1].upper()}{first.message[1:]}."
    kind = "Stalled" if first.stalled else "Reconciling"
    return [Condition("Ready", "False", first.reason, words), Condition(kind, "True", first.reason, words)]


def _kept(world: World, type_: str, status: str) -> Condition | None:
    """The recorded condition, when it has that status: its words stay until a window gives new ones."""
    found = conditions.find(world.recorded.get("conditions") or (), type_)
    if found is None or found.get("status") != status:
        return None
    return Condition(type_, found["status"], str(found.get("reason")), str(found.get("message", "")))


def _drift_detected(world: World, standing: Standing) -> Condition:
    name, result, progress = "DriftDetected", standing.last, standing.progress
    if progress.drifting:
        kept = _kept(world, name, "True")
        if result is not None and result.outcome == "Drifted":
            return Condition(name, "True", reasons.DRIFTED, f"{_capital(drift_sentence(world, standing))}.")
        return kept or Condition(name, "True", reasons.DRIFTED, "Drift was found and has not ended.")
    if result is None:
        kept = None if standing.fresh else _kept(world, name, "False") or _kept(world, name, "Unknown")
        return kept or Condition(
            name, "Unknown", reasons.NO_WINDOW_YET, "No window of the version that serves has closed yet."
        )
    if result.outcome == "Unknown":
        return Condition(name, "Unknown", result.reason, f"{_ended(result)} was not judged: {result.message}.")
    if progress.drifted_windows:
        words = f"{_capital(drift_sentence(world, standing))}; {world.spec.rule.for_windows} in a row make drift."
        return Condition(name, "False", reasons.DRIFT_WARNING, words)
    leading = result.foremost
    words = f"{_ended(result)} has not drifted"
    if leading is not None:
        words += f": the largest effect is {leading.feature} {leading.effect:.3g} (threshold {leading.threshold:.3g})"
    return Condition(name, "False", reasons.NO_DRIFT, f"{words}.")


def _data_healthy(world: World, standing: Standing) -> Condition:
    name, result = "DataHealthy", standing.last
    if result is None or result.violations is None:
        kept = [c for s in ("True", "False", "Unknown") if (c := _kept(world, name, s)) is not None]
        if kept and not standing.fresh:
            if standing.data_accepted and kept[0].status == "False":
                return Condition(name, "False", reasons.DATA_ACCEPTED, kept[0].message)
            return kept[0]
        return Condition(
            name, "Unknown", reasons.NO_WINDOW_YET, "No window of the version that serves could be looked at yet."
        )
    if not result.violations:
        return Condition(
            name, "True", reasons.DATA_HEALTHY, "Missing values, zeros and categories are as in the reference."
        )
    more = len(result.violations) - 1
    words = f"{_ended(result)}: {result.violations[0].sentence}{f', and {more} more' if more else ''}"
    if standing.data_accepted:
        return Condition(name, "False", reasons.DATA_ACCEPTED, f"{words}; a person accepted it.")
    quality = world.spec.quality
    if not quality.blocks or world.spec.retrain is None:
        return Condition(name, "False", reasons.DATA_BROKEN, f"{words}.")
    command = f"`perennial accept-data {world.name} {instant(result.end)}`"
    if standing.broken_windows > quality.hold_windows:
        lasted = f"this has lasted {standing.broken_windows} windows and holds retraining"
        ask = f"{lasted}: repair the data, or accept it with {command}"
        return Condition(name, "False", reasons.DATA_NEEDS_DECISION, f"{words}; {ask}.")
    return Condition(
        name, "False", reasons.DATA_BROKEN, f"{words}; retraining is held meanwhile ({command} accepts it)."
    )


def _metrics_available(world: World, standing: Standing) -> Condition:
    name, result = "MetricsAvailable", standing.last
    source = "the routers" if world.spec.source == "observations" else "the metrics source"
    if result is None:
        kept = [c for s in ("True", "False", "Unknown") if (c := _kept(world, name, s)) is not None]
        return kept[0] if kept else Condition(name, "Unknown", reasons.NO_WINDOW_YET, "No window has closed yet.")
    if result.complete:
        return Condition(
            name, "True", reasons.EVIDENCE_COMPLETE, f"{_capital(source)} could be asked about the whole window."
        )
    silent = world.pull.silent if world.pull is not None else ()
    words = f"{_ended(result)}: {source} could not be asked to its end"
    if silent:
        words += f" (no answer from {', '.join(silent[:5])})"
    return Condition(name, "False", reasons.EVIDENCE_MISSING, f"{words}; what they had told before is counted.")


def ended_note(trigger: Mapping[str, Any], message: str) -> EventNote:
    """The event for the end of a trigger."""
    words = f"Trigger {trigger['id']} ended: {OUTCOMES[trigger['outcome']]} ({message})."
    return EventNote(
        reasons.RETRAIN_ENDED, conditions.bounded(words), "Normal" if trigger["outcome"] == "Promoted" else "Warning"
    )


def news(world: World, standing: Standing, status: Mapping[str, Any]) -> list[EventNote]:
    """Events for what this status says and the recorded one did not."""
    before, recorded = world.recorded.get("conditions") or (), world.recorded
    drift, healthy = (conditions.find(status["conditions"], name) or {} for name in ("DriftDetected", "DataHealthy"))
    notes = news_of_faults(before, status["conditions"])
    if drift.get("status") == "True" and not conditions.is_true(before, "DriftDetected"):
        notes.append(EventNote(reasons.DRIFT_DETECTED, drift["message"], "Warning"))
    if drift.get("status") == "False" and conditions.is_true(before, "DriftDetected"):
        notes.append(EventNote(reasons.DRIFT_CLEARED, drift["message"]))
    warned = (conditions.find(before, "DriftDetected") or {}).get("reason") == reasons.DRIFT_WARNING
    if drift.get("reason") == reasons.DRIFT_WARNING and not warned:
        notes.append(EventNote(reasons.DRIFT_WARNING, drift["message"]))
    told = (conditions.find(before, "DataHealthy") or {}).get("reason")
    if healthy.get("status") == "False" and healthy.get("reason") not in (told, reasons.DATA_ACCEPTED):
        notes.append(EventNote(str(healthy["reason"]), healthy["message"], "Warning"))
    if status["state"] == "Exhausted" and recorded.get("state") != "Exhausted":
        words = "Drift goes on and the budget of retrains is used up; raise retrain.budget or look at why it recurs."
        notes.append(EventNote(reasons.BUDGET_EXHAUSTED, words, "Warning"))
    return [*notes, *_news_of_trigger(recorded.get("activeTrigger") or {}, status.get("activeTrigger") or {})]


def news_of_faults(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[EventNote]:
    """The event for a Ready=False among the conditions `now` that those of `before` did not say."""
    ready, told = (conditions.find(found, "Ready") or {} for found in (now, before))
    if ready.get("status") != "False" or ready.get("message") == told.get("message"):
        return []
    return [EventNote(str(ready["reason"]), ready["message"], "Warning")]


def _news_of_trigger(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[EventNote]:
    if not now:
        return []
    notes = []
    if now.get("id") != before.get("id"):
        notes.append(
            EventNote(reasons.TRIGGER_STARTED, conditions.bounded(f"Trigger {now['id']}: {now.get('reason', '')}."))
        )
    if now.get("trainingJob") and not (before.get("id") == now["id"] and before.get("trainingJob")):
        notes.append(
            EventNote(reasons.RETRAIN_STARTED, f"Trigger {now['id']} starts TrainingJob {now['trainingJob']}.")
        )
    return notes


def _ended(result: WindowResult) -> str:
    return f"The window that ended at {instant(result.end)}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
