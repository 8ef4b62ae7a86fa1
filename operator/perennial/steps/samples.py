"""Sample inputs of a version: a few rows of reference.csv, which a rollout with `smoke` replays to its canary.

A CSV file in UTF-8: the model's inputs by name, in their order, then what the model answers (PREDICTION) where the
reference says it. Rows are drawn by the artifact's digest, so the same model and reference give the same file. Rows
that lack an input are left out: a request has no common way to say that one is missing.
"""

import csv
import io
from hashlib import sha256

from perennial.steps.reference import NULLS, PREDICTION, SERVED_PREDICTION, Table

MAX_ROWS = 256
MAX_BYTES = 256 * 1024


def draw(table: Table, digest: str) -> tuple[str, int] | None:
    """(the file's text, its rows); None when no row has all inputs, or none fits."""
    places = [table.header.index(name) for name in table.features]
    answer = next((name for name in (SERVED_PREDICTION, PREDICTION) if name in table.header), None)
    names = [*table.features, *([PREDICTION] if answer is not None else [])]
    whole = [number for number, row in enumerate(table.rows) if not any(row[place] in NULLS for place in places)]
    if not places or not whole:
        return None
    if answer is not None:
        places.append(table.header.index(answer))
    lines = [_line(names)]
    size = len(lines[0].encode())
    for number in sorted(whole, key=lambda number: sha256(f"{digest}/{number}".encode()).digest())[:MAX_ROWS]:
        line = _line([table.rows[number][place] for place in places])
        size += len(line.encode())
        if size > MAX_BYTES:
            break
        lines.append(line)
    return ("".join(lines), len(lines) - 1) if len(lines) > 1 else None


def _line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
