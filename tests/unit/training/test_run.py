"""Which edits are a new run, and how runs are named."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.training.run import SHAPING_FIELDS, identity, job_name, version_name

SPEC: dict[str, Any] = {
    "model": "rain",
    "image": "i:1",
    "datasets": [{"name": "train", "uri": "s3://b/t/", "use": "Train"}],
    "output": {"uri": "s3://b/m/", "format": "sklearn"},
    "gate": [{"metric": "auc", "min": "0.8"}],
    "resources": {"limits": {"cpu": "1"}},
}


def test_the_id_of_a_known_spec_never_changes() -> None:
    assert identity(SPEC).id == "a2647bea"


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 1},
        {"processesPerNode": 1},
        {"reproducibility": {"seed": 0, "deterministic": False}},
        {"reproducibility": {"seed": 0}},
        {"command": [], "env": [], "hyperparameters": {}, "base": None, "champion": {}},
        {"datasets": [{"name": "train", "uri": "s3://b/t/"}]},
        {"resources": {"limits": {"cpu": 1}, "requests": {}}},
        {"stage": {"claim": "c"}, "storage": {"secretRef": {"name": "s"}}, "queue": {"name": "q"}},
        {"retry": {"maxAttempts": 9}, "deadlineSeconds": 1, "startSeconds": 1, "pendingSeconds": 1},
        {"suspend": True, "historyLimit": 0},
    ],
    ids=lambda change: ",".join(change),
)
def test_defaults_and_fields_that_shape_no_run_keep_the_id(change: dict[str, Any]) -> None:
    assert identity({**SPEC, **change}) == identity(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "snow"},
        {"image": "i:2"},
        {"command": ["x"]},
        {"args": ["x"]},
        {"env": [{"name": "A", "value": "1"}]},
        {"hyperparameters": {"lr": "0.1"}},
        {"datasets": [{"name": "train", "uri": "s3://b/t/", "use": "Both"}]},
        {"base": {"version": "rain-r1"}},
        {"nodes": 2},
        {"processesPerNode": 2},
        {"resources": {"limits": {"cpu": "2"}}},
        {"sharedMemory": "1Gi"},
        {"template": {"nodeSelector": {"a": "b"}}},
        {"template": {"volumes": [{"name": "x", "emptyDir": {}}]}},
        {"validate": {"command": ["x"]}},
        {"evaluate": {"command": ["x"]}},
        {"output": {"uri": "s3://b/n/", "format": "sklearn"}},
        {"champion": {"deploymentRef": {"name": "rain"}}},
        {"gate": [{"metric": "auc", "min": "0.9"}]},
        {"reproducibility": {"seed": 1}},
        {"request": {"id": "a"}},
    ],
    ids=lambda change: ",".join(change),
)
def test_every_field_that_shapes_a_run_changes_the_id(change: dict[str, Any]) -> None:
    assert identity({**SPEC, **change}).id != identity(SPEC).id


def test_every_shaping_field_is_in_the_table_above() -> None:
    table = test_every_field_that_shapes_a_run_changes_the_id.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {field for change in table for field in change} == set(SHAPING_FIELDS)


def test_a_request_counts_by_its_id_only() -> None:
    one = {**SPEC, "request": {"id": "a", "kind": "Drift", "reason": "x"}}
    other = {**SPEC, "request": {"id": "a", "kind": "Drift", "reason": "y"}}
    assert identity(one) == identity(other)


@given(st.permutations(list(SPEC)))
def test_the_order_of_fields_does_not_matter(order: list[str]) -> None:
    assert identity({field: copy.deepcopy(SPEC[field]) for field in order}) == identity(SPEC)


def test_an_unknown_recipe_falls_back_to_the_newest() -> None:
    assert identity(SPEC, "r0").recipe == "r1"


def test_child_names_fit_for_the_longest_allowed_parents() -> None:
    longest = "a" * 40
    assert len(job_name(longest, "0" * 8, 9, "publish")) <= 63
    assert len(job_name(longest, "0" * 8, 99)) + len("-255") <= 63
    assert len(version_name("a" * 30, "0" * 8)) == 40
