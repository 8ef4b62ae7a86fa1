"""The training container of the example: /perennial/data/train in, model, metrics and reference out.

Follows docs/spec/trainingjob.md: the model goes to /perennial/output/model.joblib, metrics.json holds a flat map of
numbers (of the rows that were trained on, out of fold), reference.csv the columns the model receives, the prediction
from rows it was not fitted on, what the model itself answers, and the block (year) that the noise is learnt from.
"""

import csv
import json
import os
import sys
from pathlib import Path

import joblib
import numpy as np
import rain
from sklearn.metrics import log_loss, roc_auc_score

ROOT = Path(os.environ.get("PERENNIAL_ROOT", "/perennial"))


def read_tables(folder: Path) -> rain.Rows:
    """All CSV tables of a data set, in time order."""
    lines: list[list[float]] = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="") as text:
            reader = csv.reader(text)
            next(reader)
            lines.extend([float(cell) for cell in line] for line in reader)
    if not lines:
        print(f"{folder} holds no rows: upload a table data.csv and name its prefix in LATEST", file=sys.stderr)
        raise SystemExit(65)
    table = np.array(sorted(lines))
    return rain.Rows(table[:, 0].astype(np.int64), table[:, 1:9], table[:, 9].astype(np.int64))


def write_reference(path: Path, columns: dict[str, list[float]]) -> None:
    """reference.csv, one row per training row."""
    with path.open("w", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def main() -> int:
    """Train on the Train data set with the given hyperparameters."""
    output = ROOT / "output"
    rows = read_tables(ROOT / "data" / "train")
    hyperparameters = json.loads((ROOT / "hyperparameters.json").read_text())
    print(f"training on {len(rows.y)} rows with {hyperparameters}", flush=True)
    model = rain.fit(rows, **hyperparameters)
    model.feature_names_in_ = np.array(rain.FEATURES, dtype=object)  # so that the server knows its inputs by name
    joblib.dump(model, output / "model.joblib")
    reference = rain.reference(rows, **hyperparameters)
    own = rain.predict(model, rows).tolist()  # to compare with what the model answers in service
    write_reference(output / "reference.csv", {**reference, "served_prediction": own})
    held_out = np.array(reference["prediction"])
    metrics = {
        "log_loss_out_of_fold": float(log_loss(rows.y, held_out, labels=[0, 1])),
        "roc_auc_out_of_fold": float(roc_auc_score(rows.y, held_out)),
    }
    (output / "metrics.json").write_text(json.dumps(metrics))
    print(json.dumps(metrics), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
