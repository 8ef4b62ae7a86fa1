"""What a pass over a TrainingJob sees, and what it may do. Frozen; objects are the dicts that the API server gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.training.champion import Champion
from perennial.domain.training.record import Record
from perennial.domain.training.run import RunIdentity, identities, identity
from perennial.domain.training.state import ONE_POD, STAGED, Stage

JsonMapping = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Publication:
    """What could be read of a finished attempt: its record, else why there is none.

    lost: pod or log are gone, so that a report Job must print the record again; the attempt is not at fault.
    """

    record: Record | None = None
    problem: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model to be fetched into the pod: a champion's or a base's."""

    uri: str
    digest: str


@dataclass(frozen=True, slots=True)
class World:
    """job: the TrainingJob. version: the ModelVersion that one of its run identities names, read live.
    champion: the answer of champion.choose when the pass needs one. children: the Jobs of the current attempt by
    stage. owned: all Jobs of this TrainingJob. pods: of the attempt's newest Job; earlier_pods: of its Jobs before.
    events: by the uid they are about. resolution: what fetch resolved. publication: of a complete attempt.
    report: the report Job."""

    job: JsonMapping
    version: JsonMapping | None = None
    champion: Champion | None = None
    base: Artifact | None = None
    base_problem: str = ""
    children: Mapping[Stage, JsonMapping] = field(default_factory=dict)
    owned: Sequence[JsonMapping] = ()
    pods: Sequence[JsonMapping] = ()
    earlier_pods: Sequence[JsonMapping] = ()
    events: Mapping[str, Sequence[JsonMapping]] = field(default_factory=dict)
    log_tail: str = ""
    resolution: Sequence[JsonMapping] | None = None
    publication: Publication | None = None
    report: JsonMapping | None = None

    @property
    def spec(self) -> JsonMapping:
        """The spec."""
        spec: JsonMapping = self.job["spec"]
        return spec

    @property
    def recorded(self) -> JsonMapping:
        """The status as read."""
        status: JsonMapping = self.job.get("status") or {}
        return status


@dataclass(frozen=True, slots=True)
class CreateAttempt:
    """Make the Job of a stage of the attempt that status.run records (and its headless Service)."""

    run: JsonMapping
    stage: Stage
    champion: Artifact | None
    base: Artifact | None


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Remove one of our Jobs: of a run that was superseded or cancelled, or beyond the history limit."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class CreateReport:
    """Make the small Job that prints the record of a finished attempt again."""

    run: JsonMapping


@dataclass(frozen=True, slots=True)
class CreateVersion:
    """POST the ModelVersion of the run that status.run records."""

    name: str
    spec: JsonMapping


Action = CreateAttempt | DeleteJob | CreateReport | CreateVersion


def wanted_run(job: JsonMapping) -> RunIdentity:
    """The identity of the run that the spec asks for: by the recorded run's recipe when that gives the recorded id."""
    run = (job.get("status") or {}).get("run") or {}
    if run.get("id"):
        kept = identity(job["spec"], run.get("recipe"))
        if kept.id == run["id"]:
            return kept
    return next(iter(identities(job["spec"])))


def stages(spec: JsonMapping) -> tuple[Stage, ...]:
    """The Jobs of an attempt, in order."""
    return STAGED if spec.get("stage") else ONE_POD


def condition(job: JsonMapping, *types: str) -> JsonMapping | None:
    """The first true condition of a Job with one of the types."""
    for entry in (job.get("status") or {}).get("conditions") or ():
        if entry.get("type") in types and entry.get("status") == "True":
            found: JsonMapping = entry
            return found
    return None


def is_complete(job: JsonMapping) -> bool:
    """Whether a Job has succeeded."""
    return condition(job, "Complete") is not None


def is_failed(job: JsonMapping) -> bool:
    """Whether a Job has failed and all its pods have ended."""
    return condition(job, "Failed") is not None


def is_over(job: JsonMapping) -> bool:
    """Whether a Job has ended either way, or is being deleted."""
    return is_complete(job) or is_failed(job)


def current_stage(world: World) -> Stage | None:
    """The first stage of the attempt whose Job is not complete; None when all are."""
    for stage in stages(world.spec):
        job = world.children.get(stage)
        if job is None or not is_complete(job):
            return stage
    return None
