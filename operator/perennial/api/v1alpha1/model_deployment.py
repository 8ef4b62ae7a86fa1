"""ModelDeployment: serve a version with resources; roll a new one out by steps under checks."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.kinds import MODEL_DEPLOYMENT
from perennial.api.v1alpha1.base import ATOMIC_LIST, SET_LIST, Column, Model, Resource, Rule, at_most_one, list_map
from perennial.api.v1alpha1.common import (
    ArtifactRef,
    Environment,
    PodTemplate,
    PrometheusQuery,
    Resources,
    Status,
    Storage,
)
from perennial.api.v1alpha1.types import (
    HOSTNAME,
    MAX_INTEGER,
    THIRTY_DAYS,
    Command,
    CommandIds,
    Commit,
    Count,
    Decimal,
    Digest,
    Format,
    FreeList,
    FreeObject,
    HeaderName,
    Identifier,
    Image,
    Label,
    ModelName,
    Name,
    ObjectName,
    Percent,
    PersonName,
    PositiveDecimal,
    Quantity,
    Reason,
    RevisionName,
    Sentence,
    Share,
    Timestamp,
)


class ServedModel(Model):
    """Which version serves and who may change it."""

    rules: ClassVar = (
        Rule(at_most_one("version", "artifact"), "version and artifact may not both be set: remove one of them"),
        Rule(
            "self.updatePolicy != 'Direct' || !has(self.version)",
            "version may not be set with updatePolicy Direct, which chooses the version itself: "
            "remove version, or use updatePolicy Manual or Git",
        ),
        Rule(
            "self.updatePolicy == 'Manual' || !has(self.artifact)",
            "artifact serves exactly what it names: updatePolicy must be Manual with it",
        ),
    )

    name: ModelName = Field(description="The model, as TrainingJobs and ModelVersions name it.")
    version: Name | None = Field(
        default=None,
        description="The ModelVersion to serve; the field that write-back edits. Unset: nothing serves until one is "
        "proposed.",
    )
    update_policy: Literal["Manual", "Git", "Direct"] = Field(
        default="Manual",
        description="Manual: people edit `version`. Git: a newer accepted version becomes a commit. "
        "Direct: serve the newest accepted version without Git, kept in status.chosenVersion.",
    )
    artifact: ArtifactRef | None = Field(
        default=None, description="Instead of `version`: a model that was trained elsewhere."
    )
    served_name: Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")] | None = (
        Field(
            default=None,
            description="The model's name at its server, where that is not the ModelDeployment's (such as its folder "
            "in a Triton repository). Clients use the ModelDeployment's name; the router rewrites the path.",
        )
    )


class Port(Model):
    """A port that the model server listens on."""

    name: Annotated[str, Field(max_length=15, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = Field(
        default=None, description="Its name, e.g. http or grpc."
    )
    container_port: Annotated[int, Field(ge=1, le=65535)] = Field(description="Its number.")


class ServerContainer(Model):
    """A model server of your own; it reads the model from /mnt/models."""

    image: Image = Field(description="Image of the server.")
    command: Command | None = Field(default=None, description="Command, in place of the image's entry point.")
    args: Command | None = Field(default=None, description="Arguments.")
    env: Environment | None = Field(default=None, description="Environment of the server.")
    ports: Annotated[tuple[Port, ...], Field(max_length=8, json_schema_extra=list_map("containerPort"))] | None = Field(
        default=None,
        description="Ports; the first one takes the requests, and a later one named `grpc` those of gRPC. "
        "8080 when unset.",
    )
    readiness_probe: FreeObject | None = Field(
        default=None, description="Readiness probe; GET /v2/health/ready on the first port when unset."
    )


class Scaling(Model):
    """Replicas by load, with a HorizontalPodAutoscaler."""

    rules: ClassVar = (Rule("self.minReplicas <= self.maxReplicas", "minReplicas must be at most maxReplicas"),)

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="Fewest replicas.")
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most replicas.")
    target_cpu_percent: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=70, alias="targetCPUPercent", description="Mean CPU use, of the request, to aim at."
    )
    metrics: FreeList | None = Field(
        default=None, description="Metrics as in HorizontalPodAutoscaler v2, instead of targetCPUPercent."
    )


class Step(Model):
    """One step of a rollout."""

    weight: Annotated[int, Field(ge=1, le=99)] = Field(description="Percent of the requests that the canary gets.")
    hold_seconds: Annotated[int, Field(ge=0, le=THIRTY_DAYS)] = Field(
        default=0, description="Shortest stay at this step, beside what the analysis asks for."
    )
    approval: bool = Field(default=False, description="Wait for a person (`perennial approve`) before going on.")


class Latency(Model):
    """A limit on response times: at most 100 - percentile percent of the requests may be slower."""

    percentile: Annotated[int, Field(ge=1, le=99)] = Field(default=95, description="The share that must be fast.")
    max_milliseconds: Annotated[int, Field(ge=1, le=3_600_000)] = Field(description="What counts as fast.")


class PredictionCheck(Model):
    """Compare what the canary predicts with what stable predicts on the same traffic: a canary may answer 200 and be
    wrong. Missing, infinite or constant predictions are found too.
    """

    rules: ClassVar = (Rule("double(self.maxDistance) > 0.0", "maxDistance must be greater than 0"),)

    max_distance: PositiveDecimal = Field(
        default="0.2", description="Largest distance (PSI, less what chance explains) that is still good."
    )


class AnalysisMetric(Model):
    """An extra check from Prometheus."""

    rules: ClassVar = (Rule("has(self.min) || has(self.max)", "at least one of min and max must be set"),)

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="Its name."
    )
    prometheus: PrometheusQuery = Field(
        description="Where the number comes from. In the query $(canary) and $(stable) become the revisions, $(name) "
        "and $(namespace) those of the ModelDeployment; pods are named <name>-rev-<revision>-..."
    )
    min: Decimal | None = Field(default=None, description="The number must be at least this.")
    max: Decimal | None = Field(default=None, description="The number must be at most this.")


class Analysis(Model):
    """When a canary is promoted or aborted. Looking often does not inflate `alpha`."""

    rules: ClassVar = (
        Rule(
            "double(self.maxErrorRate) > 0.0 && double(self.maxErrorRate) < 1.0",
            "maxErrorRate must be greater than 0 and less than 1",
        ),
        Rule("double(self.maxErrorRatio) >= 1.0", "maxErrorRatio must be at least 1"),
        Rule("double(self.alpha) > 0.0 && double(self.alpha) <= 0.5", "alpha must be greater than 0 and at most 0.5"),
        Rule("self.maxSeconds > self.warmupSeconds", "maxSeconds must be greater than warmupSeconds"),
    )

    period_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(default=1, description="How often to look.")
    warmup_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=5, description="Requests right after each step's weight is verified do not count."
    )
    min_requests: Annotated[int, Field(ge=1, le=MAX_INTEGER)] = Field(
        default=50, description="Fewest canary requests in a step before going on."
    )
    min_failures: Annotated[int, Field(ge=1, le=MAX_INTEGER)] = Field(
        default=5, description="Fewest failures before aborting."
    )
    max_error_rate: Share = Field(default="0.02", description="Share of failed requests that is still good.")
    max_error_ratio: PositiveDecimal = Field(
        default="1.5", description="How many times stable's share of failed requests is still good."
    )
    alpha: Share = Field(default="0.01", description="Chance of a wrong verdict.")
    latency: Latency | None = Field(default=None, description="A limit on response times.")
    predictions: PredictionCheck | None = Field(
        default=None, description="Compare the predictions of canary and stable; not compared when unset."
    )
    metrics: Annotated[tuple[AnalysisMetric, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = Field(
        default=(), description="Extra checks."
    )
    failure_codes: Annotated[
        tuple[Annotated[int, Field(ge=400, le=599)], ...], Field(max_length=32, json_schema_extra=SET_LIST)
    ] = Field(default=(), description="Further HTTP codes that count as failures, e.g. 429.")
    max_seconds: Annotated[int, Field(ge=1, le=THIRTY_DAYS)] = Field(
        default=3600, description="Longest time in one step before it is inconclusive."
    )
    on_inconclusive: Literal["Hold", "Promote", "Abort"] = Field(
        default="Hold", description="What to do when a step is inconclusive."
    )
    hold_max_seconds: Annotated[int, Field(ge=1, le=THIRTY_DAYS)] = Field(
        default=86400, description="Longest hold; then the rollout expires: weight 0, not rejected."
    )


class Smoke(Model):
    """Sample inputs of the version, from its reference.csv, that are sent to the canary before any other request."""

    requests: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="How many requests, one sample each; they count as evidence. 361 clean ones show a failure rate "
        "below 0.02 at alpha 0.01."
    )


_DEFAULT_STEPS = (Step(weight=5), Step(weight=25), Step(weight=50))


class Rollout(Model):
    """How a new version takes over."""

    rules: ClassVar = (
        Rule(
            "self.steps.map(step, step.weight).isSorted()"
            " && self.steps.all(step, self.steps.exists_one(other, other.weight == step.weight))",
            "weights of steps must rise strictly, from 1 to 99; 100 follows by itself",
        ),
    )

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20, json_schema_extra=ATOMIC_LIST)] = Field(
        default=_DEFAULT_STEPS, description="Weights of the canary, strictly rising; 100 follows by itself."
    )
    analysis: Analysis = Field(default=Analysis(), description="When a canary is promoted or aborted.")
    smoke: Smoke | None = Field(
        default=None, description="Send sample inputs of the version first; nobody gets the answers."
    )
    mirror_percent: Percent = Field(
        default=0,
        description="Percent of the requests that a canary is sent copies of before its first weight; nobody gets its "
        "answers, but they are judged.",
    )
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=THIRTY_DAYS)] = Field(
        default=1200, description="Longest time for the pods of a step to become ready."
    )
    scale_down_delay_seconds: Annotated[int, Field(ge=30, le=THIRTY_DAYS)] = Field(
        default=300, description="How long an old revision's pods stay after they stopped serving; at least 30."
    )
    revision_history_limit: Annotated[int, Field(ge=1, le=50)] = Field(
        default=5, description="Old revisions that are kept, scaled to zero."
    )
    forbid_own_approval: bool = Field(
        default=False,
        description="Whoever wrote the change in Git may not promote or skip its rollout: user names must be the names "
        "or email addresses of the commits.",
    )
    surge: Literal["Surge", "Replace", "Auto"] = Field(
        default="Auto",
        description="Surge: the canary's pods come beside stable's. Replace: they take stable's place. Auto: Surge, "
        "unless the scheduler finds no room.",
    )


class ParentRef(Model):
    """A Gateway that the route attaches to."""

    name: ObjectName = Field(description="Name of the Gateway.")
    section_name: ObjectName | None = Field(default=None, description="One listener of it.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(default=None, description="One port of it.")


class GatewayRoute(Model):
    """An HTTPRoute from Gateways straight to the pods, with the weights of the rollout."""

    parent_refs: Annotated[tuple[ParentRef, ...], Field(min_length=1, max_length=8, json_schema_extra=ATOMIC_LIST)] = (
        Field(description="Gateways, in this namespace, that the route attaches to.")
    )
    hostnames: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=253, pattern=HOSTNAME)], ...],
        Field(max_length=16, json_schema_extra=SET_LIST),
    ] = Field(default=(), description="Hosts that the route takes; all that its listeners take when unset.")


class Traffic(Model):
    """How requests are routed."""

    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60, description="Longest time to the response headers; idle time-out for streams."
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0,
        description="How often the router tries a request again, also one that a server has seen; 0: only requests "
        "that no server has seen, up to ten times within about 3 s.",
    )
    override: bool = Field(
        default=False,
        description="Whether the request header `x-perennial-revision: canary` or `stable` chooses the revision "
        "while a rollout is in progress; such requests are no evidence.",
    )
    sticky_header: HeaderName | None = Field(
        default=None,
        description="Requests with the same value of this header go to the same revision while the weights stand.",
    )
    gateway: GatewayRoute | None = Field(
        default=None,
        description="Take requests from Gateways too, past the routers; rollout.analysis.metrics decide then.",
    )


class Observation(Model):
    """What the router looks at for drift detection."""

    sample_percent: Percent = Field(default=100, description="Percent of the requests that are binned.")
    max_body_bytes: Annotated[int, Field(ge=0, le=4_194_304)] = Field(
        default=65536, description="Bytes of a body that are read."
    )
    max_rows_per_request: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=32, description="Rows of one request that are binned."
    )


_NEEDS_ROUTERS = (
    (
        "rollout.analysis.latency",
        "!has(self.rollout.analysis.latency)",
        "the routers do not time requests through a Gateway; use an entry of rollout.analysis.metrics",
    ),
    (
        "rollout.analysis.predictions",
        "!has(self.rollout.analysis.predictions)",
        "the routers do not read answers through a Gateway",
    ),
    (
        "rollout.mirrorPercent",
        "self.rollout.mirrorPercent == 0",
        "the routers cannot copy requests through a Gateway",
    ),
    (
        "traffic.override",
        "!self.traffic.override",
        "only the routers let a request choose its revision",
    ),
    (
        "traffic.stickyHeader",
        "!has(self.traffic.stickyHeader)",
        "only the routers keep callers on their revision",
    ),
)


class ModelDeploymentSpec(Model):
    """What serves, and how a new version takes over."""

    rules: ClassVar = (
        Rule(at_most_one("runtime", "container"), "runtime and container may not both be set: remove one of them"),
        Rule(
            "!has(self.scaling) || self.replicas == 1",
            "replicas and scaling may not both be set: remove replicas, or remove scaling",
        ),
        Rule(
            "!has(self.rollout.analysis.predictions)"
            " || (self.observation.samplePercent > 0 && self.observation.maxBodyBytes > 0)",
            "rollout.analysis.predictions reads what models answer: observation.samplePercent and "
            "observation.maxBodyBytes must be greater than 0 with it",
        ),
        Rule(
            "!has(self.rollout.analysis.predictions) || !has(self.traffic.stickyHeader)",
            "rollout.analysis.predictions and traffic.stickyHeader may not both be set: callers who keep a revision "
            "ask canary and stable different things",
        ),
        Rule(
            "!has(self.traffic.gateway) || size(self.rollout.analysis.metrics) > 0",
            "traffic.gateway needs at least one entry in rollout.analysis.metrics: the routers do not count requests "
            "through a Gateway, so metrics decide",
        ),
        *(
            Rule(f"!has(self.traffic.gateway) || {without}", f"{field} may not be set with traffic.gateway: {why}")
            for field, without, why in _NEEDS_ROUTERS
        ),
    )

    model: ServedModel = Field(description="Which version serves and who may change it.")
    runtime: Format | None = Field(
        default=None, description="A name from the operator's runtime table; by the artifact's format when unset."
    )
    container: ServerContainer | None = Field(default=None, description="Or a model server of your own.")
    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Replicas of stable. Not used with `scaling`."
    )
    scaling: Scaling | None = Field(default=None, description="Replicas by load.")
    resources: Resources | None = Field(default=None, description="Resources of the model server.")
    shared_memory: Quantity | None = Field(
        default=None, description="Size of /dev/shm; half of the memory limit when unset."
    )
    template: PodTemplate | None = Field(default=None, description="Extras of the pods.")
    storage: Storage | None = Field(default=None, description="How to reach the artifact store.")
    rollout: Rollout = Field(default=Rollout(), description="How a new version takes over.")
    traffic: Traffic = Field(default=Traffic(), description="How requests are routed.")
    observation: Observation = Field(default=Observation(), description="What drift detection looks at.")
    suspend: bool = Field(default=False, description="Change nothing; what serves keeps serving.")


class RevisionStatus(Model):
    """One revision that serves or is about to."""

    revision: RevisionName = Field(description="The revision.")
    version: Name | None = Field(default=None, description="The version that it serves.")
    digest: Digest | None = Field(default=None, description="Digest of its artifact.")
    replicas: Count = Field(default=0, description="Pods that it should have.")
    ready_replicas: Count = Field(default=0, description="Pods that are ready.")


class CanaryStatus(RevisionStatus):
    """The revision on trial."""

    weight: Percent = Field(default=0, description="Percent of the requests that it gets.")


class Weight(Model):
    """How many of the requests go to a revision."""

    revision: RevisionName = Field(description="The revision.")
    weight: Percent = Field(description="Percent of the requests.")


class Interval(Model):
    """A Wilson interval of the canary's share of failed requests, for people."""

    low: PositiveDecimal = Field(description="Lower end.")
    high: PositiveDecimal = Field(description="Upper end.")


class PredictionStatus(Model):
    """What canary and stable predicted at this weight on the same traffic."""

    rows: Count = Field(default=0, description="Canary answers whose prediction was read, one row each.")
    stable_rows: Count = Field(default=0, description="Stable's in the same time.")
    nulls: Count = Field(default=0, description="Canary predictions that are missing, NaN or infinite.")
    stable_nulls: Count = Field(default=0, description="Stable's in the same time.")
    unreadable: Count = Field(default=0, description="Canary answers that could not be read, or were streams.")
    distance: Label | None = Field(
        default=None, description="PSI of the two, less what chance explains; below 0: closer than chance."
    )
    limit: PositiveDecimal = Field(description="maxDistance.")
    rows_needed: Count = Field(default=0, description="Canary rows still needed to compare.")
    verdict: Literal["Passed", "Failed", "NotEnough"] = Field(description="What the comparison says.")
    reason: Sentence | None = Field(default=None, description="Why, in one sentence.")


class AnalysisStatus(Model):
    """What was counted in this step and what it is evidence for."""

    requests: Count = Field(default=0, description="Canary requests counted in this step.")
    failures: Count = Field(default=0, description="Those that failed.")
    stable_requests: Count = Field(default=0, description="Stable's requests in the same time.")
    stable_failures: Count = Field(default=0, description="Those that failed.")
    interval: Interval | None = Field(default=None, description="Interval of the share of failed requests.")
    promote_evidence: PositiveDecimal | None = Field(default=None, description="Evidence that the canary is good.")
    abort_evidence: PositiveDecimal | None = Field(default=None, description="Evidence that the canary is bad.")
    requests_needed: Count | None = Field(default=None, description="Clean requests still needed.")
    verdict: Literal["Promote", "Abort", "Inconclusive"] | None = Field(
        default=None, description="The verdict, once there is one."
    )
    reason: Sentence | None = Field(default=None, description="Why, in one sentence.")
    predictions: PredictionStatus | None = Field(default=None, description="Predictions compared, when asked for.")


class AuthorStatus(Model):
    """Who wrote a commit, as the commit says."""

    name: PersonName = Field(description="Name.")
    email: PersonName = Field(description="Email address.")


class ApprovalStatus(Model):
    """One person's word that let the rollout go on."""

    by: PersonName = Field(description="The user name in the command.")
    said: Literal["Step", "Signature", "Promote", "Skip"] = Field(
        description="What was let pass: a step's approval, changed inputs, or by order all or one of the steps left."
    )
    weight: Percent = Field(description="Percent of the requests that the canary had.")
    time: Timestamp = Field(description="When.")


class SmokeStatus(Model):
    """Sample inputs that were sent to the canary, and what became of them."""

    requests: Count = Field(description="How many are to be sent.")
    attempt: Count = Field(description="The Job's number; 0: none is made.")
    attempt_time: Timestamp = Field(description="Since when.")
    over: bool = Field(default=False, description="Whether the rollout has gone on.")
    trouble: Sentence | None = Field(default=None, description="Why the last Job left no report.")
    sent: Count | None = Field(default=None, description="Requests that were sent.")
    failures: Count | None = Field(default=None, description="Those that failed.")
    good: Count | None = Field(default=None, description="Those that were answered with values.")
    nulls: Count | None = Field(default=None, description="Answers with a missing, NaN or infinite value.")
    unreadable: Count | None = Field(default=None, description="Answers of no known form.")
    timeouts: Count | None = Field(default=None, description="Requests without an answer in time.")
    broken: Count | None = Field(default=None, description="Connections that ended without a whole answer.")
    unreached: Count | None = Field(default=None, description="Requests that got no connection.")
    codes: FreeObject | None = Field(default=None, description="Other answers, by HTTP code.")
    compared: Count | None = Field(default=None, description="Answers for which training had recorded one too.")
    different: Count | None = Field(default=None, description="Those that differ from it.")
    largest_difference: Label | None = Field(default=None, description="The largest difference.")
    skew: Sentence | None = Field(default=None, description="How they differ, in one sentence.")
    p50_milliseconds: Count | None = Field(default=None, description="Half of the answers took no longer.")
    p95_milliseconds: Count | None = Field(default=None, description="95 % of the answers took no longer.")
    first: Sentence | None = Field(default=None, description="The first failure.")


class RolloutStatus(Model):
    """The rollout in progress."""

    id: Identifier = Field(description="Identifies the rollout.")
    state: Reason | None = Field(default=None, description="State of the rollout table.")
    target_revision: RevisionName = Field(description="The revision that is to become stable.")
    version: Name | None = Field(default=None, description="The version that it serves.")
    digest: Digest | None = Field(default=None, description="Digest of its artifact.")
    weight: Percent = Field(default=0, description="Percent of the requests that the current step aims at.")
    step: Count = Field(default=0, description="The current step, from 1; 0: none yet.")
    steps: Count = Field(default=0, description="Steps in all.")
    progress: Label | None = Field(default=None, description="Step and steps, for people: `2/3`.")
    started_time: Timestamp | None = Field(default=None, description="When it was recorded.")
    state_time: Timestamp | None = Field(default=None, description="When the state began.")
    step_started_time: Timestamp | None = Field(default=None, description="When the step began.")
    weight_verified: bool = Field(default=False, description="Whether every ready router applies the weights.")
    weight_verified_time: Timestamp | None = Field(default=None, description="Since when.")
    commit: Commit | None = Field(default=None, description="The Git commit that started it.")
    stable_replicas: Count | None = Field(
        default=None, description="Stable's replicas when it began, or when stable began to make room."
    )
    approved_step: Count | None = Field(default=None, description="Weight of the last step that a person approved.")
    approvals: Annotated[tuple[ApprovalStatus, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Who let it go on, oldest first."
    )
    authors: Annotated[tuple[AuthorStatus, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Who wrote the change, where one's own approval is forbidden; unset: not known."
    )
    refusal: Sentence | None = Field(default=None, description="Why the last order to go on was not taken.")
    signature_time: Timestamp | None = Field(
        default=None, description="When the routers were first asked for the inputs of stable and canary."
    )
    signature_difference: Sentence | None = Field(
        default=None, description="What differs between the inputs of stable and canary, when a person must approve it."
    )
    short_time: Timestamp | None = Field(default=None, description="Since when the canary lacks available pods.")
    replacing: bool = Field(default=False, description="Whether the canary takes stable's place for lack of room.")
    reason: Reason | None = Field(default=None, description="Why it is withdrawn, in one word.")
    message: Sentence | None = Field(default=None, description="Why it is withdrawn, in one sentence.")
    eta_seconds: Count | None = Field(default=None, description="Time to the verdict at the current rate.")
    analysis: AnalysisStatus | None = Field(default=None, description="What was counted in this step.")
    smoke: SmokeStatus | None = Field(default=None, description="Sample inputs, when asked for.")
    evidence: FreeObject | None = Field(
        default=None, description="Counts of all steps and the routers' counters last read; for the operator."
    )


class RejectedRevision(Model):
    """A revision that failed and is not tried again by itself."""

    revision: RevisionName = Field(description="The revision.")
    version: Name | None = Field(default=None, description="The version that it served.")
    reason: Reason = Field(description="Why, in one word.")
    message: Sentence | None = Field(default=None, description="Why, in one sentence.")
    time: Timestamp = Field(description="When.")
    recorded: bool | None = Field(
        default=None, description="Whether its ModelVersion holds the rejection too; it then ends with that one."
    )


class PromotedRevision(Model):
    """A revision that was promoted."""

    revision: RevisionName = Field(description="The revision.")
    version: Name | None = Field(default=None, description="The version that it serves.")
    digest: Digest | None = Field(default=None, description="Digest of its artifact.")
    promoted_time: Timestamp = Field(description="When.")
    commit: Commit | None = Field(default=None, description="The Git commit that named it.")
    approved_by: PersonName | None = Field(default=None, description="Who let its rollout go on.")


class GatewayStatus(Model):
    """The HTTPRoute of spec.traffic.gateway. Requests through it are not counted; metrics decide."""

    accepted: bool = Field(
        default=False, description="Whether every Gateway sends requests by the weights of `traffic`."
    )
    message: Sentence | None = Field(default=None, description="What it waits for, in the Gateways' own words.")


class ModelDeploymentStatus(Status):
    """What serves now, and the rollout in progress."""

    url: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="Where to send requests.")
    replicas: Count = Field(default=0, description="Pods that stable should have.")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Label selector of the pods, for `kubectl scale` and autoscalers."
    )
    stable: RevisionStatus | None = Field(default=None, description="The revision that is known to be good.")
    canary: CanaryStatus | None = Field(default=None, description="The revision on trial.")
    chosen_version: Name | None = Field(default=None, description="The version that updatePolicy Direct chose.")
    traffic: Annotated[tuple[Weight, ...], Field(max_length=8, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Where requests go; the routers follow exactly this."
    )
    traffic_version: Count = Field(default=0, description="Counts the changes of `traffic`.")
    gateway: GatewayStatus | None = Field(
        default=None, description="The HTTPRoute, while one is asked for or one of before is left."
    )
    rollout: RolloutStatus | None = Field(default=None, description="The rollout in progress; unset: none is.")
    rejected: Annotated[tuple[RejectedRevision, ...], Field(max_length=32, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Revisions that failed, newest first."
    )
    expired: RejectedRevision | None = Field(
        default=None, description="A revision whose rollout expired without a verdict; not tried again by itself."
    )
    history: Annotated[tuple[PromotedRevision, ...], Field(max_length=51, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Revisions that were promoted, newest first."
    )
    commands: CommandIds = Field(default=(), description="Commands that were executed.")


class ModelDeployment(Resource):
    """Serve this version with these resources; roll a new one out by these steps under these checks."""

    resource_kind: ClassVar = MODEL_DEPLOYMENT
    short_name: ClassVar = "mdep"
    columns: ClassVar = (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="What Git asks for is serving."),
        Column("Stable", ".status.stable.version", description="The version that is known to be good."),
        Column("Canary", ".status.canary.version", description="The version on trial."),
        Column("Weight", ".status.canary.weight", type="integer", description="The canary's percent of the requests."),
        Column("Step", ".status.rollout.progress", description="Step of the rollout."),
        Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="What is going on."),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("URL", ".status.url", priority=1, description="Where to send requests."),
        Column("Digest", ".status.stable.digest", priority=1, description="Digest of what serves."),
        Column("Commit", ".status.history[0].commit", priority=1, description="The Git commit that named it."),
    )
    scale_paths: ClassVar = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }

    spec: ModelDeploymentSpec = Field(description="What serves, and how a new version takes over.")
    status: ModelDeploymentStatus = Field(
        default=ModelDeploymentStatus(), description="What serves now, and the rollout in progress."
    )
