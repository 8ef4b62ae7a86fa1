"""What a GitSync's status says after a pass, and when to look again. Pure: everything observed comes in.

Conditions follow kstatus: Ready always; Reconciling while a later pass will help by itself; Stalled when only a person
or a commit will.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from perennial.domain.conditions import Condition, find, merged
from perennial.domain.decision import EventNote, JsonObject
from perennial.domain.errors import PerennialError, Stalled
from perennial.domain.sync import inventory
from perennial.domain.sync.documents import SourceError
from perennial.domain.sync.manifest import ObjectId
from perennial.domain.sync.spec import SyncSpec
from perennial.domain.times import rfc3339

MAX_ERRORS = 20
MAX_HISTORY = 10
MAX_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass observed and did.

    commit: the one whose documents stand (None: none was ever read). whole: it is applied without an error.
    excess: its prune was refused because too much would go, so that it is no entry of the history yet.
    source: why the repository cannot be read now. trouble: what else keeps the sync from being ready (prune guards,
    write-back); passing: the errors may go away by themselves. working: an apply is about to begin.
    """

    commit: str | None = None
    whole: bool = False
    excess: bool = False
    source: PerennialError | None = None
    errors: Sequence[SourceError] = ()
    trouble: tuple[str, str] | None = None
    passing: bool = False
    working: bool = False
    entries: Iterable[ObjectId] = ()
    objects: int = 0
    request: str | None = None
    write_back: Mapping[str, Any] | None = field(default=None)


def status_of(recorded: Mapping[str, Any], spec: SyncSpec, seen: Seen, now: datetime) -> JsonObject:
    """The whole status after the pass."""
    status = dict(recorded)
    text = rfc3339(now)
    status["observedGeneration"] = spec.generation
    if seen.request is not None:
        status["lastHandledSyncRequest"] = seen.request
    if seen.commit is not None:
        revision = spec.revision(seen.commit)
        status["lastAttemptedRevision"] = revision
        if seen.whole and recorded.get("lastAppliedRevision") != revision:
            status["lastAppliedRevision"] = revision
            status["lastSyncTime"] = text
        history = recorded.get("history") or ()
        if seen.whole and not seen.excess and not (history and history[0].get("revision") == revision):
            record = {"revision": revision, "time": text, "objects": seen.objects}
            status["history"] = [record, *history][:MAX_HISTORY]
    status["inventory"] = inventory.render(seen.entries, recorded)
    status["objects"] = seen.objects
    status["errors"] = [error.as_status() for error in seen.errors[:MAX_ERRORS]]
    status["errorsTruncated"] = len(seen.errors) > MAX_ERRORS
    if seen.write_back is not None:
        status["writeBack"] = dict(seen.write_back)
    conditions = _conditions(recorded, spec, seen)
    status["conditions"] = merged(recorded.get("conditions") or (), conditions, generation=spec.generation, now=text)
    return status


def _conditions(recorded: Mapping[str, Any], spec: SyncSpec, seen: Seen) -> list[Condition]:
    conditions = [_source_condition(spec, seen)]
    ready = _ready(recorded, spec, seen)
    conditions.append(ready)
    if ready.status == "True":
        return conditions
    if seen.working:
        conditions.append(Condition("Reconciling", "True", ready.reason, ready.message))
    elif _needs_a_person(seen):
        conditions.append(Condition("Stalled", "True", ready.reason, ready.message))
    else:
        conditions.append(Condition("Reconciling", "True", "ProgressingWithRetry", ready.message))
    return conditions


def _needs_a_person(seen: Seen) -> bool:
    if seen.source is not None:
        return isinstance(seen.source, Stalled)
    return not seen.passing


def _source_condition(spec: SyncSpec, seen: Seen) -> Condition:
    if seen.source is not None:
        return Condition("SourceReady", "False", seen.source.reason, seen.source.message)
    if seen.commit is None:
        return Condition("SourceReady", "Unknown", "NotYetRead", "the repository has not been read yet")
    return Condition("SourceReady", "True", "Read", f"{spec.revision(seen.commit)} was read")


def _ready(recorded: Mapping[str, Any], spec: SyncSpec, seen: Seen) -> Condition:
    if seen.working and seen.commit is not None:
        return Condition("Ready", "False", "Syncing", f"{spec.revision(seen.commit)} is being applied")
    if seen.source is not None:
        last = recorded.get("lastAppliedRevision")
        again = "" if isinstance(seen.source, Stalled) else "; it is tried again, so correct spec.url if that is wrong"
        stands = f"; {last} stands" if last else ""
        return Condition("Ready", "False", seen.source.reason, f"{seen.source.message}{again}{stands}")
    if seen.errors:
        first, more = seen.errors[0], len(seen.errors) - 1
        rest = f" (and {more} more in status.errors)" if more else ""
        return Condition("Ready", "False", "InvalidManifests", f"{first.place}: {first.message}{rest}")
    if seen.trouble is not None:
        return Condition("Ready", "False", *seen.trouble)
    if seen.commit is None:
        return Condition("Ready", "Unknown", "NotYetRead", "the repository has not been read yet")
    verb = "are applied" if spec.apply else "were found"
    return Condition("Ready", "True", "Synced", f"{seen.objects} objects of {spec.revision(seen.commit)} {verb}")


def suspended_status(recorded: Mapping[str, Any], spec: SyncSpec, now: datetime) -> JsonObject:
    """The status of a suspended GitSync: everything stands."""
    message = "spec.suspend is set: nothing is read, applied or written back until it is removed"
    kept = [
        Condition(c["type"], c["status"], c["reason"], c.get("message", ""))
        for c in recorded.get("conditions") or ()
        if c["type"] == "SourceReady"
    ]
    conditions = merged(
        recorded.get("conditions") or (),
        [*kept, Condition("Ready", "True", "Suspended", message)],
        generation=spec.generation,
        now=rfc3339(now),
    )
    return {**recorded, "observedGeneration": spec.generation, "conditions": conditions}


def news(recorded: Mapping[str, Any], status: Mapping[str, Any]) -> EventNote | None:
    """The event that a change of Ready is worth: its sentence, unless it was said before."""

    def ready(of: Mapping[str, Any]) -> tuple[str, str, str]:
        found = find(of.get("conditions") or (), "Ready") or {}
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    before, after = ready(recorded), ready(status)
    if before == after or after[1] == "Syncing" or not after[1]:
        return None
    return EventNote(after[1], after[2], "Normal" if after[0] == "True" else "Warning")


def next_check(spec: SyncSpec, failures: int, jitter: float, now: datetime) -> datetime:
    """When to ask the repository again: the period, longer after failures; `jitter` in [0, 1) spreads by a tenth."""
    seconds = float(spec.period_seconds)
    if failures > 1:
        seconds = max(seconds, min(seconds * 2.0 ** min(failures - 1, 12), MAX_BACKOFF_SECONDS))
    return now + timedelta(seconds=seconds * (0.95 + 0.1 * jitter))
