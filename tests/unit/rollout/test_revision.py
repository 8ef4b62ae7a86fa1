"""What makes a revision another one, and what does not."""

import pytest

from perennial.domain.revision import Resolved, Unresolvable, fingerprint, resolve_runtime, revision_hash

TABLE = {
    "sklearn": {"formats": ["sklearn"], "image": "s:1", "port": 8080, "args": []},
    "xgb": {"formats": ["xgboost", "sklearn-like"], "image": "x:1"},
}
SPEC = {"model": {"name": "rain"}, "resources": {"limits": {"memory": "1Gi"}}, "replicas": 2}
DIGEST = "sha256:" + "a" * 64


def test_runtime_by_name_by_format_or_own_container() -> None:
    assert resolve_runtime({"runtime": "xgb"}, "sklearn", TABLE) == Resolved({"image": "x:1"})
    assert resolve_runtime({}, "sklearn", TABLE) == Resolved({"image": "s:1", "port": 8080})
    own = {"image": "mine:1"}
    assert resolve_runtime({"container": own}, "sklearn", TABLE) == Resolved({"container": own})


@pytest.mark.parametrize(
    ("spec", "format_", "reason"), [({"runtime": "no"}, "sklearn", "UnknownRuntime"), ({}, "onnx", "UnknownFormat")]
)
def test_an_unknown_runtime_names_the_known_ones(spec: dict, format_: str, reason: str) -> None:
    found = resolve_runtime(spec, format_, TABLE)
    assert isinstance(found, Unresolvable)
    assert found.reason == reason
    assert "sklearn, xgb" in found.message


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"replicas": 5}, False),
        ({"rollout": {"steps": []}}, False),
        ({"traffic": {"timeoutSeconds": 5}}, False),
        ({"template": {}}, False),
        ({"resources": {"limits": {"memory": "2Gi"}}}, True),
        ({"template": {"nodeSelector": {"a": "b"}}}, True),
        ({"storage": {"secretRef": {"name": "s"}}}, True),
        ({"model": {"name": "rain", "version": "rain-r2"}}, False),
        ({"model": {"name": "rain", "servedName": "forecast"}}, True),
    ],
)
def test_only_what_runs_makes_another_revision(change: dict, other: bool) -> None:
    entry = {"image": "s:1"}
    changed = {**SPEC, **change}
    assert (revision_hash(changed, DIGEST, entry) != revision_hash(SPEC, DIGEST, entry)) is other
    assert (fingerprint(changed, DIGEST) != fingerprint(SPEC, DIGEST)) is other


def test_the_artifact_and_the_resolved_entry_are_part_of_it() -> None:
    assert revision_hash(SPEC, DIGEST, {"image": "s:1"}) != revision_hash(SPEC, DIGEST, {"image": "s:2"})
    assert revision_hash(SPEC, DIGEST, {"image": "s:1"}) != revision_hash(SPEC, "sha256:" + "b" * 64, {"image": "s:1"})


def test_the_hashes_of_recipe_1_never_change() -> None:
    """Committed values: another one would roll out everything that serves."""
    assert revision_hash(SPEC, DIGEST, {"image": "s:1"}) == "e02aa833"
    assert fingerprint(SPEC, DIGEST, recipe="1") == "883417c01e1d5107"
    assert fingerprint(SPEC, DIGEST, recipe="from the future") is None
