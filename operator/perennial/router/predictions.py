"""What canary and stable answer while a rollout compares them: integer counters, cumulative, by the same bins.

One prediction of each answer is counted (rows of one request hang together and would pass for more evidence than they
are), in turn the first, the second, ... row. Only counts: no value leaves the pod. No I/O and no clock here.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any
from zlib import crc32

from perennial.domain.drift.grid import GRID_DIGEST, GRID_EDGES
from perennial.router.counters import CategoryBins, NumericBins, Plan, category_text
from perennial.router.parse import Value

_GRID_CELLS = len(GRID_EDGES) + 1


@dataclass(slots=True)
class PredictionCounts:
    """One arm. rows: answers that were read, each either a null or in one bin; nulls: those with a value that is
    missing or no finite number; same, other: those (of both arms) that equal, or not, what the canary answered last.
    """

    counts: list[int]
    rows: int = 0
    nulls: int = 0
    unparsed: int = 0
    streams: int = 0
    same: int = 0
    other: int = 0

    def to_json(self, bins: str) -> dict[str, Any]:
        """As on the counts page."""
        return {
            "bins": bins,
            "rows": self.rows,
            "nulls": self.nulls,
            "unparsed": self.unparsed,
            "streams": self.streams,
            "same": self.same,
            "other": self.other,
            "counts": list(self.counts),
        }


@dataclass(slots=True)
class Compared:
    """Both arms of one deployment, by the prediction bins of stable's baseline, or by the grid when it has none."""

    plan: Plan
    stable: str
    canary: str
    _arms: dict[str, PredictionCounts] = field(init=False)
    _place: Callable[[Value], int | None] = field(init=False)
    _last: Value = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._place, cells = _places(self.plan)
        self._arms = {arm: PredictionCounts([0] * cells) for arm in (self.stable, self.canary)}

    @property
    def identity(self) -> tuple[str, str, str]:
        """Counters may go on while this stays the same."""
        return self.bins, self.stable, self.canary

    @property
    def bins(self) -> str:
        """The digest of the bins."""
        return self.plan.digest if self.plan.prediction is not None else GRID_DIGEST

    def has(self, revision: str) -> bool:
        """Whether the revision is one of the arms."""
        return revision in self._arms

    def count(self, revision: str, predictions: Sequence[Value] | None, *, stream: bool) -> None:
        """Counts one good answer of an arm; predictions None: they could not be read."""
        arm = self._arms[revision]
        if stream:
            arm.streams += 1
            return
        if not predictions:
            arm.unparsed += 1
            return
        chosen = predictions[arm.rows % len(predictions)]
        arm.rows += 1
        place = None if any(_missing(value) for value in predictions) else self._place(chosen)
        if place is None:
            arm.nulls += 1
            return
        arm.counts[place] += 1
        if self._last is not None:
            if chosen == self._last:
                arm.same += 1
            else:
                arm.other += 1
        if revision == self.canary:
            self._last = chosen

    def to_json(self) -> dict[str, dict[str, Any]]:
        """revision -> its counters, as on the counts page."""
        return {revision: arm.to_json(self.bins) for revision, arm in self._arms.items()}


def _missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and not isfinite(value))


def _places(plan: Plan) -> tuple[Callable[[Value], int | None], int]:
    """The bin of a value (None: it has none, a null) and the number of bins."""
    bins = plan.prediction
    if isinstance(bins, NumericBins):
        edges = bins.edges
        return (lambda value: _number_place(value, edges)), len(edges) + 1
    if isinstance(bins, CategoryBins):
        categories = bins.categories
        return (lambda value: categories.get(_text(value), len(categories))), len(categories) + 1
    return _grid_place, _GRID_CELLS


def _number_place(value: Value, edges: Sequence[float]) -> int | None:
    return bisect_right(edges, value) if isinstance(value, (int, float)) else None


def _grid_place(value: Value) -> int | None:
    """Numbers by the grid's edges; texts by a fixed hash, so that the counts of all routers and arms may be added."""
    if isinstance(value, str):
        return crc32(value.encode(errors="replace")) % _GRID_CELLS
    return _number_place(value, GRID_EDGES)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else category_text(value)
