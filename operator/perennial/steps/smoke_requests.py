"""Sample inputs as requests of the Open Inference Protocol v2, and what an answer holds. Pure.

A model takes its inputs as one tensor for each column by name, or as one matrix of all columns in their order: its
signature says which. What fits neither is a DataProblem, because nobody can know how the model wants it.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isclose, isfinite
from typing import Any

from perennial.domain.rollout.signature import ANY, Signature, Tensor
from perennial.steps.errors import DataProblem
from perennial.steps.reference import PREDICTION

RELATIVE = 1e-3
"""Answers that differ by less than this share of the greater one are equal."""
_NAMED = 5
_TRUE, _FALSE = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: the body of its request, and what training recorded for it ("": nothing)."""

    body: bytes
    recorded: str


def samples_of(text: str, wanted: Signature) -> list[Sample]:
    """The rows of a file of sample inputs as requests for a model with that signature."""
    header, *rows = csv.reader(io.StringIO(text))
    features = [name for name in header if name != PREDICTION]
    plan = _plan(features, wanted)
    made = []
    for row in rows:
        values = dict(zip(header, row, strict=True))
        inputs = [
            {
                "name": tensor.name,
                "shape": shape,
                "datatype": tensor.datatype,
                "data": [_value(values[column], tensor, column) for column in columns],
            }
            for tensor, columns, shape in plan
        ]
        made.append(Sample(json.dumps({"inputs": inputs}).encode(), values.get(PREDICTION, "")))
    return made


def _plan(features: Sequence[str], wanted: Signature) -> list[tuple[Tensor, list[str], list[int]]]:
    """For each input of the model the columns that fill it, and the shape to send."""
    if all(tensor.name in features and _takes(tensor.shape, 1) for tensor in wanted):
        return [(tensor, [tensor.name], [1] * len(tensor.shape)) for tensor in wanted]
    if len(wanted) == 1 and _takes(wanted[0].shape, len(features)):
        shape = wanted[0].shape
        return [(wanted[0], list(features), [1] * (len(shape) - 1) + [len(features)])]
    told = "; ".join(f'"{tensor.name}" {tensor.words}' for tensor in wanted[:_NAMED])
    raise DataProblem(
        f"the model's {len(wanted)} inputs ({told}) are neither the {len(features)} columns of its sample inputs "
        f"({', '.join(features[:_NAMED])}) by name nor one input of {len(features)} columns: let reference.csv hold "
        "the columns as the model receives them"
    )


def _takes(shape: Sequence[int], values: int) -> bool:
    """Whether one row of so many values has this shape: [values], or [1, values] with any number of rows."""
    if len(shape) == 1:
        return shape[0] == values or (shape[0] == ANY and values == 1)
    return len(shape) == 2 and shape[0] in (1, ANY) and shape[1] in (values, ANY)


def _value(text: str, tensor: Tensor, column: str) -> Any:
    """One value in the tensor's datatype."""
    kind = tensor.datatype.upper()
    try:
        if kind == "BYTES":
            return text
        if kind == "BOOL":
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        number = float(text)
        if kind.startswith(("INT", "UINT")) and number.is_integer():
            return int(Decimal(text))
        if kind in ("FP16", "FP32", "FP64", "BF16") and isfinite(number):
            return number
    except (KeyError, ValueError):
        pass
    raise DataProblem(
        f'the sample inputs hold {text[:40]!r} in column "{column[:128]}", which the model takes as {kind[:32]}: let '
        "reference.csv hold the columns as the model receives them"
    )


def values_of(raw: bytes) -> list[Any] | None:
    """The values of an answer's first output, row by row; None when the answer is none of the protocol."""
    try:
        page = json.loads(raw)
        data = page["outputs"][0]["data"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    found = _flat(data)
    known = all(value is None or isinstance(value, (bool, int, float, str)) for value in found)
    return found if found and known else None


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    return [value for item in data for value in _flat(item)]


def has_null(values: Sequence[Any]) -> bool:
    """Whether a value is missing, NaN or infinite."""
    return any(value is None or not (isinstance(value, str) or _is_finite(value)) for value in values)


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def difference(values: Sequence[Any], recorded: str) -> float | None:
    """How far an answer is from what training recorded: 0 when they are equal, within RELATIVE or the digits that were
    written; infinite for texts that differ; None when they cannot be compared.

    Of several values (the classes of a classifier) the place of the largest one counts, as a recorded class does.
    """
    answer = values[0] if len(values) == 1 else _largest(values)
    if recorded == "" or answer is None:
        return None
    if isinstance(answer, str):
        return 0.0 if answer == recorded else float("inf")
    try:
        wanted = Decimal(recorded)
    except InvalidOperation:
        return None
    if not wanted.is_finite():
        return None
    exponent = wanted.as_tuple().exponent
    written = 0.5 * 10.0**exponent if isinstance(exponent, int) and exponent < 0 else 0.0
    equal = isclose(answer, float(wanted), rel_tol=RELATIVE, abs_tol=written)
    return 0.0 if equal else abs(answer - float(wanted))


def _largest(values: Sequence[Any]) -> int | None:
    if any(isinstance(value, str) for value in values):
        return None
    return max(range(len(values)), key=lambda place: values[place])
