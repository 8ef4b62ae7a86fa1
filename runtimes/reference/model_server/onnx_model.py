"""ONNX models on ONNX Runtime: classifiers and regressors as skl2onnx and onnxmltools write them, and plain tensors.

A classifier (a label and probabilities, with or without ZipMap) and a model whose only output is one number a row
answer `prediction` as every other library here does. Any other model answers its own outputs as they are.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from model_server.predictor import PREDICTION, Predictor, RequestError, Tensor, convention

_TYPES = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(string)": ("BYTES", np.object_),
}
_FLOATS = ("FP16", "FP32", "FP64")
_LABELS = ("INT32", "INT64", "BYTES")


class OnnxModel(Predictor):
    """One session on the CPU."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._numpy = {one.name: _TYPES[one.type][1] for one in self._session.get_inputs()}
        self.inputs = [_tensor(one) for one in self._session.get_inputs()]
        outputs = self._session.get_outputs()
        self._probabilities = _probabilities(outputs)
        self._single = len(outputs) == 1 and _one_number_a_row(_tensor(outputs[0]))
        if self._probabilities is not None:
            classes = self._count_classes()
            self.outputs = [Tensor(PREDICTION, "FP64", (-1, classes) if classes > 2 else (-1,))]
        elif self._single:
            self.outputs = [Tensor(PREDICTION, "FP64", (-1,))]
        else:
            self.outputs = [_tensor(one) for one in outputs]

    def predict(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [one.name for one in self.inputs]
        if len(tensors) == 1 and len(names) == 1:
            tensors = {names[0]: next(iter(tensors.values()))}
        if not set(names) <= set(tensors):  # others may be for another version
            raise RequestError(self._expected(f"the request has {', '.join(sorted(tensors)) or 'no tensor'}"))
        return self._run({one.name: self._fitted(one, tensors[one.name]) for one in self.inputs})

    def tensors_of_rows(self, instances: Sequence[Any]) -> dict[str, np.ndarray]:
        try:
            if instances and isinstance(instances[0], Mapping):
                return {one.name: np.array([row[one.name] for row in instances]) for one in self.inputs}
            if len(self.inputs) == 1:
                return {self.inputs[0].name: np.array(instances)}
            columns = zip(*instances, strict=True)
            return {one.name: np.array(column) for one, column in zip(self.inputs, columns, strict=True)}
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(self._expected(f"an instance could not be read ({error})")) from error

    def _run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._probabilities is not None:
            found = self._session.run([self._probabilities], feed)[0]
            if isinstance(found, list):  # ZipMap: one {class: probability} a row
                found = np.array([[row[key] for key in sorted(row)] for row in found], dtype=np.float64)
            return {PREDICTION: convention(found)}
        found = self._session.run(None, feed)
        if self._single:
            return {PREDICTION: convention(found[0])}
        return {one.name: np.asarray(value) for one, value in zip(self.outputs, found, strict=True)}

    def _count_classes(self) -> int:
        """The columns of the probabilities: as the signature tells them, else as one row of zeros shows them; 0 when a
        model knows no such row (an encoder of categories refuses what it has not seen)."""
        told = next(one.shape for one in self._session.get_outputs() if one.name == self._probabilities)
        if told and isinstance(told[-1], int):
            return int(told[-1])
        if any(one.datatype == "BYTES" for one in self.inputs):
            return 0
        feed = {one.name: np.zeros([max(size, 1) for size in one.shape], self._numpy[one.name]) for one in self.inputs}
        quiet = onnxruntime.RunOptions()
        quiet.log_severity_level = 4
        try:
            found = self._session.run([self._probabilities], feed, quiet)[0]
        except Exception:  # the runtime's errors have no common class of their own; a request will meet them again
            return 0
        return len(found[0]) if isinstance(found, list) else int(found.shape[-1])

    def _fitted(self, wanted: Tensor, given: np.ndarray) -> np.ndarray:
        """A tensor in the model's own type and rank: [n] also stands for [n, 1], and [d] for one row [1, d]."""
        try:
            array = _texts(given) if wanted.datatype == "BYTES" else given.astype(self._numpy[wanted.name])
        except (TypeError, ValueError) as error:
            raise RequestError(self._expected(f"{wanted.name} could not be read ({error})")) from error
        if array.ndim == 1 and len(wanted.shape) == 2:
            array = array.reshape(-1, 1) if wanted.shape[1] == 1 else array.reshape(1, -1)
        elif array.ndim == 2 and array.shape[1] == 1 and len(wanted.shape) == 1:
            array = array.reshape(-1)
        fits = array.ndim == len(wanted.shape) and all(
            size in (-1, have) for size, have in zip(wanted.shape, array.shape, strict=True)
        )
        if not fits and wanted.shape:
            raise RequestError(self._expected(f"{wanted.name} has shape {list(given.shape)}"))
        return np.ascontiguousarray(array)

    def _expected(self, found: str) -> str:
        takes = ", ".join(f"{one.name} ({one.datatype} {list(one.shape)})" for one in self.inputs)
        return f"The model takes {takes}; {found}."


def _tensor(one: Any) -> Tensor:
    """A tensor of the session's signature. KeyError of a type that the protocol has no name for."""
    return Tensor(one.name, _TYPES[one.type][0], tuple(size if isinstance(size, int) else -1 for size in one.shape))


def _probabilities(outputs: Sequence[Any]) -> str | None:
    """The name of a classifier's probabilities, its second output beside the label; None for any other model."""
    if len(outputs) != 2 or _TYPES.get(outputs[0].type, ("",))[0] not in _LABELS:
        return None
    second = outputs[1]
    zipped = second.type.startswith("seq(map(")
    named = "prob" in second.name.lower() and _TYPES.get(second.type, ("",))[0] in _FLOATS
    return second.name if zipped or named else None


def _one_number_a_row(output: Tensor) -> bool:
    return output.datatype in _FLOATS and (len(output.shape) == 1 or (len(output.shape) == 2 and output.shape[1] == 1))


def _texts(given: np.ndarray) -> np.ndarray:
    """Texts as ONNX Runtime takes them; the protocol's BYTES may come as bytes."""
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in given.reshape(-1)]
    return np.array(texts, dtype=np.object_).reshape(given.shape)
