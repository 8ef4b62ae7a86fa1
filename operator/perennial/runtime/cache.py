"""What the watches told us last: objects by kind, namespace and name, and who owns whom.

The cache is a hint, never a proof: before an irreversible step a controller reads live. It does no I/O and must not
interpret the objects beyond their metadata. Objects handed out are shared: never change them.

It also is the own-write fence: every own write is upserted with the server's answer (`TrackedStore`), and an object
never goes back to an older resourceVersion of the same uid, so no pass decides on a state from before its last write.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.owners import controller_of

CHILD_KINDS: tuple[Kind, ...] = (kinds.JOB, kinds.POD, kinds.DEPLOYMENT, kinds.SERVICE, kinds.ENDPOINT_SLICE)
"""Kinds of others of which only objects with our managed-by label are watched and cached."""

WATCHED_KINDS: tuple[Kind, ...] = (*kinds.OUR_KINDS, *CHILD_KINDS)

CHILD_SELECTOR = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY_PERENNIAL}"

Objects = list[JsonObject]

_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True)
class Ref:
    """Where an object lives; namespace "" for a cluster-wide kind."""

    kind: Kind
    namespace: str
    name: str


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The `Kind` of an object; ValueError when Perennial does not know it."""
    found = kinds.find(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
    if found is None:
        raise ValueError(f"unknown kind {obj.get('kind')!r} of {obj.get('apiVersion')!r}")
    return found


def ref_of(obj: Mapping[str, Any]) -> Ref:
    """Where an object lives."""
    meta = obj["metadata"]
    return Ref(kind_of(obj), meta.get("namespace") or "", meta["name"])


def version_of(obj: Mapping[str, Any]) -> int:
    """The resourceVersion as a number (they are comparable within one API server); 0 when there is none."""
    text = str(obj.get("metadata", {}).get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0


def uid_of(obj: Mapping[str, Any]) -> str:
    """The uid, "" when the object has none yet."""
    return str(obj.get("metadata", {}).get("uid") or "")


def slim(obj: Mapping[str, Any]) -> JsonObject:
    """A copy without what no pass needs from the cache: managedFields, and a ModelVersion's baseline (memory)."""
    copy = dict(obj)
    copy["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if obj.get("kind") == kinds.MODEL_VERSION.kind and isinstance(obj.get("spec"), Mapping):
        copy["spec"] = {key: value for key, value in obj["spec"].items() if key != "baseline"}
    return copy


def is_watched(obj: Mapping[str, Any]) -> bool:
    """Whether the watches would tell us of changes of this object; only such objects may be cached."""
    kind = kinds.find(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
    if kind in CHILD_KINDS:
        labels = obj["metadata"].get("labels") or {}
        return bool(labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY_PERENNIAL)
    return kind in kinds.OUR_KINDS


def _carries(obj: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    own = obj["metadata"].get("labels") or {}
    return all(own.get(key) == value for key, value in labels.items())


class Cache:
    """Objects of the watched kinds. Not thread-safe: used from one event loop only."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], JsonObject]] = {kind: {} for kind in WATCHED_KINDS}
        self._by_uid: dict[str, Ref] = {}
        self._children: dict[str, set[Ref]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()

    def get(self, kind: Kind, namespace: str, name: str) -> JsonObject | None:
        """The object as last seen, or None."""
        return self._objects[kind].get((namespace, name))

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> Objects:
        """All objects of a kind (of a namespace) that carry all the given labels, sorted by namespace and name."""
        found = [
            key
            for key, obj in self._objects[kind].items()
            if (namespace is None or key[0] == namespace) and (not labels or _carries(obj, labels))
        ]
        return [self._objects[kind][key] for key in sorted(found)]

    def by_uid(self, uid: str) -> JsonObject | None:
        """The object with that uid, or None."""
        ref = self._by_uid.get(uid)
        return None if ref is None else self._objects[ref.kind].get((ref.namespace, ref.name))

    def owned_by(self, uid: str) -> Objects:
        """All cached objects whose controller ownerReference has that uid, sorted by kind and name."""
        refs = sorted(self._children.get(uid, ()), key=lambda ref: (ref.kind.kind, ref.namespace, ref.name))
        return [self._objects[ref.kind][(ref.namespace, ref.name)] for ref in refs]

    def apply_event(self, type_: str | None, obj: Mapping[str, Any]) -> bool:
        """Take in a watch event (ADDED, MODIFIED, DELETED; None for an initial listing).

        False when it told nothing new: an object we do not cache, an echo of our own write, or an older state.
        """
        if type_ == "DELETED" or not is_watched(obj):
            return self._remove(obj)  # without our label it has left our sight, whatever the event is called
        return self._put(obj)

    def upsert(self, obj: Mapping[str, Any]) -> bool:
        """Take in the server's answer to an own write or a live read; False when it is not newer than what we have."""
        return self._put(obj) if is_watched(obj) else False

    def uids(self, kind: Kind) -> frozenset[str]:
        """The uids cached of a kind: take them before a live list, for `prune`."""
        return frozenset(uid_of(obj) for obj in self._objects[kind].values())

    def prune(self, kind: Kind, before: Iterable[str], listed: Iterable[Mapping[str, Any]]) -> Objects:
        """Drop what a live list, begun after `before` was taken, no longer contains; returns the dropped objects.

        What was cached only after the list began is left alone: the list may be older than it.
        """
        vanished = set(before) - {uid_of(obj) for obj in listed}
        dropped = []
        for uid in vanished:
            obj = self.by_uid(uid)
            if obj is not None and self._by_uid[uid].kind == kind:
                self._remove(obj)
                dropped.append(obj)
        return dropped

    def counts(self) -> dict[str, int]:
        """Objects per kind, for metrics and readiness."""
        return {kind.kind: len(objects) for kind, objects in self._objects.items()}

    def _put(self, obj: Mapping[str, Any]) -> bool:
        ref, uid, version = ref_of(obj), uid_of(obj), version_of(obj)
        if version <= self._gone.get(uid, -1):
            return False  # a late answer about an object whose deletion we have seen
        old = self._objects[ref.kind].get((ref.namespace, ref.name))
        if old is not None and version_of(old) >= version:
            return False
        if old is not None:
            self._unlink(old, ref)
        self._objects[ref.kind][(ref.namespace, ref.name)] = slim(obj)
        self._by_uid[uid] = ref
        owner = controller_of(obj)
        if owner is not None:
            self._children.setdefault(str(owner.get("uid")), set()).add(ref)
        return True

    def _remove(self, obj: Mapping[str, Any]) -> bool:
        uid = uid_of(obj)
        kind = kinds.find(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
        if kind not in self._objects:
            return False
        self._gone[uid] = max(version_of(obj), self._gone.get(uid, -1))
        self._gone.move_to_end(uid)
        if len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        ref = ref_of(obj)
        old = self._objects[ref.kind].get((ref.namespace, ref.name))
        if old is None or uid_of(old) != uid:
            return False
        self._unlink(old, ref)
        del self._objects[ref.kind][(ref.namespace, ref.name)]
        return True

    def _unlink(self, obj: Mapping[str, Any], ref: Ref) -> None:
        self._by_uid.pop(uid_of(obj), None)
        owner = controller_of(obj)
        if owner is not None:
            siblings = self._children.get(str(owner.get("uid")))
            if siblings is not None:
                siblings.discard(ref)
                if not siblings:
                    del self._children[str(owner.get("uid"))]
