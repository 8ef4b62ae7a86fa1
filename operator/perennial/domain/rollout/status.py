"""The whole status of a ModelDeployment from the facts of a pass: what people and tools read. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from perennial.domain import reasons
from perennial.domain.conditions import Condition, bounded, find, merged
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.change import Change
from perennial.domain.rollout.comparison import Comparison
from perennial.domain.rollout.recorded import status_of_recorded
from perennial.domain.rollout.smoke import Smoke, smoke_to_status
from perennial.domain.rollout.smoking import skew
from perennial.domain.rollout.state import State
from perennial.domain.rollout.stops import past_deadline
from perennial.domain.rollout.verdict import Finding, Verdict
from perennial.domain.rollout.world import Recorded, RevisionRef, RevisionSeen, Rollout, Target, Untargeted, World
from perennial.domain.times import rfc3339


def full_status(
    world: World, change: Change, recorded_conditions: Sequence[Mapping[str, Any]], now: datetime
) -> JsonObject:
    """The status to write; equal worlds give equal statuses, so a pass at rest writes nothing."""
    recorded = change.recorded
    status = status_of_recorded(recorded)
    status["observedGeneration"] = world.generation
    status["url"] = f"http://{world.name}.{world.namespace}.svc"
    stable_seen = world.revisions.get(recorded.stable.revision) if recorded.stable else None
    status["replicas"] = stable_seen.replicas if stable_seen else 0
    if recorded.stable is not None:
        status["stable"] = _revision_status(recorded.stable, stable_seen)
        status["selector"] = f"perennial.dev/deployment={world.name},perennial.dev/revision={recorded.stable.revision}"
    rollout = recorded.rollout
    if rollout is not None:
        seen = world.revisions.get(rollout.target.revision)
        weight = recorded.weight_of(rollout.target.revision)
        status["canary"] = {**_revision_status(rollout.target, seen), "weight": weight}
        status["rollout"].update(_progress(world, change, rollout))
    route = _route_status(replace(world, recorded=recorded))
    if route is not None:
        status["gateway"] = route
    status["conditions"] = merged(
        recorded_conditions,
        _conditions(world, change, recorded_conditions, now),
        generation=world.generation,
        now=rfc3339(now),
    )
    return status


def _route_status(world: World) -> JsonObject | None:
    """How the HTTPRoute stands; None when none is asked for and none is left."""
    waiting = world.edge.waiting
    if world.spec.gateway is None and waiting is None:
        return None
    if waiting is None and not world.shares.weights:
        waiting = "Nothing serves yet, so there is no HTTPRoute."
    words = waiting or "Every Gateway has accepted the HTTPRoute with the weights of status.traffic."
    return {"accepted": waiting is None, "message": bounded(words)}


def _revision_status(ref: RevisionRef, seen: RevisionSeen | None) -> JsonObject:
    status: JsonObject = {
        "revision": ref.revision,
        "replicas": seen.replicas if seen else 0,
        "readyReplicas": seen.ready if seen else 0,
    }
    if ref.version:
        status["version"] = ref.version
    if ref.digest:
        status["digest"] = ref.digest
    return status


def _progress(world: World, change: Change, rollout: Rollout) -> JsonObject:
    """Step counters and the analysis, for people."""
    steps = len(world.spec.steps) if change.recorded.stable is not None else 0
    step = min(steps, sum(weight <= rollout.weight for weight in world.spec.weights))
    if steps and rollout.smoke is not None:  # one step more, before all others
        steps, step = steps + 1, step + 1 if rollout.smoke.over else 1
    progress: JsonObject = {"step": step, "steps": steps, "progress": f"{step}/{steps}"}
    if rollout.smoke is not None:
        progress["smoke"] = _smoke(rollout.smoke, world.spec.analysis.failure_codes)
    finding = change.finding
    if finding is not None:
        tally = rollout.evidence.tally(change.recorded.weight_of(rollout.target.revision))
        if finding.eta_seconds is not None:
            progress["etaSeconds"] = finding.eta_seconds
        progress["analysis"] = {
            "requests": finding.requests,
            "failures": finding.failures,
            "stableRequests": tally.stable.requests,
            "stableFailures": tally.stable_failures,
            "interval": {"low": f"{finding.interval[0]:.4f}", "high": f"{finding.interval[1]:.4f}"},
            "promoteEvidence": decimal_of_log(finding.promote_log),
            "abortEvidence": decimal_of_log(finding.abort_log),
            "requestsNeeded": finding.needed,
            "verdict": _verdict(finding),
            "reason": bounded(finding.message),
        }
        if finding.comparison is not None:
            progress["analysis"]["predictions"] = _predictions(finding.comparison)
    return progress


def _smoke(smoke: Smoke, failure_codes: frozenset[str]) -> JsonObject:
    """What became of sample inputs, with what people want to know of it."""
    made = smoke_to_status(smoke) or {}
    if smoke.answers is not None:
        made["failures"] = smoke.answers.failures(failure_codes)
        apart = skew(smoke.answers)
        made |= {"skew": apart} if apart is not None else {}
    return made


def _predictions(comparison: Comparison) -> JsonObject:
    distance = {} if comparison.distance is None else {"distance": f"{comparison.distance:.3f}"}
    return {
        "rows": comparison.canary.rows,
        "stableRows": comparison.stable.rows,
        "nulls": comparison.canary.nulls,
        "stableNulls": comparison.stable.nulls,
        "unreadable": comparison.canary.unparsed + comparison.canary.streams,
        **distance,
        "limit": f"{comparison.limit:g}",
        "rowsNeeded": comparison.needed,
        "verdict": str(comparison.result),
        "reason": bounded(comparison.words[:1].upper() + comparison.words[1:]),
    }


def _verdict(finding: Finding) -> str:
    if finding.verdict in (Verdict.ABORT, Verdict.PROMOTE):
        return str(finding.verdict)
    return "Inconclusive"


def decimal_of_log(log: float) -> str:
    """An e-value as a decimal with three digits, from its natural logarithm; too large or small for a float is fine."""
    if not math.isfinite(log):
        return "0" if log < 0 else "1e999"
    exponent, rest = divmod(log / math.log(10), 1)
    if -4 <= exponent < 6:
        return f"{math.exp(log):.3g}" if exponent < 3 else f"{math.exp(log):.0f}"
    return f"{10**rest:.2f}e{int(exponent)}"


def _conditions(world: World, change: Change, before: Sequence[Mapping[str, Any]], now: datetime) -> list[Condition]:
    conditions = [_available(world, change)]
    rollout = change.recorded.rollout
    if rollout is not None:
        conditions.append(Condition("Progressing", "True", str(rollout.state), change.words))
    if world.trouble is not None:
        return [*conditions, *_stalled(world.trouble.reason, world.trouble.message)]
    obstacle = world.gateway.obstacle if world.gateway is not None and world.spec.gateway is not None else None
    if obstacle is not None:
        return [*conditions, *_stalled(obstacle.reason, obstacle.message)]
    if rollout is not None:
        return [*conditions, *_in_progress(world, change, rollout, now)]
    return [*conditions, *_at_rest(world, change, before)]


def _in_progress(world: World, change: Change, rollout: Rollout, now: datetime) -> list[Condition]:
    if change.recorded.stable is None and past_deadline(world, rollout, now):
        return _stalled(
            reasons.PROGRESS_DEADLINE,
            f"No pod of {rollout.target.label} became available within progressDeadlineSeconds and there is no version "
            f"to go back to: {change.words} Correct the cause or name another version; it goes on by itself once a pod "
            "is available.",
        )
    reason = str(rollout.state)
    return [
        Condition("Ready", "False", reason, change.words),
        Condition("Reconciling", "True", reason, change.words),
    ]


def _at_rest(world: World, change: Change, before: Sequence[Mapping[str, Any]]) -> list[Condition]:
    words, reason = change.words, change.reason or reasons.SERVING
    if change.resting in (State.REFUSED, State.EXPIRED):
        return _stalled(reason, words)
    if change.resting is State.SETTLED:
        stable = change.recorded.stable
        lacking = _lacking(world, stable, before)
        if lacking is not None:
            return [
                Condition("Ready", "False", reasons.PODS_NOT_READY, lacking),
                Condition("Reconciling", "True", reasons.PODS_NOT_READY, lacking),
            ]
        if isinstance(world.target, Target) and stable is not None and world.target.revision != stable.revision:
            # The rollout just ended without the version that is asked for: the next pass says what becomes of it.
            reason = str(State.WITHDRAWING)
            return [Condition("Ready", "False", reason, words), Condition("Reconciling", "True", reason, words)]
        edge = replace(world, recorded=change.recorded).edge
        if edge.waiting is not None:
            reason = reasons.GATEWAY_NOT_READY if edge.objected else reasons.GATEWAY_PENDING
            words = f"{words} Requests through the Gateway do not all reach it: {edge.waiting}"
            return [Condition("Ready", "False", reason, words), Condition("Reconciling", "True", reason, words)]
        return [Condition("Ready", "True", reasons.SERVING, words)]
    target = world.target
    if isinstance(target, Untargeted):
        if target.reason == reasons.NO_VERSION_YET:
            return [Condition("Ready", "True", reason, words)]
        if target.stalled:
            return _stalled(reason, words)
        return [Condition("Ready", "False", reason, words), Condition("Reconciling", "True", reason, words)]
    return [Condition("Ready", "False", reason, words)]


def _lacking(world: World, stable: RevisionRef | None, before: Sequence[Mapping[str, Any]]) -> str | None:
    """Which pods of stable keep it from being ready, in words; None when none do.

    A spec becomes ready when all the pods that it asks for are, and stays so while one of them serves: a lost pod is
    replaced. How many an autoscaler wants is no part of the spec.
    """
    seen = world.revisions.get(stable.revision) if stable is not None else None
    ready, label = seen.ready if seen is not None else 0, stable.label if stable is not None else "stable"
    why = f": {seen.trouble}" if seen is not None and seen.trouble else "."
    if ready == 0:
        return f"No pod of {label} is ready{why}"
    was = find(before, "Ready") or {}
    was_ready = was.get("status") == "True" and was.get("observedGeneration") == world.generation
    needed = 1 if was_ready or world.spec.scaling is not None else world.spec.replicas
    return f"{ready} of {needed} pods of {label} are ready{why}" if ready < needed else None


def _stalled(reason: str, words: str) -> list[Condition]:
    return [Condition("Ready", "False", reason, words), Condition("Stalled", "True", reason, words)]


def _available(world: World, change: Change) -> Condition:
    """Whether something good serves: stable, or a canary that the routers fall back to."""
    stable = change.recorded.stable
    seen = world.revisions.get(stable.revision) if stable is not None else None
    if stable is not None and seen is not None and seen.ready > 0:
        return Condition("Available", "True", reasons.SERVING, f"{stable.label} serves.")
    if stable is not None:
        stand_in = _stand_in(world, change.recorded)
        if stand_in is not None:
            words = f"No pod of stable ({stable.label}) is ready; the routers send everything to {stand_in}."
            words += _gone(world, stable)
            return Condition("Available", "True", reasons.STABLE_LOST, words)
    if stable is None:
        return Condition("Available", "False", change.reason or reasons.NO_VERSION_YET, "No version serves yet.")
    words = f"No pod of {stable.label} is ready.{_gone(world, stable)}"
    return Condition("Available", "False", reasons.PODS_NOT_READY, words)


def _stand_in(world: World, recorded: Recorded) -> str | None:
    """Who answers for a stable without a ready pod, as people call it: the canary, or at rest a version that served
    before and was not rejected."""
    rollout = recorded.rollout
    mine = rollout.target.revision if rollout is not None else None
    rejected = {entry.revision for entry in recorded.rejected}
    for revision, _ in recorded.traffic:
        seen = world.revisions.get(revision)
        if seen is not None and seen.ready > 0 and (revision == mine or revision not in rejected):
            return rollout.target.label if rollout is not None and revision == mine else seen.version or revision
    return None


def _gone(world: World, stable: RevisionRef) -> str:
    """What to do about a stable whose Deployment nobody can make again; empty when it is there or is being made."""
    if stable.revision in world.revisions or world.stable_again is not None:
        return ""
    return (
        " Its Deployment is gone and cannot be made again, because its ModelVersion is gone or spec asks for another "
        "server, resources or template than it had: name a version, which is then rolled out as a new revision."
    )
