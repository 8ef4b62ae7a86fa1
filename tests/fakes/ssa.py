"""Server-side apply on plain dicts: which manager owns which field, as the API server does it.

An object is turned into a tree in which keyed lists (conditions, containers, ...) are dicts of items; an owned field is
a path to a leaf of that tree. Lists that are not keyed are leaves (atomic), and so are empty maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[Any, ...]

KEYED_LISTS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "datasets": ("name",),
    "rejections": ("deployment",),
    "served": ("deployment", "fromTime"),
    "proposed": ("deployment",),
}
ATOMIC_MAPS = frozenset({"metrics", "championMetrics", "lineage", "baseline"})


@dataclass(frozen=True, slots=True)
class ItemKey:
    """The key of one item of a keyed list."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Atom:
    """A map that is owned as a whole."""

    value: Any


def keys_for(path: Path, value: Any) -> tuple[str, ...] | None:
    """The key fields when `value`, found at `path`, is a keyed list."""
    if not path or not isinstance(value, Sequence) or isinstance(value, str):
        return None
    fields = KEYED_LISTS.get(path[-1])
    if fields is None or not value:
        return None
    return fields if all(isinstance(item, Mapping) and fields[0] in item for item in value) else None


def to_tree(value: Any, path: Path = ()) -> Any:
    """The tree form of a JSON value."""
    fields = keys_for(path, value)
    if fields is not None:
        return {ItemKey(tuple(item.get(f) for f in fields)): to_tree(item, (*path, "[]")) for item in value}
    if isinstance(value, Mapping) and not (path and path[-1] in ATOMIC_MAPS):
        return {key: to_tree(item, (*path, key)) for key, item in value.items()}
    return _Atom(value) if isinstance(value, Mapping) else value


def from_tree(tree: Any) -> Any:
    """The JSON value of a tree."""
    if isinstance(tree, _Atom):
        return tree.value
    if not isinstance(tree, dict):
        return tree
    if tree and all(isinstance(key, ItemKey) for key in tree):
        return [from_tree(item) for item in tree.values()]
    return {key: from_tree(item) for key, item in tree.items()}


def leaves(tree: Any, path: Path = ()) -> dict[Path, Any]:
    """Every leaf with its path; an empty map is a leaf."""
    if isinstance(tree, dict) and tree:
        found: dict[Path, Any] = {}
        for key, item in tree.items():
            found.update(leaves(item, (*path, key)))
        return found
    return {path: tree}


def put(tree: dict[Any, Any], path: Path, value: Any) -> None:
    """Set a leaf, making the maps on the way."""
    for key in path[:-1]:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    old = tree.get(path[-1])
    if value in ({}, []) and isinstance(old, dict):
        return
    tree[path[-1]] = value


def drop(tree: dict[Any, Any], path: Path) -> None:
    """Remove a leaf and the keyed items that become empty with it."""
    parents = []
    for key in path[:-1]:
        parents.append((tree, key))
        inner = tree.get(key)
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.pop(path[-1], None)
    for parent, key in reversed(parents):
        if parent[key] == {}:
            del parent[key]


def reorder(tree: Any, like: Any) -> None:
    """Put the items of keyed lists in the order of the applied configuration, as the API server does; others follow."""
    if not isinstance(tree, dict) or not isinstance(like, dict):
        return
    for key in like:
        reorder(tree.get(key), like[key])
    if like and all(isinstance(key, ItemKey) for key in like):
        items = {key: tree[key] for key in (*like, *tree) if key in tree}
        tree.clear()
        tree.update(items)


def text(path: Path) -> str:
    """A path as the API server writes it, roughly."""
    return "".join(f"[{','.join(map(str, p.values))}]" if isinstance(p, ItemKey) else f".{p}" for p in path)
