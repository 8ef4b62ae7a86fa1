"""The account that a GitSync without `serviceAccountName` acts as: made once per namespace, never changed."""

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict
from perennial.domain.sync.ownership import MANAGER
from perennial.ports import ObjectStore


async def ensure_account(store: ObjectStore, namespace: str, *, namespaced: bool) -> None:
    """Make the ServiceAccount `perennial-sync` and its RoleBinding where they are missing."""
    wanted: list[tuple[Kind, JsonObject]] = [
        (kinds.SERVICE_ACCOUNT, {"automountServiceAccountToken": False}),
        (kinds.ROLE_BINDING, _binding(namespace, kinds.ROLE if namespaced else kinds.CLUSTER_ROLE)),
    ]
    for kind, body in wanted:
        if await store.get(kind, namespace, names.ACCOUNT_SYNC) is not None:
            continue
        metadata = {
            "name": names.ACCOUNT_SYNC,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY_PERENNIAL},
        }
        made = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}
        try:
            await store.create(made, manager=MANAGER)
        except Conflict:
            continue  # somebody was faster: another GitSync of this namespace, or a person


def _binding(namespace: str, role: Kind) -> JsonObject:
    return {
        "roleRef": {"apiGroup": role.group, "kind": role.kind, "name": names.ACCOUNT_SYNC},
        "subjects": [{"kind": "ServiceAccount", "name": names.ACCOUNT_SYNC, "namespace": namespace}],
    }
