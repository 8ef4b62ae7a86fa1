"""Whose child an object is: the owner reference and the labels by which watches select children.

Children never copy the parent's own labels or annotations. Must not decide names.
"""

from collections.abc import Mapping, Sequence
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


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether `owner`, by its uid, is the controller of the object."""
    references: Sequence[Mapping[str, Any]] = obj["metadata"].get("ownerReferences") or ()
    return any(ref.get("controller") and ref.get("uid") == owner["metadata"]["uid"] for ref in references)
