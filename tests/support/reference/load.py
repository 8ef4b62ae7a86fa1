"""Loads every model that train.py made as the server does, and prints what it says: `load.py DIRECTORY`.

Run by the server's Python with the server's package on its path. One process for all: starting a server for each of
them would take a minute.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from model_server.artifact import load
from model_server.predictor import Predictor

ROWS = [[1.5, 0.2], [-1.5, 0.3], [0.1, -2.0]]


def seen(model: Predictor, features: list[str]) -> dict[str, Any]:
    """The signature and the answers to ROWS: by position, by v1 rows and, where names are known, by name."""
    rows = np.array(ROWS)
    signature = {
        side: [[one.name, one.datatype, list(one.shape)] for one in tensors]
        for side, tensors in (("inputs", model.inputs), ("outputs", model.outputs))
    }
    answers = [model.predict({"rows": rows}), model.predict(model.tensors_of_rows(ROWS))]
    if features:
        columns = {name: rows[:, place] for place, name in enumerate(features)}
        objects = [dict(zip(features, row, strict=True)) for row in ROWS]
        answers += [model.predict(columns), model.predict(model.tensors_of_rows(objects))]
    return {**signature, "answers": [answer["prediction"].tolist() for answer in answers]}


def main(directory: Path) -> None:
    """Print JSON: case -> what seen() says; the two cases of ONNX that have other inputs say their own."""
    expected = json.loads((directory / "expected.json").read_text())
    said: dict[str, Any] = {}
    for name, facts in expected.items():
        model = load(directory / name, facts["format"])
        if name == "onnx_plain":
            answer = model.predict({"x": np.array([[1, 2], [3, 4]])})
            said[name] = {key: value.tolist() for key, value in answer.items()}
        elif name == "onnx_columns":
            texts = np.array([b"clear", "dull", "clear"], dtype=object)
            objects = [
                {"warmth": row[0], "sky": text} for row, text in zip(ROWS, ("clear", "dull", "clear"), strict=True)
            ]
            answers = [
                model.predict({"warmth": np.array(ROWS)[:, 0], "sky": texts}),
                model.predict(model.tensors_of_rows(objects)),
                model.predict(model.tensors_of_rows([list(row.values()) for row in objects])),
            ]
            inputs = [[one.name, one.datatype, list(one.shape)] for one in model.inputs]
            said[name] = {"inputs": inputs, "answers": [answer["prediction"].tolist() for answer in answers]}
        else:
            said[name] = seen(model, facts["features"])
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
