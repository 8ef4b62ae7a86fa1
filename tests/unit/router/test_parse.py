"""Bodies of requests and answers, read and refused."""

import gzip
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.domain.drift.baseline import parse_baseline
from perennial.router.counters import GRID, Window, plan_of
from perennial.router.grpc_messages import ModelInferRequest, ModelInferResponse
from perennial.router.parse import Table, Unparsed, decode, parse_request, parse_response


def body(**content: Any) -> bytes:
    return json.dumps(content).encode()


def tensor(name: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP64", "data": data}


def grpc_body(message: Any) -> bytes:
    raw = message.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw


def test_one_matrix_is_read_by_position_flat_or_nested() -> None:
    flat = parse_request(body(inputs=[tensor("x", [2, 2], [1, 2, 3, 4])]), 32)
    nested = parse_request(body(inputs=[tensor("x", [2, 2], [[1, 2], [3, 4]])]), 32)
    assert flat == nested == Table(2, None, [[1, 2], [3, 4]], "x")


def test_a_vector_is_one_column() -> None:
    assert parse_request(body(inputs=[tensor("x", [3], [1, 2, 3])]), 2).matrix == [[1], [2]]
    assert parse_request(body(inputs=[tensor("x", [1], [1])]), 2).matrix == [[1]]


def test_several_tensors_are_columns_by_name() -> None:
    table = parse_request(body(inputs=[tensor("a", [2], [1, 2]), tensor("b", [2, 1], [[3], [4]])]), 32)
    assert table.columns == {"a": [1, 2], "b": [3, 4]} and table.rows == 2


@pytest.mark.parametrize(
    ("instances", "table"),
    [
        ([[1, 2], [3, 4]], Table(2, None, [[1, 2], [3, 4]])),
        ([5, 6], Table(2, None, [[5], [6]])),
        ([{"a": 1}, {"b": "x"}], Table(2, {"a": [1, None], "b": [None, "x"]})),
    ],
)
def test_v1_instances(instances: list[Any], table: Table) -> None:
    assert parse_request(body(instances=instances), 32) == table


def test_at_most_max_rows_are_read() -> None:
    for request in (
        body(inputs=[tensor("x", [9, 1], list(range(9)))]),
        body(inputs=[tensor("a", [9], list(range(9))), tensor("b", [9], list(range(9)))]),
        body(instances=[[i] for i in range(9)]),
    ):
        assert parse_request(request, 4).rows == 4


def test_binary_tensors_follow_the_json_in_order() -> None:
    inputs = [
        {"name": "a", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "b", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 13}},
    ]
    head = body(inputs=inputs)
    raw = struct.pack("<2f", 0.0, -1.5) + struct.pack("<I", 3) + b"low" + struct.pack("<I", 2) + b"hi"
    table = parse_request(head + raw, 32, json_length=len(head))
    assert table.columns is not None
    assert list(table.columns["a"]) == [0.0, -1.5] and table.columns["b"] == ["low", "hi"]
    with pytest.raises(Unparsed):
        parse_request(head + raw[:-1], 32, json_length=len(head))


@pytest.mark.parametrize("raw", [False, True])
def test_grpc_calls(raw: bool) -> None:
    request, answer = ModelInferRequest(), ModelInferResponse()
    asked = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    answered = answer.outputs.add(name="p", datatype="FP64", shape=[1])
    if raw:
        request.raw_input_contents.append(struct.pack("<2f", 1, 2))
        answer.raw_output_contents.append(struct.pack("<d", 0.5))
    else:
        asked.contents.fp32_contents.extend([1, 2])
        answered.contents.fp64_contents.append(0.5)
    assert [list(row) for row in parse_request(grpc_body(request), 32, grpc=True).matrix] == [[1, 2]]
    assert parse_response(grpc_body(answer), 32, grpc=True) == [0.5]


@pytest.mark.parametrize(
    ("shape", "data", "wanted"),
    [
        ([3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
        ([2, 1], [0.1, 0.2], [0.1, 0.2]),
        ([2, 2], [0.9, 0.1, 0.2, 0.8], [0.1, 0.8]),
        ([2, 3], [0.1, 0.7, 0.2, 0.5, 0.2, 0.3], ["1", "0"]),
        ([2], ["sun", "rain"], ["sun", "rain"]),
    ],
)
def test_a_prediction_is_one_quantity(shape: list[int], data: list[Any], wanted: list[Any]) -> None:
    assert parse_response(body(outputs=[tensor("p", shape, data), tensor("other", [1], [7])]), 32) == wanted


def test_v1_predictions_follow_the_same_rule() -> None:
    assert parse_response(body(predictions=[0.3, 0.4]), 32) == [0.3, 0.4]
    assert parse_response(body(predictions=[[0.7, 0.3]]), 32) == [0.3]


def test_gzip_is_read_but_never_blown_up() -> None:
    assert parse_request(gzip.compress(body(instances=[1])), 32).rows == 1
    with pytest.raises(Unparsed):
        parse_request(gzip.compress(b" " * (4 << 20) + body(instances=[1])), 32)


@pytest.mark.parametrize(
    "refused",
    [
        b"",
        b"{",
        b"[]",
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": [{"name": "x", "shape": [2, 2], "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}',
        body(inputs=[tensor("a", [2], [1, 2]), tensor("b", [1], [1])]),
        body(inputs=[tensor("a", [2], [1, 2]), tensor("b", [2, 2], [1, 2, 3, 4])]),
        b'{"instances": []}',
        b'{"instances": [[1], {"a": 1}]}',
        b'{"instances": 3}',
    ],
)
def test_what_cannot_be_read_is_refused(refused: bytes) -> None:
    with pytest.raises(Unparsed):
        parse_request(refused, 32)


@given(st.binary(max_size=200), st.booleans(), st.one_of(st.none(), st.integers(0, 300)))
def test_no_body_ends_in_another_error(raw: bytes, grpc: bool, json_length: int | None) -> None:
    for read in (parse_request, parse_response):
        try:
            read(raw, 32, json_length=json_length, grpc=grpc)
        except Unparsed:
            continue


SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3)
KEYS = st.sampled_from(["name", "shape", "data", "datatype", "parameters", "binary_data_size"])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
TENSORS = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=1), "shape": st.lists(SCALARS, max_size=2), "data": JSON}),
    max_size=2,
)
BASELINE = parse_baseline({"features": [{"name": "a", "edges": ["0"], "counts": [1, 1]}]})


@given(st.sampled_from(["inputs", "outputs", "instances", "predictions"]), JSON | TENSORS)
@settings(max_examples=100)
def test_no_json_ends_in_another_error_even_when_it_is_counted(key: str, content: Any) -> None:
    raw = body(**{key: content})
    try:
        answer = parse_response(raw, 32)
    except Unparsed:
        answer = None
    for plan in (plan_of(BASELINE), GRID):
        try:
            Window(0, "aaaaaaaa", plan).add(parse_request(raw, 32), answer)
        except Unparsed:
            continue


@given(st.lists(st.floats(width=16, allow_nan=False), max_size=8))
def test_half_precision_is_exact(values: list[float]) -> None:
    assert list(decode("FP16", struct.pack(f"<{len(values)}e", *values))) == values


def test_brain_floats_are_the_upper_half_of_a_float() -> None:
    halves = struct.pack("<2H", *(struct.unpack("<I", struct.pack("<f", x))[0] >> 16 for x in (1.5, -2.0)))
    assert list(decode("BF16", halves)) == [1.5, -2.0]


def test_unknown_types_and_odd_lengths_are_refused() -> None:
    for datatype, raw in (("FP128", b"0" * 16), ("FP32", b"123"), ("FP16", b"1"), ("BYTES", b"\x05\0\0\0ab")):
        with pytest.raises(Unparsed):
            decode(datatype, raw)
