"""The reference of a model version: bins, their counts in the training rows, and how far blocks of those rows differ.

One shape for three users: the publish step builds it, the routers bin by it, the drift decision compares with it.
It is stored in ModelVersion.spec.baseline as plain JSON. Must not know of windows or policies.
"""

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf, isfinite, isnan
from typing import Any, Literal

from perennial.domain.drift.psi import corrected_effect, psi

BINS = 10
MIN_CATEGORY_ROWS = 20
"""Rarer categories go into `other`: a baseline must not name a single person's value."""
MAX_CATEGORIES = 63
LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
PREDICTION = "prediction"

NumericColumn = Sequence[float | None]
CategoricalColumn = Sequence[str | None]


class BaselineError(ValueError):
    """A baseline that cannot be used; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class FeatureBaseline:
    """One feature's bins. Numeric: len(edges) + 1 bins, value x lies in bin bisect_right(edges, x); `low` and `high`
    are the quantiles beyond which a value counts as out of range. Categorical: one bin per category, then `other`.

    counts: rows per bin, nulls not included. noise: the largest corrected effect that one block of the reference rows
    had against all others; 0 when no blocks were given.
    """

    name: str
    kind: Literal["Numeric", "Categorical"]
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    low: float = -inf
    high: float = inf
    categories: tuple[str, ...] = ()
    null_count: int = 0
    zero_count: int = 0
    noise: float = 0.0

    @property
    def bins(self) -> int:
        """How many bins a window's counts must have."""
        return len(self.edges) + 1 if self.kind == "Numeric" else len(self.categories) + 1

    @property
    def rows(self) -> int:
        """Reference rows with a value."""
        return sum(self.counts)

    def shape(self) -> dict[str, Any]:
        """What decides into which bin a value falls, as JSON; two baselines of one shape have addable counts."""
        if self.kind == "Categorical":
            return {"name": self.name, "kind": self.kind, "categories": list(self.categories)}
        shape: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "edges": [decimal_text(edge) for edge in self.edges],
        }
        if isfinite(self.low):
            shape["low"] = decimal_text(self.low)
        if isfinite(self.high):
            shape["high"] = decimal_text(self.high)
        return shape

    def to_json(self) -> dict[str, Any]:
        """As stored in ModelVersion.spec.baseline."""
        return {
            **self.shape(),
            "counts": list(self.counts),
            "nullCount": self.null_count,
            "zeroCount": self.zero_count,
            "noise": decimal_text(round(self.noise, 6)),
        }


@dataclass(frozen=True, slots=True)
class Baseline:
    """All features of a version, and its prediction when the reference rows carried one."""

    rows: int
    features: tuple[FeatureBaseline, ...]
    prediction: FeatureBaseline | None = None

    @property
    def digest(self) -> str:
        """12 hex naming the bins: equal exactly when counts made by two baselines may be added."""
        shapes = {
            "features": [feature.shape() for feature in self.features],
            "prediction": self.prediction.shape() if self.prediction else None,
        }
        canonical = json.dumps(shapes, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def find(self, name: str) -> FeatureBaseline | None:
        """The feature of that name; the prediction is not one of them."""
        return next((feature for feature in self.features if feature.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As stored in ModelVersion.spec.baseline."""
        result: dict[str, Any] = {"rows": self.rows, "features": [feature.to_json() for feature in self.features]}
        if self.prediction is not None:
            result["prediction"] = self.prediction.to_json()
        return result


def baseline_digest(raw: Mapping[str, Any]) -> str:
    """The digest of a ModelVersion.spec.baseline; BaselineError when it cannot be read."""
    return parse_baseline(raw).digest


def parse_baseline(raw: Mapping[str, Any]) -> Baseline:
    """A ModelVersion.spec.baseline as dataclasses; BaselineError, naming the feature, when it is not consistent."""
    features = tuple(_parse_feature(item) for item in raw.get("features", ()))
    prediction = raw.get("prediction")
    return Baseline(
        rows=int(raw.get("rows", 0)),
        features=features,
        prediction=_parse_feature({"name": PREDICTION, **prediction}) if prediction else None,
    )


def _parse_feature(raw: Mapping[str, Any]) -> FeatureBaseline:
    name = str(raw.get("name", ""))
    try:
        feature = FeatureBaseline(
            name=name,
            kind="Categorical" if raw.get("kind") == "Categorical" else "Numeric",
            counts=tuple(int(count) for count in raw.get("counts", ())),
            edges=tuple(float(edge) for edge in raw.get("edges", ())),
            low=float(raw.get("low", -inf)),
            high=float(raw.get("high", inf)),
            categories=tuple(str(category) for category in raw.get("categories", ())),
            null_count=int(raw.get("nullCount", 0)),
            zero_count=int(raw.get("zeroCount", 0)),
            noise=float(raw.get("noise", 0)),
        )
    except (TypeError, ValueError) as error:
        raise BaselineError(f"the baseline of feature {name!r} cannot be read: {error}") from error
    if len(feature.counts) != feature.bins:
        raise BaselineError(
            f"the baseline of feature {name!r} has {len(feature.counts)} counts for {feature.bins} bins"
        )
    if any(second <= first for first, second in zip(feature.edges, feature.edges[1:], strict=False)):
        raise BaselineError(f"the baseline of feature {name!r} has edges that do not rise strictly")
    return feature


def build_baseline(
    features: Mapping[str, NumericColumn | CategoricalColumn],
    *,
    prediction: NumericColumn | CategoricalColumn | None = None,
    blocks: Sequence[Hashable] | None = None,
) -> Baseline:
    """The baseline of reference rows, given by column; None or NaN is a null.

    A column with any text is Categorical, else Numeric. blocks: one label per row (month, year, site); each feature's
    noise is then its largest corrected effect of one block against all others.
    """
    rows = len(next(iter(features.values()), prediction or ()))
    columns = [*features.items(), *([(PREDICTION, prediction)] if prediction is not None else [])]
    for name, column in columns:
        if len(column) != rows:
            raise BaselineError(f"column {name!r} has {len(column)} rows, the first column has {rows}")
    if blocks is not None and len(blocks) != rows:
        raise BaselineError(f"the block column has {len(blocks)} rows, the first column has {rows}")
    built = {name: build_feature(name, column, blocks) for name, column in features.items()}
    return Baseline(
        rows=rows,
        features=tuple(built.values()),
        prediction=build_feature(PREDICTION, prediction, blocks) if prediction is not None else None,
    )


def build_feature(
    name: str, column: NumericColumn | CategoricalColumn, blocks: Sequence[Hashable] | None = None
) -> FeatureBaseline:
    """The baseline of one column; see build_baseline."""
    if any(isinstance(value, str) for value in column):
        return _categorical(name, [None if _is_null(value) else str(value) for value in column], blocks)
    return _numeric(name, [None if _is_null(value) else float(value) for value in column], blocks)  # type: ignore[arg-type]


def _numeric(name: str, values: list[float | None], blocks: Sequence[Hashable] | None) -> FeatureBaseline:
    finite = sorted(value for value in values if value is not None and isfinite(value))
    edges = _decile_edges(finite)
    places = [None if value is None else bisect_right(edges, value) for value in values]
    present = [value for value in values if value is not None]
    return FeatureBaseline(
        name=name,
        kind="Numeric",
        counts=_tally(places, len(edges) + 1),
        edges=tuple(edges),
        low=_rounded(quantile(finite, LOW_QUANTILE)) if finite else -inf,
        high=_rounded(quantile(finite, HIGH_QUANTILE)) if finite else inf,
        null_count=len(values) - len(present),
        zero_count=sum(1 for value in present if value == 0),
        noise=_block_noise(places, len(edges) + 1, blocks),
    )


def _categorical(name: str, values: list[str | None], blocks: Sequence[Hashable] | None) -> FeatureBaseline:
    present = Counter(value for value in values if value is not None)
    frequent = [(value, count) for value, count in present.items() if count >= MIN_CATEGORY_ROWS]
    frequent.sort(key=lambda item: (-item[1], item[0]))
    categories = sorted(value for value, _ in frequent[:MAX_CATEGORIES])
    index = {category: place for place, category in enumerate(categories)}
    places = [None if value is None else index.get(value, len(categories)) for value in values]
    return FeatureBaseline(
        name=name,
        kind="Categorical",
        counts=_tally(places, len(categories) + 1),
        categories=tuple(categories),
        null_count=len(values) - sum(present.values()),
        noise=_block_noise(places, len(categories) + 1, blocks),
    )


def _decile_edges(ordered: Sequence[float]) -> list[float]:
    """Strictly rising inner edges at the deciles, each midway between the two neighbouring values it separates.

    Midway, because many features are discrete: an edge on a value would let rounding on the wire (float32) move it to
    the next bin. A decile at the smallest value separates nothing and makes no edge, so no bin is empty.
    """
    edges: list[float] = []
    for tenth in range(1, BINS):
        cut = quantile(ordered, tenth / BINS) if ordered else inf
        above = _first_at_least(ordered, cut)
        if 0 < above < len(ordered):
            edge = _rounded(ordered[above - 1] + (ordered[above] - ordered[above - 1]) / 2.0)
            if ordered[above - 1] < edge <= ordered[above] and (not edges or edge > edges[-1]):
                edges.append(edge)
    return edges


def _first_at_least(ordered: Sequence[float], cut: float) -> int:
    """The index of the first value that is not below `cut`."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < cut:
            low = middle + 1
        else:
            high = middle
    return low


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of an ascending, non-empty sequence, linear between neighbours (type 7 of Hyndman and Fan 1996)."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _tally(places: Sequence[int | None], bins: int) -> tuple[int, ...]:
    counts = [0] * bins
    for place in places:
        if place is not None:
            counts[place] += 1
    return tuple(counts)


def _block_noise(places: Sequence[int | None], bins: int, blocks: Sequence[Hashable] | None) -> float:
    """The largest corrected effect of one block's rows against all other rows, at least 0."""
    if blocks is None or bins < 2:
        return 0.0
    by_block: dict[Hashable, list[int]] = {}
    for place, block in zip(places, blocks, strict=True):
        if place is not None:
            by_block.setdefault(block, [0] * bins)[place] += 1
    total = [sum(column) for column in zip(*by_block.values(), strict=True)]
    largest = 0.0
    for counts in by_block.values():
        others = [whole - part for whole, part in zip(total, counts, strict=True)]
        if sum(others) > 0:
            effect = corrected_effect(psi(others, counts), sum(counts), sum(others), bins)
            largest = max(largest, effect)
    return largest


def _is_null(value: float | str | None) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def decimal_text(value: float) -> str:
    """A float as a plain decimal of at most 12 significant digits; an exponent only where it would get very long."""
    short = f"{value:.12g}"
    plain = format(Decimal(short), "f")
    return plain if len(plain) <= 40 else short


def _rounded(value: float) -> float:
    """The value as decimal_text writes it: bins must be the same before and after the way through JSON."""
    return float(decimal_text(value))
