"""Is the data itself broken? Looked at before drift: retraining on broken data makes models worse.

All features of the baseline are looked at, also those whose drift is not tested. Must not know of earlier windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from perennial.domain.drift.baseline import PREDICTION, Baseline, FeatureBaseline
from perennial.domain.drift.spec import FeatureSpec, QualitySpec
from perennial.domain.drift.windows import PREDICTION_KEY, Tally

MIN_ROWS = 20
"""Fewer rows say nothing about a share."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A share that grew beyond its limit: `what` completes `12 % of temperature ...`."""

    feature: str
    what: str
    share: float
    usual: float
    limit: float

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.share:.1%} of {self.feature} {self.what} (usual {self.usual:.1%}, "
            f"at most {self.limit:.1%} more is allowed)"
        )


def violations(
    baseline: Baseline, tallies: Mapping[str, Tally], features: FeatureSpec, spec: QualitySpec
) -> tuple[Violation, ...]:
    """What is broken in a window, the largest growth first."""
    columns = [(f.name, f.name, f) for f in baseline.features if f.name not in features.exclude]
    if baseline.prediction is not None:
        columns.append((PREDICTION_KEY, PREDICTION, baseline.prediction))
    found = []
    for key, name, reference in columns:
        tally = tallies.get(key)
        if tally is not None and tally.rows + tally.nulls >= MIN_ROWS:
            found += _of_column(name, reference, tally, spec)
    return tuple(sorted(found, key=lambda v: (v.usual - v.share, v.feature, v.what)))


def _of_column(name: str, reference: FeatureBaseline, tally: Tally, spec: QualitySpec) -> list[Violation]:
    rows = tally.rows
    usual_nulls = _share(reference.null_count, reference.rows + reference.null_count)
    candidates = [
        Violation(name, "is missing", _share(tally.nulls, rows + tally.nulls), usual_nulls, spec.null_increase),
    ]
    if reference.kind == "Numeric":
        usual_zeros = _share(reference.zero_count, reference.rows)
        candidates.append(Violation(name, "is zero", _share(tally.zeros, rows), usual_zeros, spec.zero_increase))
        if spec.out_of_range is not None:
            beyond = _share(tally.below + tally.above, rows)
            candidates.append(Violation(name, "lies outside the training range", beyond, 0.0, spec.out_of_range))
    else:
        usual_other = _share(reference.counts[-1], reference.rows)
        candidates.append(
            Violation(name, "is in no known category", _share(tally.unseen, rows), usual_other, spec.unseen_category)
        )
    return [v for v in candidates if v.share - v.usual > v.limit]


def _share(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0
