"""Triggers: their ids, the guards that hold them back, when they may start, and how they end.

The guards belong to the deployment: they look at the triggers of all its policies. All facts about a trigger are in
the status of its policy, so that a restart neither starts a second job nor forgets a cooldown. Must not know how drift
is found.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from perennial.domain import conditions, reasons
from perennial.domain.drift.spec import RetrainSpec, parse_spec
from perennial.domain.drift.state import OUTCOMES
from perennial.domain.drift.world import JsonMapping, World
from perennial.domain.times import parse_time, rfc3339

ROLLOUT_WAIT_SECONDS = 7 * 86400
"""A version that nobody rolled out so long after its run ended will not be waited for."""
HISTORY = 10


@dataclass(frozen=True, slots=True)
class Guard:
    """Whether a new trigger may start now; `until` is when to look again, where that is known."""

    state: Literal["Free", "InFlight", "CoolingDown", "Exhausted"]
    message: str = ""
    until: datetime | None = None


def trigger_id(policy_uid: str, revision: str, window_end: str) -> str:
    """8 hex: the same policy, served revision and window never make two triggers."""
    return hashlib.sha256(f"{policy_uid}\n{revision}\n{window_end}".encode()).hexdigest()[:8]


def job_name(policy: str, trigger: str) -> str:
    """The TrainingJob that a trigger starts."""
    return f"{policy}-{trigger}"


def past_triggers(policies: Iterable[JsonMapping]) -> list[JsonMapping]:
    """The triggers of these policies that ended, newest first."""
    found = [item for policy in policies for item in (policy.get("status") or {}).get("history") or ()]
    return sorted(found, key=lambda item: str(item.get("outcomeTime", "")), reverse=True)


def guard(policies: Sequence[JsonMapping], own: RetrainSpec, now: datetime) -> Guard:
    """The one guard of a deployment, over all its policies (the asking one included).

    One trigger in flight; then the longest cooldown of the policies that retrain, counted from the end of the last
    trigger; then every policy's budget, counted over the triggers of all.
    """
    for policy in policies:
        active = (policy.get("status") or {}).get("activeTrigger")
        if active:
            name = policy["metadata"]["name"]
            return Guard("InFlight", f"trigger {active['id']} of {name} is in flight")
    rules = [own, *(rule for rule in map(_retrain_of, policies) if rule is not None)]
    past = past_triggers(policies)
    if past:
        over = parse_time(past[0]["outcomeTime"]) + timedelta(seconds=max(rule.cooldown for rule in rules))
        if now < over:
            return Guard("CoolingDown", f"the cooldown after trigger {past[0]['id']} ends at {rfc3339(over)}", over)
    return next((held for rule in rules if (held := _budget(rule, past, now)) is not None), Guard("Free"))


def _retrain_of(policy: JsonMapping) -> RetrainSpec | None:
    spec = parse_spec(policy["spec"])
    retrains = spec.action == "Retrain" or (spec.schedule is not None and spec.schedule.action == "Retrain")
    return spec.retrain if retrains and not spec.suspend else None


def _budget(rule: RetrainSpec, past: Sequence[JsonMapping], now: datetime) -> Guard | None:
    """Exhausted, with the time at which the oldest counted job leaves the period; None while there is room."""
    period = timedelta(seconds=rule.per_seconds)
    jobs = [item for item in past if item.get("trainingJob") and parse_time(item["startedTime"]) + period > now]
    used = sum(int(item.get("gpuSeconds") or 0) for item in jobs)
    oldest = min((parse_time(item["startedTime"]) for item in jobs), default=now)
    if len(jobs) >= rule.max_retrains:
        words = f"{len(jobs)} retrains in the last {rule.per_seconds} s (budget.maxRetrains {rule.max_retrains})"
    elif rule.gpu_seconds is not None and jobs and used >= rule.gpu_seconds:
        words = f"{used} GPU seconds in the last {rule.per_seconds} s (budget.gpuSeconds {rule.gpu_seconds})"
    else:
        return None
    return Guard(
        "Exhausted", f"the budget is used up: {words}; it has room at {rfc3339(oldest + period)}", oldest + period
    )


def train_datasets(template: JsonMapping) -> list[Mapping[str, Any]]:
    """The datasets of a TrainingJob that its training sees."""
    return [item for item in template["spec"].get("datasets") or () if item.get("use", "Train") in ("Train", "Both")]


def data_digest(digests: Mapping[str, str], names: Iterable[str]) -> str | None:
    """One digest for several datasets, independent of their order; None when one of them is not known."""
    wanted = sorted(set(names))
    if not wanted or any(name not in digests for name in wanted):
        return None
    if len(wanted) == 1:
        return digests[wanted[0]]
    lines = "".join(f"{name} {digests[name]}\n" for name in wanted)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Data:
    """What is known of the training data now. digest None: not known yet (or unreadable: `problem`).

    stale: it is what the champion or the last trigger was trained on. pinned: it can never change by itself.
    """

    digest: str | None = None
    stale: bool = False
    pinned: bool = False
    problem: str = ""


def data_now(world: World, number: int) -> Data:
    """The training data as of probe `number` (the newest finished one counts)."""
    if world.template is None:
        return Data()
    datasets = train_datasets(world.template)
    names = [str(item["name"]) for item in datasets]
    digests = {str(item["name"]): str(item["digest"]) for item in datasets if item.get("digest")}
    pinned = len(digests) == len(names)
    problem = ""
    for probe in sorted(world.probes, key=lambda probe: probe.number):
        if probe.done and probe.number <= number:
            problem = probe.problem
            digests = {**(probe.digests or {}), **digests} if probe.digests else digests
    digest = data_digest(digests, names)
    last = (world.recorded.get("lastTrigger") or {}).get("dataDigest")
    before = data_digest(world.champion.datasets, names) if world.champion is not None else None
    return Data(digest, digest is not None and digest in (before, last), pinned, problem)


def new_trigger(
    world: World, kind: Literal["Drift", "Schedule"], moment: str, reason: str, now: datetime
) -> dict[str, Any]:
    """The record of a trigger that starts now; it waits until it is released."""
    champion = world.champion
    revision = champion.revision if champion is not None else ""
    record = {
        "id": trigger_id(world.uid, revision, moment),
        "kind": kind,
        "windowEnd": moment,
        "reason": conditions.bounded(reason),
        "revision": revision,
        "startedTime": rfc3339(now),
    }
    if champion is not None and champion.version:
        record["version"] = champion.version
    return record


def released(active: JsonMapping, policy: str, digest: str | None) -> dict[str, Any]:
    """The record with the intent to start its TrainingJob."""
    record = {**active, "trainingJob": job_name(policy, str(active["id"]))}
    if digest is not None:
        record["dataDigest"] = digest
    return record


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trigger ended, in a word and in a sentence."""

    outcome: str
    message: str


def followed(active: JsonMapping, world: World, now: datetime) -> dict[str, Any]:
    """The record of a trigger in flight with what is known of its TrainingJob now."""
    record, job = dict(active), world.job
    if job is None:
        return record
    record.setdefault("trainingJobTime", job["metadata"].get("creationTimestamp") or rfc3339(now))
    status = job.get("status") or {}
    run = status.get("run") or {}
    held = (run.get("gpuSeconds") or {}).get("held")
    if held is not None:
        record["gpuSeconds"] = int(held)
    if conditions.is_true(status.get("conditions") or (), "Succeeded"):
        record.setdefault("runEndedTime", run.get("finishedTime") or rfc3339(now))
        if status.get("lastVersion"):
            record["resultVersion"] = status["lastVersion"]
    if not record.get("dataDigest") and world.template is not None:
        known = {str(item["name"]): str(item["digest"]) for item in run.get("datasets") or () if item.get("digest")}
        digest = data_digest(known, [str(item["name"]) for item in train_datasets(job)])
        if digest is not None:
            record["dataDigest"] = digest
    return record


def ending(active: JsonMapping, world: World, now: datetime, max_wait: int) -> Ended | None:
    """How the (followed) trigger has ended; None while it is in flight."""
    late = now >= parse_time(active["startedTime"]) + timedelta(seconds=max_wait)
    name = active.get("trainingJob")
    if world.job is None and active.get("trainingJobTime"):
        return Ended("TrainingFailed", f"TrainingJob {name} was deleted")
    if world.job is None and world.spec.retrain is None:
        return Ended("Aborted", "retrain was removed from the policy before anything was started")
    if not name:
        return (
            Ended("Expired", f"no new training data came within {max_wait} s (retrain.maxWaitSeconds)")
            if late
            else None
        )
    if world.job is None:
        return Ended("Expired", f"TrainingJob {name} could not be made within {max_wait} s") if late else None
    if active.get("runEndedTime"):
        return _after_training(active, world, now)
    done = conditions.find((world.job.get("status") or {}).get("conditions") or (), "Succeeded")
    if done is None or done.get("status") != "False":
        return Ended("Expired", f"TrainingJob {name} did not end within {max_wait} s") if late else None
    reason = str(done.get("reason", ""))
    outcome = reason if reason in ("GateFailed", "Superseded") else "TrainingFailed"
    return Ended(outcome, str(done.get("message") or f"TrainingJob {name} ended as {reason}"))


def exit_time(active: JsonMapping, max_wait: int) -> datetime:
    """When the trigger expires, if nothing else ends it before."""
    if active.get("runEndedTime"):
        return parse_time(active["runEndedTime"]) + timedelta(seconds=ROLLOUT_WAIT_SECONDS)
    return parse_time(active["startedTime"]) + timedelta(seconds=max_wait)


def _after_training(active: JsonMapping, world: World, now: datetime) -> Ended | None:
    version = active.get("resultVersion")
    status = (world.deployment or {}).get("status") or {}
    if version and version in [(status.get("stable") or {}).get("version")] + [
        item.get("version") for item in status.get("history") or ()
    ]:
        return Ended("Promoted", f"version {version} became stable")
    for item in status.get("rejected") or ():
        if version and item.get("version") == version:
            word = "Aborted" if item.get("reason") == reasons.ABORTED else "Rejected"
            return Ended(word, str(item.get("message") or f"version {version} was rejected: {item.get('reason')}"))
    for item in ((world.result or {}).get("spec") or {}).get("rejections") or ():
        if item.get("deployment") == world.spec.deployment:
            return Ended("Rejected", str(item.get("message") or f"version {version} is rejected in its record"))
    if _finished(world.serving) > _finished(world.result) > "":
        newer = (world.serving or {})["metadata"]["name"]
        return Ended("Superseded", f"version {newer}, which is newer than {version}, became stable")
    if now >= parse_time(active["runEndedTime"]) + timedelta(seconds=ROLLOUT_WAIT_SECONDS):
        return Ended("Expired", f"version {version} was not rolled out within 7 days")
    return None


def _finished(version: JsonMapping | None) -> str:
    return str((((version or {}).get("spec") or {}).get("lineage") or {}).get("finishedTime") or "")


def ended_record(active: JsonMapping, end: Ended, now: datetime) -> dict[str, Any]:
    """The record for lastTrigger and history."""
    reason = conditions.bounded(f"{active.get('reason', '')}; ended: {OUTCOMES[end.outcome]}: {end.message}")
    return {**active, "outcome": end.outcome, "outcomeTime": rfc3339(now), "reason": reason}
