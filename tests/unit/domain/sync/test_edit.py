"""Edits change one value and keep every other byte."""

import pytest

from perennial.domain.sync import records
from perennial.domain.sync.documents import parse_file
from perennial.domain.sync.edit import CannotEdit, edit_records, render_document, set_version


def edited(text: str, value: str = "rain-r2", index: int = 0) -> str:
    """The text with the version of one of its documents set."""
    data = text.encode()
    return set_version(data, parse_file("f", data).documents[index], value).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "# top\nspec:\n  model:   # m\n    version:  v1  # pinned\n    name: rain\n",
            "# top\nspec:\n  model:   # m\n    version:  rain-r2  # pinned\n    name: rain\n",
        ),
        ("spec: {model: {name: rain, version: 'v1'}}\n", "spec: {model: {name: rain, version: 'rain-r2'}}\n"),
        ('spec:\n  model:\n    version: "v1"\n', 'spec:\n  model:\n    version: "rain-r2"\n'),
        (
            "spec:\n    model:\n        name: rain # n\n        updatePolicy: Git\n",
            "spec:\n    model:\n        name: rain # n\n        version: rain-r2\n        updatePolicy: Git\n",
        ),
        ("spec: {model: {name: rain, x: z}}", "spec: {model: {name: rain, version: rain-r2, x: z}}"),
        ("spec:\n  model:\n    name: rain", "spec:\n  model:\n    name: rain\n    version: rain-r2\n"),
        (
            "spec:\n  model:\n    name: rain\n    version:\n    x: z\n",
            "spec:\n  model:\n    name: rain\n    version: rain-r2\n    x: z\n",
        ),
        ("spec:\r\n  model:\r\n    name: rain\r\n", "spec:\r\n  model:\r\n    name: rain\r\n    version: rain-r2\r\n"),
    ],
)
def test_sets_the_version_and_nothing_else(before: str, after: str) -> None:
    assert edited(before) == after


def test_edits_only_the_named_document_of_a_file() -> None:
    text = (
        "a: 1   # one\n---\nspec:\n  model: {name: x, version: v1}\n--- # two\nspec:\n  model: {name: z, version: v1}\n"
    )
    assert edited(text, index=2) == text.replace("z, version: v1", "z, version: rain-r2")


def test_a_version_that_yaml_would_take_for_something_else_is_quoted() -> None:
    assert edited("spec: {model: {version: v1}}\n", "no") == "spec: {model: {version: 'no'}}\n"


@pytest.mark.parametrize(
    "text", ["spec: 1\n", "spec: {model: rain}\n", "spec: {model: {x: 1}}\n", "spec: {model: {version: |\n  a\n  }}\n"]
)
def test_says_when_there_is_no_place_for_a_version(text: str) -> None:
    data = text.encode()
    parsed = parse_file("f.yaml", data)
    if parsed.documents:
        with pytest.raises(CannotEdit, match=r"f\.yaml:1"):
            set_version(data, parsed.documents[0], "v2")


RECORD = """# a version
kind: ModelVersion
spec:
  model: rain   # the model
  proposed:
  - deployment: rain   # by hand
    time: "2026-11-25T10:00:00Z"
  baseline:
    features: [{name: x, edges: ['0.5']}]
---
other: 1 # kept
"""


def test_records_are_added_with_comments_kept() -> None:
    document = parse_file("f", RECORD.encode()).documents[0]

    def change(spec: records.Spec) -> None:
        records.add_proposed(spec, "rain", "later")
        records.add_served(spec, "rain", {"fromTime": "2026-11-26T00:00:00Z"})

    text = edit_records(RECORD.encode(), document, change).decode()
    served = "  served:\n  - deployment: rain\n    fromTime: '2026-11-26T00:00:00Z'\n"
    assert text == RECORD.replace("  baseline:", served + "  baseline:")


def test_an_edit_that_changes_nothing_keeps_the_bytes() -> None:
    document = parse_file("f", RECORD.encode()).documents[0]
    assert (
        edit_records(RECORD.encode(), document, lambda spec: records.add_proposed(spec, "rain", "x")) == RECORD.encode()
    )


def test_a_new_document_reads_back_as_it_was_and_keeps_lists_short() -> None:
    content = {
        "spec": {
            "digest": "sha256:1",
            "ids": ["1e5", "012", "no", "x"],
            "counts": [1, 2, 3],
            "m": [{"a": "multi\nline: 1"}],
        }
    }
    data = render_document(content)
    assert parse_file("f", data).documents[0].content == content
    assert b"counts: [1, 2, 3]\n" in data
    assert b"ids: ['1e5', '012', 'no', x]\n" in data


def test_a_later_rejection_replaces_an_earlier_one_of_the_same_deployment() -> None:
    spec: records.Spec = {"rejections": [{"deployment": "a", "time": "1"}, {"deployment": "b", "time": "1"}]}
    records.add_rejection(spec, "a", {"time": "2"})
    assert spec["rejections"] == [{"deployment": "a", "time": "2"}, {"deployment": "b", "time": "1"}]
