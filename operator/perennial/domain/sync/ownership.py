"""Server-side apply ownership: who holds a field that Git wants to change, and whether an object is as Git wants it.

Works on live objects with `metadata.managedFields`. Must not write.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perennial.api import names
from perennial.domain.decision import JsonObject
from perennial.domain.owners import controller_of

MANAGER = "perennial-git-sync"
"""The field manager of everything that a GitSync applies."""

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Held:
    """A field with another value than Git's, held by another server-side-apply manager."""

    manager: str
    field: str


def covers(live: Any, wanted: Any) -> bool:
    """Whether every value that `wanted` sets is the same in `live`; lists must be equal in length and order."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(key in live and covers(live[key], wanted[key]) for key in wanted)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(live, Sequence)
            and not isinstance(live, str)
            and len(live) == len(wanted)
            and all(covers(a, b) for a, b in zip(live, wanted, strict=True))
        )
    return bool(live == wanted) and isinstance(live, bool) == isinstance(wanted, bool)


def same_but_bookkeeping(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of an object are equal apart from what every write changes, status and the commit mark."""
    return _comparable(one) == _comparable(other)


def _comparable(obj: Mapping[str, Any]) -> JsonObject:
    metadata = {
        key: value
        for key, value in obj.get("metadata", {}).items()
        if key not in ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
    }
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(names.ANNOTATION_SYNC_COMMIT, None)
    metadata["annotations"] = annotations
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def made_by_operator(live: Mapping[str, Any]) -> str | None:
    """Kind and name of the Perennial object that controls this one, when one does."""
    owner = controller_of(live)
    if owner is None or not str(owner.get("apiVersion", "")).startswith("perennial.dev/"):
        return None
    return f"{owner.get('kind')} {owner.get('name')}"


def sync_of(live: Mapping[str, Any]) -> str | None:
    """The GitSync whose mark the object carries."""
    mark = (live.get("metadata", {}).get("labels") or {}).get(names.LABEL_SYNC)
    return str(mark) if mark else None


def held_by_others(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Held]:
    """Fields that `wanted` changes and that a manager other than the operator holds by server-side apply.

    Managers that wrote with plain updates (kubectl edit, a script) are left out: Git wins over them.
    """
    held: list[Held] = []
    for entry in live.get("metadata", {}).get("managedFields") or ():
        manager = str(entry.get("manager"))
        ours = manager.startswith(names.FIELD_MANAGER_PREFIX)
        if entry.get("operation") != "Apply" or ours or entry.get("subresource"):
            continue
        held.extend(Held(manager, path) for path in _differing(entry.get("fieldsV1") or {}, live, wanted, ""))
    return held


def _differing(fields: Mapping[str, Any], live: Any, wanted: Any, path: str) -> Iterator[str]:
    """Paths of the owned leaves below which `wanted` sets another value than `live` has."""
    if wanted is _MISSING:
        return
    children = {key: value for key, value in fields.items() if key != "."}
    if not children or (isinstance(wanted, list) and not any(key.startswith(("k:", "v:", "i:")) for key in children)):
        if live is not _MISSING and not covers(live, wanted):
            yield path
        return
    for key, below in children.items():
        name, live_child, wanted_child = _step(key, live, wanted)
        yield from _differing(below, live_child, wanted_child, f"{path}{name}")


def _step(key: str, live: Any, wanted: Any) -> tuple[str, Any, Any]:
    """One step into a FieldsV1 key: f:<name>, k:<json keys of a list item>, v:<json value>, i:<index>."""
    form, _, text = key.partition(":")
    if form == "f":
        return f".{text}", _child(live, text), _child(wanted, text)
    if form == "k":
        keys = json.loads(text)
        label = ",".join(f"{k}={v}" for k, v in keys.items())
        return f"[{label}]", _item(live, keys), _item(wanted, keys)
    return f"[{text}]", _MISSING, _MISSING


def _child(value: Any, name: str) -> Any:
    return value.get(name, _MISSING) if isinstance(value, Mapping) else _MISSING


def _item(value: Any, keys: Mapping[str, Any]) -> Any:
    if not isinstance(value, list):
        return _MISSING
    return next(
        (item for item in value if isinstance(item, Mapping) and all(item.get(k) == v for k, v in keys.items())),
        _MISSING,
    )
