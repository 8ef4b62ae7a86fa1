"""The children of a ModelDeployment: a revision's Deployment and headless Service, and the autoscaler.

Pure: the same inputs give the same bytes. A revision's pod template is rendered once and never again. Must not decide
when something is made; routers are in router.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from perennial.api import names
from perennial.api.kinds import DEPLOYMENT, HPA, PDB, SERVICE
from perennial.domain.revision import RECIPE, canonical, served_name
from perennial.domain.rollout.spec import Scaling
from perennial.domain.rollout.world import Target
from perennial.domain.training.usage import is_accelerator
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.pods import pod_security, pod_template
from perennial.render.training_containers import CLAIMS, ROOT, StepImage

MODEL_DIR = "/mnt/models"
DEFAULT_PORT = 8080
READY_PATH = "/v2/health/ready"
PRE_STOP_SECONDS = 10
SERVER = "server"

_MODEL, _TMP, _SHM = "perennial-model", "perennial-tmp", "perennial-shm"
_FETCH_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
_QUANTITY = re.compile(r"([0-9.]+)([A-Za-z]*)\Z")

Json = dict[str, Any]


def revision_name(deployment: str, revision: str) -> str:
    """The name of a revision's Deployment, Service and Envoy cluster."""
    return f"{deployment}-rev-{revision}"


def revision_deployment(owner: Mapping[str, Any], target: Target, replicas: int, step: StepImage) -> Json:
    """The Deployment of a revision. Its annotations say what it was made for, so that it can be found again."""
    labels = _revision_labels(owner, target.revision)
    annotations = {
        names.ANNOTATION_SPEC_HASH: target.fingerprint,
        names.ANNOTATION_HASH_RECIPE: RECIPE,
        names.ANNOTATION_DIGEST: target.artifact.digest,
        names.ANNOTATION_ENTRY: canonical(target.entry),
    }
    if target.version:
        annotations[names.ANNOTATION_VERSION] = target.version
    name = revision_name(owner["metadata"]["name"], target.revision)
    surge = {"maxSurge": 0, "maxUnavailable": 1} if _has_accelerator(owner["spec"]) else {"maxUnavailable": 0}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {**_metadata(owner, name, labels), "annotations": annotations},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": _selector(owner["metadata"]["name"], target.revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, **surge}},
            "template": _pod_template(owner, target, labels, step),
        },
    }


def revision_service(owner: Mapping[str, Any], target: Target) -> Json:
    """The headless Service of a revision: its EndpointSlices tell the routers which pods are ready and on which ports,
    and their labels the model's name at the server."""
    ports = {"http": server_port(target.entry)}
    grpc = _grpc_port(target.entry)
    if grpc is not None:
        ports["grpc"] = grpc
    labels = _revision_labels(owner, target.revision)
    served = served_name(owner["spec"])
    if served:
        labels[names.LABEL_SERVED_NAME] = served
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": _metadata(owner, revision_name(owner["metadata"]["name"], target.revision), labels),
        "spec": {
            "clusterIP": "None",
            "selector": _selector(owner["metadata"]["name"], target.revision),
            "ports": [{"name": n, "port": port, "targetPort": port, "protocol": "TCP"} for n, port in ports.items()],
        },
    }


def revision_budget(service: Mapping[str, Any]) -> Json:
    """What a node's drain may take of a revision: one pod at a time. It goes with the revision's Service, its owner.

    service: as the API server made it. Pods that are not ready are not protected, so a canary that never becomes ready
    holds up no drain.
    """
    meta = service["metadata"]
    # Not blockOwnerDeletion: that would take rights on the finalizers of every Service.
    owner = {**owner_reference(service, controller=False), "controller": True}
    return {
        "apiVersion": PDB.api_version,
        "kind": PDB.kind,
        "metadata": {**_metadata(service, meta["name"], meta["labels"]), "ownerReferences": [owner]},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(service["spec"]["selector"])},
        },
    }


def autoscaler(owner: Mapping[str, Any], scaling: Scaling, revision: str, min_replicas: int) -> Json:
    """The HorizontalPodAutoscaler of stable."""
    cpu = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    metrics = list(scaling.metrics) or [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}]
    name = owner["metadata"]["name"]
    return {
        "apiVersion": HPA.api_version,
        "kind": HPA.kind,
        "metadata": _metadata(owner, name, child_labels(owner)),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": DEPLOYMENT.api_version,
                "kind": DEPLOYMENT.kind,
                "name": revision_name(name, revision),
            },
            "minReplicas": min_replicas,
            "maxReplicas": max(scaling.max_replicas, min_replicas),
            "metrics": metrics,
        },
    }


def _metadata(owner: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> Json:
    return {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "labels": dict(labels),
        "ownerReferences": [owner_reference(owner)],
    }


def _selector(deployment: str, revision: str) -> dict[str, str]:
    return {names.LABEL_DEPLOYMENT: deployment, names.LABEL_REVISION: revision}


def _revision_labels(owner: Mapping[str, Any], revision: str) -> dict[str, str]:
    return {
        **child_labels(owner),
        names.LABEL_COMPONENT: names.COMPONENT_SERVER,
        **_selector(owner["metadata"]["name"], revision),
    }


def _pod_template(owner: Mapping[str, Any], target: Target, labels: Mapping[str, str], step: StepImage) -> Json:
    spec = owner["spec"]
    extras = spec.get("template") or {}
    timeout = int((spec.get("traffic") or {}).get("timeoutSeconds", 60))
    pod: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(extras.get("securityContext") or {}),
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + timeout,
        "initContainers": [_fetch_container(spec, target, step)],
        "containers": [_server_container(owner, target)],
        "volumes": _volumes(spec, target),
    }
    return pod_template(pod, extras, labels)


def _fetch_container(spec: Mapping[str, Any], target: Target, step: StepImage) -> Json:
    """Downloads the artifact and verifies its digest before any GPU is used; only it sees the store's credentials."""
    item = {
        "kind": "artifact",
        "name": target.version or "model",
        "path": f"{ROOT}/model",
        "uri": target.artifact.uri,
        "digest": target.artifact.digest,
    }
    mounts: list[Json] = [{"name": _MODEL, "mountPath": ROOT}, {"name": _TMP, "mountPath": "/tmp"}]  # noqa: S108
    claim = _claim(target)
    if claim:
        mounts.append({"name": "perennial-claim-0", "mountPath": f"{CLAIMS}/{claim}", "readOnly": True})
    container: Json = {
        "name": "fetch",
        "image": step.image,
        "imagePullPolicy": step.pull_policy,
        "command": ["perennial", "step", "fetch"],
        "env": [
            {"name": "PERENNIAL_STEP", "value": canonical({"items": [item], "claims": CLAIMS})},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of this pod alone
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
        ],
        "resources": _FETCH_RESOURCES,
        "securityContext": {**_security(), "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }
    secret = ((spec.get("storage") or {}).get("secretRef") or {}).get("name")
    if secret:
        container["envFrom"] = [{"secretRef": {"name": secret}}]
    return container


def _server_container(owner: Mapping[str, Any], target: Target) -> Json:
    spec, entry = owner["spec"], target.entry
    extras = spec.get("template") or {}
    own = entry.get("container") or entry
    port = server_port(entry)
    container: Json = {
        "name": SERVER,
        "image": own["image"],
        "imagePullPolicy": own.get("pullPolicy", "IfNotPresent"),
        "env": [
            {"name": "PERENNIAL_MODEL_NAME", "value": served_name(spec) or owner["metadata"]["name"]},
            {"name": "PERENNIAL_MODEL_DIR", "value": MODEL_DIR},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            *(dict(e) for e in own.get("env") or () if not e["name"].startswith("PERENNIAL_")),
        ],
        "ports": [dict(p) for p in own.get("ports") or ()] or _default_ports(entry),
        "readinessProbe": own.get("readinessProbe") or _ready_probe(str(own.get("probePath", READY_PATH)), port),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "securityContext": _security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": _MODEL, "mountPath": MODEL_DIR, "subPath": "model", "readOnly": True},
            {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108
            {"name": _SHM, "mountPath": "/dev/shm"},  # noqa: S108
            *(extras.get("volumeMounts") or ()),
        ],
    }
    if not _has_accelerator(spec):
        container["env"].append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    for key in ("command", "args"):
        if own.get(key):
            container[key] = list(own[key])
    if spec.get("resources"):
        container["resources"] = spec["resources"]
    if extras.get("envFrom"):
        container["envFrom"] = list(extras["envFrom"])
    return container


def _ready_probe(path: str, port: int) -> Json:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3}


def _volumes(spec: Mapping[str, Any], target: Target) -> list[Json]:
    shared: Json = {"medium": "Memory"}
    size = spec.get("sharedMemory") or _half(((spec.get("resources") or {}).get("limits") or {}).get("memory"))
    if size:
        shared["sizeLimit"] = str(size)
    volumes: list[Json] = [
        {"name": _MODEL, "emptyDir": {}},
        {"name": _TMP, "emptyDir": {}},
        {"name": _SHM, "emptyDir": shared},
    ]
    claim = _claim(target)
    if claim:
        volumes.append({"name": "perennial-claim-0", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return [*volumes, *((spec.get("template") or {}).get("volumes") or ())]


def _claim(target: Target) -> str:
    """The claim that a pvc:// artifact lies on; "" for any other."""
    uri = target.artifact.uri
    return uri.removeprefix("pvc://").split("/")[0] if uri.startswith("pvc://") else ""


def server_port(entry: Mapping[str, Any]) -> int:
    """The port that takes the requests: the first of a container's own, or the runtime entry's."""
    own = entry.get("container")
    if own:
        ports = own.get("ports") or ()
        return int(ports[0]["containerPort"]) if ports else DEFAULT_PORT
    return int(entry.get("port", DEFAULT_PORT))


def _grpc_port(entry: Mapping[str, Any]) -> int | None:
    """The port that takes gRPC beside it: a container's later port of that name, or the runtime entry's; None when
    all requests go to one port."""
    own = entry.get("container")
    if own:
        later = [port for port in (own.get("ports") or ())[1:] if port.get("name") == "grpc"]
        return int(later[0]["containerPort"]) if later else None
    return int(entry["grpcPort"]) if "grpcPort" in entry else None


def _default_ports(entry: Mapping[str, Any]) -> list[Json]:
    grpc = _grpc_port(entry)
    second = [{"name": "grpc", "containerPort": grpc}] if grpc is not None else []
    return [{"name": "http", "containerPort": server_port(entry)}, *second]


def _has_accelerator(spec: Mapping[str, Any]) -> bool:
    return any(is_accelerator(name) for part in (spec.get("resources") or {}).values() for name in part or {})


def _half(quantity: Any) -> str:
    """Half of a memory quantity with its own unit, e.g. 3Gi -> 1.5Gi; "" when there is none."""
    match = _QUANTITY.match(str(quantity or ""))
    return f"{float(match[1]) / 2:g}{match[2]}" if match else ""


def _security() -> Json:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
