"""The smallest valid object of each kind: only what is required."""

from typing import Any

DIGEST = "sha256:" + "a" * 64

MINIMAL: dict[str, dict[str, Any]] = {
    "GitSync": {"url": "https://git.example/models.git", "prune": True},
    "TrainingJob": {
        "model": "rain",
        "image": "registry/rain-train:1",
        "datasets": [{"name": "train", "uri": "s3://b/rain/train/"}],
        "output": {"uri": "s3://b/models/", "format": "sklearn"},
        "gate": [{"metric": "roc_auc", "min": "0.80"}],
    },
    "ModelVersion": {
        "model": "rain",
        "artifact": {"uri": "s3://b/models/rain/", "digest": DIGEST, "format": "sklearn"},
    },
    "ModelDeployment": {"model": {"name": "rain"}},
    "DriftPolicy": {"deploymentRef": {"name": "rain"}},
}


def minimal(kind: str, name: str = "rain") -> dict[str, Any]:
    """A whole object of `kind` with nothing optional set."""
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": MINIMAL[kind]}
