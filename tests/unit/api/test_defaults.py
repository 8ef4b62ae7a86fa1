"""The defaults are those of the design, and the models fill in the same ones as the API server."""

from copy import deepcopy
from typing import Any

import pytest

from perennial.api.crdgen import custom_resource_definition
from perennial.api.v1alpha1 import RESOURCES
from tests.unit.api.samples import minimal

BY_KIND = {resource.__name__: resource for resource in RESOURCES}

DEFAULTS: dict[str, dict[str, Any]] = {
    "GitSync": {
        "ref": {"branch": "main"},
        "path": ".",
        "periodSeconds": 60,
        "healSeconds": 600,
        "timeoutSeconds": 60,
        "apply": True,
        "follow": False,
        "maxPrunePercent": 50,
        "writeBack": {"method": "None", "author": {"name": "Perennial", "email": "perennial@perennial.dev"}},
        "suspend": False,
    },
    "TrainingJob": {
        "datasets": [{"name": "train", "uri": "s3://b/rain/train/", "use": "Train"}],
        "nodes": 1,
        "processesPerNode": 1,
        "reproducibility": {"seed": 0, "deterministic": False},
        "retry": {"maxAttempts": 3, "backoffSeconds": 10},
        "deadlineSeconds": 14400,
        "startSeconds": 600,
        "pendingSeconds": 3600,
        "suspend": False,
        "historyLimit": 10,
    },
    "ModelVersion": {},
    "ModelDeployment": {
        "model": {"name": "rain", "updatePolicy": "Manual"},
        "replicas": 1,
        "rollout": {
            "steps": [
                {"weight": 5, "holdSeconds": 0, "approval": False},
                {"weight": 25, "holdSeconds": 0, "approval": False},
                {"weight": 50, "holdSeconds": 0, "approval": False},
            ],
            "analysis": {
                "periodSeconds": 1,
                "warmupSeconds": 5,
                "minRequests": 50,
                "minFailures": 5,
                "maxErrorRate": "0.02",
                "maxErrorRatio": "1.5",
                "alpha": "0.01",
                "maxSeconds": 3600,
                "onInconclusive": "Hold",
                "holdMaxSeconds": 86400,
            },
            "mirrorPercent": 0,
            "progressDeadlineSeconds": 1200,
            "scaleDownDelaySeconds": 300,
            "revisionHistoryLimit": 5,
            "forbidOwnApproval": False,
            "surge": "Auto",
        },
        "traffic": {"timeoutSeconds": 60, "retries": 0, "override": False},
        "observation": {"samplePercent": 100, "maxBodyBytes": 65536, "maxRowsPerRequest": 32},
        "suspend": False,
    },
    "DriftPolicy": {
        "window": {"seconds": 86400, "offsetSeconds": 0, "minSamples": 0, "referenceWindows": 7},
        "source": {"observations": {}},
        "features": {"include": "All", "prediction": True},
        "test": {"effect": "0.2", "alpha": "0.001", "correction": "Bonferroni"},
        "rule": {"minDriftedFeatures": 1, "forWindows": 3, "clearWindows": 2, "clearRatio": "0.7"},
        "quality": {
            "maxNullIncrease": "0.05",
            "maxZeroIncrease": "0.2",
            "maxUnseenCategory": "0.02",
            "onViolation": "Block",
            "holdWindows": 2,
        },
        "action": "Notify",
        "suspend": False,
    },
}
"""What the API server adds to the smallest object of each kind; tests/api checks the same on a real one."""


def defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server stores for `value`: missing fields with a default are filled in, then looked into."""
    if isinstance(value, dict) and "properties" in schema:
        for name, child in schema["properties"].items():
            if name not in value and "default" in child:
                value[name] = deepcopy(child["default"])
            if name in value:
                value[name] = defaulted(value[name], child)
    elif isinstance(value, list):
        return [defaulted(entry, schema["items"]) for entry in value]
    return value


def stored(kind: str) -> dict[str, Any]:
    schema = custom_resource_definition(BY_KIND[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return defaulted(deepcopy(minimal(kind)), schema)


@pytest.mark.parametrize("kind", BY_KIND)
def test_the_schema_fills_in_the_defaults_of_the_design(kind: str):
    assert stored(kind)["spec"] == {**minimal(kind)["spec"], **DEFAULTS[kind]}


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_model_read_with_or_without_the_servers_defaults_is_the_same(kind: str):
    resource = BY_KIND[kind]
    assert resource.model_validate(stored(kind)) == resource.model_validate(minimal(kind))


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_model_that_is_written_and_read_again_is_the_same(kind: str):
    first = BY_KIND[kind].model_validate(stored(kind))
    assert BY_KIND[kind].model_validate(first.to_dict()) == first


def test_training_jobs_retrain_defaults():
    policy = BY_KIND["DriftPolicy"].model_validate(
        {"spec": {"deploymentRef": {"name": "rain"}, "retrain": {"trainingJobRef": {"name": "rain-train"}}}}
    )
    assert policy.to_dict()["spec"]["retrain"] == {
        "trainingJobRef": {"name": "rain-train"},
        "requireNewData": True,
        "maxWaitSeconds": 2592000,
        "cooldownSeconds": 86400,
        "budget": {"maxRetrains": 2, "perSeconds": 2592000},
    }


def test_fields_of_a_newer_version_are_ignored():
    newer = minimal("ModelDeployment")
    newer["spec"] = {**newer["spec"], "somethingNew": {"a": 1}}
    resource = BY_KIND["ModelDeployment"]
    assert resource.model_validate(newer) == resource.model_validate(minimal("ModelDeployment"))


def test_models_are_frozen():
    version = BY_KIND["ModelVersion"].model_validate(minimal("ModelVersion"))
    with pytest.raises(ValueError, match="frozen"):
        version.spec.model = "other"
