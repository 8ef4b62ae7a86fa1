"""What every pod template of ours has in common: what the owner's `template` may add, and no sidecar. Pure.

Must not know what the containers do.
"""

from collections.abc import Iterable, Mapping
from typing import Any

USER_ID = 65532
POD_FIELDS = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "imagePullSecrets",
    "priorityClassName",
    "runtimeClassName",
    "serviceAccountName",
)
"""What `template` may set in the pod's spec as it stands."""
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}


def pod_template(
    pod: Mapping[str, Any],
    extras: Mapping[str, Any],
    labels: Mapping[str, str],
    *,
    fields: Iterable[str] = POD_FIELDS,
) -> dict[str, Any]:
    """The template of the pod spec `pod`, with what `extras` (the owner's `template`) adds; our `labels` win."""
    return {
        "metadata": {
            "labels": {**(extras.get("labels") or {}), **_NO_SIDECAR, **labels},
            "annotations": {**(extras.get("annotations") or {}), **_NO_SIDECAR},
        },
        "spec": {**pod, **{field: extras[field] for field in fields if extras.get(field)}},
    }


def pod_security(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's security context: the restricted Pod Security level; `wanted` may change user and groups only."""
    made: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": wanted.get("runAsUser", USER_ID),
        "runAsGroup": wanted.get("runAsGroup", USER_ID),
        "fsGroup": wanted.get("fsGroup", USER_ID),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if wanted.get("supplementalGroups"):
        made["supplementalGroups"] = list(wanted["supplementalGroups"])
    return made
