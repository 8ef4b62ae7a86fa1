"""What the two arms of a rollout predicted, as integers, and the reading of it from a router's counts page.

Counters add up over routers and stretches of time like requests do (evidence.py). Must not compare or judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

MAX_BINS = 64
"""Status holds no more cells than this per arm: finer bins are put together in neighbouring pairs, the same for all."""
_NUMBERS = ("rows", "nulls", "unparsed", "streams", "same", "other")


@dataclass(frozen=True, slots=True)
class Predictions:
    """One arm's predictions, one an answer. rows: answers read, each either a null or in one bin of `counts`; unparsed,
    streams: answers that could not be compared; same, other: those that equal what the canary answered just before, or
    do not. bins: names the bins; only counts by the same ones may be added or compared.
    """

    bins: str = ""
    rows: int = 0
    nulls: int = 0
    unparsed: int = 0
    streams: int = 0
    same: int = 0
    other: int = 0
    counts: tuple[int, ...] = ()

    def plus(self, other: "Predictions", sign: int = 1) -> "Predictions":
        """The sum, or with sign -1 the difference; both must be counted by the same bins."""
        counts = zip_longest(self.counts, other.counts, fillvalue=0)
        return Predictions(
            other.bins,
            self.rows + sign * other.rows,
            self.nulls + sign * other.nulls,
            self.unparsed + sign * other.unparsed,
            self.streams + sign * other.streams,
            self.same + sign * other.same,
            self.other + sign * other.other,
            tuple(mine + sign * theirs for mine, theirs in counts),
        )

    @property
    def negative(self) -> bool:
        """Whether a difference of two readings runs backwards: the counters were reset in between."""
        return min(self.rows, self.nulls, self.unparsed, self.streams, self.same, self.other, *self.counts, 0) < 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Both arms' predictions: of one router at one look, or summed up over the same stretches of time."""

    canary: Predictions = Predictions()
    stable: Predictions = Predictions()

    @property
    def bins(self) -> str:
        """The bins of both; empty while nothing was counted."""
        return self.canary.bins

    def since(self, before: "Pair") -> "Pair | None":
        """What came between two looks at one router; None when the counters are not the same ones."""
        if before.bins != self.bins:
            return None
        grown = Pair(self.canary.plus(before.canary, -1), self.stable.plus(before.stable, -1))
        return None if grown.canary.negative or grown.stable.negative else grown

    def plus(self, other: "Pair | None") -> "Pair":
        """The sum; what was counted by other bins cannot be added and is left out."""
        if other is None or self.bins not in ("", other.bins):
            return self
        return Pair(self.canary.plus(other.canary), self.stable.plus(other.stable))


NO_PREDICTIONS = Pair()


def read_pair(canary: Mapping[str, Any], stable: Mapping[str, Any]) -> Pair | None:
    """Both arms from their `revisions.<revision>` entries of a counts page; None where they are not counted alike."""
    mine, other = canary.get("predictions"), stable.get("predictions")
    if not mine or not other or mine["bins"] != other["bins"]:
        return None
    return Pair(_read(mine), _read(other))


def _read(page: Mapping[str, Any]) -> Predictions:
    return _made(str(page["bins"]), [page[name] for name in _NUMBERS], _bounded([int(c) for c in page["counts"]]))


def _made(bins: str, numbers: Sequence[Any], counts: Sequence[Any]) -> Predictions:
    rows, nulls, unparsed, streams, same, other = (int(number) for number in numbers)
    return Predictions(bins, rows, nulls, unparsed, streams, same, other, tuple(int(count) for count in counts))


def _bounded(counts: Sequence[int]) -> tuple[int, ...]:
    while len(counts) > MAX_BINS:
        counts = [sum(counts[place : place + 2]) for place in range(0, len(counts), 2)]
    return tuple(counts)


def pair_to_status(pair: Pair | None) -> dict[str, Any]:
    """The field `predictions` of a tally or cursor in status.rollout.evidence; nothing when nothing was counted."""
    if pair is None or not pair.bins:
        return {}
    return {"predictions": {"bins": pair.bins, "canary": _numbers(pair.canary), "stable": _numbers(pair.stable)}}


def pair_from_status(recorded: Mapping[str, Any]) -> Pair | None:
    """The inverse, from the tally or cursor."""
    found = recorded.get("predictions")
    if not found:
        return None
    canary, stable = (_made(found["bins"], arm[:-1], arm[-1]) for arm in (found["canary"], found["stable"]))
    return Pair(canary, stable)


def _numbers(arm: Predictions) -> list[Any]:
    return [*(getattr(arm, name) for name in _NUMBERS), list(arm.counts)]
