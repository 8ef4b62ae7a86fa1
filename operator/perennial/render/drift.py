"""The children of a DriftPolicy: the TrainingJob that a trigger starts, the Job that reads the digests of training
data, and the ConfigMap that keeps the counts. Pure: the same inputs give the same bytes.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.kinds import CONFIG_MAP, TRAINING_JOB
from perennial.api.names import ANNOTATION_TRIGGER, LABEL_COMPONENT
from perennial.domain.conditions import bounded
from perennial.domain.drift.state import KEY
from perennial.domain.drift.trigger import train_datasets
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.step_job import step_job
from perennial.render.training_containers import StepImage

COMPONENT_PROBE = "probe"
PROBE_SECONDS = 3600


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
    datasets = [{"name": item["name"], "uri": item["uri"]} for item in train_datasets({"spec": spec})]
    metadata = _metadata(policy, probe_name(policy["metadata"]["name"], number))
    uris = [str(dataset["uri"]) for dataset in datasets]
    return step_job(metadata, spec, "digest", {"datasets": datasets}, uris, PROBE_SECONDS, step)


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
