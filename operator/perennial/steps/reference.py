"""From reference.csv to the baseline of a version: the columns as the model receives them, prediction and block.

`prediction` is of rows that the model was not fitted on, maybe by other models (out of fold). What this very model
answers may stand beside it (SERVED_PREDICTION), for the sample inputs alone.

A column is Categorical when a value of it is no number. The prediction also is when it holds whole numbers (written
without a point) of three to 63 kinds: the index of a class, as a classifier of several classes answers.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from perennial.domain.drift.baseline import MAX_CATEGORIES, BaselineError, build_baseline
from perennial.steps.errors import DataProblem

REFERENCE = "reference.csv"
EXCLUDE = "baseline.exclude"
PREDICTION = "prediction"
SERVED_PREDICTION = "served_prediction"
BLOCK = "block"
MAX_FEATURES = 256
MAX_FEATURE_NAME = 128
MIN_CLASSES = 3
NULLS = frozenset({"", "nan", "NaN", "NA", "null", "None"})

Column = list[float | None] | list[str | None]


@dataclass(frozen=True, slots=True)
class Table:
    """The texts of a reference.csv: names of the columns, and rows of as many values."""

    header: list[str]
    rows: list[list[str]]

    @property
    def features(self) -> list[str]:
        """The names of the model's inputs, in their order."""
        return [name for name in self.header if name not in (PREDICTION, SERVED_PREDICTION, BLOCK)]


def read(folder: Path) -> Table | None:
    """The reference.csv in `folder`; None when there is none. DataProblem names the column or line that is wrong."""
    path = folder / REFERENCE
    return _read(path) if path.is_file() else None


def build(folder: Path, table: Table) -> dict[str, Any]:
    """ModelVersion.spec.baseline of a reference; DataProblem names the column that is wrong."""
    columns = {name: [row[place] for row in table.rows] for place, name in enumerate(table.header)}
    excluded = _excluded(folder / EXCLUDE)
    prediction = columns.pop(PREDICTION, None)
    columns.pop(SERVED_PREDICTION, None)
    blocks = columns.pop(BLOCK, None)
    features: dict[str, Column] = {n: parse_column(c) for n, c in columns.items() if n not in excluded}
    if len(features) > MAX_FEATURES:
        raise DataProblem(
            f"{REFERENCE} has {len(features)} features, at most {MAX_FEATURES} are kept; name others in {EXCLUDE}"
        )
    try:
        built = build_baseline(
            features,
            prediction=None if prediction is None else parse_prediction(prediction),
            blocks=blocks,
        )
    except BaselineError as error:
        raise DataProblem(f"{REFERENCE}: {error}") from error
    return built.to_json()


def _read(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataProblem(f"{REFERENCE} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise DataProblem(f"{REFERENCE} must have a header and at least one row")
    if len(set(header)) != len(header):
        raise DataProblem(f"{REFERENCE} has two columns of one name; names must differ")
    bad = next((name for name in header if not name or len(name) > MAX_FEATURE_NAME), None)
    if bad is not None:
        raise DataProblem(f"{REFERENCE} has a column without a name or with more than {MAX_FEATURE_NAME} characters")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataProblem(f"{REFERENCE} row {number} has {len(row)} values, the header has {len(header)}")
    return Table(header, rows)


def _excluded(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(line.strip() for line in path.read_text().splitlines() if line.strip())


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def parse_column(values: Sequence[str]) -> Column:
    """Numbers when all values are (or are missing), else texts; missing values are None."""
    numbers = [None if value in NULLS else _number(value) for value in values]
    for value, number in zip(values, numbers, strict=True):
        if number is None and value not in NULLS and value.lower().lstrip("+-") not in ("inf", "infinity"):
            return [None if text in NULLS else text for text in values]
    return numbers


def parse_prediction(values: Sequence[str]) -> Column:
    """As parse_column; class indices are categories."""
    present = {value for value in values if value not in NULLS}
    if MIN_CLASSES <= len(present) <= MAX_CATEGORIES and all(value.isdecimal() for value in present):
        return [None if text in NULLS else text for text in values]
    return parse_column(values)
