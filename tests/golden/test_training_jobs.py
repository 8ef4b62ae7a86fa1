"""The Jobs of training attempts, byte for byte: a changed line here changes what runs in people's clusters."""

import json
from typing import Any

import pytest

from perennial.domain.training.run import identity
from perennial.domain.training.state import ONE_POD, STAGED
from perennial.render.training import headless_service, report_job, training_job
from perennial.render.training_containers import Attempt, StepImage
from tests.support.golden import as_yaml, check

STEP = StepImage("registry/perennial:0.1.0")
DIGEST = "sha256:" + "a" * 64

MINIMAL: dict[str, Any] = {
    "model": "rain",
    "image": "registry/rain-train:1",
    "datasets": [{"name": "train", "uri": "s3://b/train/", "use": "Train"}],
    "output": {"uri": "s3://b/models/", "format": "sklearn"},
    "gate": [{"metric": "log_loss", "max": "0.5"}],
}

FULL: dict[str, Any] = {
    **MINIMAL,
    "command": ["python", "train.py"],
    "args": ["--fast"],
    "env": [
        {"name": "LEVEL", "value": "info"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ],
    "hyperparameters": {"learning_rate": "0.05", "loss-name": "log", "layers": "[3, 4]"},
    "datasets": [
        {"name": "train", "uri": "s3://b/train/", "use": "Train", "digest": DIGEST},
        {"name": "newest", "uri": "pvc://labels/eval/", "use": "Evaluate", "digest": DIGEST},
        {"name": "stations", "uri": "https://example.org/stations.csv", "use": "Both", "digest": DIGEST},
    ],
    "base": {"version": "rain-r00000000"},
    "resources": {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1", "memory": "3Gi"}},
    "validate": {"image": "registry/tests:1", "command": ["pytest"]},
    "evaluate": {"command": ["python", "evaluate.py"], "args": ["--all"]},
    "storage": {"secretRef": {"name": "store"}},
    "gate": [{"metric": "log_loss", "champion": {"maxIncrease": "0"}}],
    "reproducibility": {"seed": 7, "deterministic": True},
    "template": {
        "labels": {"team": "weather"},
        "nodeSelector": {"gpu": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "extra", "emptyDir": {}}],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
    },
}

NODES: dict[str, Any] = {**FULL, "nodes": 2, "processesPerNode": 4, "startSeconds": 300}
STAGE: dict[str, Any] = {**FULL, "stage": {"claim": "scratch"}, "queue": {"name": "gpus", "priorityClass": "batch"}}


def attempt(spec: dict[str, Any], number: int = 1, **run: Any) -> Attempt:
    made = identity(spec)
    return Attempt(
        owner={
            "apiVersion": "perennial.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": "rain-train", "namespace": "weather", "uid": "u-1"},
            "spec": spec,
        },
        run={"id": made.id, "specHash": made.spec_hash, "recipe": made.recipe, "attempt": number, **run},
        champion={"uri": "s3://b/models/rain/old/", "digest": DIGEST} if spec.get("evaluate") else None,
        base={"uri": "s3://b/models/rain/base/", "digest": DIGEST} if spec.get("base") else None,
    )


def everything(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All objects of an attempt, in the order in which they are made."""
    made, objects = attempt(spec), []
    for stage in STAGED if spec.get("stage") else ONE_POD:
        job = training_job(made, stage, STEP)
        if job["spec"]["completions"] > 1:
            objects.append(headless_service(made, stage))
        objects.append(job)
    return [*objects, report_job(made, STEP)]


@pytest.mark.parametrize(
    ("name", "spec"),
    [("minimal", MINIMAL), ("full", FULL), ("nodes", NODES), ("stage", STAGE)],
    ids=lambda x: str(x)[:7],
)
def test_jobs_are_rendered_byte_for_byte(name: str, spec: dict[str, Any]) -> None:
    check(f"training/{name}.yaml", as_yaml(everything(spec)))
    assert json.dumps(everything(spec)) == json.dumps(everything(json.loads(json.dumps(spec))))


def containers(spec: dict[str, Any], **run: Any) -> dict[str, dict[str, Any]]:
    pod = training_job(attempt(spec, **run), "", STEP)["spec"]["template"]["spec"]
    return {c["name"]: c for c in [*pod["initContainers"], *pod["containers"]]}


def test_train_sees_neither_evaluate_data_nor_store_credentials() -> None:
    train = containers(FULL)["train"]
    paths = [mount["mountPath"] for mount in train["volumeMounts"]]
    assert "/perennial/data/train" in paths
    assert "/perennial/data/stations" in paths
    assert "/perennial/data/newest" not in paths
    assert not any(path in ("/perennial", "/perennial/data", "/perennial/pvc/labels") for path in paths)
    for name, container in containers(FULL).items():
        secret = {"secretRef": {"name": "store"}}
        assert (secret in container.get("envFrom", [])) == (name in ("fetch", "publish")), name


def test_only_train_and_evaluate_ask_for_gpus() -> None:
    for name, container in containers(FULL).items():
        asks = "nvidia.com/gpu" in container["resources"].get("limits", {})
        assert asks == (name in ("train", "evaluate", "evaluate-champion")), name
        hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
        assert hidden != asks, name


def test_every_container_meets_the_restricted_level() -> None:
    for spec in (MINIMAL, FULL, NODES):
        pod = training_job(attempt(spec), "", STEP)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["initContainers"], *pod["containers"]]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_first_attempts_image_digest_pins_later_ones() -> None:
    pinned = "registry/rain-train@sha256:" + "1" * 64
    assert containers(MINIMAL, imageDigest=pinned)["train"]["image"] == pinned
    assert containers(MINIMAL, imageDigest="sha256:" + "1" * 64)["train"]["image"] == "registry/rain-train:1"


def test_a_user_cannot_replace_what_is_injected() -> None:
    spec = {**MINIMAL, "env": [{"name": "PERENNIAL_SEED", "value": "9"}, {"name": "PYTHONHASHSEED", "value": "5"}]}
    env = [(entry["name"], entry.get("value")) for entry in containers(spec)["train"]["env"]]
    assert env.count(("PERENNIAL_SEED", "0")) == 1
    assert ("PERENNIAL_SEED", "9") not in env
    assert [value for name, value in env if name == "PYTHONHASHSEED"] == ["5"]
