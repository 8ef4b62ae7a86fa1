"""Why an attempt failed and whether another may follow: exit codes, memory, disruption.

Must not decide about budgets (decide.py does). Pods and Jobs come as the dicts that the API server gave.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from perennial.domain.conditions import bounded

EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78
EXIT_OUT_OF_MEMORY = 137

PERMANENT: Mapping[int, str] = {EXIT_USAGE: "UsageError", EXIT_DATA: "DataInvalid", EXIT_CONFIG: "ConfigInvalid"}
"""Exit codes after which a retry would end the same way (sysexits.h), with the reason that is reported."""

RANKS_MISSING = "Not all ranks met"
"""How the sentence of a fetch that waited in vain for the other ranks begins: that is a free retry."""

OUR_CONTAINERS = ("fetch", "publish", "report")
CHAMPION_EVALUATION = "evaluate-champion"
USER_CONTAINERS = ("validate", "train", "evaluate", CHAMPION_EVALUATION)

Retry = Literal["No", "Counted", "Free"]

_JOB_MESSAGE = re.compile(r"Container (\S+) for pod (\S+) failed with exit code (\d+)")
_DISRUPTED_REASONS = ("Preempting", "Evicted", "NodeShutdown", "Terminated", "NodeLost", "Shutdown")


@dataclass(frozen=True, slots=True)
class Culprit:
    """The container that ended an attempt."""

    pod: str
    container: str
    exit_code: int
    reason: str
    message: str
    finished: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. retry: whether the next attempt may start, and whether it costs one of the budget."""

    reason: str
    message: str
    retry: Retry
    culprit: Culprit | None = None


def culprit(pods: Sequence[Mapping[str, Any]]) -> Culprit | None:
    """The container that failed first, over all pods and all their containers; None when none has failed."""
    found = []
    for pod in pods:
        status = pod.get("status") or {}
        for entry in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
            ended = (entry.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode", 0) != 0:
                found.append(
                    Culprit(
                        pod["metadata"]["name"],
                        entry["name"],
                        int(ended["exitCode"]),
                        ended.get("reason") or "",
                        ended.get("message") or "",
                        ended.get("finishedAt") or "",
                    )
                )
    return min(found, key=lambda c: c.finished, default=None)


def disruption(pods: Sequence[Mapping[str, Any]]) -> str:
    """The words of a disruption (drain, preemption, eviction by the node's needs) of any pod; "" when there is none."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
                said = condition.get("message") or condition.get("reason") or "disrupted"
                return f"pod {pod['metadata']['name']}: {said}"
    return ""


def _from_job(job: Mapping[str, Any]) -> tuple[str, int, str]:
    """(container, exit code, message) that the Job's Failed condition names: pods may be gone by now."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Failed", "FailureTarget") and condition.get("status") == "True":
            message = condition.get("message") or condition.get("reason") or ""
            match = _JOB_MESSAGE.search(message)
            return (match[1], int(match[3]), message) if match else ("", -1, message)
    return "", -1, ""


def _memory_limit(spec: Mapping[str, Any], container: str) -> str:
    if container in OUR_CONTAINERS or container == "validate":
        return ""
    return str(((spec.get("resources") or {}).get("limits") or {}).get("memory") or "")


def _sentence(found: Culprit, spec: Mapping[str, Any], log_tail: str) -> str:
    name, code = found.container, found.exit_code
    if found.reason == "OOMKilled" or code == EXIT_OUT_OF_MEMORY:
        limit = _memory_limit(spec, name)
        bound = f" of {limit}" if limit else ""
        text = (
            f"{name} was killed with exit code {code} because it ran out of memory (its limit{bound}); "
            "raise resources.limits.memory or use less"
        )
    elif name in OUR_CONTAINERS and found.message:
        return found.message
    elif code in PERMANENT:
        text = f"{name} ended with exit code {code} ({PERMANENT[code]}), which is not retried"
    else:
        text = f"{name} ended with exit code {code}"
    tail = " | ".join(line.strip() for line in log_tail.splitlines() if line.strip())
    if not tail:
        return text
    room = 960 - len(text.encode())
    raw = tail.encode()
    kept = raw[-room:].decode(errors="ignore") if len(raw) > room else tail
    return f"{text}; the end of its log: {kept}"


def classify(
    job: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]], spec: Mapping[str, Any], log_tail: str = ""
) -> Failure:
    """The failure of an attempt whose Job has failed (or is gone), from its pods, else from the Job's own words."""
    disrupted = disruption(pods)
    if disrupted:
        return Failure("Disrupted", bounded(f"the attempt was disrupted, which costs no retry: {disrupted}"), "Free")
    found = culprit(pods)
    if found is None:
        return _without_pod(job, spec)
    message = bounded(_sentence(found, spec, log_tail))
    if found.container == CHAMPION_EVALUATION:
        # Its exit code is caught inside the container; only a kill of the whole container (out of memory) gets here.
        # The next attempt leaves it out, and the champion checks fail with these words.
        return Failure("EvaluateChampionFailed", message, "Free", found)
    if found.container == "fetch" and found.message.startswith(RANKS_MISSING):
        return Failure("RanksMissing", message, "Free", found)
    if found.exit_code in PERMANENT:
        # publish refuses what train wrote: an empty model or unusable metrics say nothing about the data.
        reason = "PublishFailed" if found.container == "publish" else PERMANENT[found.exit_code]
        return Failure(reason, message, "No", found)
    if found.reason == "OOMKilled" or found.exit_code == EXIT_OUT_OF_MEMORY:
        return Failure("OutOfMemory", message, "Counted", found)
    return Failure(f"{_title(found.container)}Failed", message, "Counted", found)


def _without_pod(job: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> Failure:
    if job is None:
        return Failure("JobDeleted", "the Job of the attempt was deleted before it ended", "Counted")
    container, code, said = _from_job(job)
    if "DisruptionTarget" in said:
        return Failure("Disrupted", bounded(f"the attempt was disrupted, which costs no retry: {said}"), "Free")
    if container:
        found = Culprit("", container, code, "", "", "")
        text = bounded(f"{_sentence(found, spec, '')} (its pod is gone)")
        if code in PERMANENT:
            return Failure(PERMANENT[code], text, "No", found)
        return Failure(f"{_title(container)}Failed", text, "Counted", found)
    return Failure(
        "JobFailed", bounded(f"the Job failed and its pods are gone: {said or 'no reason given'}"), "Counted"
    )


def _title(container: str) -> str:
    return "".join(part.capitalize() for part in container.split("-"))
