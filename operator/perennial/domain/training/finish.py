"""The end of a run, and the status that every pass builds. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from perennial.api.names import LABEL_RUN
from perennial.domain import reasons
from perennial.domain.conditions import Condition, bounded, find, merged
from perennial.domain.decision import Decision, EventNote
from perennial.domain.times import rfc3339
from perennial.domain.training import gate
from perennial.domain.training.failure import Failure
from perennial.domain.training.state import ENDINGS
from perennial.domain.training.world import Action, DeleteJob, World, is_over

Run = dict[str, Any]

_KEPT = ("lastVersion", "metrics", "metric")
_HISTORY = 100


def status(
    world: World,
    run: Mapping[str, Any] | None,
    conditions: Sequence[Condition],
    now: datetime,
    *,
    history: Sequence[Mapping[str, Any]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The whole status: what is recorded, with this run, these conditions and these changes."""
    recorded = world.recorded
    made: dict[str, Any] = {key: recorded[key] for key in _KEPT if key in recorded}
    generation = int(world.job["metadata"].get("generation") or 0)
    ready = next(condition for condition in conditions if condition.type == "Ready")
    made["observedGeneration"] = generation
    made["conditions"] = merged(recorded.get("conditions") or (), conditions, generation=generation, now=rfc3339(now))
    made["message"] = bounded(ready.message)
    made["history"] = list(history if history is not None else recorded.get("history") or ())[:_HISTORY]
    if run is not None:
        made["run"] = dict(run)
    made.update(changes)
    return made


def standing(run: Mapping[str, Any], outcome: str, message: str, finished: str, version: str = "") -> dict[str, Any]:
    """The history entry of a run that ended."""
    entry = {
        "id": run["id"],
        "outcome": outcome,
        "attempts": int(run.get("attempt", 0)),
        "startedTime": run["startedTime"],
        "finishedTime": finished,
        "message": bounded(message),
    }
    if version:
        entry["version"] = version
    if run.get("request"):
        entry["request"] = run["request"]
    return entry


def _ending_conditions(run: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Condition]:
    ending, text = ENDINGS[entry["outcome"]], str(entry.get("message") or "")
    if ending.accepted:
        return [
            Condition("Ready", "True", ending.reason, text),
            Condition("Succeeded", "True", ending.reason, text),
        ]
    detail = (run.get("failure") or {}).get("reason") if entry["outcome"] == "TrainingFailed" else None
    return [
        Condition("Ready", "False", ending.reason, text),
        Condition("Stalled", "True", ending.reason, text),
        Condition("Succeeded", "False", str(detail or ending.reason), text),
    ]


def _kept(world: World, *types: str) -> list[Condition]:
    found = []
    for type_ in types:
        entry = find(world.recorded.get("conditions") or (), type_)
        if entry is not None:
            found.append(Condition(type_, entry["status"], entry["reason"], entry.get("message", "")))
    return found


def ended(world: World, run: Mapping[str, Any], now: datetime) -> Decision[Action]:
    """A run that ended: its conditions stand; Jobs beyond the history limit, or still running, go one by one."""
    history = world.recorded.get("history") or ()
    entry = next((item for item in history if item["id"] == run["id"] and item["outcome"] != "Superseded"), None)
    if entry is None:
        return Decision(world.recorded)
    made = [*_ending_conditions(run, entry), *_kept(world, "DataVerified", "GatePassed")]
    surplus = _surplus(world)
    actions = (DeleteJob(surplus["metadata"]["name"], surplus["metadata"]["uid"]),) if surplus else ()
    return Decision(status(world, run, made, now), actions, requeue_after=1.0 if surplus else None)


def _surplus(world: World) -> Mapping[str, Any] | None:
    owned = [job for job in world.owned if not job["metadata"].get("deletionTimestamp")]
    running = next((job for job in owned if not is_over(job)), None)
    if running is not None:
        return running
    newest: dict[str, str] = {}
    for job in owned:
        run_id = (job["metadata"].get("labels") or {}).get(LABEL_RUN, "")
        newest[run_id] = max(newest.get(run_id, ""), job["metadata"].get("creationTimestamp") or "")
    order = sorted(newest, key=lambda run_id: newest[run_id], reverse=True)
    beyond = set(order[int(world.spec.get("historyLimit", 10)) :])
    return next((j for j in owned if (j["metadata"].get("labels") or {}).get(LABEL_RUN, "") in beyond), None)


def give_up(
    world: World, run: Mapping[str, Any], found: Failure, data: Sequence[Condition], now: datetime
) -> Decision[Action]:
    """The run ends without a version."""
    finished = rfc3339(now)
    tries = max(1, int(run.get("failedAttempts", 0)))
    after = f"after {tries} attempt{'s' if tries != 1 else ''}"
    text = bounded(f"run {run['id']} failed {after}: {found.message}")
    over = {**run, "finishedTime": finished}
    entry = standing(over, "TrainingFailed", text, finished)
    history = [entry, *(world.recorded.get("history") or ())]
    return Decision(
        status(world, over, [*_ending_conditions(over, entry), *data], now, history=history),
        events=(EventNote(reasons.TRAINING_FAILED, text, "Warning"),),
        requeue_after=0.0,
    )


def finish_with_version(
    world: World,
    run: Mapping[str, Any],
    version: Mapping[str, Any],
    now: datetime,
    *,
    outcome: str = "Succeeded",
    history: Sequence[Mapping[str, Any]] | None = None,
    before: Sequence[EventNote] = (),
) -> Decision[Action]:
    """The run ends with the ModelVersion that is there; its gate decides whether it is accepted."""
    name, spec = version["metadata"]["name"], version["spec"]
    finished = rfc3339(now)
    recorded_gate = spec.get("gate")
    accepted = recorded_gate is None or bool(recorded_gate.get("passed"))
    gate_text = "it has no gate" if recorded_gate is None else gate.summary(recorded_gate.get("checks") or ())
    verb = "was made before by the same run" if outcome == "AlreadyMade" else f"was made by run {run['id']}"
    text = bounded(f"{name} {verb}; {gate_text}")
    over = {**run, "finishedTime": finished}
    entry = standing(over, outcome if accepted else "GateFailed", text, finished, name)
    gate_reason = reasons.GATE_PASSED if accepted else reasons.GATE_FAILED
    made = [
        *_ending_conditions(over, entry),
        *_kept(world, "DataVerified"),
        Condition("GatePassed", "True" if accepted else "False", gate_reason, bounded(gate_text)),
    ]
    before_entries = history if history is not None else world.recorded.get("history") or ()
    changes = _measured(world, spec)
    if accepted:
        changes["lastVersion"] = name
    reason = reasons.ALREADY_MADE if outcome == "AlreadyMade" else reasons.RUN_SUCCEEDED
    note = EventNote(reason if accepted else reasons.GATE_FAILED, text, "Normal" if accepted else "Warning")
    return Decision(
        status(world, over, made, now, history=[entry, *before_entries], **changes),
        events=(*before, note),
        requeue_after=0.0,
    )


def _measured(world: World, spec: Mapping[str, Any]) -> dict[str, Any]:
    metrics = dict(spec.get("metrics") or {})
    if not metrics:
        return {}
    first = next((e["metric"] for e in world.spec.get("gate") or () if e["metric"] in metrics), next(iter(metrics)))
    return {"metrics": metrics, "metric": f"{first}={metrics[first]}"}
