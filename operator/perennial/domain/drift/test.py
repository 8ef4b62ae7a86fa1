"""Has a feature drifted in a window? Three conditions, all needed: enough rows, beyond chance, and large enough to
matter. Sources in psi.py and reference/drift.md section 2. Must not know of earlier windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from perennial.domain.drift import psi as numbers
from perennial.domain.drift.baseline import PREDICTION, Baseline, FeatureBaseline
from perennial.domain.drift.spec import FeatureSpec, TestSpec
from perennial.domain.drift.windows import PREDICTION_KEY, Tally


@dataclass(frozen=True, slots=True)
class FeatureVerdict:
    """One feature in one window.

    effect: bias-corrected PSI. threshold: max(the policy's effect, the feature's noise). needed: the fewest rows and
    requests for a verdict; None when no number would do. Drifted: all three conditions hold. Elevated: not drifted,
    but not below the clear threshold either. TooFew: no verdict.
    """

    feature: str
    rows: int
    psi: float
    effect: float
    noise: float
    threshold: float
    p_value: float
    needed: int | None
    outcome: Literal["Drifted", "Elevated", "Calm", "TooFew"] = "Calm"


@dataclass(frozen=True, slots=True)
class Column:
    """A reference and the key of its counts among a window's tallies."""

    key: str
    reference: FeatureBaseline


def columns_of(baseline: Baseline, spec: FeatureSpec) -> tuple[Column, ...]:
    """The columns that the policy tests and that can be tested: a constant one (one bin) has no distribution."""
    found = [Column(feature.name, feature) for feature in baseline.features if spec.wants(feature.name)]
    if spec.prediction and baseline.prediction is not None:
        found.append(Column(PREDICTION_KEY, baseline.prediction))
    return tuple(column for column in found if column.reference.bins > 1)


def needed_rows(column: Column, spec: TestSpec, tests: int) -> int | None:
    """The fewest rows of a window for a verdict on that column: as given, else computed; None when impossible."""
    if spec.min_samples:
        return spec.min_samples
    reference = column.reference
    return numbers.min_samples(spec.effect, reference.rows, reference.bins, spec.alpha / tests)


def judge(
    columns: Sequence[Column], tallies: Mapping[str, Tally], requests: int, spec: TestSpec
) -> tuple[FeatureVerdict, ...]:
    """A verdict for every column, in their order. requests: how many the rows came from (rows of one request hang
    together, so both must reach the minimum)."""
    measured = [_measure(column, tallies.get(column.key), spec, len(columns)) for column in columns]
    certain = _beyond_chance(measured, requests, spec)
    return tuple(_concluded(verdict, place in certain, requests, spec) for place, verdict in enumerate(measured))


def _measure(column: Column, tally: Tally | None, spec: TestSpec, tests: int) -> FeatureVerdict:
    reference = column.reference
    counts = tally.counts if tally is not None and len(tally.counts) == reference.bins else (0,) * reference.bins
    rows, m, bins = sum(counts), reference.rows, reference.bins
    value = numbers.psi(reference.counts, counts) if rows else 0.0
    return FeatureVerdict(
        feature=PREDICTION if column.key == PREDICTION_KEY else reference.name,
        rows=rows,
        psi=value,
        effect=numbers.corrected_effect(value, rows, m, bins) if rows and m else 0.0,
        noise=reference.noise,
        threshold=max(spec.effect, reference.noise),
        p_value=numbers.p_value(value, rows, m, bins),
        needed=needed_rows(column, spec, tests),
    )


def _enough(verdict: FeatureVerdict, requests: int) -> bool:
    return verdict.needed is not None and verdict.rows > 0 and min(verdict.rows, requests) >= verdict.needed


def _beyond_chance(measured: Sequence[FeatureVerdict], requests: int, spec: TestSpec) -> set[int]:
    """Places of the columns whose PSI is significant at `alpha`, shared among all columns.

    Bonferroni: p < alpha / tests, which is PSI > (1/n + 1/m) * chi2(bins - 1, 1 - alpha / tests). Benjamini-Hochberg:
    the largest i with p(i) <= alpha * i / tests, and all before it (J. R. Statist. Soc. B 57, 1995).
    """
    tests = len(measured)
    if spec.correction == "Bonferroni":
        return {i for i, verdict in enumerate(measured) if verdict.p_value < spec.alpha / tests}
    able = [i for i, verdict in enumerate(measured) if _enough(verdict, requests)]
    ordered = sorted(able, key=lambda i: measured[i].p_value)
    last = max(
        (rank for rank, i in enumerate(ordered, 1) if measured[i].p_value <= spec.alpha * rank / tests), default=0
    )
    return set(ordered[:last])


def _concluded(verdict: FeatureVerdict, certain: bool, requests: int, spec: TestSpec) -> FeatureVerdict:
    if not _enough(verdict, requests):
        return replace(verdict, outcome="TooFew")
    if certain and verdict.effect > verdict.threshold:
        return replace(verdict, outcome="Drifted")
    if verdict.effect >= verdict.threshold * spec.clear_ratio:
        return replace(verdict, outcome="Elevated")
    return verdict
