"""The router of a namespace as Kubernetes objects: Envoy and our agent, two pods of them, and who may talk to them.

Pure. One router serves all ModelDeployments of its namespace and goes with the last: the anchor, a ConfigMap, is owned
by every one of them (references that are no controller), and owns everything else. So a new ModelDeployment changes one
small object. The Secret with the token is made by the controller: it holds a random value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.api.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    PDB,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from perennial.api.names import (
    COMPONENT_ROUTER,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
    MANAGED_BY_PERENNIAL,
    ROUTER,
)
from perennial.domain.decision import JsonObject
from perennial.render.ownership import child_labels, owner_reference

ENVOY_PORT = 8080
AGENT_PORT = 9910
TOKEN_KEY = "token"  # noqa: S105 - the key in the Secret, not its value
READY_PATH = "/perennial/ready"
_SHARED = "/run/perennial"
_TOKEN_DIRECTORY = "/var/run/secrets/perennial"  # noqa: S105 - a path
_USER = 65532
_GRACE_SECONDS = 45
"""25 s for running requests, 10 s for the last read of the counts, and what starting and stopping take."""
_DRAIN_HOOK = (
    f"touch {_SHARED}/terminating; for i in $(seq 300); do [ -e {_SHARED}/drained ] && exit 0; sleep 0.1; done"
)
"""The agent drains Envoy (router/agent.py); Envoy must not be stopped before that."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the operator's settings say of routers.

    operator_namespace: whose pods may read the agent's pages. namespaced: the operator may not bind ClusterRoles; the
    namespace has a Role of that name from the installation (manifests/namespaced).
    """

    image: str
    replicas: int = 2
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    operator_namespace: str = "perennial-system"
    namespaced: bool = False
    envoy_concurrency: int = 2
    envoy_resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "1Gi"}}
    )
    agent_resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}}
    )


def router_labels() -> dict[str, str]:
    """The labels of router pods, by which Services select them."""
    return {LABEL_MANAGED_BY: MANAGED_BY_PERENNIAL, LABEL_COMPONENT: COMPONENT_ROUTER}


def client_service(mdep: Mapping[str, Any]) -> JsonObject:
    """The Service that clients of this ModelDeployment use: its name, port 80, to the namespace's routers."""
    name, namespace = mdep["metadata"]["name"], mdep["metadata"]["namespace"]
    ports = [{"name": "http", "port": 80, "targetPort": ENVOY_PORT, "protocol": "TCP"}]
    service = _object(SERVICE, name, namespace, {"spec": {"selector": router_labels(), "ports": ports}})
    service["metadata"]["labels"] = child_labels(mdep)
    service["metadata"]["ownerReferences"] = [owner_reference(mdep)]
    return service


def router_anchor(namespace: str, owners: Sequence[Mapping[str, Any]]) -> JsonObject:
    """What all router objects of a namespace hang on. owners: its ModelDeployments, in any order."""
    anchor = _object(CONFIG_MAP, ROUTER, namespace, {})
    ordered = sorted(owners, key=lambda owner: str(owner["metadata"]["name"]))
    anchor["metadata"]["ownerReferences"] = [owner_reference(owner, controller=False) for owner in ordered]
    return anchor


def router_objects(
    namespace: str, settings: RouterSettings, anchor: Mapping[str, Any] | None = None
) -> list[JsonObject]:
    """Everything that makes the router of a namespace, in the order in which it is to be applied.

    anchor: see router_anchor, as the server has it.
    """
    objects = [
        _object(SERVICE_ACCOUNT, ROUTER, namespace, {"automountServiceAccountToken": False}),
        _role_binding(namespace, settings),
        _network_policy(namespace, settings),
        _disruption_budget(namespace),
        _deployment(namespace, settings),
    ]
    if anchor is not None:
        for obj in objects:
            obj["metadata"]["ownerReferences"] = [owner_reference(anchor, controller=False)]
    return objects


def _object(kind: Kind, name: str, namespace: str, body: Mapping[str, Any]) -> JsonObject:
    metadata = {"name": name, "namespace": namespace, "labels": router_labels()}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}


def _role_binding(namespace: str, settings: RouterSettings) -> JsonObject:
    kind = "Role" if settings.namespaced else "ClusterRole"
    body = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ROUTER},
        "subjects": [{"kind": "ServiceAccount", "name": ROUTER, "namespace": namespace}],
    }
    return _object(ROLE_BINDING, ROUTER, namespace, body)


def _network_policy(namespace: str, settings: RouterSettings) -> JsonObject:
    """Models are for everybody who may reach the pod; the agent's pages are for the operator alone."""
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "perennial"}},
    }
    body = {
        "spec": {
            "podSelector": {"matchLabels": router_labels()},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": [{"port": ENVOY_PORT, "protocol": "TCP"}]},
                {"from": [operator], "ports": [{"port": AGENT_PORT, "protocol": "TCP"}]},
            ],
        }
    }
    return _object(NETWORK_POLICY, ROUTER, namespace, body)


def _disruption_budget(namespace: str) -> JsonObject:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": router_labels()}}
    return _object(PDB, ROUTER, namespace, {"spec": spec})


def _deployment(namespace: str, settings: RouterSettings) -> JsonObject:
    spec = {
        "replicas": settings.replicas,
        "selector": {"matchLabels": router_labels()},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": router_labels()}, "spec": _pod(settings)},
    }
    return _object(DEPLOYMENT, ROUTER, namespace, {"spec": spec})


def _pod(settings: RouterSettings) -> JsonObject:
    pod: JsonObject = {
        "serviceAccountName": ROUTER,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": router_labels()},
            }
        ],
        "initContainers": [_container("init", "router-init", settings, settings.agent_resources)],
        "containers": [_envoy(settings), _agent(settings)],
        "volumes": [
            {"name": "shared", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "token", "secret": {"secretName": ROUTER, "defaultMode": 0o440}},
        ],
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return pod


def _envoy(settings: RouterSettings) -> JsonObject:
    container = _container("envoy", "envoy", settings, settings.envoy_resources)
    container["env"].append({"name": "PERENNIAL_ENVOY_CONCURRENCY", "value": str(settings.envoy_concurrency)})
    container["ports"] = [{"name": "http", "containerPort": ENVOY_PORT, "protocol": "TCP"}]
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", _DRAIN_HOOK]}}}
    probe = {"httpGet": {"path": READY_PATH, "port": "http"}}
    container["startupProbe"] = {**probe, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 300}
    container["readinessProbe"] = {**probe, "periodSeconds": 2, "failureThreshold": 2}
    # Not the ready page: it fails on purpose while draining, and Envoy must not be killed for that.
    container["livenessProbe"] = {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "failureThreshold": 6}
    return container


def _agent(settings: RouterSettings) -> JsonObject:
    container = _container("agent", "router", settings, settings.agent_resources)
    container["env"].append({"name": "PERENNIAL_ROUTER_TOKEN_FILE", "value": f"{_TOKEN_DIRECTORY}/{TOKEN_KEY}"})
    container["volumeMounts"].append({"name": "token", "mountPath": _TOKEN_DIRECTORY, "readOnly": True})
    container["ports"] = [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}]
    container["readinessProbe"] = {"httpGet": {"path": "/readyz", "port": "agent"}, "periodSeconds": 1}
    probe = {"httpGet": {"path": "/healthz", "port": "agent"}, "timeoutSeconds": 5}
    # A starved node slows the start; a restart would only make that worse.
    container["startupProbe"] = {**probe, "periodSeconds": 2, "failureThreshold": 150}
    container["livenessProbe"] = {**probe, "periodSeconds": 10, "failureThreshold": 6}
    return container


def _container(name: str, command: str, settings: RouterSettings, resources: Mapping[str, Any]) -> JsonObject:
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": [command],
        "env": [
            {"name": "PERENNIAL_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "resources": dict(resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "shared", "mountPath": _SHARED},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod
        ],
    }
