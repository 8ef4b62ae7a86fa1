"""The names under which the API server knows every kind that Perennial reads or writes.

Nothing here talks to a cluster; nothing here knows what the objects contain.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type: how it is written in a manifest and how its URL is built."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What a manifest writes as `apiVersion`: `group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.kind}.{self.version}.{self.group}" if self.group else f"{self.kind}.{self.version}"


GROUP = "perennial.dev"
VERSION = "v1alpha1"

GIT_SYNC = Kind(GROUP, VERSION, "GitSync", "gitsyncs")
TRAINING_JOB = Kind(GROUP, VERSION, "TrainingJob", "trainingjobs")
MODEL_VERSION = Kind(GROUP, VERSION, "ModelVersion", "modelversions")
MODEL_DEPLOYMENT = Kind(GROUP, VERSION, "ModelDeployment", "modeldeployments")
DRIFT_POLICY = Kind(GROUP, VERSION, "DriftPolicy", "driftpolicies")

OUR_KINDS = (GIT_SYNC, TRAINING_JOB, MODEL_VERSION, MODEL_DEPLOYMENT, DRIFT_POLICY)

POD = Kind("", "v1", "Pod", "pods")
SERVICE = Kind("", "v1", "Service", "services")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SECRET = Kind("", "v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
PERSISTENT_VOLUME_CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
JOB = Kind("batch", "v1", "Job", "jobs")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
PDB = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
HPA = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Kind("events.k8s.io", "v1", "Event", "events")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
GATEWAY = Kind("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
POLICY = Kind(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
POLICY_BINDING = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)
SELF_REVIEW = Kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False)
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)

ALL_KINDS = (
    *OUR_KINDS,
    POD,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    JOB,
    DEPLOYMENT,
    REPLICA_SET,
    ENDPOINT_SLICE,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    PDB,
    HPA,
    LEASE,
    EVENT,
    NETWORK_POLICY,
    GATEWAY,
    HTTP_ROUTE,
    POLICY,
    POLICY_BINDING,
    SELF_REVIEW,
    CRD,
)

_BY_NAME = {(known.api_version, known.kind): known for known in ALL_KINDS}


def find(api_version: str, kind: str) -> Kind | None:
    """The `Kind` that a manifest names by `apiVersion` and `kind`, or None when Perennial does not know it."""
    return _BY_NAME.get((api_version, kind))
