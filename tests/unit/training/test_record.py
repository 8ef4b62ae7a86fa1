"""Reading what comes out of a pod in which a user's code ran."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.training.record import BadRecord, find_line, parse_record, parse_summary, record_line

DIGEST = "sha256:" + "a" * 64
GOOD: dict[str, Any] = {
    "artifact": {"uri": "s3://b/m/rain/x/", "digest": DIGEST, "sizeBytes": 1, "format": "sklearn"},
    "metrics": {"auc": "0.8"},
    "datasets": [{"name": "train", "uri": "s3://b/t/", "digest": DIGEST}],
}


def parse(**changes: Any) -> Any:
    return parse_record(record_line({**GOOD, **changes}), output_uri="s3://b/m/")


def test_a_good_record_is_read() -> None:
    assert parse().metrics == {"auc": "0.8"}


@pytest.mark.parametrize(
    "changes",
    [
        {"artifact": None},
        {"artifact": {"uri": "s3://b/m/x", "digest": "md5:1"}},
        {"artifact": {"uri": "s3://b/m-other/x", "digest": DIGEST}},
        {"artifact": {"uri": "s3://b/m/../x/", "digest": DIGEST}},
        {"metrics": {"auc": "NaN"}},
        {"metrics": {"auc": "Infinity"}},
        {"metrics": {"auc": 0.5}},
        {"metrics": {"a b": "1"}},
        {"metrics": {f"m{i}": "1" for i in range(65)}},
        {"datasets": [{"name": "x"}]},
        {"baseline": {"a": [[[[[[[[[1]]]]]]]]]}},
        {"championNote": "x" * 300_000},
    ],
    ids=str,
)
def test_bad_records_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadRecord):
        parse(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"artifact": 1}', '{"a": NaN}', "[" * 100_000])
def test_texts_that_are_no_record_are_refused(text: str) -> None:
    with pytest.raises(BadRecord):
        parse_record(text, output_uri="s3://b/m/")
    with pytest.raises(BadRecord):
        parse_summary(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_makes_the_reader_fail_otherwise(value: Any) -> None:
    for candidate in (value, {"artifact": value}, {**GOOD, "metrics": value}, {**GOOD, "datasets": value}):
        try:
            parse_record(json.dumps(candidate), output_uri="s3://b/m/")
        except BadRecord:
            continue


def test_only_the_line_that_the_message_vouches_for_is_taken() -> None:
    forged, real = record_line({**GOOD, "metrics": {"auc": "1"}}), record_line(GOOD)
    digest = parse_digest(real)
    assert find_line(f"hello\n{real}\n{forged}\n", digest) == real
    assert find_line(f"hello\n{forged}\n", digest) is None


def parse_digest(line: str) -> str:
    from perennial.domain.training.record import digest_of

    return digest_of(line)
