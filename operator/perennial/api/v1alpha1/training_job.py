"""TrainingJob: train an image on data with resources; the result must pass a gate."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.kinds import TRAINING_JOB
from perennial.api.v1alpha1.base import ATOMIC_LIST, Column, Model, Resource, Rule, list_map, only_one, with_rules
from perennial.api.v1alpha1.common import (
    BaseModelRef,
    Environment,
    ObjectRef,
    PodTemplate,
    Request,
    Resources,
    Status,
    Storage,
)
from perennial.api.v1alpha1.types import (
    THIRTY_DAYS,
    Command,
    Count,
    Decimal,
    Digest,
    Format,
    Identifier,
    Image,
    Label,
    MetricName,
    Metrics,
    ModelName,
    Name,
    ObjectName,
    OutputUri,
    PositiveDecimal,
    Quantity,
    Reason,
    Sentence,
    Timestamp,
    Uri,
)


class Dataset(Model):
    """One dataset, mounted read-only at /perennial/data/<name>/."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="Its folder below /perennial/data/."
    )
    uri: Uri = Field(
        description="Where it lies. A URI ending in `/` that holds an object `LATEST` means the prefix named in it."
    )
    use: Literal["Train", "Evaluate", "Both"] = Field(
        default="Train", description="Who sees it; Evaluate data is never mounted in `train`."
    )
    digest: Digest | None = Field(default=None, description="Pins the data: anything else is refused before training.")


class Validate(Model):
    """Data tests before any GPU work; exit code 65 means that the data is invalid."""

    rules: ClassVar = (
        Rule(
            "has(self.image) || has(self.command) || has(self.args)",
            "at least one of image, command and args must be set, else the training itself would run again",
        ),
    )

    image: Image | None = Field(default=None, description="Image of the tests; the training image when unset.")
    command: Command | None = Field(default=None, description="Command, in place of the image's entry point.")
    args: Command | None = Field(default=None, description="Arguments.")


class Evaluate(Model):
    """Evaluation of the candidate, and of the champion, on the same data with the training image."""

    rules: ClassVar = (
        Rule(
            "has(self.command) || has(self.args)",
            "at least one of command and args must be set, else the training itself would run again",
        ),
    )

    command: Command | None = Field(default=None, description="Command, in place of the image's entry point.")
    args: Command | None = Field(default=None, description="Arguments.")


class Output(Model):
    """Where the model goes."""

    uri: OutputUri = Field(
        description="Prefix in the store: s3, gs, abfs, abfss or pvc, ending in `/`. "
        "The model lies below it at <model>/sha256-<hex>/."
    )
    format: Format = Field(description="What the model is, e.g. sklearn; the runtime table maps it to a model server.")


class Stage(Model):
    """Download and upload in jobs of their own, so that GPUs are held for training only."""

    claim: ObjectName = Field(description="PersistentVolumeClaim that the jobs share.")


class ChampionRef(Model):
    """Which deployment's stable version is the champion."""

    deployment_ref: ObjectRef = Field(description="The ModelDeployment.")


_BOUNDS = ("maxIncrease", "maxDecrease", "minIncrease", "minDecrease")


class ChampionCheck(Model):
    """A comparison with the champion on the same data."""

    rules: ClassVar = (
        Rule(only_one(*_BOUNDS), "exactly one of maxIncrease, maxDecrease, minIncrease and minDecrease must be set"),
    )

    max_increase: PositiveDecimal | None = Field(
        default=None, description="The metric may exceed the champion's by at most this much."
    )
    max_decrease: PositiveDecimal | None = Field(
        default=None, description="The metric may fall below the champion's by at most this much."
    )
    min_increase: PositiveDecimal | None = Field(
        default=None, description="The metric must exceed the champion's by at least this much."
    )
    min_decrease: PositiveDecimal | None = Field(
        default=None, description="The metric must fall below the champion's by at least this much."
    )


class GateRule(Model):
    """One rule of the gate. A metric that was not written fails it."""

    rules: ClassVar = (Rule(only_one("min", "max", "champion"), "exactly one of min, max and champion must be set"),)

    metric: MetricName = Field(description="Name of the metric in metrics.json.")
    min: Decimal | None = Field(default=None, description="The metric must be at least this.")
    max: Decimal | None = Field(default=None, description="The metric must be at most this.")
    champion: ChampionCheck | None = Field(
        default=None,
        description="The metric is compared with the champion's on the same data; "
        "skipped with a note when there is no champion.",
    )


class Reproducibility(Model):
    """What makes a run repeatable."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(default=0, description="Given as PERENNIAL_SEED.")
    deterministic: bool = Field(default=False, description="Ask the frameworks for deterministic algorithms.")


class Retry(Model):
    """How often a failed attempt is tried again; disruptions do not count."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = Field(default=3, description="Attempts in all.")
    backoff_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=10, description="Wait before the second attempt; doubled before each further one."
    )


class Queue(Model):
    """A Kueue queue."""

    name: ObjectName = Field(description="LocalQueue in this namespace.")
    priority_class: ObjectName | None = Field(default=None, description="WorkloadPriorityClass.")


class TrainingJobSpec(Model):
    """What to train, on what, and what the result must reach. A changed field that shapes a run is a new run."""

    rules: ClassVar = (
        Rule(
            "!self.gate.exists(rule, has(rule.champion)) || has(self.evaluate)",
            "a champion check needs evaluate, which runs for the candidate and for the champion",
        ),
        Rule(
            "!self.gate.exists(rule, has(rule.champion)) || self.datasets.exists(set, set.use == 'Evaluate')",
            "a champion check needs at least one dataset with use Evaluate, which neither model was fitted on",
        ),
        Rule(
            "!has(self.queue) || has(self.stage)",
            "queue needs stage: without it Kueue would evict every run while its data is still being fetched",
        ),
        Rule(
            "self.nodes == 1 || has(self.stage) || self.datasets.all(set, has(set.digest))",
            "more than one node needs stage, or a digest on every dataset, so that all nodes see the same data",
        ),
    )

    model: ModelName = Field(description="ModelVersions of one model share this name.")
    image: Image = Field(description="Training image; a tag is resolved once per run and the digest recorded.")
    command: Command | None = Field(default=None, description="Command, in place of the image's entry point.")
    args: Command | None = Field(default=None, description="Arguments.")
    env: Environment | None = Field(default=None, description="Environment of the user's containers.")
    hyperparameters: (
        Annotated[
            dict[str, Annotated[str, Field(max_length=4096)]],
            Field(
                max_length=64,
                json_schema_extra=with_rules(
                    Rule(
                        "self.all(key, key.matches('^[A-Za-z_][A-Za-z0-9_.-]{0,62}$'))",
                        "names of hyperparameters must have at most 63 letters, digits, '_', '.' or '-' and start with "
                        "a letter or '_'",
                    )
                ),
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Written to /perennial/hyperparameters.json (a value that parses as JSON is written as JSON) "
        "and given as PERENNIAL_HP_<NAME>.",
    )
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1, max_length=16, json_schema_extra=list_map("name"))] = (
        Field(description="The data.")
    )
    base: BaseModelRef | None = Field(default=None, description="Warm start: the model to begin with.")
    nodes: Annotated[int, Field(ge=1, le=256)] = Field(default=1, description="Pods that train together.")
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Training processes in each pod, for torchrun's environment."
    )
    resources: Resources | None = Field(default=None, description="Resources of the training container.")
    shared_memory: Quantity | None = Field(
        default=None, description="Size of /dev/shm; half of the memory limit when unset."
    )
    template: PodTemplate | None = Field(default=None, description="Extras of the pods.")
    validation: Validate | None = Field(default=None, alias="validate", description="Data tests before any GPU work.")
    evaluate: Evaluate | None = Field(default=None, description="Evaluation of candidate and champion.")
    output: Output = Field(description="Where the model goes.")
    stage: Stage | None = Field(default=None, description="Fetch and publish in jobs of their own.")
    storage: Storage | None = Field(default=None, description="How to reach the artifact store.")
    champion: ChampionRef | None = Field(
        default=None,
        description="Whose stable version is the champion; the only ModelDeployment of this model if unset.",
    )
    request: Request | None = Field(default=None, description="Why the run was asked for; a new id is a new run.")
    gate: Annotated[tuple[GateRule, ...], Field(min_length=1, max_length=32, json_schema_extra=ATOMIC_LIST)] = Field(
        description="All must hold, or no version is accepted."
    )
    reproducibility: Reproducibility = Field(default=Reproducibility(), description="What makes a run repeatable.")
    retry: Retry = Field(default=Retry(), description="How often a failed attempt is tried again.")
    deadline_seconds: Annotated[int, Field(ge=1, le=THIRTY_DAYS)] = Field(
        default=14400, description="Longest time that one attempt may run."
    )
    start_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=600, description="Longest time that the pods of one attempt wait for each other."
    )
    pending_seconds: Annotated[int, Field(ge=1, le=THIRTY_DAYS)] = Field(
        default=3600, description="Longest time until the first pod runs."
    )
    queue: Queue | None = Field(default=None, description="Kueue queue; needs stage.")
    suspend: bool = Field(default=False, description="Start nothing.")
    history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=10, description="Finished runs whose Jobs are kept."
    )


class RunDataset(Model):
    """One dataset as this run reads it."""

    name: Label = Field(description="Its name in the spec.")
    uri: Uri | None = Field(default=None, description="Where it was read, `LATEST` resolved.")
    digest: Digest | None = Field(
        default=None, description="What the first attempt read; later ones must read the same."
    )
    size_bytes: Count | None = Field(default=None, description="Its size.")


class RunChampion(Model):
    """The champion of this run, fixed before its Job exists."""

    version: Name | None = Field(default=None, description="The ModelVersion; unset: there is no champion.")
    digest: Digest | None = Field(default=None, description="Digest of its artifact.")
    note: Sentence | None = Field(default=None, description="Why there is no champion.")


class GpuSeconds(Model):
    """GPU time of the run, all attempts together."""

    held: Count = Field(default=0, description="GPUs times seconds that the pods held them.")
    training: Count = Field(default=0, description="GPUs times seconds that `train` ran.")


class Failure(Model):
    """How the last attempt failed."""

    container: Label | None = Field(default=None, description="The container that failed.")
    exit_code: Annotated[int, Field(ge=-1, le=255)] | None = Field(default=None, description="Its exit code.")
    reason: Reason | None = Field(default=None, description="Why, in one word.")
    message: Sentence | None = Field(default=None, description="Why, in one sentence, with the log's last lines.")


class Run(Model):
    """The run that this spec and request stand for."""

    id: Identifier = Field(description="Hash of the fields that shape a run.")
    recipe: Label | None = Field(default=None, description="How the id was made.")
    spec_hash: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Hash of the fields that shape a run, in full."
    )
    request: Request | None = Field(default=None, description="What asked for it.")
    attempt: Count = Field(default=0, description="The attempt that is running or ran last, from 1.")
    failed_attempts: Count = Field(default=0, description="Attempts that count against retry.maxAttempts.")
    started_time: Timestamp | None = Field(default=None, description="When the run was recorded.")
    attempt_time: Timestamp | None = Field(default=None, description="When the attempt was recorded.")
    running_time: Timestamp | None = Field(default=None, description="When the attempt's first pod ran.")
    finished_time: Timestamp | None = Field(default=None, description="When the run ended.")
    job: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Job of the attempt.")
    image_digest: Image | None = Field(default=None, description="The training image, by digest.")
    datasets: Annotated[tuple[RunDataset, ...], Field(max_length=16, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="The data, as resolved by the first attempt."
    )
    champion: RunChampion | None = Field(default=None, description="What the gate compares with.")
    gpu_seconds: GpuSeconds | None = Field(default=None, description="GPU time.")
    failure: Failure | None = Field(default=None, description="How the last attempt failed.")


class RunRecord(Model):
    """A run that ended."""

    id: Identifier = Field(description="The run.")
    request: Request | None = Field(default=None, description="What asked for it.")
    outcome: Reason = Field(description="How it ended, in one word.")
    version: Name | None = Field(default=None, description="The version that it made.")
    attempts: Count = Field(default=0, description="Attempts that it took.")
    started_time: Timestamp | None = Field(default=None, description="When it started.")
    finished_time: Timestamp | None = Field(default=None, description="When it ended.")
    message: Sentence | None = Field(default=None, description="How it ended, in one sentence.")


class TrainingJobStatus(Status):
    """The current run and those before."""

    run: Run | None = Field(default=None, description="The run that this spec and request stand for.")
    last_version: Name | None = Field(default=None, description="The last version that was accepted.")
    metrics: Metrics | None = Field(default=None, description="What the last finished run measured.")
    metric: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="The gate's first metric of the last finished run, for people: `roc_auc=0.86`."
    )
    message: Sentence | None = Field(default=None, description="What is going on, in one sentence.")
    history: Annotated[tuple[RunRecord, ...], Field(max_length=100, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Runs that ended, newest first."
    )


class TrainingJob(Resource):
    """Train this image on this data with these hyperparameters on these GPUs; the result must pass this gate.
    Editing and pushing is how people retrain."""

    resource_kind: ClassVar = TRAINING_JOB
    short_name: ClassVar = "tjob"
    columns: ClassVar = (
        Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="What is going on."),
        Column("Attempt", ".status.run.attempt", type="integer", description="Attempt of the current run."),
        Column("Metric", ".status.metric", description="The gate's first metric of the last finished run."),
        Column("Version", ".status.lastVersion", description="The last version that was accepted."),
        Column("Trigger", ".status.run.request.kind", description="What asked for the run."),
        Column("Age", ".metadata.creationTimestamp", type="date"),
    )

    spec: TrainingJobSpec = Field(description="What to train, on what, and what the result must reach.")
    status: TrainingJobStatus = Field(default=TrainingJobStatus(), description="The current run and those before.")
