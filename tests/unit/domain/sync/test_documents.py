"""Strict YAML: one meaning for every reader, and errors that name the line."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.sync.documents import MAX_FILE_BYTES, needs_quotes, parse_file


def error(text: str | bytes) -> tuple[int, str]:
    """Line and message of the one error."""
    parsed = parse_file("f.yaml", text if isinstance(text, bytes) else text.encode())
    assert parsed.error is not None and parsed.documents == ()
    return parsed.error.line, parsed.error.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1\n", 1, "anchor &x"),
        ("a: 1\nb: *x\n", 2, "alias *x"),
        ("a: {b: &m {c: 1}}\nd: {<<: *m}\n", 1, "anchor &m"),
        ("a:\n  <<: {b: 1}\n", 2, "merge keys"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' appears twice"),
        ("a: {x: 1, x: 2}\n", 1, "the key 'x' appears twice"),
        ("a: !!python/object/apply:os.system [id]\n", 1, "tags are not allowed"),
        ("a: !!str 1\n", 1, "tags are not allowed"),
        ("1: a\n", 1, "put it in quotes"),
        ("true: a\n", 1, "put it in quotes"),
        ("? [a]\n: b\n", 1, "not a string"),
        ("- a\n", 1, "must be a mapping"),
        ("text\n", 1, "must be a mapping"),
        ("a: [1\nb: 2\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: [\n", 4, "not valid YAML"),
        ("a: " + "[" * 60 + "]" * 60 + "\n", 1, "nested more than 50"),
        ("a: 1e999\n", 1, "too large"),
        (f"a: {'9' * 5000}\n", 1, "too large"),
        ("a: 9223372036854775808\n", 1, "too large"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: \x00\n", 1, "not valid YAML"),
        (b"a: " + b"x" * MAX_FILE_BYTES, 0, "at most 1048576"),
    ],
)
def test_names_what_is_wrong_and_where(text: str | bytes, line: int, words: str) -> None:
    found = error(text)
    assert found[0] == line
    assert words in found[1]


@pytest.mark.parametrize(
    "word",
    ["yes", "No", "on", "OFF", "y", "N", "Null", "True", "FALSE",
     "012", "0o17", "0x1F", "0b1", "1_000", "+1", "1.", ".5",
     ".inf", "-.INF", ".NaN", "1:30", "190:20:30"],
)  # fmt: skip
def test_a_word_that_readers_take_differently_is_refused(word: str) -> None:
    assert word in error(f"a: 1\nb: {word}\n")[1]


def test_plain_scalars_are_those_of_json_and_everything_else_is_text() -> None:
    text = "a: null\nb: ~\nc:\nd: true\ne: -12\nf: 1.5e3\ng: 2026-01-01\nh: 1.2.3\ni: '012'\nj: \"no\"\nk: 10Gi\n"
    assert parse_file("f", text.encode()).documents[0].content == {
        "a": None, "b": None, "c": None, "d": True, "e": -12, "f": 1500.0, "g": "2026-01-01", "h": "1.2.3", "i": "012",
        "j": "no", "k": "10Gi",
    }  # fmt: skip


def test_documents_know_where_they_start_and_empty_ones_are_left_out() -> None:
    text = "# top\n\na: 1\n---\n---\n# only a comment\n---\nb: 2\n"
    found = parse_file("f.yaml", text.encode()).documents
    assert [(document.line, document.content) for document in found] == [(3, {"a": 1}), (8, {"b": 2})]
    assert found[1].place == "f.yaml:8"


def test_one_bad_document_makes_the_whole_file_unreadable() -> None:
    assert parse_file("f", b"a: 1\n---\nb: no\n").documents == ()


TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**62), 2**62) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
        max_leaves=10,
    )
)  # fmt: skip
def test_json_is_read_as_json(value: object) -> None:
    text = json.dumps({"value": value}, ensure_ascii=False)
    assert parse_file("f", text.encode()).documents[0].content == {"value": value}


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8))
def test_a_string_that_needs_no_quotes_reads_back_as_itself(text: str) -> None:
    style = "'" if needs_quotes(text) else None
    node = yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)
    written = f"value: {yaml.serialize(node).removesuffix('...').strip()}"
    parsed = parse_file("f", written.removesuffix("...").encode())
    assert parsed.error is None and parsed.documents[0].content == {"value": text}
