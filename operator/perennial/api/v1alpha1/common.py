"""The objects that several kinds contain: references, conditions, environment, pod template, artifact."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.v1alpha1.base import ATOMIC_LIST, Model, Rule, list_map, only_one, with_rules
from perennial.api.v1alpha1.types import (
    Argument,
    Digest,
    Format,
    FreeList,
    FreeObject,
    Generation,
    Identifier,
    Label,
    Name,
    ObjectName,
    Quantity,
    Query,
    Sentence,
    SourceName,
    StringMap,
    Timestamp,
    Uri,
)


class ObjectRef(Model):
    """A reference to one of our objects in the same namespace."""

    name: Name = Field(description="Name of the object, in this namespace.")


class SecretRef(Model):
    """A reference to a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret, in this namespace.")


class Condition(Model):
    """One observation about the object, with when and why it last changed."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="What is observed, e.g. Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = Field(
        description="Why, in one CamelCase word."
    )
    message: Sentence = Field(default="", description="What happened, why, and what to do next.")
    last_transition_time: Timestamp = Field(description="When `status` last changed.")
    observed_generation: Generation | None = Field(
        default=None, description="The generation of the spec that this is about."
    )


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))]


class Status(Model):
    """What every status has."""

    observed_generation: Generation = Field(
        default=-1, description="The generation of the spec that the operator last looked at; -1: not yet."
    )
    conditions: Conditions = Field(default=(), description="Ready always; Reconciling and Stalled only while true.")


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret, in this namespace.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The key in it.")
    optional: bool | None = Field(default=None, description="Whether the container may start without it.")


class EnvVarSource(Model):
    """Where the value of a variable comes from."""

    secret_key_ref: SecretKeyRef = Field(description="A key of a Secret.")


class EnvVar(Model):
    """One environment variable: a literal value, or a key of a Secret."""

    rules: ClassVar = (
        Rule(only_one("value", "valueFrom"), "exactly one of value and valueFrom must be set"),
        Rule("!self.name.startsWith('PERENNIAL_')", "name may not start with PERENNIAL_: the operator sets those"),
    )

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = Field(
        description="Name of the variable."
    )
    value: Argument | None = Field(default=None, description="The literal value.")
    value_from: EnvVarSource | None = Field(default=None, description="Where to take the value from.")


Environment = Annotated[tuple[EnvVar, ...], Field(max_length=64, json_schema_extra=list_map("name"))]


class Resources(Model):
    """What a container asks of its node; GPUs by their resource name, e.g. `nvidia.com/gpu`."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        default=None, description="What the scheduler sets aside."
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        default=None, description="What may not be exceeded; GPUs are named here, e.g. `nvidia.com/gpu: 1`."
    )


class PodSecurity(Model):
    """The user and groups that the pod's containers run as."""

    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        default=None, description="User id; 65532 when unset. It may not be 0."
    )
    run_as_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Group id; 65532 when unset."
    )
    fs_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Group that owns the volumes; 65532 when unset."
    )
    supplemental_groups: (
        Annotated[
            tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(max_length=16, json_schema_extra=ATOMIC_LIST)
        ]
        | None
    ) = Field(default=None, description="Further groups of every container.")


_OURS = Rule(
    "!self.name.startsWith('perennial-')", "name may not start with perennial-: those volumes are the operator's"
)


class Volume(Model):
    """A further volume of the pods: everything that stays within the namespace."""

    rules: ClassVar = (
        _OURS,
        Rule(
            "!has(self.hostPath)",
            "hostPath may not be used: it reaches files of the node; use a persistentVolumeClaim or ephemeral instead",
        ),
        Rule(
            "has(self.hostPath) || [has(self.configMap), has(self.secret), has(self.emptyDir), "
            "has(self.persistentVolumeClaim), has(self.projected), has(self.downwardAPI), has(self.csi), "
            "has(self.ephemeral), has(self.image)].filter(set, set).size() == 1",
            "exactly one of configMap, secret, emptyDir, persistentVolumeClaim, projected, downwardAPI, csi, ephemeral "
            "and image must be set; other kinds of volumes are refused",
        ),
    )

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Name of the volume.")
    config_map: FreeObject | None = Field(default=None, description="Files from a ConfigMap.")
    secret: FreeObject | None = Field(default=None, description="Files from a Secret.")
    empty_dir: FreeObject | None = Field(default=None, description="An empty folder that goes with the pod.")
    persistent_volume_claim: FreeObject | None = Field(default=None, description="A claim of this namespace.")
    projected: FreeObject | None = Field(default=None, description="Several sources in one folder.")
    downward_api: FreeObject | None = Field(
        default=None, alias="downwardAPI", description="Files that tell of the pod itself."
    )
    csi: FreeObject | None = Field(default=None, description="A volume that a CSI driver makes for the pod.")
    ephemeral: FreeObject | None = Field(default=None, description="A claim that goes with the pod.")
    image: FreeObject | None = Field(default=None, description="Files of a container image.")
    host_path: FreeObject | None = Field(default=None, description="Refused: it reaches files of the node.")


class VolumeMount(Model):
    """Where the user's containers mount a further volume."""

    rules: ClassVar = (_OURS,)

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Name of the volume.")
    mount_path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Where it is in the container."
    )
    read_only: bool | None = Field(default=None, description="Whether it cannot be written to.")
    recursive_read_only: Literal["Disabled", "IfPossible", "Enabled"] | None = Field(
        default=None, description="Whether mounts below it cannot be written to either."
    )
    sub_path: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="A folder or file in the volume instead of all of it."
    )
    sub_path_expr: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, description="The same with $(VARIABLES) of the container."
    )
    mount_propagation: Literal["None", "HostToContainer"] | None = Field(
        default=None, description="Whether mounts that the node adds later show up."
    )


_OWN_LABELS = "!self.exists(key, key.startsWith('perennial.dev/') || key == 'app.kubernetes.io/managed-by')"
_OWN_LABELS_MESSAGE = (
    "keys may not be app.kubernetes.io/managed-by or start with perennial.dev/: the operator sets those"
)


class PodTemplate(Model):
    """Extras of the pods. What is not spelled out here is checked by a dry run of the pod."""

    labels: (
        Annotated[
            dict[str, Label],
            Field(
                max_length=32,
                json_schema_extra=with_rules(Rule(_OWN_LABELS, _OWN_LABELS_MESSAGE)),
            ),
        ]
        | None
    ) = Field(default=None, description="Labels of the pods, beside the operator's own.")
    annotations: StringMap | None = Field(default=None, description="Annotations of the pods.")
    node_selector: Annotated[dict[str, Label], Field(max_length=32)] | None = Field(
        default=None, description="Labels that a node must have."
    )
    tolerations: FreeList | None = Field(default=None, description="Taints that the pods tolerate.")
    affinity: FreeObject | None = Field(default=None, description="Node and pod affinity.")
    topology_spread_constraints: FreeList | None = Field(default=None, description="How to spread the pods.")
    service_account_name: ObjectName | None = Field(default=None, description="Account that the pods run as.")
    image_pull_secrets: (
        Annotated[tuple[SecretRef, ...], Field(max_length=16, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Secrets for pulling images.")
    env_from: FreeList | None = Field(
        default=None, description="Sources of environment variables of the user's containers."
    )
    volumes: Annotated[tuple[Volume, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] | None = Field(
        default=None, description="Further volumes of the pods."
    )
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] | None = (
        Field(default=None, description="Where the user's containers mount further volumes.")
    )
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    runtime_class_name: ObjectName | None = Field(default=None, description="Runtime class of the pods.")
    security_context: PodSecurity | None = Field(
        default=None, description="User and groups, for images that need others than 65532."
    )


class Storage(Model):
    """How to reach the artifact store."""

    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose keys become environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
        "AWS_ENDPOINT_URL, FSSPEC_*) of the operator's own containers; the user's containers never see them.",
    )


class ArtifactRef(Model):
    """A trained model in the store."""

    uri: Uri = Field(description="Where it lies: s3, gs, abfs, abfss, http, https or pvc.")
    digest: Digest = Field(description="sha256 of the file, or of the sorted list of files of a directory.")
    format: Format = Field(description="What it is, e.g. sklearn; the runtime table maps it to a model server.")


class BaseModelRef(Model):
    """The model that training starts from."""

    rules: ClassVar = (
        Rule(only_one("version", "uri"), "exactly one of version and uri must be set"),
        Rule("has(self.uri) == has(self.digest)", "uri and digest must be set together"),
    )

    version: Name | None = Field(default=None, description="A ModelVersion in this namespace.")
    uri: Uri | None = Field(default=None, description="Or a model in the store.")
    digest: Digest | None = Field(default=None, description="Digest of the model at `uri`.")


class Request(Model):
    """Why a run was asked for; a new id is a new run."""

    rules: ClassVar = (
        Rule("self.kind != 'Drift' || has(self.policy)", "a request of kind Drift must name its policy"),
    )

    id: Identifier = Field(description="Identifies the request.")
    kind: Literal["Drift", "Schedule", "Manual"] = Field(default="Manual", description="What asked.")
    policy: Name | None = Field(default=None, description="The DriftPolicy that asked.")
    reason: Sentence | None = Field(default=None, description="Why, in one sentence.")


class PrometheusQuery(Model):
    """A PromQL query to a source that the operator's settings name."""

    source: SourceName = Field(description="A name from the operator's settings, never an address.")
    query: Query = Field(description="PromQL that gives one number.")


class Rejection(Model):
    """A version or revision that failed and is not tried again by itself."""

    deployment: Name = Field(description="The ModelDeployment that it is blocked for.")
    revision: Label | None = Field(default=None, description="The revision that failed.")
    reason: Label | None = Field(default=None, description="Why, in one word.")
    message: Sentence | None = Field(default=None, description="Why, in one sentence.")
    time: Timestamp | None = Field(default=None, description="When.")
