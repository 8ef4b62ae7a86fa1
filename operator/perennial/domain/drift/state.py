"""The tables of a policy, and how its book is kept: as compact JSON for the ConfigMap `<policy>-drift`.

Must not read or write objects.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any, Literal

from perennial.domain.drift.windows import Book, Slice, Tally

State = Literal["Ok", "Warning", "Drifted", "Unknown", "DataBlocked", "WaitingForLabels", "CoolingDown", "Exhausted"]

OUTCOMES: Mapping[str, str] = {
    "Promoted": "its version became stable",
    "GateFailed": "its version did not pass the gate, so nothing changed",
    "TrainingFailed": "its training failed",
    "Superseded": "another version took over first",
    "Rejected": "its version was rejected in the canary",
    "Aborted": "its rollout was aborted",
    "Expired": "nothing came of it in time",
}
"""How a trigger can end, completing `trigger x ended: ...`."""

KEY = "state"
VERSION = 1


def encode(book: Book) -> str:
    """The book as base64 of gzipped JSON, equal for equal books."""
    value = {
        "version": VERSION,
        "slices": [
            [
                part.start,
                part.seconds,
                part.source,
                part.revision,
                part.baseline,
                part.requests,
                part.rows,
                int(part.final),
                round(part.seen, 1),
                part.unparsed,
                {name: [*tally.counts, *_extras(tally)] for name, tally in part.tallies.items()},
            ]
            for part in book.slices
        ],
        "scores": list(book.scores),
    }
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def decode(text: str) -> Book:
    """The book that `encode` wrote; an empty one for what it did not write (it is rebuilt from the routers)."""
    try:
        value = json.loads(gzip.decompress(base64.b64decode(text)))
        if value["version"] != VERSION:
            return Book()
        return Book(tuple(_slice(item) for item in value["slices"]), tuple(value["scores"]))
    except (ValueError, KeyError, TypeError, IndexError, OSError, EOFError):
        return Book()


def _slice(item: list[Any]) -> Slice:
    start, seconds, source, revision, baseline, requests, rows, final, seen, unparsed, tallies = item
    return Slice(
        start=int(start),
        seconds=int(seconds),
        source=source,
        revision=revision,
        baseline=baseline,
        requests=int(requests),
        rows=int(rows),
        final=bool(final),
        seen=float(seen),
        unparsed=int(unparsed),
        tallies={name: Tally(tuple(numbers[:-5]), *numbers[-5:]) for name, numbers in tallies.items()},
    )


def _extras(tally: Tally) -> tuple[int, int, int, int, int]:
    return (tally.nulls, tally.zeros, tally.unseen, tally.below, tally.above)
