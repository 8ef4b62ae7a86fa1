"""Reads the bodies of inference requests and answers into rows and predictions.

Understood: Open Inference Protocol v2 as JSON, with the binary tensor extension, and as gRPC ModelInfer; v1 `instances`
and `predictions`. Pure and without policy: which rows are counted, and in which bins, is for `counters.py`. Nothing is
kept. Whatever cannot be read raises Unparsed; it is counted, never guessed at.
"""

import json
import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any, NamedTuple

import orjson

from perennial.router.grpc_messages import ModelInferRequest, ModelInferResponse, contents_of

Value = float | int | bool | str | None
_GRPC_FRAME = 5
_MAX_INFLATED = 1 << 20
_TYPECODES = {
    "FP32": "f",
    "FP64": "d",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "BOOL": "B",
}


class Unparsed(ValueError):
    """The body is none that we can read; the message is for logs and tests only."""


class Table(NamedTuple):  # not a frozen dataclass: making one of those costs a microsecond, for every request
    """The first rows of one request: columns by name, or one matrix by position whose tensor has this `name`."""

    rows: int
    columns: Mapping[str, Sequence[Value]] | None = None
    matrix: Sequence[Sequence[Value]] = ()
    name: str = ""


class Tensor(NamedTuple):
    """One input or output: flat or nested data."""

    name: str
    shape: Sequence[int]
    data: Sequence[Any]


def parse_request(body: bytes, max_rows: int, *, json_length: int | None = None, grpc: bool = False) -> Table:
    """The rows that a request asks about, at most `max_rows`. Unparsed when it is of no known form."""
    if grpc:
        return _table(_grpc_tensors(ModelInferRequest, body, "inputs"), max_rows)
    payload = _json(body, json_length)
    if isinstance(payload, dict):
        if "inputs" in payload:
            return _table(_json_tensors(payload["inputs"], body, json_length), max_rows)
        if "instances" in payload:
            return _instances(payload["instances"], max_rows)
    raise Unparsed("neither inputs nor instances")


def parse_response(body: bytes, max_rows: int, *, json_length: int | None = None, grpc: bool = False) -> list[Value]:
    """The prediction of each row, one quantity: [n] and [n, 1] as they are, the second column of [n, 2], and of
    [n, k > 2] the arg-max as text (a category). Unparsed when the answer has no readable first output.
    """
    if grpc:
        tensors: Sequence[Tensor] = _grpc_tensors(ModelInferResponse, body, "outputs")
    else:
        payload = _json(body, json_length)
        if not isinstance(payload, dict):
            raise Unparsed("the answer is no object")
        if "predictions" in payload:
            return _predictions(_checked_list(payload["predictions"])[:max_rows])
        tensors = _json_tensors(payload.get("outputs"), body, json_length, first_only=True)
    if not tensors:
        raise Unparsed("no outputs")
    return _predictions(_matrix(tensors[0], max_rows))


def _json(body: bytes, json_length: int | None) -> Any:
    text = body if json_length is None else body[:json_length]
    if text[:2] == b"\x1f\x8b":
        text = _inflated(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if b"NaN" in text or b"Infinity" in text:
            return _lenient_json(text)
        raise Unparsed(str(error)) from error


def _lenient_json(text: bytes) -> Any:
    """JSON with the words NaN and Infinity, which many servers write although JSON has none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unparsed(str(error)) from error


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, _MAX_INFLATED)
    except zlib.error as error:
        raise Unparsed(str(error)) from error


def _checked_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Unparsed("not a list")
    return value


def _checked_name(value: Any) -> str:
    if not isinstance(value, str):
        raise Unparsed("a name that is no text")
    return value


def _checked_shape(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(isinstance(size, int) for size in value):
        raise Unparsed("a shape that is no list of numbers")
    return value


def _json_tensors(raw: Any, body: bytes, json_length: int | None, *, first_only: bool = False) -> list[Tensor]:
    """The tensors of a v2 body; those with a binary_data_size take their bytes after the JSON, in order."""
    tensors = []
    offset = json_length or 0
    try:
        for item in _checked_list(raw):
            data = item.get("data")
            if data is None:
                size = item["parameters"]["binary_data_size"]
                if json_length is None or offset + size > len(body):
                    raise Unparsed("binary data is missing")
                data = decode(item["datatype"], body[offset : offset + size])
                offset += size
            else:
                _checked_list(data)
            tensors.append(Tensor(_checked_name(item["name"]), _checked_shape(item["shape"]), data))
            if first_only:
                break
    except (KeyError, TypeError, AttributeError) as error:
        raise Unparsed(f"no tensor: {error!r}") from error
    return tensors


def _grpc_tensors(message: Any, body: bytes, field: str) -> list[Tensor]:
    """The tensors of one length-prefixed, uncompressed message."""
    if len(body) < _GRPC_FRAME or body[0] != 0 or int.from_bytes(body[1:5]) != len(body) - _GRPC_FRAME:
        raise Unparsed("not one uncompressed gRPC message")
    try:
        decoded = message.FromString(body[_GRPC_FRAME:])
    except Exception as error:  # the protobuf implementations raise different classes
        raise Unparsed(str(error)) from error
    raw = getattr(decoded, f"raw_{field[:-1]}_contents")
    tensors = getattr(decoded, field)
    if raw and len(raw) != len(tensors):
        raise Unparsed("raw contents do not match the tensors")
    return [
        Tensor(t.name, list(t.shape), decode(t.datatype, raw[i]) if raw else contents_of(t))
        for i, t in enumerate(tensors)
    ]


def decode(datatype: str, raw: bytes) -> Sequence[Value]:
    """The elements of a little-endian binary tensor. Unparsed for an unknown type or a length that does not fit."""
    code = _TYPECODES.get(datatype)
    try:
        if code is not None:
            values = array(code)
            values.frombytes(raw)
            return values
        if datatype == "FP16":
            return struct.unpack(f"<{len(raw) // 2}e", raw)
        if datatype == "BF16":
            halves = struct.unpack(f"<{len(raw) // 2}H", raw)
            return struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I", *(half << 16 for half in halves)))
    except (ValueError, struct.error) as error:
        raise Unparsed(f"{len(raw)} bytes do not hold {datatype}: {error}") from error
    if datatype == "BYTES":
        return _byte_strings(raw)
    raise Unparsed(f"datatype {datatype}")


def _byte_strings(raw: bytes) -> list[Value]:
    values: list[Value] = []
    offset = 0
    while offset < len(raw):
        end = offset + 4 + int.from_bytes(raw[offset : offset + 4], "little")
        if offset + 4 > len(raw) or end > len(raw):
            raise Unparsed("a BYTES tensor is cut off")
        values.append(raw[offset + 4 : end].decode(errors="replace"))
        offset = end
    return values


def _table(tensors: Sequence[Tensor], max_rows: int) -> Table:
    """One [n, d] tensor is a matrix by position; else each tensor, [n] or [n, 1], is the column of its name."""
    if not tensors:
        raise Unparsed("no inputs")
    if len(tensors) == 1:
        only = tensors[0]
        matrix = _matrix(only, max_rows)
        return Table(len(matrix), None, matrix, only.name)
    columns: dict[str, Sequence[Value]] = {}
    rows = -1
    for tensor in tensors:
        data = tensor.data
        if len(tensor.shape) > 1 and prod(tensor.shape[1:]) != 1:
            raise Unparsed(f"tensor {tensor.name!r} among others has more than one column")
        column = data[:max_rows]
        if column and isinstance(column[0], list):
            column = [row[0] if row else None for row in _rows(column)]
        if rows not in (-1, len(column)):
            raise Unparsed("the tensors differ in length")
        rows = len(column)
        columns[tensor.name] = column
    if not rows:
        raise Unparsed("no rows")
    return Table(rows, columns)


def _matrix(tensor: Tensor, max_rows: int) -> Sequence[Sequence[Value]]:
    """The first rows of a tensor; [n] is [n, 1]."""
    data, shape = tensor.data, tensor.shape
    if data and isinstance(data[0], list):
        return _rows(data[:max_rows])
    width = prod(shape[1:])
    if not data or not shape or prod(shape) != len(data) or width < 1:
        raise Unparsed(f"shape {list(shape)} does not fit {len(data)} values")
    if width == len(data):
        return [data]
    return [data[start : start + width] for start in range(0, min(len(data), width * max_rows), width)]


def _rows(rows: Sequence[Any]) -> Sequence[Sequence[Value]]:
    """The same rows, every one of which is a list."""
    if not all(isinstance(row, list) for row in rows):
        raise Unparsed("rows of different kinds")
    return rows


def _instances(raw: Any, max_rows: int) -> Table:
    """v1: rows as lists by position, as objects by name, or as single values."""
    rows = _checked_list(raw)[:max_rows]
    if not rows:
        raise Unparsed("no instances")
    if isinstance(rows[0], dict):
        if not all(isinstance(row, dict) for row in rows):
            raise Unparsed("instances of different kinds")
        names = dict.fromkeys(name for row in rows for name in row)
        return Table(len(rows), {name: [row.get(name) for row in rows] for name in names})
    if isinstance(rows[0], list):
        return Table(len(rows), None, _rows(rows))
    return Table(len(rows), None, [[row] for row in rows])


def _predictions(rows: Sequence[Any]) -> list[Value]:
    if not rows:
        raise Unparsed("no predictions")
    first = rows[0]
    if isinstance(first, (int, float, str)) or first is None:
        return list(rows)
    try:
        width = len(first)
        if width == 1:
            return [row[0] for row in rows]
        if width == 2:
            return [row[1] for row in rows]
        return [_arg_max(row, width) for row in rows]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise Unparsed(f"predictions of mixed shapes: {error}") from error


def _arg_max(row: Sequence[Any], width: int) -> str | None:
    """The place of the largest value as text; None when one of them is no number."""
    if not all(value is not None and isfinite(value) for value in row):
        return None
    return str(max(range(width), key=row.__getitem__))
