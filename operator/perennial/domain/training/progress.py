"""How far an attempt has come, read from its pods. Pure; the pods are dicts that the API server gave."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perennial.domain.training.state import PHASES, STARTING, Phase

_BEFORE_TRAINING = ("fetch", "validate")
_INDEX = "batch.kubernetes.io/job-completion-index"


def containers(pod: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The container statuses in the order in which they run: init containers first."""
    status = pod.get("status") or {}
    by_name = {
        entry["name"]: entry
        for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    }
    spec = pod.get("spec") or {}
    order = [c["name"] for c in [*spec.get("initContainers", ()), *spec.get("containers", ())]] or list(by_name)
    return [by_name[name] for name in order if name in by_name]


def terminated(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The terminated state of a container status, {} when it has not ended."""
    return (entry.get("state") or {}).get("terminated") or {}


def _running(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return (entry.get("state") or {}).get("running") or {}


def first_start(pods: Sequence[Mapping[str, Any]]) -> str:
    """When the first container of any pod started, RFC 3339; "" when none has."""
    starts = [
        state["startedAt"]
        for pod in pods
        for entry in containers(pod)
        for state in (terminated(entry), _running(entry))
        if state.get("startedAt")
    ]
    return min(starts, default="")


def runs(pods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some container runs now."""
    return any(_running(entry) for pod in pods for entry in containers(pod))


def idle_since(pods: Sequence[Mapping[str, Any]], begun: str) -> str:
    """Since when nothing runs: the end of the last container that ended, else `begun`."""
    ends = [terminated(entry).get("finishedAt") for pod in pods for entry in containers(pod)]
    return max([end for end in ends if end], default=begun)


def phase(pods: Sequence[Mapping[str, Any]]) -> Phase:
    """The phase of the pod that has come least far."""
    order = list(PHASES)
    reached = [_current(pod) for pod in pods]
    known = [name for name in reached if name in PHASES]
    if not known or not first_start(pods):
        return STARTING
    return PHASES[min(known, key=order.index)]


def _current(pod: Mapping[str, Any]) -> str:
    entries = list(containers(pod))
    for entry in entries:
        if not terminated(entry):
            return str(entry["name"])
    return str(entries[-1]["name"]) if entries else ""


def is_fetched(pods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every pod has fetched and tested its data."""
    if not pods:
        return False
    for pod in pods:
        entries = [entry for entry in containers(pod) if entry["name"] in _BEFORE_TRAINING]
        names = [c["name"] for c in (pod.get("spec") or {}).get("initContainers", ()) if c["name"] in _BEFORE_TRAINING]
        if not entries or len(entries) < len(names):
            return False
        if any(not terminated(entry) or terminated(entry).get("exitCode") != 0 for entry in entries):
            return False
    return True


def image_id(pods: Sequence[Mapping[str, Any]]) -> str:
    """The imageID of `train`, as the kubelet reports it; "" when not yet."""
    for pod in pods:
        for entry in containers(pod):
            if entry["name"] == "train" and entry.get("imageID"):
                return str(entry["imageID"]).removeprefix("docker-pullable://")
    return ""


def rank_zero(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pod of index 0, which evaluates and publishes."""
    for pod in pods:
        meta = pod["metadata"]
        if (meta.get("annotations") or {}).get(_INDEX, (meta.get("labels") or {}).get(_INDEX, "0")) == "0":
            return pod
    return None


def result_of(pods: Sequence[Mapping[str, Any]], container: str) -> Mapping[str, Any]:
    """The terminated state of that container in the pod of index 0; {} when there is none."""
    pod = rank_zero(pods)
    if pod is None:
        return {}
    return next((terminated(entry) for entry in containers(pod) if entry["name"] == container), {})
