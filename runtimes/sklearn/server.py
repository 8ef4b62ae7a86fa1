"""The reference model server: scikit-learn models over the Open Inference Protocol v2 and v1, on the KServe SDK.

Reads one fitted estimator from `<model dir>/model.joblib` (or the only *.joblib or *.pkl there) and answers under the
name in PERENNIAL_MODEL_NAME. Classifiers with two classes answer P(second class) as [n]; with more, the probabilities
as [n, k]; regressors their prediction as [n]. Must not know anything of Perennial but those two environment variables.
"""

import logging
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput

SUFFIXES = (".joblib", ".pkl")


class ModelDirectoryError(Exception):
    """The model directory does not hold exactly one model; the message is for a person."""


def model_file(directory: Path) -> Path:
    """The one file to load; ModelDirectoryError says what was found instead."""
    found = sorted(p for p in directory.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    preferred = [p for p in found if p.stem == "model"]
    if len(preferred) == 1:
        return preferred[0]
    if len(found) == 1:
        return found[0]
    what = "no file" if not found else ", ".join(str(p.relative_to(directory)) for p in found[:5])
    raise ModelDirectoryError(
        f"The artifact must hold one scikit-learn model named model.joblib; found {what}. "
        "Write it to /perennial/output/model.joblib in the training container."
    )


class SklearnModel(Model):
    """One estimator. Inputs: one tensor per feature by name ([n] or [n, 1]), or one tensor [n, d] by position."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._estimator: Any = joblib.load(path)
        self._features = [str(f) for f in getattr(self._estimator, "feature_names_in_", [])]
        self._width = int(getattr(self._estimator, "n_features_in_", len(self._features)) or 0)
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """The input signature of the model's metadata page."""
        if self._features:
            return [{"name": f, "datatype": "FP64", "shape": [-1]} for f in self._features]
        return [{"name": "input", "datatype": "FP64", "shape": [-1, self._width]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The output signature: [n] or [n, k] as in the module's docstring."""
        classes = getattr(self._estimator, "classes_", None)
        wide = hasattr(self._estimator, "predict_proba") and classes is not None and len(classes) > 2
        return [{"name": "prediction", "datatype": "FP64", "shape": [-1, len(classes)] if wide else [-1]}]

    def predict(
        self, payload: dict[str, Any] | InferRequest, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one request in the protocol it came in."""
        if isinstance(payload, InferRequest):
            answer = self._scores(self._rows_of_tensors(payload))
            output = InferOutput("prediction", list(answer.shape), "FP64")
            output.set_data_from_numpy(answer, binary_data=bool(payload.use_binary_outputs))
            return InferResponse(
                response_id=payload.id or str(uuid.uuid4()), model_name=self.name, infer_outputs=[output]
            )
        if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
            raise InvalidInput('A v1 request must be JSON of the form {"instances": []}, sent as application/json.')
        return {"predictions": self._scores(self._rows_of_instances(payload["instances"])).tolist()}

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        data: Any = rows
        if self._features:
            import pandas as pd

            data = pd.DataFrame(rows, columns=self._features)
        if not hasattr(self._estimator, "predict_proba"):
            return np.asarray(self._estimator.predict(data), dtype=np.float64)
        scores = np.asarray(self._estimator.predict_proba(data), dtype=np.float64)
        return np.ascontiguousarray(scores[:, 1]) if scores.shape[1] == 2 else scores

    def _rows_of_tensors(self, request: InferRequest) -> np.ndarray:
        tensors = {t.name: t for t in request.inputs}
        if len(tensors) == 1 and set(tensors) != set(self._features):
            rows = np.asarray(next(iter(tensors.values())).as_numpy(), dtype=np.float64)
            return self._checked(rows.reshape(1, -1) if rows.ndim == 1 else rows)
        missing = [f for f in self._features if f not in tensors]
        if missing or not self._features:
            raise InvalidInput(self._expected(f"the request has {', '.join(sorted(tensors))}"))
        columns = [np.asarray(tensors[f].as_numpy(), dtype=np.float64).reshape(-1) for f in self._features]
        if len({len(c) for c in columns}) != 1:
            raise InvalidInput("All feature tensors of a request must have the same number of rows.")
        return np.column_stack(columns)

    def _rows_of_instances(self, instances: list[Any]) -> np.ndarray:
        try:
            if instances and isinstance(instances[0], dict):
                rows = np.array([[row[f] for f in self._features] for row in instances], dtype=np.float64)
            else:
                rows = np.array(instances, dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(self._expected(f"an instance could not be read ({error})")) from error
        return self._checked(rows)

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or (self._width and rows.shape[1] != self._width):
            raise InvalidInput(self._expected(f"the request has shape {list(rows.shape)}"))
        return rows

    def _expected(self, found: str) -> str:
        names = ", ".join(self._features) or f"one tensor of shape [n, {self._width}]"
        return f"The model takes {names}; {found}."


def main() -> int:
    """Load the model and serve until SIGTERM; 65 with one sentence when the artifact is not a model."""
    name = os.environ.get("PERENNIAL_MODEL_NAME", "model")
    directory = Path(os.environ.get("PERENNIAL_MODEL_DIR", "/mnt/models"))
    try:
        model = SklearnModel(name, model_file(directory))
    except ModelDirectoryError as error:
        print(error, file=sys.stderr)
        return 65
    port = int(os.environ.get("PERENNIAL_HTTP_PORT", "8080"))
    server = ModelServer(http_port=port, enable_grpc=False, workers=1, enable_latency_logging=False)
    for noisy in ("uvicorn.access", "kserve.trace"):  # a line a request costs more than the prediction
        logging.getLogger(noisy).setLevel(logging.WARNING)
    server.start([model])
    return 0


if __name__ == "__main__":
    sys.exit(main())
