"""The contents of one commit: edits judged one by one, versions archived, ends told."""

from collections.abc import Mapping
from typing import Any

import pytest

from perennial.domain.sync.documents import parse_file
from perennial.domain.sync.edit import CannotEdit
from perennial.domain.sync.outbox import Change
from perennial.domain.sync.plan import Head, needed_files, plan, to_archive

API = "apiVersion: perennial.dev/v1alpha1\n"


def mdep(version: str | None, name: str = "rain") -> str:
    """A ModelDeployment document."""
    line = f"    version: {version}\n" if version else ""
    return f"{API}kind: ModelDeployment\nmetadata: {{name: {name}}}\nspec:\n  model:\n    name: rain\n{line}"


def mver(name: str, day: int = 1, extra: str = "") -> str:
    """A ModelVersion document."""
    lineage = f"  lineage: {{finishedTime: '2026-11-{day:02}T00:00:00Z'}}\n"
    return f"{API}kind: ModelVersion\nmetadata: {{name: {name}}}\nspec:\n  model: rain\n{lineage}{extra}"


def head(files: Mapping[str, str]) -> Head:
    """A head with these files, all read."""
    contents = {path: text.encode() for path, text in files.items()}
    documents = [document for path, data in contents.items() for document in parse_file(path, data).documents]
    return Head("app", documents, contents, frozenset(files))


def update(version: str = "v2", old: str | None = "v1") -> Change:
    """A proposal."""
    return Change("u", "Update", "rain", version, "why", "T", old, version)


LIVE: dict[str, dict[str, Any]] = {
    "v2": {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": "v2", "uid": "u", "labels": {"a": "b"}},
        "spec": {"baseline": {"rows": 1}, "artifact": {"uri": "s3://x"}, "model": "rain"},
        "status": {"x": 1},
    }
}


def test_an_update_edits_the_field_and_makes_the_versions_file() -> None:
    made = plan([update()], head({"app/d.yaml": mdep("v1")}), LIVE, ())
    assert made.files["app/d.yaml"] == mdep("v2").encode()
    assert (
        made.files["app/versions/v2.yaml"]
        == (
            f"{API}kind: ModelVersion\nmetadata:\n  name: v2\nspec:\n  model: rain\n  artifact:\n    uri: s3://x\n"
            "  proposed:\n  - deployment: rain\n    time: T\n  baseline:\n    rows: 1\n"
        ).encode()
    )
    assert made.outcomes["u"][0] == "Written"
    assert "proposed" not in LIVE["v2"]["spec"]


@pytest.mark.parametrize(
    ("named", "outcome", "edited"), [("v1", "Written", True), ("v2", "Written", False), ("v9", "Superseded", False)]
)
def test_a_field_is_edited_only_while_it_holds_what_it_held(named: str, outcome: str, edited: bool) -> None:
    made = plan([update()], head({"app/d.yaml": mdep(named)}), LIVE, ())
    assert made.outcomes["u"][0] == outcome
    assert ("app/d.yaml" in made.files) == edited
    assert "app/versions/v2.yaml" in made.files


def test_both_edits_may_fall_into_one_file() -> None:
    text = (
        mver("v2") + "---\n" + mdep("v1") + "---\n" + mver("v1", extra="  served: [{deployment: rain, fromTime: A}]\n")
    )
    made = plan([update()], head({"app/all.yaml": text}), {}, ())
    found = [d.content["spec"] for d in parse_file("f", made.files["app/all.yaml"] or b"").documents]
    assert found[0]["proposed"] == [{"deployment": "rain", "time": "T"}]
    assert found[1]["model"]["version"] == "v2"
    assert found[2]["served"] == [{"deployment": "rain", "fromTime": "A"}]


def test_a_revert_and_a_rejection_are_judged_apart() -> None:
    revert = Change("a", "Revert", "rain", "v2", "bad", "T", "v2", "v1", "r2")
    reject = Change("b", "Reject", "rain", "v2", "bad", "T", revision="r2", word="CanaryFailed")
    made = plan([revert, reject], head({"app/d.yaml": mdep("v9"), "app/v.yaml": mver("v2")}), {}, ())
    assert {key: outcome for key, (outcome, _) in made.outcomes.items()} == {"a": "Superseded", "b": "Written"}
    assert set(made.files) == {"app/v.yaml"}
    again = plan([reject], head({"app/v.yaml": (made.files["app/v.yaml"] or b"").decode()}), {}, ())
    assert again.files == {}


def test_served_closes_the_entry_of_the_one_before() -> None:
    old = mver("v1", extra="  served:\n  - {deployment: rain, fromTime: A}\n  - {deployment: other, fromTime: A}\n")
    served = Change("s", "Served", "rain", "v2", "why", "B")
    made = plan([served], head({"app/v1.yaml": old, "app/v2.yaml": mver("v2")}), {}, ())
    spec = parse_file("f", made.files["app/v1.yaml"] or b"").documents[0].content["spec"]
    assert spec["served"] == [
        {"deployment": "rain", "fromTime": "A", "toTime": "B"},
        {"deployment": "other", "fromTime": "A"},
    ]


def test_a_version_that_is_gone_ends_the_change() -> None:
    made = plan([update()], head({"app/d.yaml": mdep("v1")}), {}, ())
    assert made.files == {} and made.outcomes["u"][0] == "Superseded"


def test_a_document_found_twice_names_both_places_unless_one_sets_the_field() -> None:
    base, patch = mdep(None), mdep("v1")
    made = plan([update()], head({"app/base.yaml": base, "app/patch.yaml": patch}), LIVE, ())
    assert "app/patch.yaml" in made.files and "app/base.yaml" not in made.files
    with pytest.raises(CannotEdit, match=r"app/a\.yaml:1 and app/b\.yaml:1"):
        plan([update()], head({"app/a.yaml": patch, "app/b.yaml": patch}), LIVE, ())


def test_a_strangers_file_in_the_versions_place_is_not_overwritten() -> None:
    with pytest.raises(CannotEdit, match="holds something else"):
        plan([update()], head({"app/d.yaml": mdep("v1"), "app/versions/v2.yaml": "a: 1\n"}), LIVE, ())


def test_the_files_that_are_needed_are_those_that_may_change() -> None:
    documents = head({"app/d.yaml": mdep("v1"), "app/v1.yaml": mver("v1"), "app/v0.yaml": mver("v0")}).documents
    assert needed_files([update("v1")], documents, ("v0",)) == {"app/d.yaml", "app/v1.yaml", "app/v0.yaml"}


def test_old_versions_move_without_baseline_and_those_in_use_stay() -> None:
    baseline = "  baseline: {rows: 1}\n"
    files = {f"app/versions/v{n}.yaml": mver(f"v{n}", n, baseline) for n in (1, 2, 3, 4)}
    files["app/versions/v5.yaml"] = mver("v5", 1, "  served: [{deployment: other, fromTime: A}]\n")
    files["app/own.yaml"] = mver("v6", 1)
    at = head(files)
    chosen = to_archive(at.documents, "app", "rain", 2, {"v1"})
    assert chosen == ("v2",)
    assert to_archive(at.documents, "app", "snow", 0, ()) == ()
    made = plan([], at, {}, chosen)
    assert made.files["app/versions/v2.yaml"] is None
    assert made.files["app/versions/archive/v2.yaml"] == mver("v2", 2).encode()
