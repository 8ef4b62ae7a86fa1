"""What a GitSync has applied. The union with what it is about to apply is recorded first: nothing is ever forgotten."""

from collections.abc import Iterable, Mapping
from typing import Any

from perennial.api.kinds import Kind
from perennial.domain.sync.manifest import DesiredObject, ObjectId, kind_of

MAX_INVENTORY = 5000


def read(status: Mapping[str, Any]) -> dict[ObjectId, Kind | None]:
    """The recorded inventory; None for a kind that this version does not know."""
    entries = {}
    for item in status.get("inventory") or ():
        group = item["apiVersion"].partition("/")[0] if "/" in item["apiVersion"] else ""
        entry = ObjectId(group, item["kind"], item["name"])
        entries[entry] = kind_of(entry)
    return entries


def render(entries: Iterable[ObjectId], recorded: Mapping[str, Any]) -> list[dict[str, str]]:
    """The status field, sorted; an entry of an unknown kind keeps the apiVersion that it was recorded with."""
    versions = {(item["kind"], item["name"]): item["apiVersion"] for item in recorded.get("inventory") or ()}
    result = []
    for entry in sorted(entries):
        kind = kind_of(entry)
        version = kind.api_version if kind is not None else versions.get((entry.kind, entry.name), entry.group)
        result.append({"apiVersion": version, "kind": entry.kind, "name": entry.name})
    return result


def too_many(desired: Iterable[DesiredObject]) -> str | None:
    """One sentence when a revision has more objects than an inventory holds."""
    count = sum(1 for _ in desired)
    if count <= MAX_INVENTORY:
        return None
    return f"the path has {count} objects; one GitSync holds at most {MAX_INVENTORY}: split it into several paths"
