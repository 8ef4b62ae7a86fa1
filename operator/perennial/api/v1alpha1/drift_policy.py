"""DriftPolicy: what counts as drift of a deployment, and what to do when it lasts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.kinds import DRIFT_POLICY
from perennial.api.names import MAX_SHORT_NAME_LENGTH
from perennial.api.v1alpha1.base import ATOMIC_LIST, Column, Model, Resource, Rule, only_one
from perennial.api.v1alpha1.common import ObjectRef, PrometheusQuery, Status
from perennial.api.v1alpha1.types import (
    ONE_YEAR,
    THIRTY_DAYS,
    CommandIds,
    Count,
    Decimal,
    Digest,
    FeatureName,
    Identifier,
    Label,
    MetricName,
    Name,
    NameSet,
    PositiveDecimal,
    Sentence,
    Share,
    Timestamp,
    Uri,
)


class Window(Model):
    """The time that one test looks at; windows are closed, do not overlap and are aligned to the epoch."""

    rules: ClassVar = (Rule("self.offsetSeconds < self.seconds", "offsetSeconds must be less than seconds"),)

    seconds: Annotated[int, Field(ge=1, le=ONE_YEAR)] = Field(default=86400, description="Length of a window.")
    offset_seconds: Annotated[int, Field(ge=0, le=ONE_YEAR)] = Field(
        default=0, description="Shift against the epoch (UTC)."
    )
    min_samples: Count = Field(
        default=0, description="Fewest rows, and requests, of a test; 0: computed from effect and alpha."
    )
    reference_windows: Annotated[int, Field(ge=1, le=64)] = Field(
        default=7,
        description="First windows that become the reference of a model without a baseline. No effect in this version.",
    )


class Observations(Model):
    """What the routers counted."""


class PrometheusSource(PrometheusQuery):
    """One number from Prometheus, with a limit."""

    rules: ClassVar = (Rule(only_one("max", "min"), "exactly one of max and min must be set"),)

    max: Decimal | None = Field(default=None, description="Drift when the number is above this.")
    min: Decimal | None = Field(default=None, description="Drift when the number is below this.")


class PerformanceDataset(Model):
    """Labelled data."""

    uri: Uri = Field(description="Where the newest labelled data lies.")


class Performance(Model):
    """The newest labelled data, scored with the served version."""

    rules: ClassVar = (
        Rule(
            only_one("min", "max", "maxDecrease", "maxIncrease"),
            "exactly one of min, max, maxDecrease and maxIncrease must be set",
        ),
    )

    dataset: PerformanceDataset = Field(description="The labelled data.")
    metric: MetricName = Field(description="The metric that `evaluate` of the TrainingJob writes.")
    min: Decimal | None = Field(default=None, description="Drift when the metric is below this.")
    max: Decimal | None = Field(default=None, description="Drift when the metric is above this.")
    max_decrease: PositiveDecimal | None = Field(
        default=None, description="Drift when the metric fell by more than this since the version was made."
    )
    max_increase: PositiveDecimal | None = Field(
        default=None, description="Drift when the metric rose by more than this since the version was made."
    )


class Source(Model):
    """Where the evidence comes from."""

    rules: ClassVar = (
        Rule(
            only_one("observations", "prometheus", "performance"),
            "exactly one of observations, prometheus and performance must be set",
        ),
    )

    observations: Observations | None = Field(default=None, description="What the routers counted.")
    prometheus: PrometheusSource | None = Field(default=None, description="One number from Prometheus.")
    performance: Performance | None = Field(
        default=None, description="The newest labelled data, scored. Not in this version."
    )


class Features(Model):
    """What is tested."""

    rules: ClassVar = (
        Rule(
            "(self.include == 'Listed') == (has(self.names) && self.names.size() > 0)",
            "names must be set with include Listed, and only then",
        ),
        Rule("!has(self.exclude) || self.exclude.size() == 0 || self.include == 'All'", "exclude needs include All"),
    )

    include: Literal["All", "None", "Listed"] = Field(
        default="All", description="All features, none of them, or those in `names`."
    )
    names: NameSet | None = Field(default=None, description="The features, with include Listed.")
    exclude: NameSet = Field(default=(), description="Features that are left out of All.")
    prediction: bool = Field(default=True, description="Whether the prediction is tested too.")


class Test(Model):
    """When one feature, or the prediction, has drifted: all of size, significance and enough samples."""

    __test__ = False

    rules: ClassVar = (
        Rule("double(self.effect) > 0.0", "effect must be greater than 0"),
        Rule("double(self.alpha) > 0.0 && double(self.alpha) <= 0.5", "alpha must be greater than 0 and at most 0.5"),
    )

    effect: PositiveDecimal = Field(default="0.2", description="Smallest effect (bias-corrected PSI) that matters.")
    alpha: Share = Field(default="0.001", description="Chance that a window without drift is called drifted.")
    correction: Literal["Bonferroni", "BenjaminiHochberg"] = Field(
        default="Bonferroni", description="How alpha is shared among the features."
    )


class DriftRule(Model):
    """When drift lasts, and when it is over."""

    min_drifted_features: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Drifted features that make a drifted window."
    )
    for_windows: Annotated[int, Field(ge=1, le=64)] = Field(
        default=3, description="Drifted windows in a row that make drift."
    )
    clear_windows: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Windows in a row below the clear threshold that end it."
    )
    clear_ratio: Share = Field(default="0.7", description="The clear threshold, as a share of the drift threshold.")


class Quality(Model):
    """When the data itself is broken; retraining on broken data makes models worse."""

    max_null_increase: Share = Field(default="0.05", description="Most growth of the share of missing values.")
    max_zero_increase: Share = Field(default="0.2", description="Most growth of the share of zeros.")
    max_unseen_category: Share = Field(default="0.02", description="Largest share of categories never seen before.")
    max_out_of_range: Share | None = Field(
        default=None, description="Largest share of values beyond the baseline's outermost edges; not checked if unset."
    )
    on_violation: Literal["Block", "Ignore"] = Field(default="Block", description="Whether it holds retraining.")
    hold_windows: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Windows that it holds retraining; then a person is asked."
    )


class Schedule(Model):
    """Continuous training by calendar, through the same guards."""

    cron: Annotated[
        str,
        Field(min_length=9, max_length=100, pattern=r"^[-0-9A-Za-z*/,]+( +[-0-9A-Za-z*/,]+){4}$"),
    ] = Field(description="Minute, hour, day of month, month, day of week.")
    time_zone: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$")] = Field(
        default="Etc/UTC", description="Time zone of `cron`, by its IANA name."
    )
    action: Literal["Notify", "Propose", "Retrain"] = Field(
        default="Retrain", description="What to do then. Notify and Propose: not in this version."
    )


class Budget(Model):
    """Most retrains in a time."""

    max_retrains: Annotated[int, Field(ge=1, le=1000)] = Field(default=2, description="Most retrains.")
    per_seconds: Annotated[int, Field(ge=1, le=ONE_YEAR)] = Field(default=THIRTY_DAYS, description="In this time.")
    gpu_seconds: Count | None = Field(default=None, description="Most GPU time in it; no limit if unset.")


class Retrain(Model):
    """How to retrain, and how often at most."""

    training_job_ref: ObjectRef = Field(description="The TrainingJob whose spec the new one copies.")
    require_new_data: bool = Field(
        default=True, description="Wait until the training data differs from what the champion was trained on."
    )
    max_wait_seconds: Annotated[int, Field(ge=1, le=ONE_YEAR)] = Field(
        default=THIRTY_DAYS, description="Longest wait for new data; then the trigger expires."
    )
    cooldown_seconds: Annotated[int, Field(ge=1, le=ONE_YEAR)] = Field(
        default=86400, description="Rest after a trigger ended; at least the window."
    )
    budget: Budget = Field(default=Budget(), description="Most retrains in a time.")


class DriftPolicySpec(Model):
    """What is drift, and what to do when it lasts."""

    rules: ClassVar = (
        Rule(
            "self.action == 'Notify' || has(self.retrain)",
            "action Retrain or Propose needs retrain with a trainingJobRef",
        ),
        Rule(
            "!has(self.schedule) || self.schedule.action == 'Notify' || has(self.retrain)",
            "schedule.action Retrain or Propose needs retrain with a trainingJobRef",
        ),
        Rule(
            "!has(self.source.performance) || has(self.retrain)",
            "source.performance needs retrain with the trainingJobRef whose evaluate scores the data",
        ),
        Rule(
            "!has(self.retrain) || self.retrain.cooldownSeconds >= self.window.seconds",
            "retrain.cooldownSeconds must be at least window.seconds",
        ),
        Rule(
            "self.features.include != 'None' || self.features.prediction || !has(self.source.observations)"
            " || has(self.schedule)",
            "features.include None needs prediction true, else nothing would be tested",
        ),
    )

    deployment_ref: ObjectRef = Field(description="The ModelDeployment that is watched.")
    window: Window = Field(default=Window(), description="The time that one test looks at.")
    source: Source = Field(default=Source(observations=Observations()), description="Where the evidence comes from.")
    features: Features = Field(default=Features(), description="What is tested, of observations.")
    test: Test = Field(default=Test(), description="When one feature has drifted.")
    rule: DriftRule = Field(default=DriftRule(), description="When drift lasts, and when it is over.")
    quality: Quality = Field(default=Quality(), description="When the data itself is broken.")
    schedule: Schedule | None = Field(default=None, description="Training by calendar.")
    action: Literal["Notify", "Propose", "Retrain"] = Field(
        default="Notify",
        description="Notify: a condition and an event. Retrain: start the job. Propose: not in this version.",
    )
    retrain: Retrain | None = Field(default=None, description="How to retrain, and how often at most.")
    suspend: bool = Field(default=False, description="Test nothing and start nothing.")


class WindowStatus(Model):
    """The last closed window."""

    start_time: Timestamp | None = Field(default=None, description="When it began.")
    end_time: Timestamp | None = Field(default=None, description="When it ended.")
    samples: Count = Field(default=0, description="Rows that were binned.")
    requests: Count = Field(default=0, description="Requests that they came from.")
    min_samples: Count | None = Field(default=None, description="Samples that a test needs.")
    lost: Count | None = Field(default=None, description="At most this many requests were lost with a router pod.")
    revision: Label | None = Field(default=None, description="The revision that served.")


class DriftedFeature(Model):
    """One feature that drifted in the last closed window."""

    feature: FeatureName = Field(description="Its name; `prediction` for the prediction.")
    effect: Decimal = Field(description="Bias-corrected PSI.")
    noise: PositiveDecimal | None = Field(default=None, description="Effect that the reference itself shows.")
    p_value: PositiveDecimal | None = Field(default=None, description="Chance of such a PSI without drift.")


class Trigger(Model):
    """One reason to retrain and what became of it."""

    id: Identifier = Field(description="Hash of the policy, the deployment's revision and the window's end.")
    window_end: Timestamp | None = Field(default=None, description="End of the window that decided it.")
    kind: Literal["Drift", "Schedule"] = Field(default="Drift", description="What decided it.")
    reason: Sentence | None = Field(default=None, description="Why, in one sentence.")
    revision: Label | None = Field(default=None, description="The revision that served.")
    version: Name | None = Field(default=None, description="The version that served.")
    started_time: Timestamp | None = Field(default=None, description="When it was recorded.")
    training_job: Name | None = Field(default=None, description="The TrainingJob that it started.")
    training_job_time: Timestamp | None = Field(default=None, description="When it was started.")
    data_digest: Digest | None = Field(default=None, description="Digest of the training data it was started on.")
    result_version: Name | None = Field(default=None, description="The version that came of it.")
    run_ended_time: Timestamp | None = Field(default=None, description="When its run ended.")
    outcome: (
        Literal["TrainingFailed", "GateFailed", "Superseded", "Rejected", "Promoted", "Aborted", "Expired"] | None
    ) = Field(default=None, description="How it ended.")
    outcome_time: Timestamp | None = Field(default=None, description="When it ended.")
    gpu_seconds: Count | None = Field(default=None, description="GPU time that it took.")


class DriftPolicyStatus(Status):
    """The last closed window and the triggers."""

    state: (
        Literal["Ok", "Warning", "Drifted", "Unknown", "DataBlocked", "WaitingForLabels", "CoolingDown", "Exhausted"]
        | None
    ) = Field(default=None, description="Where the policy stands.")
    window: WindowStatus | None = Field(default=None, description="The last closed window.")
    effect: Decimal | None = Field(default=None, description="Largest effect of the last closed window.")
    threshold: PositiveDecimal | None = Field(default=None, description="What that effect has to exceed.")
    drifted: Annotated[tuple[DriftedFeature, ...], Field(max_length=20, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Drifted features, largest effect first; at most 20."
    )
    consecutive: Count = Field(default=0, description="Drifted windows in a row.")
    clear: Count = Field(default=0, description="Windows in a row below the clear threshold.")
    armed: bool = Field(default=True, description="Whether drift may trigger; false from a trigger until it re-arms.")
    blocked_windows: Count = Field(default=0, description="Windows in a row with broken data.")
    commands: CommandIds = Field(default=(), description="Commands that were executed.")
    active_trigger: Trigger | None = Field(default=None, description="The trigger in flight.")
    last_trigger: Trigger | None = Field(default=None, description="The last trigger that ended.")
    history: Annotated[tuple[Trigger, ...], Field(max_length=10, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Triggers that ended, newest first."
    )


class DriftPolicy(Resource):
    """This is drift of a deployment's inputs or predictions; when it lasts, do this."""

    resource_kind: ClassVar = DRIFT_POLICY
    short_name: ClassVar = "drift"
    max_name_length: ClassVar = MAX_SHORT_NAME_LENGTH
    columns: ClassVar = (
        Column("Target", ".spec.deploymentRef.name", description="The ModelDeployment that is watched."),
        Column("State", ".status.state", description="Where the policy stands."),
        Column("Effect", ".status.effect", description="Largest effect of the last closed window."),
        Column("Threshold", ".status.threshold", description="What that effect has to exceed."),
        Column("Samples", ".status.window.samples", type="integer", description="Rows of the last closed window."),
        Column("Last-Retrain", ".status.lastTrigger.trainingJobTime", type="date", description="The last retrain."),
        Column("Age", ".metadata.creationTimestamp", type="date"),
    )

    spec: DriftPolicySpec = Field(description="What is drift, and what to do when it lasts.")
    status: DriftPolicyStatus = Field(
        default=DriftPolicyStatus(), description="The last closed window and the triggers."
    )
