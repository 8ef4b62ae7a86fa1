"""ModelVersion: an immutable record of one trained model, with records of its service beside the facts.

Its spec has no defaults. The operator makes the object and Git applies it again; a default inside an atomic fact would
make the two differ, and server-side apply would call that a conflict.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.kinds import MODEL_VERSION
from perennial.api.v1alpha1.base import ATOMIC_LIST, SET_LIST, Column, Model, Resource, Rule, list_map, with_rules
from perennial.api.v1alpha1.common import ArtifactRef, BaseModelRef, Rejection, Status
from perennial.api.v1alpha1.types import (
    MODEL_NAME_RULE,
    Commit,
    Count,
    Decimal,
    Digest,
    FeatureName,
    Identifier,
    Image,
    Label,
    MetricName,
    Metrics,
    ModelName,
    Name,
    PersonName,
    PositiveDecimal,
    Sentence,
    StringMap,
    Timestamp,
    Uri,
)

MAX_FEATURES = 256
MAX_BINS = 32
MAX_CATEGORIES = 64
FACTS = ("championMetrics", "metrics", "gate", "lineage", "samples", "baseline")
"""The optional facts: what is set when the object is made stays, what is not set then may not come later."""

_UNCHANGED = Rule("self == oldSelf", "a ModelVersion's facts may not change: make a new ModelVersion instead")
IMMUTABLE = with_rules(_UNCHANGED)


class VersionArtifact(ArtifactRef):
    """The trained model in the store."""

    size_bytes: Count | None = Field(default=None, description="Size of all its files together.")


class GateCheck(Model):
    """One check of the gate and its outcome."""

    metric: MetricName = Field(description="The metric that was looked at.")
    rule: Annotated[str, Field(max_length=256)] = Field(description="What had to hold, in words.")
    observed: Decimal | None = Field(default=None, description="The value that the candidate reached.")
    outcome: Literal["Passed", "Failed", "Skipped"] = Field(description="How the check ended.")
    note: Sentence | None = Field(default=None, description="Why it was skipped or failed.")


class GateResult(Model):
    """Whether the version may serve."""

    passed: bool = Field(description="Whether every check held.")
    checks: Annotated[tuple[GateCheck, ...], Field(max_length=32, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="The checks, in the order of the TrainingJob's gate."
    )


class LineageDataset(Model):
    """One dataset as it was when it was read."""

    name: Label = Field(description="Its name in the TrainingJob.")
    uri: Uri = Field(description="Where it was read from, `LATEST` resolved.")
    digest: Digest | None = Field(default=None, description="What was read.")


class LineageRequest(Model):
    """Why the run was asked for."""

    id: Identifier = Field(description="Identifies the request.")
    kind: Literal["Drift", "Schedule", "Manual"] | None = Field(default=None, description="What asked.")
    policy: Name | None = Field(default=None, description="The DriftPolicy that asked.")
    reason: Sentence | None = Field(default=None, description="Why, in one sentence.")


class Lineage(Model):
    """Where the version comes from."""

    atomic: ClassVar = True

    training_job: Name | None = Field(default=None, description="The TrainingJob that made it.")
    run: Identifier | None = Field(default=None, description="The run of that TrainingJob.")
    request: LineageRequest | None = Field(default=None, description="What asked for the run.")
    commit: Commit | None = Field(default=None, description="The Git commit that the TrainingJob was applied from.")
    image: Image | None = Field(default=None, description="The training image, by digest.")
    datasets: Annotated[tuple[LineageDataset, ...], Field(max_length=16, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="The data that it was trained and evaluated on."
    )
    base: BaseModelRef | None = Field(default=None, description="The model that training started from.")
    hyperparameters: StringMap | None = Field(default=None, description="The hyperparameters of the run.")
    seed: Count | None = Field(default=None, description="The seed of the run.")
    started_time: Timestamp | None = Field(default=None, description="When the run started.")
    finished_time: Timestamp | None = Field(
        default=None, description="When the run finished. Without it the version counts as older than any other."
    )


class Histogram(Model):
    """Counts of one feature, or of the prediction, over the reference rows."""

    rules: ClassVar = (
        Rule(
            "self.kind != 'Numeric' || (has(self.edges) && !has(self.categories)"
            " && self.counts.size() == self.edges.size() + 1)",
            "a Numeric histogram must have edges, no categories, and one count more than edges",
        ),
        Rule(
            "self.kind != 'Categorical' || (has(self.categories) && !has(self.edges)"
            " && self.counts.size() == self.categories.size() + 1)",
            "a Categorical histogram must have categories, no edges, and one count more than categories",
        ),
    )

    name: FeatureName = Field(
        description="Name of the feature, `prediction` for the prediction; the order of features is the order of the "
        "model's input columns."
    )
    kind: Literal["Numeric", "Categorical"] = Field(description="Whether it has edges or categories.")
    edges: Annotated[tuple[Decimal, ...], Field(max_length=MAX_BINS - 1, json_schema_extra=ATOMIC_LIST)] | None = Field(
        default=None,
        description="Inner edges of the bins, strictly rising: n edges make n + 1 bins. "
        "A value on an edge belongs to the bin on its right.",
    )
    low: Decimal | None = Field(default=None, description="The 0.1 % quantile; values below it are out of range.")
    high: Decimal | None = Field(default=None, description="The 99.9 % quantile; values above it are out of range.")
    categories: (
        Annotated[
            tuple[Annotated[str, Field(max_length=128)], ...],
            Field(max_length=MAX_CATEGORIES, json_schema_extra=ATOMIC_LIST),
        ]
        | None
    ) = Field(default=None, description="The categories that are counted one by one.")
    counts: Annotated[tuple[Count, ...], Field(max_length=MAX_CATEGORIES + 1, json_schema_extra=ATOMIC_LIST)] = Field(
        description="Rows in each bin, or in each category and then in all others together (those with fewer than "
        "20 rows); rows without a value are not among them."
    )
    null_count: Count | None = Field(default=None, description="Rows without a value; none when unset.")
    zero_count: Count | None = Field(default=None, description="Rows whose value is exactly 0; none when unset.")
    noise: PositiveDecimal | None = Field(
        default=None, description="Largest effect of one block of the reference against the others."
    )


class Baseline(Model):
    """What inputs and predictions looked like when the version was made; the bins of drift detection."""

    atomic: ClassVar = True

    rows: Count = Field(description="Rows of the reference.")
    features: Annotated[tuple[Histogram, ...], Field(max_length=MAX_FEATURES, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="One histogram a feature."
    )
    prediction: Histogram | None = Field(
        default=None, description="The predictions for rows that the model was not fitted on."
    )


class Samples(Model):
    """Sample inputs of the model: some rows of its reference.csv, in the store. A rollout with `smoke` replays them."""

    atomic: ClassVar = True

    uri: Uri = Field(description="A CSV file: the model's inputs by name, in their order, and `prediction`.")
    digest: Digest = Field(description="The sha256 of its bytes.")
    rows: Count = Field(description="Rows without the header.")


class Served(Model):
    """A time in which the version was stable."""

    rules: ClassVar = (
        Rule(
            "!has(oldSelf.toTime) || self == oldSelf",
            "an entry with toTime is closed and may not change: add a new entry instead",
        ),
    )

    deployment: Name = Field(description="The ModelDeployment that it served for.")
    from_time: Timestamp = Field(description="When it was promoted.")
    to_time: Timestamp | None = Field(default=None, description="When another version took over; unset: it serves.")
    requests: Count | None = Field(default=None, description="Requests of its canary.")
    failures: Count | None = Field(default=None, description="Failed requests of its canary.")
    approved_by: PersonName | None = Field(default=None, description="Who approved it.")
    reason: Sentence | None = Field(default=None, description="Why it was promoted.")


_SERVED_RULES = with_rules(
    Rule(
        "oldSelf.all(old, self.exists(entry, entry.deployment == old.deployment && entry.fromTime == old.fromTime))",
        "entries of served may be added and closed, but not removed",
    )
)


class Retired(Model):
    """The artifact may be collected; the record stays."""

    reason: Sentence = Field(description="Why.")
    time: Timestamp | None = Field(default=None, description="When.")


class Proposed(Model):
    """The version was proposed once to a deployment, and is not proposed to it again."""

    deployment: Name = Field(description="The ModelDeployment.")
    time: Timestamp | None = Field(default=None, description="When.")


def _optional_facts() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            f"has(self.{fact}) == has(oldSelf.{fact})",
            f"{fact} may not be added or removed later: make a new ModelVersion instead",
        )
        for fact in FACTS
    )


class ModelVersionSpec(Model):
    """Facts, which may not change, and records, which may be added."""

    rules: ClassVar = (
        *_optional_facts(),
        Rule(
            "!has(oldSelf.served) || oldSelf.served.size() == 0 || has(self.served)",
            "entries of served may be added and closed, but not removed",
        ),
    )

    model: ModelName = Field(
        description="The model that it is a version of.", json_schema_extra=with_rules(MODEL_NAME_RULE, _UNCHANGED)
    )
    artifact: VersionArtifact = Field(description="The trained model in the store.", json_schema_extra=IMMUTABLE)
    metrics: Metrics | None = Field(
        default=None, description="What training and evaluation measured.", json_schema_extra=IMMUTABLE
    )
    champion_metrics: Metrics | None = Field(
        default=None, description="What the champion reached on the same data.", json_schema_extra=IMMUTABLE
    )
    gate: GateResult | None = Field(
        default=None, description="Whether the version may serve.", json_schema_extra=IMMUTABLE
    )
    lineage: Lineage | None = Field(
        default=None, description="Where the version comes from.", json_schema_extra=IMMUTABLE
    )
    samples: Samples | None = Field(
        default=None, description="Sample inputs, which rollouts with `smoke` replay.", json_schema_extra=IMMUTABLE
    )
    baseline: Baseline | None = Field(
        default=None, description="Reference histograms for drift detection.", json_schema_extra=IMMUTABLE
    )
    rejections: Annotated[tuple[Rejection, ...], Field(max_length=32, json_schema_extra=list_map("deployment"))] = (
        Field(default=(), description="Deployments that it failed in; each blocks that deployment only.")
    )
    served: Annotated[
        tuple[Served, ...],
        Field(
            max_length=64,
            json_schema_extra={**list_map("deployment", "fromTime"), **_SERVED_RULES},
        ),
    ] = Field(default=(), description="When it served.")
    retired: Retired | None = Field(default=None, description="Set when its artifact may be collected.")
    proposed: Annotated[tuple[Proposed, ...], Field(max_length=32, json_schema_extra=list_map("deployment"))] = Field(
        default=(), description="Deployments that it was proposed to."
    )


class ModelVersionStatus(Status):
    """What the operator sees of the version."""

    deployments: Annotated[tuple[Name, ...], Field(max_length=64, json_schema_extra=SET_LIST)] = Field(
        default=(), description="ModelDeployments that serve it now."
    )


class ModelVersion(Resource):
    """An immutable record of one trained model: artifact, metrics, lineage and reference histograms. Made by a
    TrainingJob or committed by hand. It has no owner: deleting a TrainingJob never deletes what serves."""

    resource_kind: ClassVar = MODEL_VERSION
    short_name: ClassVar = "mver"
    columns: ClassVar = (
        Column("Model", ".spec.model", description="The model that it is a version of."),
        Column("Gate", ".spec.gate.passed", type="boolean", description="Whether the gate passed."),
        Column("Metrics", ".spec.metrics", description="What training and evaluation measured."),
        Column("Serving", ".status.deployments", description="ModelDeployments that serve it now."),
        Column("Finished", ".spec.lineage.finishedTime", type="date", description="When its training finished."),
    )

    spec: ModelVersionSpec = Field(description="Facts, which may not change, and records, which may be added.")
    status: ModelVersionStatus = Field(default=ModelVersionStatus(), description="What the operator sees.")
