"""The children of a DriftPolicy: the TrainingJob that a trigger starts, the Job that reads the digests of training
data, and the ConfigMap that keeps the counts. Pure: the same inputs give the same bytes.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.kinds import CONFIG_MAP, JOB, TRAINING_JOB
from perennial.api.names import ANNOTATION_TRIGGER, LABEL_COMPONENT
from perennial.domain.conditions import bounded
from perennial.domain.drift.state import KEY
from perennial.domain.drift.trigger import train_datasets
from perennial.domain.training.run import canonical_json
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.training import pod_security
from perennial.render.training_containers import CLAIMS, StepImage

COMPONENT_PROBE = "probe"
PROBE_SECONDS = 3600
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
_POD_FIELDS = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "imagePullSecrets",
    "priorityClassName",
    "serviceAccountName",
)
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}


def book_name(policy: str) -> str:
    """The ConfigMap that keeps a policy's counts."""
    return f"{policy}-drift"


def probe_name(policy: str, number: int) -> str:
    """The Job of a probe."""
    return f"{policy}-probe-{number}"


def probe_number(policy: str, job: str) -> int | None:
    """The number in a probe's name; None when it is no probe of that policy."""
    prefix, text = f"{policy}-probe-", job.removeprefix(f"{policy}-probe-")
    return int(text) if job.startswith(prefix) and text.isdecimal() else None


def book_config_map(policy: Mapping[str, Any], encoded: str) -> dict[str, Any]:
    """The ConfigMap that keeps a policy's counts; `encoded` is base64."""
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": _metadata(policy, book_name(policy["metadata"]["name"])),
        "binaryData": {KEY: encoded},
    }


def retraining_job(
    policy: Mapping[str, Any], template: Mapping[str, Any], trigger: Mapping[str, Any]
) -> dict[str, Any]:
    """The TrainingJob of a trigger: the template's spec with its own request, never suspended."""
    request = {
        "id": trigger["id"],
        "kind": trigger.get("kind", "Drift"),
        "policy": policy["metadata"]["name"],
        "reason": bounded(str(trigger.get("reason", ""))),
    }
    metadata = _metadata(policy, trigger["trainingJob"])
    metadata["annotations"] = {ANNOTATION_TRIGGER: trigger["id"]}
    return {
        "apiVersion": TRAINING_JOB.api_version,
        "kind": TRAINING_JOB.kind,
        "metadata": metadata,
        "spec": {**template["spec"], "request": request, "suspend": False},
    }


def probe_job(policy: Mapping[str, Any], template: Mapping[str, Any], number: int, step: StepImage) -> dict[str, Any]:
    """The CPU-only Job that reads the digests of the template's training data, with the template's store access."""
    spec = template["spec"]
    name = probe_name(policy["metadata"]["name"], number)
    extras = spec.get("template") or {}
    metadata = _metadata(policy, name)
    about = {
        "labels": {**(extras.get("labels") or {}), **_NO_SIDECAR, **metadata["labels"]},
        "annotations": {**(extras.get("annotations") or {}), **_NO_SIDECAR},
    }
    claims = _claims(spec)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(extras.get("securityContext") or {}),
        "containers": [_container(spec, claims, step)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            *(
                {"name": f"claim-{place}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
                for place, claim in enumerate(claims)
            ),
        ],
    }
    pod.update({field: extras[field] for field in _POD_FIELDS if extras.get(field)})
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": PROBE_SECONDS,
            "template": {"metadata": about, "spec": pod},
        },
    }


def _container(spec: Mapping[str, Any], claims: list[str], step: StepImage) -> dict[str, Any]:
    datasets = [{"name": item["name"], "uri": item["uri"]} for item in train_datasets({"spec": spec})]
    container: dict[str, Any] = {
        "name": "digest",
        "image": step.image,
        "imagePullPolicy": step.pull_policy,
        "command": ["perennial", "step", "digest"],
        "env": [
            {"name": "PERENNIAL_STEP", "value": canonical_json({"datasets": datasets, "claims": CLAIMS})},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of this pod alone
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
        ],
        "resources": _RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(
                {"name": f"claim-{place}", "mountPath": f"{CLAIMS}/{claim}", "readOnly": True}
                for place, claim in enumerate(claims)
            ),
        ],
    }
    secret = ((spec.get("storage") or {}).get("secretRef") or {}).get("name")
    if secret:
        container["envFrom"] = [{"secretRef": {"name": secret}}]
    return container


def _claims(spec: Mapping[str, Any]) -> list[str]:
    """The claims that the training datasets lie on."""
    uris = [str(item["uri"]) for item in train_datasets({"spec": spec})]
    return sorted({uri.removeprefix("pvc://").split("/")[0] for uri in uris if uri.startswith("pvc://")})


def _metadata(policy: Mapping[str, Any], name: str) -> dict[str, Any]:
    labels = child_labels(policy)
    if probe_number(policy["metadata"]["name"], name) is not None:
        labels[LABEL_COMPONENT] = COMPONENT_PROBE
    return {
        "name": name,
        "namespace": policy["metadata"]["namespace"],
        "labels": labels,
        "ownerReferences": [owner_reference(policy)],
    }
