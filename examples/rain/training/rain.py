"""The rain record and the recipe that every figure of the example comes from: loading, splitting, fitting, scoring.

Used by the training and evaluating containers of the demo and by the test that replays the record. Needs numpy and
scikit-learn only (threadpoolctl comes with it). It must not know of Perennial: files and folders are the callers'
business.

A year is 365 rows, for the file has no dates. A version made after year Y is made from the years Y-9 to Y: every
fourth week of the last two years is kept apart to evaluate (182 rows), the rest (3,468 rows) is to train on.
"""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import ThreadpoolController

FEATURES = (
    "temperature",
    "dew_point",
    "sea_level_pressure",
    "visibility",
    "average_wind_speed",
    "max_sustained_wind_speed",
    "minimum_temperature",
    "maximum_temperature",
)
DAYS = 365
YEARS_OF_TRAINING = 10
ROTATED_FROM = 12_000
"""From this row on the publisher rotated the eight feature columns by one to the left."""

_THREADS = ThreadpoolController()
"""So few rows are fitted fastest by one thread; two on a shared core mostly wait for each other."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Daily observations in time order: index (row of the record), x (n, 8), y (n,) with 1 for rain."""

    index: Integers
    x: Floats
    y: Integers

    @property
    def year(self) -> Integers:
        """The year of each row, from 0."""
        return self.index // DAYS

    def take(self, wanted: NDArray[np.bool_]) -> "Rows":
        """The rows where `wanted` (n,) is true."""
        return Rows(self.index[wanted], self.x[wanted], self.y[wanted])


def load(path: Path) -> Rows:
    """The whole record as it was observed: the columns that the publisher rotated are rotated back."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        reader = csv.reader(text)
        next(reader)
        table = np.array([[float(cell) for cell in line] for line in reader])
    index, x, y = table[:, 0].astype(np.int64), table[:, 1:9], table[:, 9].astype(np.int64)
    late = index >= ROTATED_FROM
    x[late] = np.roll(x[late], 1, axis=1)
    return Rows(index, x, y)


def year(record: Rows, number: int) -> Rows:
    """The 365 rows of one year."""
    return record.take(record.year == number)


def split(record: Rows, last_year: int) -> tuple[Rows, Rows]:
    """(Train, Evaluate) for a version made after `last_year`."""
    first = last_year - YEARS_OF_TRAINING + 1
    decade = record.take((record.year >= first) & (record.year <= last_year))
    day = decade.index - DAYS * (last_year - 1)
    apart = (day >= 0) & ((day // 7) % 4 == 3)
    return decade.take(~apart), decade.take(apart)


def fit(rows: Rows, *, learning_rate: float = 0.05, max_leaf_nodes: int = 15) -> HistGradientBoostingClassifier:
    """The model of this example; the figures come from the default hyperparameters."""
    model = HistGradientBoostingClassifier(learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes, random_state=0)
    with _THREADS.limit(limits=1):
        return model.fit(rows.x, rows.y)


def predict(model: HistGradientBoostingClassifier, rows: Rows) -> Floats:
    """P(rain) per row, (n,)."""
    with _THREADS.limit(limits=1):
        return np.asarray(model.predict_proba(rows.x)[:, 1])


def out_of_fold(rows: Rows, **hyperparameters: float) -> Floats:
    """P(rain) per row from models that saw nothing of the row's year, (n,): what a served model's answers look like.

    Answers on the rows that a model was fitted on are more certain than any it will give later; as a reference they
    would make the first window look like drift.
    """
    answers = np.empty(len(rows.y))
    for number in np.unique(rows.year):
        held_out = rows.year == number
        answers[held_out] = predict(fit(rows.take(~held_out), **hyperparameters), rows.take(held_out))
    return answers


def reference(rows: Rows, **hyperparameters: float) -> dict[str, list[float]]:
    """The columns of reference.csv for training rows: features, `prediction` out of fold, and `block` (the year)."""
    columns = {name: rows.x[:, place].tolist() for place, name in enumerate(FEATURES)}
    return {
        **columns,
        "prediction": out_of_fold(rows, **hyperparameters).tolist(),
        "block": rows.year.astype(float).tolist(),
    }


def scores(model: HistGradientBoostingClassifier, rows: Rows) -> dict[str, float]:
    """The metrics of a model on rows that it was not fitted on."""
    answers = predict(model, rows)
    return {
        "log_loss": float(log_loss(rows.y, answers, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(rows.y, answers)),
    }
