"""What a DriftPolicy asks for, as frozen dataclasses with numbers in place of decimal texts. Must not judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from perennial.api.v1alpha1.drift_policy import DriftPolicySpec

Action = Literal["Notify", "Propose", "Retrain"]
MAX_COUNTED_RETRAINS = 10
"""status.history keeps ten triggers, so a budget of more retrains cannot be counted; it counts as ten."""


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Closed windows of `seconds`, aligned to the epoch plus `offset`. min_samples 0: computed."""

    seconds: int
    offset: int = 0
    min_samples: int = 0

    def start_of(self, moment: float) -> int:
        """The start (epoch seconds) of the window that `moment` lies in."""
        return int((moment - self.offset) // self.seconds) * self.seconds + self.offset


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Which columns are tested. names None: all features but `exclude`."""

    names: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    prediction: bool = True

    def wants(self, name: str) -> bool:
        """Whether a feature of that name is tested (the prediction has its own switch)."""
        return name not in self.exclude if self.names is None else name in self.names


@dataclass(frozen=True, slots=True)
class TestSpec:
    """effect: smallest bias-corrected PSI that matters; alpha: shared among the features by `correction`."""

    __test__ = False

    effect: float = 0.2
    alpha: float = 0.001
    correction: Literal["Bonferroni", "BenjaminiHochberg"] = "Bonferroni"
    min_samples: int = 0
    clear_ratio: float = 0.7


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """How many drifted features make a drifted window, how many of those make drift, how many clear ones end it."""

    min_drifted: int = 1
    for_windows: int = 3
    clear_windows: int = 2


@dataclass(frozen=True, slots=True)
class QualitySpec:
    """Largest growth of shares against the baseline; out_of_range None: not checked."""

    null_increase: float = 0.05
    zero_increase: float = 0.2
    unseen_category: float = 0.02
    out_of_range: float | None = None
    blocks: bool = True
    hold_windows: int = 2


@dataclass(frozen=True, slots=True)
class Limit:
    """A number is beyond its limit above `maximum` or below `minimum`; exactly one is set."""

    maximum: float | None = None
    minimum: float | None = None


@dataclass(frozen=True, slots=True)
class PrometheusSpec:
    """A PromQL query to a named source, and the limit of its number."""

    source: str
    query: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """Training by calendar."""

    cron: str
    time_zone: str
    action: Action


@dataclass(frozen=True, slots=True)
class RetrainSpec:
    """How to retrain and how often at most; times in seconds."""

    training_job: str
    require_new_data: bool = True
    max_wait: int = 2_592_000
    cooldown: int = 86_400
    max_retrains: int = 2
    per_seconds: int = 2_592_000
    gpu_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """The whole spec. source names which of the three is set."""

    deployment: str
    window: WindowSpec
    source: Literal["observations", "prometheus", "performance"]
    prometheus: PrometheusSpec | None
    features: FeatureSpec
    test: TestSpec
    rule: RuleSpec
    quality: QualitySpec
    schedule: ScheduleSpec | None
    action: Action
    retrain: RetrainSpec | None
    suspend: bool


def parse_spec(raw: Mapping[str, Any]) -> PolicySpec:
    """The spec of a DriftPolicy object; defaults are those of the API models."""
    spec = DriftPolicySpec.model_validate(raw)
    test, window = spec.test, spec.window
    return PolicySpec(
        deployment=spec.deployment_ref.name,
        window=WindowSpec(window.seconds, window.offset_seconds, window.min_samples),
        source="prometheus" if spec.source.prometheus else "performance" if spec.source.performance else "observations",
        prometheus=_prometheus(spec),
        features=_features(spec),
        test=TestSpec(
            effect=float(test.effect),
            alpha=float(test.alpha),
            correction=test.correction,
            min_samples=window.min_samples,
            clear_ratio=float(spec.rule.clear_ratio),
        ),
        rule=RuleSpec(spec.rule.min_drifted_features, spec.rule.for_windows, spec.rule.clear_windows),
        quality=_quality(spec),
        schedule=ScheduleSpec(spec.schedule.cron, spec.schedule.time_zone, spec.schedule.action)
        if spec.schedule
        else None,
        action=spec.action,
        retrain=_retrain(spec),
        suspend=spec.suspend,
    )


def _features(spec: DriftPolicySpec) -> FeatureSpec:
    names = {"All": None, "None": frozenset[str](), "Listed": frozenset(spec.features.names or ())}
    return FeatureSpec(names[spec.features.include], frozenset(spec.features.exclude), spec.features.prediction)


def _quality(spec: DriftPolicySpec) -> QualitySpec:
    quality = spec.quality
    return QualitySpec(
        null_increase=float(quality.max_null_increase),
        zero_increase=float(quality.max_zero_increase),
        unseen_category=float(quality.max_unseen_category),
        out_of_range=None if quality.max_out_of_range is None else float(quality.max_out_of_range),
        blocks=quality.on_violation == "Block",
        hold_windows=quality.hold_windows,
    )


def _prometheus(spec: DriftPolicySpec) -> PrometheusSpec | None:
    found = spec.source.prometheus
    if found is None:
        return None
    maximum = None if found.max is None else float(found.max)
    minimum = None if found.min is None else float(found.min)
    return PrometheusSpec(found.source, found.query, Limit(maximum, minimum))


def _retrain(spec: DriftPolicySpec) -> RetrainSpec | None:
    found = spec.retrain
    if found is None:
        return None
    return RetrainSpec(
        training_job=found.training_job_ref.name,
        require_new_data=found.require_new_data,
        max_wait=found.max_wait_seconds,
        cooldown=found.cooldown_seconds,
        max_retrains=min(found.budget.max_retrains, MAX_COUNTED_RETRAINS),
        per_seconds=found.budget.per_seconds,
        gpu_seconds=found.budget.gpu_seconds,
    )
