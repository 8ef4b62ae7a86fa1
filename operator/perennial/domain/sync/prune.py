"""Which objects may be removed because Git no longer has them, and which may not, and why.

Every guard fails towards keeping. Must not delete anything itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from perennial.api import kinds, names
from perennial.domain.sync.manifest import ObjectId
from perennial.domain.sync.ownership import made_by_operator, sync_of

SMALL = 10
"""Below so many objects maxPrunePercent does not apply."""


class Fate(Enum):
    """What happens to an object that left the repository."""

    DELETE = "Delete"
    FORGET = "Forget"
    KEEP = "Keep"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fate and, for KEEP, the sentence that says why and how to proceed."""

    fate: Fate
    message: str = ""


def too_much(candidates: int, total: int, percent: int) -> str | None:
    """One sentence when removing `candidates` of `total` objects at once is more than allowed."""
    if total < SMALL or candidates * 100 <= percent * total:
        return None
    return (
        f"the revision would remove {candidates} of {total} objects, more than maxPrunePercent {percent}: "
        "put them back, or raise spec.maxPrunePercent"
    )


def last_size(recorded: Mapping[str, Any]) -> int:
    """Objects of the last revision that was applied with its prune, by `status.history`; 0 when there is none.

    The inventory is no measure: while an apply is under way it is the union of old and new objects, in which a
    revision that replaces everything would remove only half.
    """
    history = recorded.get("history") or ()
    return int(history[0].get("objects") or 0) if history else 0


def versions_in_use(deployments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Versions that serve, are on trial, are the rollback target or are named, each with what uses it."""
    used: dict[str, str] = {}
    for deployment in deployments:
        name = deployment["metadata"]["name"]
        status = deployment.get("status") or {}
        history: Sequence[Mapping[str, Any]] = status.get("history") or ()
        named = (deployment.get("spec", {}).get("model") or {}).get("version")
        uses = (
            (named, f"ModelDeployment {name} names it"),
            (history[1].get("version") if len(history) > 1 else None, f"it is the rollback target of {name}"),
            ((status.get("canary") or {}).get("version"), f"it is on trial in {name}"),
            ((status.get("stable") or {}).get("version"), f"it serves in {name}"),
        )
        used.update({version: words for version, words in uses if version})
    return used


def results_of(trainings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Versions that TrainingJobs in Git made, each with what it is: a rebuilt cluster would train them again."""
    made: dict[str, str] = {}
    for job in trainings:
        status = job.get("status") or {}
        words = f"it is the result of TrainingJob {job['metadata']['name']}, which would train again without it"
        run = (status.get("run") or {}).get("id")
        names = (status.get("lastVersion"), f"{job['spec'].get('model')}-r{run}" if run else None)
        made.update({name: words for name in names if name})
    return made


def verdict(entry: ObjectId, live: Mapping[str, Any] | None, sync: str, used: Mapping[str, str]) -> Verdict:
    """What to do with an inventory entry that Git no longer has, by the live object (None: it is gone)."""
    if live is None or sync_of(live) != sync or made_by_operator(live) is not None:
        return Verdict(Fate.FORGET)
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(names.ANNOTATION_PRUNE) == names.PRUNE_DISABLED:
        return Verdict(Fate.FORGET)
    if entry.kind == kinds.GIT_SYNC.kind and entry.name == sync:
        return _kept(entry, "it is the GitSync itself", "gitsync")
    if entry.kind == kinds.MODEL_VERSION.kind and entry.name in used:
        return _kept(entry, used[entry.name], "modelversion")
    if entry.kind == kinds.MODEL_DEPLOYMENT.kind and (live.get("status") or {}).get("stable"):
        return _kept(entry, "it serves traffic", "modeldeployment")
    return Verdict(Fate.DELETE)


def _kept(entry: ObjectId, why: str, word: str) -> Verdict:
    return Verdict(
        Fate.KEEP,
        f"{entry.words} left the repository but is not removed, because {why}: put it back, or run "
        f"kubectl delete {word} {entry.name}",
    )
