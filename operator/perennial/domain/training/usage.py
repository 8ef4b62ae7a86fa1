"""GPU time of an attempt, from the times that the kubelet reported. Must not read a clock of its own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from perennial.domain.times import parse_time


def is_accelerator(resource: str) -> bool:
    """Whether a resource name is a GPU or a slice of one: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu."""
    domain, _, name = resource.partition("/")
    return bool(name) and ("gpu" in resource or name.startswith("mig-") or domain.startswith("gpu."))


def accelerators(resources: Mapping[str, Any] | None) -> int:
    """How many accelerators a container with these resources asks for."""
    asked = {**((resources or {}).get("requests") or {}), **((resources or {}).get("limits") or {})}
    return sum(int(float(str(amount))) for name, amount in asked.items() if is_accelerator(name))


def _held(pod: Mapping[str, Any], now: datetime) -> float:
    status = pod.get("status") or {}
    scheduled = next(
        (
            c.get("lastTransitionTime")
            for c in status.get("conditions") or ()
            if c.get("type") == "PodScheduled" and c.get("status") == "True"
        ),
        None,
    )
    if not scheduled:
        return 0.0
    ends = [
        (entry.get("state") or {}).get("terminated", {}).get("finishedAt")
        for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    ]
    over = status.get("phase") in ("Succeeded", "Failed")
    last = max((parse_time(end) for end in ends if end), default=None)
    end = last if over and last is not None else now
    return max(0.0, (end - parse_time(scheduled)).total_seconds())


def _training(pod: Mapping[str, Any], now: datetime) -> float:
    status = pod.get("status") or {}
    for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        if entry["name"] != "train":
            continue
        state = entry.get("state") or {}
        ended, running = state.get("terminated"), state.get("running")
        if ended and ended.get("startedAt") and ended.get("finishedAt"):
            return max(0.0, (parse_time(ended["finishedAt"]) - parse_time(ended["startedAt"])).total_seconds())
        if running and running.get("startedAt"):
            return max(0.0, (now - parse_time(running["startedAt"])).total_seconds())
    return 0.0


def held_by(pod: Mapping[str, Any]) -> int:
    """Accelerators that a pod holds while it lives: its largest init container, or all its containers together."""
    spec = pod.get("spec") or {}
    first = max((accelerators(c.get("resources")) for c in spec.get("initContainers") or ()), default=0)
    return max(first, sum(accelerators(c.get("resources")) for c in spec.get("containers") or ()))


def gpu_seconds(pods: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, int]:
    """{held, training} in GPU-seconds of an attempt's pods; both 0 when no GPU is asked for."""
    return {
        "held": round(sum(held_by(pod) * _held(pod, now) for pod in pods)),
        "training": round(sum(held_by(pod) * _training(pod, now) for pod in pods)),
    }
