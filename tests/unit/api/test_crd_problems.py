"""The checker that component tests use in place of an API server's schema."""

import pytest

from tests.api.cases import CASES, FACTS, spec_object
from tests.support.crds import problems
from tests.unit.api.samples import MINIMAL, minimal


@pytest.mark.parametrize("kind", MINIMAL)
def test_the_smallest_objects_have_no_problems(kind: str):
    assert problems(minimal(kind)) == []


def test_everything_that_the_api_server_accepts_has_no_problems():
    assert problems(spec_object("ModelVersion", FACTS)) == []
    for case in CASES:
        assert problems(spec_object(case.kind, case.good)) == [], case.id


@pytest.mark.parametrize(
    ("kind", "patch", "problem"),
    [
        ("GitSync", {"prune": None}, "spec.prune is required"),
        ("GitSync", {"prun": True}, "spec.prun is not in the schema"),
        ("GitSync", {"prune": "yes"}, "spec.prune: 'yes' is no boolean"),
        ("GitSync", {"periodSeconds": 0}, "spec.periodSeconds: 0 is below [1]"),
        ("GitSync", {"periodSeconds": True}, "spec.periodSeconds: True is no integer"),
        ("ModelDeployment", {"model": {"name": "a" * 31}}, f"spec.model.name: '{'a' * 31}' is beyond [30]"),
        ("ModelDeployment", {"rollout": {"surge": "No"}}, "is not one of ['Surge', 'Replace', 'Auto']"),
        ("ModelVersion", {"metrics": {"auc": 0.8}}, "spec.metrics.auc: 0.8 is no string"),
        ("TrainingJob", {"datasets": [{"name": "a", "uri": "/a"}]}, "spec.datasets[0].uri: '/a' does not match"),
        ("TrainingJob", {"sharedMemory": "much"}, "spec.sharedMemory: 'much' is no quantity"),
    ],
)
def test_a_problem_is_found_and_named(kind: str, patch: dict, problem: str):
    found = problems(spec_object(kind, patch))
    assert len(found) == 1
    assert problem in found[0]


def test_a_status_is_checked_too():
    whole = {**minimal("GitSync"), "status": {"mood": "good", "objects": "12"}}
    assert problems(whole) == ["status.mood is not in the schema", "status.objects: '12' is no integer"]
