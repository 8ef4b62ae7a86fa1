"""What a smoke Job and its pod say, as the API server gave them. Pure. Must not judge the canary."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from perennial.domain.conditions import find
from perennial.domain.rollout.pods import trouble_of
from perennial.domain.rollout.smoke import BadReport, JobSeen, read_report
from perennial.domain.times import parse_time
from perennial.domain.training.failure import PERMANENT
from perennial.domain.training.world import is_complete, is_failed

CONTAINER = "smoke"
POD_SECONDS = 10.0
"""How long the news of a pod may come after those of its Job."""


def read_job(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], now: datetime) -> JobSeen:
    """The Job with what its container said, once it has ended."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    state = next((found for pod in pods if (found := _state(pod))), {})
    ended: Mapping[str, Any] | None = state.get("terminated")
    if ended is not None:
        return _ended(name, uid, ended)
    if is_failed(job):
        return JobSeen(name, uid, started=bool(state), over=True, trouble=_failed_words(job, pods))
    if is_complete(job) and _seconds_since_end(job, now) > POD_SECONDS:
        return JobSeen(name, uid, started=True, over=True, trouble="its pod is gone")
    if is_complete(job) or "running" in state:
        return JobSeen(name, uid, started=True)
    return JobSeen(name, uid, trouble=trouble_of(pods).words or (None if pods else "no pod of it could be made yet"))


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of the container; {} while there is none."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        if entry["name"] == CONTAINER:
            found: Mapping[str, Any] = entry.get("state") or {}
            return found
    return {}


def _ended(name: str, uid: str, ended: Mapping[str, Any]) -> JobSeen:
    message, code = " ".join(str(ended.get("message") or "").split()), ended.get("exitCode")
    if code == 0:
        try:
            return JobSeen(name, uid, started=True, over=True, answers=read_report(message))
        except BadReport as error:
            return JobSeen(name, uid, started=True, over=True, trouble=str(error))
    if ended.get("reason") == "OOMKilled":
        message = "it was killed for using more memory than its limit"
    words = message or f"it ended with exit code {code} and without a word"
    return JobSeen(name, uid, started=True, over=True, trouble=words, lasting=code in PERMANENT)


def _failed_words(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    """Why a Job failed whose container said nothing: its pod was evicted or removed, or its time was up."""
    for pod in pods:
        status = pod.get("status") or {}
        if status.get("reason") or status.get("message"):
            return " ".join(f"its pod failed ({status.get('reason', '')}): {status.get('message', '')}".split())
    failed = find((job.get("status") or {}).get("conditions") or (), "Failed") or {}
    return " ".join(f"its pod is gone ({failed.get('reason', '')}): {failed.get('message', '')}".split())


def _seconds_since_end(job: Mapping[str, Any], now: datetime) -> float:
    ended = (job.get("status") or {}).get("completionTime")
    return (now - parse_time(ended)).total_seconds() if ended else 0.0
