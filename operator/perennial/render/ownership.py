"""Whose child an object is: the owner reference and the labels by which watches select children.

Children never copy the parent's own labels or annotations. Must not decide names.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.names import LABEL_MANAGED_BY, LABEL_OWNER_KIND, LABEL_OWNER_NAME, MANAGED_BY_PERENNIAL


def owner_reference(owner: Mapping[str, Any], *, controller: bool = True) -> dict[str, Any]:
    """The ownerReference to `owner` (apiVersion, kind, metadata.name and uid are read)."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    return {**reference, "controller": True, "blockOwnerDeletion": True} if controller else reference


def child_labels(owner: Mapping[str, Any]) -> dict[str, str]:
    """The labels of every child of `owner`, pods of pod templates included."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY_PERENNIAL,
        LABEL_OWNER_KIND: owner["kind"],
        LABEL_OWNER_NAME: owner["metadata"]["name"],
    }
