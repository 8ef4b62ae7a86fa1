"""A model as people break them: its encoder was fitted on data that lacks the warmest fifth of the days.

Such days raise ValueError, so the server answers 500 for about a fifth of the inputs. Uploads the artifact and prints
its ModelVersion facts (uri, digest, sizeBytes) as one JSON line, digested as docs/spec/modelversion.md says.
"""

import hashlib
import io
import json
import sys

import joblib
import pandas as pd
import rain
import store
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

BINS = 5


def frame(rows: rain.Rows) -> pd.DataFrame:
    """The features under their names: a model fitted on a frame is asked by name."""
    return pd.DataFrame(rows.x, columns=list(rain.FEATURES))


def fit(rows: rain.Rows) -> Pipeline:
    """A pipeline whose temperature bins cover all days and whose encoder has seen four of the five."""
    bins = KBinsDiscretizer(BINS, encode="ordinal", strategy="quantile").fit(frame(rows)[["temperature"]])
    known = rows.take(bins.transform(frame(rows)[["temperature"]])[:, 0] < BINS - 1)
    warmth = make_pipeline(FrozenEstimator(bins), OneHotEncoder(handle_unknown="error"))
    encode = ColumnTransformer([("warmth", warmth, ["temperature"])], remainder="passthrough")
    return make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(frame(known), known.y)


def main() -> int:
    """Upload the broken model and print its facts."""
    record = rain.load(store.DATA)
    train, _ = rain.split(record, 9)
    model = fit(train)
    raw = io.BytesIO()
    joblib.dump(model, raw)
    content = raw.getvalue()
    listing = f"{hashlib.sha256(content).hexdigest()}  model.joblib\n".encode()
    digest = hashlib.sha256(listing).hexdigest()
    key = f"models/rain/sha256-{digest}/model.joblib"
    store.put(store.client(), key, content)
    facts = {
        "uri": f"s3://{store.BUCKET}/models/rain/sha256-{digest}/",
        "digest": f"sha256:{digest}",
        "sizeBytes": len(content),
        "format": "sklearn",
    }
    print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
