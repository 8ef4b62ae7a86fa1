"""Integer counters of what a revision was asked and what it answered, cut into windows. Only counts, never values.

A window belongs to one (seconds, offset) of the namespace's DriftPolicies, one revision and one set of bins; the moment
at which a response ended decides to which window it belongs. The open and the last four closed windows are kept.
No I/O and no clock here: callers pass the time.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from perennial.domain.drift.baseline import Baseline, FeatureBaseline
from perennial.domain.drift.grid import GRID_CATEGORIES, GRID_DIGEST, GRID_EDGES
from perennial.router.model import WindowSpec
from perennial.router.parse import Table, Unparsed, Value

KEPT_CLOSED = 4
FINAL_AFTER_SECONDS = 1.0
"""A window is final this long after its end: the access log is flushed every 0.1 s."""
MAX_GRID_FEATURES = 256


class Tally:
    """The counters of one feature in one window."""

    __slots__ = ("above", "below", "counts", "nulls", "unseen", "zeros")

    def __init__(self, bins: int) -> None:
        self.counts = [0] * bins
        self.nulls = self.zeros = self.unseen = self.below = self.above = 0

    def to_json(self) -> dict[str, Any]:
        """As on the counts page."""
        return {name: getattr(self, name) for name in ("counts", "nulls", "zeros", "unseen", "below", "above")}


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Bin i holds x with bisect_right(edges, x) == i; values outside low..high are counted as such too."""

    edges: tuple[float, ...]
    low: float = -inf
    high: float = inf

    def tally(self) -> Tally:
        """Counters for these bins, at zero."""
        return Tally(len(self.edges) + 1)

    def count(self, tally: Tally, values: Iterable[Any]) -> None:
        """Counts each value; None, NaN and what is no number are nulls."""
        edges, low, high, counts = self.edges, self.low, self.high, tally.counts
        for value in values:
            try:
                usual = low <= value <= high
            except TypeError:
                usual = False
            if usual:
                counts[bisect_right(edges, value)] += 1
                if not value:
                    tally.zeros += 1
            else:
                self.count_unusual(tally, value)

    def count_unusual(self, tally: Tally, value: Any) -> None:
        """Counts a value that does not lie within low..high."""
        if not isinstance(value, (int, float)) or value != value:
            tally.nulls += 1
            return
        tally.counts[bisect_right(self.edges, value)] += 1
        tally.zeros += not value
        if value < self.low:
            tally.below += 1
        else:
            tally.above += 1


class CategoryBins:
    """One bin per category, the last for all others. With room for more (`limit`), unknown texts become categories."""

    __slots__ = ("categories", "limit")

    def __init__(self, categories: Sequence[str], limit: int = 0) -> None:
        self.categories = {category: place for place, category in enumerate(categories)}
        self.limit = limit

    def tally(self) -> Tally:
        """Counters for these bins, at zero."""
        return Tally(max(len(self.categories), self.limit) + 1)

    def count(self, tally: Tally, values: Iterable[Any]) -> None:
        """Counts each value by its text; None is a null, a text that is no category is unseen and in the last bin."""
        categories = self.categories
        for value in values:
            if value is None or value != value:
                tally.nulls += 1
                continue
            text = value if value.__class__ is str else category_text(value)
            place = categories.get(text)
            if place is None and len(categories) < self.limit:
                place = categories[text] = len(categories)
            if place is None:
                tally.unseen += 1
                tally.counts[-1] += 1
            else:
                tally.counts[place] += 1
            if not value and value.__class__ is not str:
                tally.zeros += 1


Bins = NumericBins | CategoryBins


def category_text(value: Any) -> str:
    """A number as a category: 3.0 and 3 are one category, as are true and True."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def bins_of(feature: FeatureBaseline) -> Bins:
    """The bins of one feature of a baseline."""
    if feature.kind == "Categorical":
        return CategoryBins(feature.categories)
    return NumericBins(feature.edges, feature.low, feature.high)


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows are binned: the baseline's features in their order, or the grid when there is no baseline."""

    digest: str
    names: tuple[str, ...] = ()
    bins: tuple[Bins, ...] = ()
    prediction: Bins | None = None

    @property
    def grid(self) -> bool:
        """Whether features are found as they come."""
        return self.digest == GRID_DIGEST


GRID = Plan(GRID_DIGEST)


def plan_of(baseline: Baseline | None) -> Plan:
    """The plan for a version's baseline; the grid for a version without one."""
    if baseline is None:
        return GRID
    return Plan(
        digest=baseline.digest,
        names=tuple(feature.name for feature in baseline.features),
        bins=tuple(bins_of(feature) for feature in baseline.features),
        prediction=bins_of(baseline.prediction) if baseline.prediction else None,
    )


class Window:
    """The counters of one window, revision and plan."""

    __slots__ = (
        "_found",
        "_numeric",
        "_plan",
        "_prediction",
        "_tallies",
        "requests",
        "revision",
        "rows",
        "start",
        "streams",
        "unparsed",
    )

    def __init__(self, start: int, revision: str, plan: Plan) -> None:
        self.start = start
        self.revision = revision
        self.requests = self.rows = self.unparsed = self.streams = 0
        self._plan = plan
        self._tallies = [bins.tally() for bins in plan.bins]
        self._prediction: tuple[Bins, Tally] | None = (
            (plan.prediction, plan.prediction.tally()) if plan.prediction else None
        )
        self._found: dict[str, tuple[Bins, Tally]] = {}
        paired = zip(plan.bins, self._tallies, strict=True)
        numeric = [(b, t, t.counts, b.edges, b.low, b.high) for b, t in paired if isinstance(b, NumericBins)]
        self._numeric = numeric if len(numeric) == len(plan.bins) else []

    def add(self, table: Table, prediction: Sequence[Value] | None) -> None:
        """Counts one request. Unparsed, and nothing counted, when its columns do not fit the baseline's features."""
        if self._plan.grid:
            self._add_to_grid(table, prediction)
        else:
            self._add_to_baseline(table)
            if self._prediction is not None and prediction is not None:
                bins, tally = self._prediction
                bins.count(tally, prediction)
        self.requests += 1
        self.rows += table.rows

    def _add_to_baseline(self, table: Table) -> None:
        plan = self._plan
        if table.columns is not None:
            columns = table.columns
            if columns.keys().isdisjoint(plan.names):
                raise Unparsed("no tensor has the name of a feature")
            for name, bins, tally in zip(plan.names, plan.bins, self._tallies, strict=True):
                column = columns.get(name)
                if column is None:
                    tally.nulls += table.rows
                else:
                    bins.count(tally, column)
            return
        width = len(plan.names)
        for row in table.matrix:
            if len(row) != width:
                raise Unparsed(f"{len(row)} columns for {width} features")
        if self._numeric:
            self._count_rows(table.matrix)
            return
        for bins, tally, column in zip(plan.bins, self._tallies, zip(*table.matrix, strict=True), strict=True):
            bins.count(tally, column)

    def _count_rows(self, rows: Sequence[Sequence[Value]]) -> None:
        """NumericBins.count for all features of each row in one loop: the path that nearly every request takes."""
        numeric = self._numeric
        for row in rows:
            for value, (bins, tally, counts, edges, low, high) in zip(row, numeric, strict=True):
                try:
                    usual = low <= value <= high  # type: ignore[operator]
                except TypeError:
                    usual = False
                if usual:
                    counts[bisect_right(edges, value)] += 1  # type: ignore[type-var]
                    if not value:
                        tally.zeros += 1
                else:
                    bins.count_unusual(tally, value)

    def _add_to_grid(self, table: Table, prediction: Sequence[Value] | None) -> None:
        columns: Mapping[str, Sequence[Value]]
        if table.columns is not None:
            columns = table.columns
        else:
            try:
                turned = list(zip(*table.matrix, strict=True))
            except (ValueError, TypeError) as error:
                raise Unparsed("rows of different lengths") from error
            columns = {f"{table.name}[{i}]": column for i, column in enumerate(turned)}
        for name, values in columns.items():
            found = self._found.get(name)
            if found is None:
                if len(self._found) >= MAX_GRID_FEATURES:
                    continue
                found = self._found[name] = _grid_bins(values)
            found[0].count(found[1], values)
        if prediction is not None:
            if self._prediction is None:
                self._prediction = _grid_bins(prediction)
            self._prediction[0].count(self._prediction[1], prediction)

    def to_json(self, seconds: int, now: float) -> dict[str, Any]:
        """As on the counts page."""
        if self._plan.grid:
            features = {name: _grid_json(bins, tally) for name, (bins, tally) in self._found.items()}
            prediction = _grid_json(*self._prediction) if self._prediction else None
        else:
            features = {n: t.to_json() for n, t in zip(self._plan.names, self._tallies, strict=True)}
            prediction = self._prediction[1].to_json() if self._prediction else None
        return {
            "start": self.start,
            "seconds": seconds,
            "final": now >= self.start + seconds + FINAL_AFTER_SECONDS,
            "revision": self.revision,
            "baseline": self._plan.digest,
            "requests": self.requests,
            "rows": self.rows,
            "unparsed": self.unparsed,
            "streams": self.streams,
            "features": features,
            "prediction": prediction,
        }


def _grid_bins(values: Sequence[Value]) -> tuple[Bins, Tally]:
    text = any(isinstance(value, str) for value in values)
    bins: Bins = CategoryBins((), GRID_CATEGORIES) if text else NumericBins(GRID_EDGES)
    return bins, bins.tally()


def _grid_json(bins: Bins, tally: Tally) -> dict[str, Any]:
    if isinstance(bins, CategoryBins):
        counts = [*tally.counts[: len(bins.categories)], tally.counts[-1]]
        return {**tally.to_json(), "counts": counts, "kind": "Categorical", "categories": list(bins.categories)}
    return {**tally.to_json(), "kind": "Numeric"}


class WindowSeries:
    """All windows of one deployment and one (seconds, offset)."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self._windows: dict[tuple[int, str, str], Window] = {}

    def at(self, moment: float, revision: str, plan: Plan, now: float) -> Window | None:
        """The window for an answer that ended at `moment`; None when that window is no longer kept."""
        key = (self.spec.start_of(moment), revision, plan.digest)
        window = self._windows.get(key)
        if window is None:
            self.forget_old(now)
            if key[0] < self._oldest(now):
                return None
            window = self._windows[key] = Window(key[0], revision, plan)
        return window

    def _oldest(self, now: float) -> int:
        return self.spec.start_of(now) - KEPT_CLOSED * self.spec.seconds

    def forget_old(self, now: float) -> None:
        """Drops what is older than the last four closed windows."""
        oldest = self._oldest(now)
        self._windows = {key: window for key, window in self._windows.items() if key[0] >= oldest}

    def to_json(self, now: float) -> list[dict[str, Any]]:
        """The windows, oldest first."""
        self.forget_old(now)
        return [self._windows[key].to_json(self.spec.seconds, now) for key in sorted(self._windows)]
