"""Writing status: compare first, one server-side apply, guarded by uid and resourceVersion.

Must not decide anything; the caller brings the whole status.
"""

import logging
from collections.abc import Mapping
from typing import Any

from perennial.domain.decision import JsonObject
from perennial.ports import ObjectStore
from perennial.runtime.cache import Cache

log = logging.getLogger(__name__)


def plain(value: Any) -> Any:
    """`value` as JSON would give it back: tuples as lists, keys with value None left out."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


async def write_status(
    store: ObjectStore, cache: Cache, obj: Mapping[str, Any], status: Mapping[str, Any], *, manager: str
) -> bool:
    """Make `status` the whole status of `obj`; False, without a request, when it already is.

    The write carries the uid and resourceVersion of `obj`: Conflict when the object changed or was made anew since.
    The cache takes in the answer.
    """
    wanted = plain(status)
    if wanted == plain(obj.get("status") or {}):
        return False
    meta = obj["metadata"]
    body: JsonObject = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
        "status": wanted,
    }
    written = await store.apply(body, manager=manager, force=True, subresource="status")
    cache.upsert(written)
    lost = _lost(wanted, written.get("status") or {}, "status")
    if lost:
        log.warning(
            "the API server did not keep %s of %s %s/%s: does the installed CRD match this operator?",
            ", ".join(lost[:5]),
            obj["kind"],
            meta["namespace"],
            meta["name"],
        )
    return True


def _lost(wanted: Any, kept: Any, path: str) -> list[str]:
    """Paths of fields in `wanted` that the answer lacks or changed."""
    if isinstance(wanted, Mapping) and isinstance(kept, Mapping):
        return [p for key, value in wanted.items() for p in _lost(value, kept.get(key), f"{path}.{key}")]
    return [] if wanted == kept else [path]
