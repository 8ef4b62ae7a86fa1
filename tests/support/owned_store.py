"""MemoryStore whose `get` shows metadata.managedFields as the API server does, for code that asks who holds a field."""

import json
from typing import Any

from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from tests.fakes import ssa
from tests.fakes.store import MemoryStore


class OwnedStore(MemoryStore):
    """See the module."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject | None:
        """See ObjectStore."""
        found = await super().get(kind, namespace, name)
        entry = self._entries.get((kind, namespace or "", name))
        if found is None or entry is None:
            return found
        found["metadata"]["managedFields"] = [
            {"manager": manager, "operation": operation, "subresource": sub, "fieldsV1": _fields(paths)}
            for (manager, operation, sub), paths in entry.owned.items()
        ]
        return found


def _fields(paths: frozenset[ssa.Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for part in path:
            key = f"k:{json.dumps(dict(enumerate(part.values)))}" if isinstance(part, ssa.ItemKey) else f"f:{part}"
            node = node.setdefault(key, {})
    return tree
