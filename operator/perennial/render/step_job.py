"""A small Job of our own image that runs one step: no GPU, no token, the restricted Pod Security level. Pure.

Only it sees the store's credentials. Must not decide when a Job is made, or what its step is told.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from perennial.api.kinds import JOB
from perennial.domain.training.run import canonical_json
from perennial.render.pods import POD_FIELDS, pod_security, pod_template
from perennial.render.training_containers import CLAIMS, StepImage

_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
_FIELDS = tuple(field for field in POD_FIELDS if field not in ("topologySpreadConstraints", "runtimeClassName"))
"""A small pod of our own image, on any node: not by the GPU's runtime class."""

Json = dict[str, Any]


def step_job(
    metadata: Json, spec: Mapping[str, Any], verb: str, given: Mapping[str, Any], uris: Sequence[str], seconds: int,
    step: StepImage,
) -> Json:  # fmt: skip
    """The Job that runs `perennial step VERB` once, for at most `seconds`.

    metadata: of the Job, its labels are those of the pod too; spec: of the owner, for `template` and `storage`; uris:
    what the step reads, whose claims are mounted; given: the step's input, without the root of the claims.
    """
    extras = spec.get("template") or {}
    claims = sorted({uri.removeprefix("pvc://").split("/")[0] for uri in uris if uri.startswith("pvc://")})
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(extras.get("securityContext") or {}),
        "containers": [_container(spec, verb, given, claims, step)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            *(
                {"name": f"claim-{place}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
                for place, claim in enumerate(claims)
            ),
        ],
    }
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "template": pod_template(pod, extras, metadata["labels"], fields=_FIELDS),
        },
    }


def _container(
    spec: Mapping[str, Any], verb: str, given: Mapping[str, Any], claims: Sequence[str], step: StepImage
) -> Json:
    container: Json = {
        "name": verb,
        "image": step.image,
        "imagePullPolicy": step.pull_policy,
        "command": ["perennial", "step", verb],
        "env": [
            {"name": "PERENNIAL_STEP", "value": canonical_json({**given, "claims": CLAIMS})},
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
