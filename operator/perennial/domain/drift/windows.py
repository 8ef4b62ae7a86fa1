"""Windows and the counts in them: taking in what routers report, and adding up what belongs together.

A router process reports, per window, integers that only grow; it is known by (pod uid, agent start, Envoy start), so
the newest report of a process replaces its older one and processes add up: no report is counted twice, whatever order
they come in, and a vanished process keeps its last numbers. Counts made by different baselines are never added.
Must not know what drift is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perennial.domain.drift.baseline import PREDICTION
from perennial.domain.drift.spec import WindowSpec

FINAL_AFTER_SECONDS = 1.0
"""A window is final this long after its end: the access log arrives a little later than the answers."""
KEPT_BY_ROUTERS = 4
"""Closed windows that a router still reports; a window older than these that nobody read is lost."""
KEPT_SCORES = 64
MAX_FEATURES = 512


@dataclass(frozen=True, slots=True)
class Tally:
    """One feature's counts in a window: rows per bin, and apart from that nulls, zeros, unseen categories, and values
    beyond the baseline's low and high quantile (these three are also in their bins)."""

    counts: tuple[int, ...]
    nulls: int = 0
    zeros: int = 0
    unseen: int = 0
    below: int = 0
    above: int = 0

    @property
    def rows(self) -> int:
        """Rows with a value."""
        return sum(self.counts)

    def plus(self, other: "Tally") -> "Tally":
        """Both together; ValueError when their bins differ."""
        return Tally(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.nulls + other.nulls,
            self.zeros + other.zeros,
            self.unseen + other.unseen,
            self.below + other.below,
            self.above + other.above,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """What one router process counted in one window for one revision; `seen` (epoch) is when it said so last."""

    start: int
    seconds: int
    source: str
    revision: str
    baseline: str
    requests: int
    rows: int
    final: bool
    seen: float
    unparsed: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, int, str, str, str]:
        """What a newer report of the same thing has in common with it."""
        return (self.start, self.seconds, self.source, self.revision, self.baseline)


@dataclass(frozen=True, slots=True)
class Book:
    """All slices that are still needed, in the order of their keys, and the scores of the last 64 windows."""

    slices: tuple[Slice, ...] = ()
    scores: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Pull:
    """One round of asking all ready routers: when (epoch), and the pods that did not answer."""

    time: float
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """A window's sum over all router processes, for one revision and baseline.

    lost: an estimate of the rows that processes took along which vanished before the window was final, from their own
    rate and the time since their last report; 0 when every process reported to the end.
    """

    requests: int = 0
    rows: int = 0
    unparsed: int = 0
    lost: int = 0
    tallies: Mapping[str, Tally] = field(default_factory=dict)


def source_of(report: Mapping[str, Any]) -> str:
    """The name of the process behind a counts page: counters start at zero with each."""
    started = report.get("started") or {}
    return f"{report.get('podUid')}/{started.get('agent')}/{started.get('envoy')}"


def slices_of(report: Mapping[str, Any], deployment: str, spec: WindowSpec, now: float) -> list[Slice]:
    """The slices of one counts page that belong to this deployment and to windows cut like `spec`."""
    source = source_of(report)
    found = []
    for window in ((report.get("deployments") or {}).get(deployment) or {}).get("windows") or ():
        start = int(window["start"])
        if int(window["seconds"]) != spec.seconds or spec.start_of(start) != start:
            continue
        tallies = {str(name): _tally(raw) for name, raw in list((window.get("features") or {}).items())[:MAX_FEATURES]}
        if window.get("prediction"):
            tallies[PREDICTION_KEY] = _tally(window["prediction"])
        found.append(
            Slice(
                start=start,
                seconds=spec.seconds,
                source=source,
                revision=str(window["revision"]),
                baseline=str(window["baseline"]),
                requests=int(window["requests"]),
                rows=int(window["rows"]),
                final=bool(window["final"]),
                seen=now,
                unparsed=int(window.get("unparsed", 0)),
                tallies=tallies,
            )
        )
    return found


PREDICTION_KEY = f"\x00{PREDICTION}"
"""The prediction among a window's tallies; a feature may be called `prediction` too."""


def _tally(raw: Mapping[str, Any]) -> Tally:
    return Tally(
        tuple(int(count) for count in raw.get("counts", ())),
        *(int(raw.get(name, 0)) for name in ("nulls", "zeros", "unseen", "below", "above")),
    )


def all_told(book: Book, start: int, seconds: int, pull: Pull | None) -> bool:
    """Whether every ready router was asked after the window became final, and said that it is (by its own clock)."""
    if pull is None or pull.silent or pull.time < start + seconds + FINAL_AFTER_SECONDS:
        return False
    return all(
        part.final or part.seen < pull.time for part in book.slices if (part.start, part.seconds) == (start, seconds)
    )


def merged(book: Book, slices: Sequence[Slice]) -> Book:
    """The book with newer reports in place of older ones of the same process, window, revision and baseline.

    A report that counted less than the known one is older (they may arrive out of order) and is not taken.
    """
    known = {old.key: old for old in book.slices}
    for new in slices:
        old = known.get(new.key)
        if old is None or (new.rows, new.requests, new.final) >= (old.rows, old.requests, old.final):
            known[new.key] = new
    return replace(book, slices=tuple(known[key] for key in sorted(known)))


def same_counts(one: Book, other: Book) -> bool:
    """Whether two books say the same but for when routers were last heard; only other ones are worth a write."""
    if len(one.slices) != len(other.slices) or one.scores != other.scores:
        return False
    return all(replace(a, seen=b.seen) == b for a, b in zip(one.slices, other.slices, strict=True))


def forgotten(book: Book, before: int) -> Book:
    """The book without windows that start before `before`."""
    return replace(book, slices=tuple(old for old in book.slices if old.start >= before))


def counted(book: Book, start: int, seconds: int, revision: str, baseline: str) -> Counted:
    """What all processes counted in the window that starts at `start`, for that revision and baseline only."""
    total = Counted()
    tallies: dict[str, Tally] = {}
    for part in book.slices:
        if (part.start, part.seconds, part.revision, part.baseline) != (start, seconds, revision, baseline):
            continue
        for name, tally in part.tallies.items():
            known = tallies.get(name)
            if known is None:
                tallies[name] = tally
            elif len(known.counts) == len(tally.counts):
                tallies[name] = known.plus(tally)
        total = Counted(
            total.requests + part.requests,
            total.rows + part.rows,
            total.unparsed + part.unparsed,
            total.lost + _lost(part),
        )
    return replace(total, tallies=tallies)


def _lost(part: Slice) -> int:
    """Rows that the process may have taken along: its rate so far, over the rest of the window."""
    if part.final:
        return 0
    heard = min(max(part.seen - part.start, 1.0), float(part.seconds))
    return round(part.rows * (part.seconds - heard) / heard)


def with_score(book: Book, score: Mapping[str, Any]) -> Book:
    """The book with one more window's scores; those of the same window are replaced, the oldest beyond 64 go."""
    others = [old for old in book.scores if old.get("end") != score.get("end")]
    return replace(book, scores=tuple([*others, score][-KEPT_SCORES:]))
