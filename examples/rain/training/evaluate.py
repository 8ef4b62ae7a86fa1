"""The evaluating container of the example: scores one model, candidate or champion, on the Evaluate data set."""

import json
import os
import sys
import warnings
from pathlib import Path

import joblib
import rain
from train import ROOT, read_tables


def main() -> int:
    """Write log_loss and roc_auc of the model in PERENNIAL_MODEL_DIR to PERENNIAL_METRICS_FILE."""
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    model = joblib.load(Path(os.environ["PERENNIAL_MODEL_DIR"]) / "model.joblib")
    scores = rain.scores(model, read_tables(ROOT / "data" / "newest"))
    Path(os.environ["PERENNIAL_METRICS_FILE"]).write_text(json.dumps(scores))
    print(json.dumps(scores), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
