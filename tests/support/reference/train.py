"""Small models in every form that the reference server loads, each with what its own library predicts.

Run by the server's Python with the packages of training.lock beside it: `train.py DIRECTORY`. Writes
`<case>/model.*` and expected.json: case -> {format, features, predictions} for the rows of ROWS.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pandas as pd
import xgboost
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NAMES = ["warmth", "wind"]
ROWS = np.array([[1.5, 0.2], [-1.5, 0.3], [0.1, -2.0]], dtype=np.float32)
VALUES = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
TABLE = pd.DataFrame(VALUES, columns=NAMES)
TWO = (VALUES[:, 0] > 0).astype(int)
THREE = np.digitize(VALUES[:, 0], [-0.5, 0.5])
NUMBER = VALUES[:, 0] * 2 + VALUES[:, 1]
NAMED = pd.DataFrame(ROWS, columns=NAMES)

CASES: dict[str, Callable[[Path], dict[str, Any]]] = {}


def case(make: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    """Registers a case under its function's name."""
    CASES[make.__name__] = make
    return make


def facts(format_: str, predictions: Any, *, named: bool = False) -> dict[str, Any]:
    """An entry of expected.json."""
    return {"format": format_, "features": NAMES if named else [], "predictions": np.asarray(predictions).tolist()}


@case
def sklearn(home: Path) -> dict[str, Any]:
    model = HistGradientBoostingClassifier(max_iter=5).fit(TABLE, TWO)
    joblib.dump(model, home / "model.joblib")
    return facts("sklearn", model.predict_proba(NAMED)[:, 1], named=True)


@case
def sklearn_three(home: Path) -> dict[str, Any]:
    model = LogisticRegression().fit(VALUES, THREE)
    joblib.dump(model, home / "anything.pkl")
    return facts("sklearn", model.predict_proba(ROWS))


@case
def sklearn_number(home: Path) -> dict[str, Any]:
    model = LinearRegression().fit(TABLE, NUMBER)
    joblib.dump(model, home / "model.joblib")
    return facts("sklearn", model.predict(NAMED), named=True)


@case
def xgboost_(home: Path) -> dict[str, Any]:
    model = xgboost.XGBClassifier(n_estimators=5).fit(TABLE, TWO)
    model.save_model(home / "model.ubj")
    return facts("xgboost", model.predict_proba(NAMED)[:, 1], named=True)


@case
def xgboost_three(home: Path) -> dict[str, Any]:
    model = xgboost.XGBClassifier(n_estimators=5).fit(VALUES, THREE)
    model.save_model(home / "model.json")
    (home / "metrics.json").write_text("{}")
    return facts("xgboost", model.predict_proba(ROWS))


@case
def xgboost_stopped_early(home: Path) -> dict[str, Any]:
    noise = np.random.default_rng(1).normal(size=400)
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=10, learning_rate=0.9)
    model.fit(VALUES[:200], NUMBER[:200] + noise[:200], eval_set=[(VALUES[200:], NUMBER[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(home / "model.ubj")
    return facts("xgboost", model.predict(ROWS))


@case
def xgboost_pickled(home: Path) -> dict[str, Any]:
    model = xgboost.XGBClassifier(n_estimators=5).fit(TABLE, THREE)
    joblib.dump(model, home / "model.joblib")
    return facts("xgboost", model.predict_proba(NAMED), named=True)


@case
def xgboost_pickled_booster(home: Path) -> dict[str, Any]:
    matrix = xgboost.DMatrix(VALUES, TWO)
    booster = xgboost.train({"objective": "binary:logistic"}, matrix, 5)
    joblib.dump(booster, home / "model.pkl")
    return facts("xgboost", booster.predict(xgboost.DMatrix(ROWS)))


@case
def lightgbm_(home: Path) -> dict[str, Any]:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(TABLE, TWO)
    model.booster_.save_model(home / "model.txt")
    return facts("lightgbm", model.predict_proba(NAMED)[:, 1], named=True)


@case
def lightgbm_three(home: Path) -> dict[str, Any]:
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(VALUES, THREE)
    model.booster_.save_model(home / "model.txt")
    return facts("lightgbm", model.booster_.predict(ROWS))


@case
def lightgbm_pickled(home: Path) -> dict[str, Any]:
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(VALUES, NUMBER)
    joblib.dump(model, home / "model.pkl")
    return facts("lightgbm", model.booster_.predict(ROWS))


@case
def lightgbm_pickled_booster(home: Path) -> dict[str, Any]:
    booster = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(TABLE, TWO).booster_
    joblib.dump(booster, home / "model.joblib")
    return facts("lightgbm", booster.predict(ROWS), named=True)


def _saved(model: Any, home: Path) -> None:
    (home / "model.onnx").write_bytes(model.SerializeToString())


@case
def onnx_(home: Path) -> dict[str, Any]:
    model = LogisticRegression().fit(VALUES, TWO)
    _saved(to_onnx(model, VALUES[:1], options={id(model): {"zipmap": False}}), home)
    return facts("onnx", model.predict_proba(ROWS)[:, 1])


@case
def onnx_zipmap(home: Path) -> dict[str, Any]:
    model = LogisticRegression().fit(VALUES, np.array(["low", "middle", "high"])[THREE])
    _saved(to_onnx(model, VALUES[:1]), home)
    return facts("onnx", model.predict_proba(ROWS))


@case
def onnx_number(home: Path) -> dict[str, Any]:
    model = LinearRegression().fit(VALUES, NUMBER)
    _saved(to_onnx(model, VALUES[:1]), home)
    return facts("onnx", model.predict(ROWS))


@case
def onnx_columns(home: Path) -> dict[str, Any]:
    """A column of texts beside one of numbers, each its own input."""
    sky = np.where(VALUES[:, 1] > 0, "clear", "dull")
    table = pd.DataFrame({"warmth": VALUES[:, 0], "sky": sky})
    columns = [("number", StandardScaler(), ["warmth"]), ("text", OneHotEncoder(), ["sky"])]
    model = make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(table, TWO)
    types = [("warmth", FloatTensorType([None, 1])), ("sky", StringTensorType([None, 1]))]
    _saved(to_onnx(model, initial_types=types, options={id(model): {"zipmap": False}}), home)
    asked = pd.DataFrame({"warmth": ROWS[:, 0], "sky": ["clear", "dull", "clear"]})
    return facts("onnx", model.predict_proba(asked)[:, 1])


@case
def onnx_plain(home: Path) -> dict[str, Any]:
    """Tensors in, tensors out: twice a matrix of integers, and its sum over the columns."""
    asked = helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 2])
    told = [
        helper.make_tensor_value_info("twice", TensorProto.INT64, ["n", 2]),
        helper.make_tensor_value_info("total", TensorProto.INT64, ["n"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "plain", [asked], told, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    _saved(model, home)
    return facts("onnx", [])


def main(directory: Path) -> None:
    """Train and write everything."""
    expected = {}
    for name, make in CASES.items():
        home = directory / name.rstrip("_")
        home.mkdir()
        expected[home.name] = make(home)
    (directory / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
