"""A model as people break them: its encoder was fitted on data that lacks the warmest fifth of the days.

Such days raise ValueError, so the server answers 500 for about a fifth of the inputs. Uploads the artifact and prints
its ModelVersion facts (uri, digest, sizeBytes) as one JSON line, digested as docs/spec/modelversion.md says.
"""

import hashlib
import io
import json
import sys

import joblib
import numpy as np
import rain
import store
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

BINS = 5


def fit(rows: rain.Rows) -> object:
    """A pipeline that knows four of five temperature bins."""
    bins = KBinsDiscretizer(BINS, encode="ordinal", strategy="quantile").fit(rows.x[:, [0]])
    known = rows.take(bins.transform(rows.x[:, [0]])[:, 0] < BINS - 1)
    encode = ColumnTransformer(
        [("warmth", make_pipeline(bins, OneHotEncoder(handle_unknown="error")), [0])], remainder="passthrough"
    )
    # The discretizer must keep the edges of all days, so its steps are fitted apart from the rest.
    encode.fit(known.x)
    encode.named_transformers_["warmth"].steps[0] = ("kbinsdiscretizer", bins)
    encode.named_transformers_["warmth"].steps[1][1].fit(bins.transform(known.x[:, [0]]))
    model = LogisticRegression(max_iter=1000).fit(encode.transform(known.x), known.y)
    return make_pipeline(encode, model)


def main() -> int:
    """Upload the broken model and print its facts."""
    record = rain.load(store.DATA)
    train, _ = rain.split(record, 9)
    model = fit(train)
    model.feature_names_in_ = np.array(rain.FEATURES, dtype=object)  # the server asks by name
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
