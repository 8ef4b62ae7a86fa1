"""Why an attempt has not begun, or does not go on: quota, scheduler, image, secret, volume. In the cluster's words.

Must not list anything: Job, pods and events come as the dicts that the API server gave.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perennial.domain.conditions import bounded

_IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_VOLUME_REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_INSUFFICIENT = re.compile(r"Insufficient ([-A-Za-z0-9./]+?)(?=[.,]?(?:\s|$))")
_QUIET = frozenset({"PodInitializing", "ContainerCreating", ""})


@dataclass(frozen=True, slots=True)
class Why:
    """reason: Quota, Unschedulable, ImagePull, ContainerConfig, Volume, Queued, Starting; message: one sentence."""

    reason: str
    message: str


def of_pod(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> Why | None:
    """Why this pod waits; None when a container of it runs or nothing is known to hold it up."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = condition.get("message") or condition.get("reason") or "no node fits"
            if condition.get("reason") == "SchedulingGated":
                return Why("Queued", bounded(f"pod {name} is held by a scheduling gate: {said}"))
            return Why("Unschedulable", bounded(f"no node can take pod {name}{_missing(said)}: {said}"))
    for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason") or "", waiting.get("message") or ""
        if reason in _IMAGE_REASONS:
            image = entry.get("image") or "its image"
            text = (
                f"container {entry['name']} of pod {name} cannot get image {image} ({reason}): {said or 'no details'}"
            )
            return Why("ImagePull", bounded(text))
        if reason in _CONFIG_REASONS:
            return Why("ContainerConfig", bounded(f"container {entry['name']} of pod {name} cannot be made: {said}"))
    return _from_pod_events(name, events)


def _from_pod_events(name: str, events: Sequence[Mapping[str, Any]]) -> Why | None:
    for event in events:
        if event.get("reason") in _VOLUME_REASONS:
            return Why("Volume", bounded(f"a volume of pod {name} is missing: {event.get('note') or event['reason']}"))
    return None


def _missing(said: str) -> str:
    """The resources that the scheduler calls insufficient, e.g. ` (missing nvidia.com/gpu)`; "" when it names none."""
    found = list(dict.fromkeys(_INSUFFICIENT.findall(said)))
    return f" (missing {', '.join(found)})" if found else ""


def of_attempt(
    job: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    events: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Why | None:
    """Why the Job's pods wait, the first pod with a reason speaking for all. events: by the uid they are about."""
    if (job.get("spec") or {}).get("suspend"):
        return Why("Queued", _queued(job))
    if not pods:
        for event in events.get(job["metadata"]["uid"], ()):
            if event.get("reason") == "FailedCreate":
                said = event.get("note") or "no details"
                reason = "Quota" if "exceeded quota" in said or "quota" in said.lower() else "PodRefused"
                return Why(reason, bounded(f"the Job's pods cannot be created: {said}"))
        return Why("Starting", "the Job has no pod yet")
    for pod in pods:
        why = of_pod(pod, events.get(pod["metadata"]["uid"], ()))
        if why is not None:
            return why
    return None


def _queued(job: Mapping[str, Any]) -> str:
    queue = (job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name", "its queue")
    return f"the Job waits for admission by {queue}"


def is_quiet(pods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some pod has a container that waits without a reason: its events may tell more."""
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("phase") != "Pending":
            continue
        entries = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        if not any((e.get("state") or {}).get("running") for e in entries):
            reasons = {((e.get("state") or {}).get("waiting") or {}).get("reason") or "" for e in entries}
            if reasons <= _QUIET:
                return True
    return False
