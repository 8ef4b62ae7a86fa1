"""The Jobs of a training attempt, and the headless Service when several nodes train together.

Pure: the same TrainingJob, run and settings give the same bytes. Containers are built in training_plan.py.
Must not read a clock and must not decide when a Job is made.
"""

from typing import Any

from perennial.api.kinds import JOB, SERVICE
from perennial.api.names import (
    ANNOTATION_HASH_RECIPE,
    ANNOTATION_SPEC_HASH,
    COMPONENT_REPORT,
    COMPONENT_TRAINING,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    LABEL_JOB_NAME,
    LABEL_MODEL,
    LABEL_RUN,
    QUEUE_LABEL,
    QUEUE_PRIORITY_LABEL,
)
from perennial.domain.training.failure import PERMANENT
from perennial.domain.training.run import job_name
from perennial.domain.training.state import Stage
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.pods import pod_security, pod_template
from perennial.render.training_containers import Attempt, Plan, StepImage
from perennial.render.training_plan import plan_of, report_plan


def training_job(attempt: Attempt, stage: Stage, step: StepImage) -> dict[str, Any]:
    """The Indexed Job of a stage ("" = the whole attempt in one pod)."""
    plan = plan_of(attempt, stage, step)
    job = _job(attempt, plan, job_name(attempt.owner_name, attempt.run_id, attempt.number, stage), COMPONENT_TRAINING)
    queue = attempt.spec.get("queue")
    if queue and stage == "train":
        labels = {QUEUE_LABEL: queue["name"]}
        if queue.get("priorityClass"):
            labels[QUEUE_PRIORITY_LABEL] = queue["priorityClass"]
        job["metadata"]["labels"].update(labels)
        job["spec"]["suspend"] = True
    return job


def report_job(attempt: Attempt, step: StepImage) -> dict[str, Any]:
    """The small Job that prints the record of a finished attempt again."""
    name = job_name(attempt.owner_name, attempt.run_id, attempt.number, "report")
    return _job(attempt, report_plan(attempt, step), name, COMPONENT_REPORT)


def headless_service(attempt: Attempt, stage: Stage) -> dict[str, Any]:
    """Gives the pods of a Job of several nodes names that resolve before they are ready (`train` is no readiness)."""
    name = job_name(attempt.owner_name, attempt.run_id, attempt.number, stage)
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": _metadata(attempt, name, COMPONENT_TRAINING),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_JOB_NAME: name},
            "ports": [{"name": "rendezvous", "port": 29500, "protocol": "TCP"}],
        },
    }


def _labels(attempt: Attempt, component: str) -> dict[str, str]:
    return {
        **child_labels(attempt.owner),
        LABEL_COMPONENT: component,
        LABEL_MODEL: attempt.spec["model"],
        LABEL_RUN: attempt.run_id,
        LABEL_ATTEMPT: str(attempt.number),
    }


def _metadata(attempt: Attempt, name: str, component: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": attempt.owner["metadata"]["namespace"],
        "labels": _labels(attempt, component),
        "annotations": {
            ANNOTATION_SPEC_HASH: attempt.run["specHash"],
            ANNOTATION_HASH_RECIPE: attempt.run["recipe"],
        },
        "ownerReferences": [owner_reference(attempt.owner)],
    }


def _job(attempt: Attempt, plan: Plan, name: str, component: str) -> dict[str, Any]:
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": _metadata(attempt, name, component),
        "spec": {
            "completionMode": "Indexed",
            "completions": plan.nodes,
            "parallelism": plan.nodes,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(plan)},
            "template": _template(attempt, plan, name, component),
        },
    }


def _failure_rules(plan: Plan) -> list[dict[str, Any]]:
    """One lost rank is a lost attempt; the rules only put the cause on the Job, where it outlives the pod."""
    disruption = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    by_exit_code = [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": sorted(PERMANENT)},
        }
        for container in [*plan.init, plan.main]
    ]
    return [disruption, *by_exit_code]


def _template(attempt: Attempt, plan: Plan, name: str, component: str) -> dict[str, Any]:
    extras = attempt.spec.get("template") or {}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(extras.get("securityContext") or {}),
        "initContainers": plan.init,
        "containers": [plan.main],
        "volumes": plan.volumes,
    }
    if not plan.init:
        del spec["initContainers"]
    if plan.nodes > 1:
        spec["subdomain"] = name
    return pod_template(spec, extras, _labels(attempt, component))
