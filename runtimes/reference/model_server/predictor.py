"""What the protocol part needs of a model, whatever its library: tensors in, tensors out. Must not know a protocol."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PREDICTION = "prediction"


class RequestError(Exception):
    """The request does not fit the model; the message says what was sent and what the model takes."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the signature: v2 datatype (FP64, ...) and shape, -1 for what may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Predictor(ABC):
    """A loaded model and its signature."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]

    @abstractmethod
    def predict(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name for the inputs by name. RequestError when they do not fit."""

    @abstractmethod
    def tensors_of_rows(self, instances: Sequence[Any]) -> dict[str, np.ndarray]:
        """The inputs of a v1 request: rows as lists, or as objects by name. RequestError when they cannot be read."""


class Table(Predictor):
    """A model of rows of numbers: one tensor per feature by name ([n] or [n, 1]), or one [n, width] by position.

    It answers one tensor `prediction`: P(second class) as [n] for two classes, the probabilities as [n, classes] for
    more, and what a regressor predicts as [n].
    """

    def __init__(self, features: Sequence[str], width: int, classes: int = 0) -> None:
        """features: names in order, empty when the model knows none; classes: 0 when it predicts no probabilities."""
        self.features = list(features)
        self.width = width
        matrix = Tensor("input", "FP64", (-1, width or -1))
        self.inputs = [Tensor(name, "FP64", (-1,)) for name in self.features] or [matrix]
        self.outputs = [Tensor(PREDICTION, "FP64", (-1, classes) if classes > 2 else (-1,))]

    @abstractmethod
    def scores(self, rows: np.ndarray) -> np.ndarray:
        """[n], [n, 2] or [n, classes] for rows [n, width]."""

    def predict(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {PREDICTION: convention(self.scores(self._rows(tensors)))}

    def tensors_of_rows(self, instances: Sequence[Any]) -> dict[str, np.ndarray]:
        try:
            if instances and isinstance(instances[0], Mapping):
                if not self.features:
                    raise RequestError(self._expected("an instance is an object"))
                instances = [[row[name] for name in self.features] for row in instances]
            return {"input": np.array(instances, dtype=np.float64)}
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(self._expected(f"an instance could not be read ({error})")) from error

    def _rows(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        if len(tensors) == 1 and set(tensors) != set(self.features):
            rows = self._numbers(next(iter(tensors.values())))
            return self._checked(rows.reshape(1, -1) if rows.ndim == 1 else rows)
        if not self.features or not set(self.features) <= set(tensors):  # others may be for another version
            raise RequestError(self._expected(f"the request has {', '.join(sorted(tensors)) or 'no tensor'}"))
        columns = [self._numbers(tensors[name]).reshape(-1) for name in self.features]
        if len({len(column) for column in columns}) != 1:
            raise RequestError("All feature tensors of a request must have the same number of rows.")
        return np.column_stack(columns)

    def _numbers(self, tensor: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(tensor, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise RequestError(self._expected(f"a tensor could not be read ({error})")) from error

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or (self.width and rows.shape[1] != self.width):
            raise RequestError(self._expected(f"the request has shape {list(rows.shape)}"))
        return rows

    def _expected(self, found: str) -> str:
        names = ", ".join(self.features) or f"one tensor of shape [n, {self.width}]"
        return f"The model takes {names}; {found}."


def convention(scores: np.ndarray) -> np.ndarray:
    """Scores as FP64: [n, 2] becomes the second column, [n, 1] becomes [n], others stay."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] in (1, 2):
        scores = scores[:, -1]
    return np.ascontiguousarray(scores)
