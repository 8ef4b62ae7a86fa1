"""Pickled estimators with scikit-learn's interface: its own, and the XGB* and LGBM* ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from model_server.artifact import ArtifactError
from model_server.predictor import Predictor, Table


def load_pickled(path: Path) -> Predictor:
    """An estimator, or a bare Booster that somebody pickled."""
    loaded = joblib.load(path)
    if type(loaded).__name__ == "Booster":
        from model_server import boosters

        return boosters.wrapped(loaded)
    if not hasattr(loaded, "predict"):
        raise ArtifactError(
            f"{path.name} holds a {type(loaded).__name__}, which cannot predict: publish the fitted estimator itself."
        )
    return Estimator(loaded)


def real_names(names: Sequence[Any]) -> list[str]:
    """Feature names as texts; none when they are the ones that LightGBM makes up."""
    given = [str(name) for name in names]
    return [] if given == [f"Column_{place}" for place in range(len(given))] else given


class Estimator(Table):
    """predict_proba of a classifier, predict of anything else."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._probable = hasattr(estimator, "predict_proba")
        classes = getattr(estimator, "classes_", ()) if self._probable else ()
        features = real_names(getattr(estimator, "feature_names_in_", ()))
        super().__init__(features, int(getattr(estimator, "n_features_in_", len(features)) or 0), len(classes))

    def scores(self, rows: np.ndarray) -> np.ndarray:
        data: Any = rows
        if self.features:
            import pandas as pd

            data = pd.DataFrame(rows, columns=self.features)
        return np.asarray(self._estimator.predict_proba(data) if self._probable else self._estimator.predict(data))
