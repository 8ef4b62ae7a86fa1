"""Why a revision's pods are not available, in the words of scheduler, kubelet and containers. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.domain.conditions import bounded, is_true
from perennial.domain.times import parse_time
from perennial.domain.training.waiting import of_pod

_TROUBLE_BYTES = 600


@dataclass(frozen=True, slots=True)
class PodTrouble:
    """What holds a revision up; unschedulable_since: since when the scheduler has found no room for a pod of it."""

    words: str | None = None
    unschedulable_since: datetime | None = None


def trouble_of(
    pods: Iterable[Mapping[str, Any]], deployment_conditions: Iterable[Mapping[str, Any]] = ()
) -> PodTrouble:
    """The trouble of the first pod, by name, that has one; a later pod's only when no earlier one has any.

    When no pod has any, why the API server refuses to make pods (a quota, Pod Security), which only the conditions of
    their Deployment tell.
    """
    words, since = None, None
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        if pod["metadata"].get("deletionTimestamp"):
            continue
        words = words or _words(pod)
        since = since or _unschedulable_since(pod)
    words = words or _refused_words(deployment_conditions)
    return PodTrouble(bounded(words.rstrip("."), _TROUBLE_BYTES) if words else None, since)


def is_serving(pod: Mapping[str, Any]) -> bool:
    """Whether it is ready and not being stopped."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return is_true((pod.get("status") or {}).get("conditions") or (), "Ready")


def _words(pod: Mapping[str, Any]) -> str | None:
    why = of_pod(pod)
    if why is not None:
        return why.message
    status = pod.get("status") or {}
    for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        ended = _ended(entry)
        if ended is not None:
            return _ended_words(entry, ended)
    for entry in status.get("containerStatuses", ()):
        if "running" in (entry.get("state") or {}) and not entry.get("ready"):
            return f"container {entry['name']} runs but its readiness probe does not pass yet"
    return None


def _refused_words(deployment_conditions: Iterable[Mapping[str, Any]]) -> str | None:
    for condition in deployment_conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"its pods cannot be created: {condition.get('message') or condition.get('reason') or 'no details'}"
    return None


def _ended(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How a container that should not have ended ended: now, or before the restart that it waits for."""
    if entry.get("ready"):
        return None
    for state in (entry.get("state") or {}, entry.get("lastState") or {}):
        ended: Mapping[str, Any] | None = state.get("terminated")
        if ended and ended.get("exitCode", 0) != 0:
            return ended
    return None


def _ended_words(entry: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    said = " ".join(str(ended.get("message") or "").split())
    if ended.get("reason") == "OOMKilled":
        said = "it was killed for using more memory than its limit" + (f"; {said}" if said else "")
    text = f"container {entry['name']} ended with exit code {ended.get('exitCode')}"
    return f"{text}: {said}" if said else text


def _unschedulable_since(pod: Mapping[str, Any]) -> datetime | None:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if (
            condition.get("type") == "PodScheduled"
            and condition.get("status") == "False"
            and condition.get("reason") == "Unschedulable"
            and condition.get("lastTransitionTime")
        ):
            return parse_time(condition["lastTransitionTime"])
    return None
