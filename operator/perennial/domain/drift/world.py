"""What a pass over a DriftPolicy sees, and what it may do. Frozen; objects are the dicts that the API server gave."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.drift.baseline import Baseline
from perennial.domain.drift.spec import PolicySpec
from perennial.domain.drift.windows import Book, Pull

JsonMapping = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves as stable. since: when it became that (epoch). baseline None: `problem` says why.
    datasets: digests by name that it was trained on (its lineage), empty when unknown."""

    revision: str
    version: str
    since: float
    baseline: Baseline | None = None
    problem: str = ""
    datasets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer of a metrics provider for the window that ends at `end` (epoch); value None: `problem` says why."""

    end: int
    value: float | None
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """A Job that reads the digests of training data. digests None while it runs and when it failed (`problem`)."""

    name: str
    uid: str
    number: int
    done: bool
    digests: Mapping[str, str] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """policy: the DriftPolicy. siblings: the others of the same deployment. template: the TrainingJob that
    trainingJobRef names. job: the TrainingJob of the active trigger. result: the ModelVersion that came of it.
    serving: the ModelVersion promoted last. jobs: all TrainingJobs that the policy owns."""

    policy: JsonMapping
    spec: PolicySpec
    siblings: tuple[JsonMapping, ...] = ()
    deployment: JsonMapping | None = None
    champion: Champion | None = None
    book: Book = field(default_factory=Book)
    pull: Pull | None = None
    reading: Reading | None = None
    template: JsonMapping | None = None
    job: JsonMapping | None = None
    result: JsonMapping | None = None
    serving: JsonMapping | None = None
    jobs: tuple[JsonMapping, ...] = ()
    probes: tuple[Probe, ...] = ()

    @property
    def name(self) -> str:
        """The policy's name."""
        return str(self.policy["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The policy's uid."""
        return str(self.policy["metadata"]["uid"])

    @property
    def recorded(self) -> JsonMapping:
        """The status as read."""
        status: JsonMapping = self.policy.get("status") or {}
        return status


@dataclass(frozen=True, slots=True)
class CreateTrainingJob:
    """POST the TrainingJob of the recorded trigger, a copy of the template's spec with `request`."""

    trigger: JsonMapping


@dataclass(frozen=True, slots=True)
class CreateProbe:
    """POST the Job that reads the digests of the template's training data."""

    number: int


@dataclass(frozen=True, slots=True)
class DeleteProbe:
    """Remove a probe Job that was read or is no longer needed."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteTrainingJob:
    """Remove one of the oldest TrainingJobs that the policy made."""

    name: str
    uid: str


Action = CreateTrainingJob | CreateProbe | DeleteProbe | DeleteTrainingJob
