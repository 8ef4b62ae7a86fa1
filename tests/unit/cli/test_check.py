"""`perennial check` names path, line and what is allowed, and is quiet about good manifests."""

from pathlib import Path

import pytest

from perennial.cli.check import check_directory

GOOD = """\
apiVersion: perennial.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: rain
spec:
  model: {name: rain}
---
apiVersion: perennial.dev/v1alpha1
kind: DriftPolicy
metadata:
  name: rain-inputs
spec:
  deploymentRef: {name: rain}
"""


def check(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "a.yaml").write_text(text)
    return [f"{e.place}: {e.message}" for e in check_directory(tmp_path)]


def test_good_manifests_have_no_errors(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD) == []


def test_a_folder_may_be_named_like_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").mkdir()
    assert check(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1\n", "a.yaml:2", "not valid YAML"),
        (
            GOOD.replace("  model: {name: rain}", "  model: {name: rain}\n  replcas: 2"),
            "a.yaml:1",
            "unknown field spec.replcas",
        ),
        (
            GOOD.replace("deploymentRef: {name: rain}", "deploymentRef: {name: snow}"),
            "a.yaml:8",
            "ModelDeployment snow",
        ),
        (GOOD + "---\n" + GOOD.split("---\n")[1], "a.yaml:15", "is also defined at a.yaml:8"),
        (GOOD.replace("kind: DriftPolicy", "kind: DriftPolice"), "a.yaml:8", "kind DriftPolice is unknown"),
        (GOOD.replace("  name: rain-inputs\n", "  labels: {}\n"), "a.yaml:8", "metadata.name"),
        (GOOD.replace("model: {name: rain}", "replicas: many"), "a.yaml:1", "spec.replicas"),
    ],
)
def test_each_mistake_is_named_with_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    errors = check(tmp_path, text)
    assert any(e.startswith(f"{place}: ") and words in e for e in errors), errors


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").symlink_to("/etc/hostname")
    assert [e.message for e in check_directory(tmp_path)] == [
        "symbolic links are not followed: put the file itself here"
    ]
