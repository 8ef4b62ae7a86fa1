"""Boosters in their libraries' own files: XGBoost's .ubj and .json, LightGBM's .txt.

Unlike a pickle such a file runs no code and can be read by later versions of its library.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from model_server.estimators import real_names
from model_server.predictor import Predictor, Table


def load_xgboost(path: Path) -> Predictor:
    """A Booster, as save_model wrote it."""
    import xgboost

    return XgboostBooster(xgboost.Booster(model_file=str(path)))


def load_lightgbm(path: Path) -> Predictor:
    """A Booster, as save_model wrote it."""
    import lightgbm

    return LightgbmBooster(lightgbm.Booster(model_file=str(path)))


def wrapped(booster: Any) -> Predictor:
    """A Booster of either library."""
    return XgboostBooster(booster) if type(booster).__module__.startswith("xgboost") else LightgbmBooster(booster)


class XgboostBooster(Table):
    """Answers what the objective says: probabilities of binary:logistic and multi:softprob, else the prediction."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        learner = json.loads(booster.save_config())["learner"]
        probable = learner["learner_train_param"]["objective"] == "multi:softprob"
        classes = int(learner["learner_model_param"]["num_class"]) if probable else 0
        best = booster.attr("best_iteration")  # with early stopping, later rounds are worse ones
        self._rounds = (0, int(best) + 1) if best is not None else (0, 0)
        super().__init__(booster.feature_names or [], booster.num_features(), classes)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        # Rows come in the order of the names already; the array itself has none to compare.
        return np.asarray(self._booster.inplace_predict(rows, iteration_range=self._rounds, validate_features=False))


class LightgbmBooster(Table):
    """Answers what the objective says: probabilities of binary and multiclass ones, else the prediction."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        super().__init__(real_names(booster.feature_name()), booster.num_feature(), booster.num_model_per_iteration())

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._booster.predict(rows))
