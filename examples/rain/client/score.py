"""What would have been without retraining: log loss per year of one stored model, as one JSON line."""

import argparse
import io
import json
import sys
import warnings

import joblib
import rain
import store


def main() -> int:
    """Score the model at --uri (s3://bucket/prefix/) on the years --first to --last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uri", required=True)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--last", type=int, default=28)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    bucket, prefix = options.uri.removeprefix("s3://").split("/", 1)
    answer = store.client().get_object(bucket, f"{prefix.rstrip('/')}/model.joblib")
    model = joblib.load(io.BytesIO(answer.read()))
    record = rain.load(store.DATA)
    losses = {
        year: rain.scores(model, rain.year(record, year))["log_loss"] for year in range(options.first, options.last + 1)
    }
    print(json.dumps({"log_loss": losses}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
