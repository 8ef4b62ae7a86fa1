"""What a ModelDeployment asks for, as frozen dataclasses read from the object's spec.

Defaults stand in the CRD; those repeated here only serve objects that never met an API server (tests). Must not judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from perennial.domain.decision import JsonObject

UpdatePolicy = Literal["Manual", "Git", "Direct"]
OnInconclusive = Literal["Hold", "Promote", "Abort"]
Surge = Literal["Surge", "Replace", "Auto"]

FULL = 100
"""The weight that ends every rollout; it is no step of the analysis."""


@dataclass(frozen=True, slots=True)
class Step:
    """One weight of the canary, 1..99 percent; hold_seconds is a minimum; with approval a person lets it go on.

    Weight 0, before the first: the canary gets copies of requests and answers nobody.
    """

    weight: int
    hold_seconds: int = 0
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """At most (100 - percentile) percent of the requests may take longer than max_milliseconds."""

    percentile: float
    max_milliseconds: int

    @property
    def allowed_share(self) -> float:
        """The share (0..1) of requests that may be slower."""
        return 1 - self.percentile / 100


@dataclass(frozen=True, slots=True)
class MetricCheck:
    """One Prometheus query with bounds; `source` is a name from the operator's settings."""

    name: str
    source: str
    query: str
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """The checks of a canary; rates and alpha are fractions (0..1), times are seconds. sticky: callers keep their
    revision, so that requests are not split at random and the weight is not each revision's share of them.
    copy_percent: how many of the requests the canary gets copies of while its weight is 0. by_metrics: requests come
    through a Gateway, where no router counts them, so that metrics decide. smoke_requests: with sample inputs, before
    all else; 0: none."""

    period_seconds: int = 1
    warmup_seconds: int = 5
    min_requests: int = 50
    min_failures: int = 5
    max_error_rate: float = 0.02
    max_error_ratio: float = 1.5
    alpha: float = 0.01
    latency: Latency | None = None
    metrics: tuple[MetricCheck, ...] = ()
    failure_codes: frozenset[str] = frozenset()
    max_seconds: int = 3600
    on_inconclusive: OnInconclusive = "Hold"
    hold_max_seconds: int = 86400
    sticky: bool = False
    copy_percent: int = 0
    max_distance: float | None = None
    by_metrics: bool = False
    smoke_requests: int = 0

    @property
    def counted(self) -> frozenset[str]:
        """What the counts depend on: evidence that was counted by other rules cannot be added to."""
        limit = {f"over {self.latency.max_milliseconds} ms"} if self.latency is not None else set()
        return self.failure_codes | limit


@dataclass(frozen=True, slots=True)
class Scaling:
    """Bounds of the autoscaler that owns the stable revision's replicas; metrics in autoscaling/v2 shape."""

    min_replicas: int
    max_replicas: int
    target_cpu_percent: int
    metrics: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Parent:
    """A Gateway of the namespace that the route attaches to, or one listener or port of it."""

    name: str
    section: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    """The route that takes requests from Gateways to the pods."""

    parents: tuple[Parent, ...]
    hostnames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """The part of the spec that decides about versions, replicas and rollouts."""

    model: str | None
    version: str | None
    artifact: JsonObject | None
    update_policy: UpdatePolicy
    replicas: int
    scaling: Scaling | None
    steps: tuple[Step, ...]
    analysis: Analysis
    progress_deadline_seconds: int
    scale_down_delay_seconds: int
    revision_history_limit: int
    surge: Surge
    suspend: bool
    forbid_own_approval: bool
    raw: JsonObject
    gateway: GatewayRoute | None = None

    @property
    def weights(self) -> tuple[int, ...]:
        """The weights in order, the final 100 included."""
        return (*(step.weight for step in self.steps), FULL)

    def portion(self, weight: int) -> str:
        """What a canary with that weight gets, in words."""
        copies = self.analysis.copy_percent
        return f"copies of {copies}%" if weight == 0 and copies else f"{weight}%"


def read_spec(spec: Mapping[str, Any]) -> DeploymentSpec:
    """The spec of a ModelDeployment as the API server stores it."""
    model = spec.get("model", {})
    rollout = spec.get("rollout", {})
    scaling = spec.get("scaling")
    gateway = spec.get("traffic", {}).get("gateway")
    copies = (Step(0),) if rollout.get("mirrorPercent", 0) else ()
    return DeploymentSpec(
        model=model.get("name"),
        version=model.get("version"),
        artifact=model.get("artifact"),
        update_policy=model.get("updatePolicy", "Manual"),
        replicas=int(spec.get("replicas", 1)),
        scaling=_read_scaling(scaling) if scaling else None,
        steps=copies
        + tuple(
            Step(int(s["weight"]), int(s.get("holdSeconds", 0)), bool(s.get("approval", False)))
            for s in rollout.get("steps", [])
        ),
        analysis=replace(
            read_analysis(rollout.get("analysis", {})),
            sticky="stickyHeader" in spec.get("traffic", {}),
            copy_percent=int(rollout.get("mirrorPercent", 0)),
            by_metrics=bool(gateway),
            smoke_requests=int(rollout.get("smoke", {}).get("requests", 0)),
        ),
        progress_deadline_seconds=int(rollout.get("progressDeadlineSeconds", 1200)),
        scale_down_delay_seconds=int(rollout.get("scaleDownDelaySeconds", 300)),
        revision_history_limit=int(rollout.get("revisionHistoryLimit", 5)),
        surge=rollout.get("surge", "Auto"),
        suspend=bool(spec.get("suspend", False)),
        forbid_own_approval=bool(rollout.get("forbidOwnApproval", False)),
        raw=dict(spec),
        gateway=_read_gateway(gateway) if gateway else None,
    )


def read_analysis(spec: Mapping[str, Any]) -> Analysis:
    """`spec.rollout.analysis`; decimals arrive as strings."""
    latency = spec.get("latency")
    return Analysis(
        period_seconds=int(spec.get("periodSeconds", 1)),
        warmup_seconds=int(spec.get("warmupSeconds", 5)),
        min_requests=int(spec.get("minRequests", 50)),
        min_failures=int(spec.get("minFailures", 5)),
        max_error_rate=float(spec.get("maxErrorRate", "0.02")),
        max_error_ratio=float(spec.get("maxErrorRatio", "1.5")),
        alpha=float(spec.get("alpha", "0.01")),
        latency=Latency(float(latency["percentile"]), int(latency["maxMilliseconds"])) if latency else None,
        metrics=tuple(_read_metric(metric) for metric in spec.get("metrics", [])),
        failure_codes=frozenset(str(code) for code in spec.get("failureCodes", [])),
        max_seconds=int(spec.get("maxSeconds", 3600)),
        on_inconclusive=spec.get("onInconclusive", "Hold"),
        hold_max_seconds=int(spec.get("holdMaxSeconds", 86400)),
        max_distance=float(spec["predictions"].get("maxDistance", "0.2")) if "predictions" in spec else None,
    )


def _read_metric(metric: Mapping[str, Any]) -> MetricCheck:
    prometheus = metric["prometheus"]
    low, high = metric.get("min"), metric.get("max")
    return MetricCheck(
        name=metric["name"],
        source=prometheus["source"],
        query=prometheus["query"],
        minimum=float(low) if low is not None else None,
        maximum=float(high) if high is not None else None,
    )


def _read_gateway(gateway: Mapping[str, Any]) -> GatewayRoute:
    parents = (Parent(ref["name"], ref.get("sectionName"), ref.get("port")) for ref in gateway["parentRefs"])
    return GatewayRoute(tuple(parents), tuple(gateway.get("hostnames", ())))


def _read_scaling(scaling: Mapping[str, Any]) -> Scaling:
    return Scaling(
        min_replicas=int(scaling.get("minReplicas", 1)),
        max_replicas=int(scaling["maxReplicas"]),
        target_cpu_percent=int(scaling.get("targetCPUPercent", 70)),
        metrics=tuple(scaling.get("metrics", [])),
    )
