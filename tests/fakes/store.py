"""An in-memory Kubernetes API good enough for controllers: `ObjectStore` with the server's rules that matter to them.

Faithful: resourceVersion, uid, generation, AlreadyExists, uid and resourceVersion preconditions, server-side apply with
field ownership per manager, status as a subresource, finalizers, background garbage collection by ownerReference, label
selectors, dry run, default status of our kinds. Not here: schemas, CEL, admission, defaults of spec, quotas.
`tests/contract/` runs the same suite against this and a real API server.
"""

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api import kinds
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, Forbidden, Invalid, PerennialError
from perennial.domain.times import rfc3339
from perennial.ports import Clock, PatchTarget
from tests.fakes import ssa
from tests.fakes.copies import copied

EventCallback = Callable[[str, JsonObject], None]
WriteCallback = Callable[[str, JsonObject], None]
Manager = tuple[str, str, str]  # name, operation, subresource
KeyOf = tuple[Kind, str, str]

WITH_STATUS = (*kinds.OUR_KINDS, kinds.JOB, kinds.POD, kinds.DEPLOYMENT, kinds.SERVICE)
SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")


@dataclass(slots=True)
class _Entry:
    obj: JsonObject
    owned: dict[Manager, frozenset[ssa.Path]]


@dataclass(slots=True)
class _Fault:
    verb: str
    kind: Kind | None
    error: PerennialError
    times: int


class MemoryStore:
    """Implements ports.ObjectStore. `on_event(type, obj)` is called after each change, `on_write(verb, obj)` too."""

    def __init__(self, clock: Clock, *, on_event: EventCallback | None = None) -> None:
        self._clock = clock
        self._entries: dict[KeyOf, _Entry] = {}
        self._revision = itertools.count(1000)
        self._uid = itertools.count(1)
        self._faults: list[_Fault] = []
        self.on_event: list[EventCallback] = [on_event] if on_event else []
        self.on_write: list[WriteCallback] = []
        self.writes: list[tuple[str, str, str, str]] = []  # verb, kind, name, manager; only what changed something
        self.created: list[tuple[str, str]] = []  # kind, name of every object ever made
        self.requests: list[tuple[str, str]] = []  # verb, kind
        self.logs: dict[tuple[str, str, str], str] = {}
        self.forbidden: set[tuple[str, str, str]] = set()  # account "namespace/name", verb, kind
        self._account = ""

    # -- for tests -------------------------------------------------------------------------------------------------
    def fail(self, verb: str, error: PerennialError, *, kind: Kind | None = None, times: int = 1) -> None:
        """Let the next `times` calls of a verb (get, list, create, apply, status, patch, delete) raise `error`."""
        self._faults.append(_Fault(verb, kind, error, times))

    def heal(self) -> None:
        """No call fails any more."""
        self._faults.clear()

    def all(self, kind: Kind | None = None) -> list[JsonObject]:
        """Copies of all objects (of a kind), sorted by kind, namespace and name."""
        found = [entry.obj for key, entry in self._entries.items() if kind in (None, key[0])]
        found.sort(key=lambda o: (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]))
        return copied(found)

    def put_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any]) -> JsonObject:
        """Write a status as another controller would (kubelet, the Job controller): replace it."""
        entry = self._entries[(kind, namespace, name)]
        draft = copied(entry.obj)
        draft["status"] = copied(dict(status))
        return self._commit((kind, namespace, name), draft, entry.owned, "status", "another", False)

    # -- ObjectStore -----------------------------------------------------------------------------------------------
    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject | None:
        """See ObjectStore."""
        self._enter("get", kind)
        entry = self._entries.get((kind, namespace or "", name))
        return None if entry is None else copied(entry.obj)

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[JsonObject]:
        """See ObjectStore."""
        self._enter("list", kind)
        match = _selector(labels)
        return [
            obj
            for obj in self.all(kind)
            if namespace in (None, obj["metadata"].get("namespace")) and match(obj["metadata"].get("labels") or {})
        ]

    async def create(self, obj: Mapping[str, Any], *, manager: str, dry_run: bool = False) -> JsonObject:
        """See ObjectStore."""
        key = _key(obj)
        self._enter("create", key[0])
        if key in self._entries:
            raise Conflict("AlreadyExists", f'{key[0].plural} "{key[2]}" already exists')
        return self._make(key, obj, (manager, "Update", ""), dry_run, "create")

    async def apply(
        self, obj: Mapping[str, Any], *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> JsonObject:
        """See ObjectStore."""
        key = _key(obj)
        self._enter("status" if subresource == "status" else "apply", key[0])
        entry = self._entries.get(key)
        who: Manager = (manager, "Apply", subresource)
        if entry is None:
            meta = obj["metadata"]
            if subresource or meta.get("uid") or meta.get("resourceVersion"):
                raise Conflict("NotFound", f'{key[0].plural} "{key[2]}" not found')
            return self._make(key, obj, who, dry_run, "apply")
        self._precondition(entry.obj, obj["metadata"].get("uid"), obj["metadata"].get("resourceVersion"))
        scope = _scope(ssa.to_tree(_config(obj)), key[0], subresource)
        wanted = ssa.leaves(scope) if scope else {}
        live = ssa.to_tree(entry.obj)
        owned = dict(entry.owned)
        self._check_conflicts(who, wanted, ssa.leaves(live), owned, force)
        for path in owned.get(who, frozenset()) - set(wanted):
            if not any(path in paths for other, paths in owned.items() if other != who):
                ssa.drop(live, path)
        for path, value in wanted.items():
            ssa.put(live, path, copied(value))
        ssa.reorder(live, ssa.to_tree(_config(obj)))
        owned[who] = frozenset(wanted)
        return self._commit(key, ssa.from_tree(live), owned, subresource or "apply", manager, dry_run)

    async def patch(
        self, target: PatchTarget, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> JsonObject | None:
        """See ObjectStore."""
        self._enter("patch", target.kind)
        key = (target.kind, target.namespace or "", target.name)
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._precondition(entry.obj, target.uid, target.resource_version)
        draft = copied(entry.obj)
        scoped = {k: v for k, v in body.items() if (k == "status") == (subresource == "status") or k == "metadata"}
        if target.kind not in WITH_STATUS:
            scoped = dict(body)
        _merge(draft, scoped)
        before, after = ssa.leaves(ssa.to_tree(entry.obj)), ssa.leaves(ssa.to_tree(draft))
        changed = frozenset(path for path, value in after.items() if before.get(path) != value)
        who: Manager = (manager, "Update", subresource)
        owned = {other: paths - changed for other, paths in entry.owned.items()}
        owned[who] = owned.get(who, frozenset()) | changed
        return self._commit(key, draft, owned, "patch", manager, False)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None, grace_seconds: int | None = None
    ) -> bool:
        """See ObjectStore."""
        self._enter("delete", kind)
        key = (kind, namespace or "", name)
        entry = self._entries.get(key)
        if entry is None or (uid is not None and entry.obj["metadata"]["uid"] != uid):
            return False
        self.writes.append(("delete", kind.kind, name, ""))
        if entry.obj["metadata"].get("finalizers"):
            draft = copied(entry.obj)
            draft["metadata"].setdefault("deletionTimestamp", rfc3339(self._clock.now()))
            self._store(key, draft, entry.owned)
        else:
            self._remove(key)
        self._written("delete", entry.obj)
        return True

    async def log(
        self, namespace: str, pod: str, container: str, *, tail_lines: int | None = None, limit_bytes: int = 1 << 20
    ) -> str | None:
        """See ObjectStore; `logs` holds the texts."""
        text = self.logs.get((namespace, pod, container))
        if text is None:
            return None
        if tail_lines is not None:
            text = "".join(text.splitlines(keepends=True)[-tail_lines:])
        return text[:limit_bytes]

    def acting_as(self, namespace: str, account: str) -> "MemoryStore":
        """The same objects; calls in `forbidden` of that account raise Forbidden."""
        view = copy.copy(self)
        view._account = f"{namespace}/{account}"
        return view

    # -- inside ----------------------------------------------------------------------------------------------------
    def _enter(self, verb: str, kind: Kind) -> None:
        self.requests.append((verb, kind.kind))
        if (self._account, verb, kind.kind) in self.forbidden:
            namespace, _, name = self._account.partition("/")
            raise Forbidden(
                "Forbidden",
                f'User "system:serviceaccount:{namespace}:{name}" cannot {verb} resource "{kind.plural}" '
                f'in API group "{kind.group}"',
            )
        for fault in self._faults:
            if fault.verb == verb and fault.kind in (None, kind):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                raise fault.error

    def _precondition(self, obj: JsonObject, uid: str | None, version: str | None) -> None:
        meta = obj["metadata"]
        if uid and uid != meta["uid"]:
            raise Conflict("Conflict", f"uid {uid} does not match {meta['uid']}: the object was made anew")
        if version and version != meta["resourceVersion"]:
            raise Conflict("Conflict", "the object has been modified; please apply your changes to the latest version")

    def _check_conflicts(
        self,
        who: Manager,
        wanted: Mapping[ssa.Path, Any],
        live: Mapping[ssa.Path, Any],
        owned: dict[Manager, frozenset[ssa.Path]],
        force: bool,
    ) -> None:
        for other, paths in list(owned.items()):
            if other == who:
                continue
            clash = {path for path in wanted if path in paths and live.get(path) != wanted[path]}
            if clash and not force:
                first = ssa.text(sorted(clash, key=str)[0])
                raise Conflict("Conflict", f'Apply failed with 1 conflict: conflict with "{other[0]}": {first}')
            owned[other] = paths - clash

    def _make(self, key: KeyOf, obj: Mapping[str, Any], who: Manager, dry_run: bool, verb: str) -> JsonObject:
        kind, namespace, name = key
        draft = _config(obj)
        draft.update({"apiVersion": kind.api_version, "kind": kind.kind})
        if kind in WITH_STATUS:
            draft.pop("status", None)
        scope = _scope(ssa.to_tree(draft), kind, "")
        owned = {who: frozenset(ssa.leaves(scope) if scope else ())}
        meta = draft.setdefault("metadata", {})
        meta["name"] = name
        if namespace:
            meta["namespace"] = namespace
        meta["creationTimestamp"] = rfc3339(self._clock.now())
        meta["generation"] = 1
        if kind in kinds.OUR_KINDS:
            draft["status"] = {"observedGeneration": -1}
        for owner in meta.get("ownerReferences") or ():
            if not owner.get("uid"):
                raise Invalid("Invalid", "metadata.ownerReferences.uid: Invalid value: must not be empty")
        meta["uid"] = f"00000000-0000-4000-8000-{next(self._uid):012d}"
        if dry_run:
            meta["resourceVersion"] = ""
            return copied(draft)
        self.writes.append((verb, kind.kind, name, who[0]))
        self.created.append((kind.kind, name))
        made = self._store(key, draft, owned)
        self._written(verb, made)
        return made

    def _commit(
        self, key: KeyOf, draft: JsonObject, owned: dict[Manager, frozenset[ssa.Path]], verb: str, by: str, dry: bool
    ) -> JsonObject:
        entry = self._entries[key]
        if draft == entry.obj:
            if not dry:
                entry.owned = owned
            return copied(entry.obj)
        if _spec(draft, key[0]) != _spec(entry.obj, key[0]):
            draft["metadata"]["generation"] = entry.obj["metadata"]["generation"] + 1
        if dry:
            return copied(draft)
        self.writes.append((verb, key[0].kind, key[2], by))
        if draft["metadata"].get("deletionTimestamp") and not draft["metadata"].get("finalizers"):
            self._remove(key)
            return draft
        made = self._store(key, draft, owned)
        self._written(verb, made)
        return made

    def _store(self, key: KeyOf, draft: JsonObject, owned: dict[Manager, frozenset[ssa.Path]]) -> JsonObject:
        type_ = "MODIFIED" if key in self._entries else "ADDED"
        draft["metadata"]["resourceVersion"] = str(next(self._revision))
        self._entries[key] = _Entry(draft, owned)
        self._announce(type_, draft)
        return copied(draft)

    def _remove(self, key: KeyOf) -> None:
        entry = self._entries.pop(key)
        entry.obj["metadata"]["resourceVersion"] = str(next(self._revision))
        self._announce("DELETED", entry.obj)
        alive = {e.obj["metadata"]["uid"] for e in self._entries.values()}
        for other, child in list(self._entries.items()):
            owners = child.obj["metadata"].get("ownerReferences") or []
            if owners and other in self._entries and not any(owner["uid"] in alive for owner in owners):
                self._remove(other)

    def _announce(self, type_: str, obj: JsonObject) -> None:
        for callback in list(self.on_event):
            callback(type_, copied(obj))

    def _written(self, verb: str, obj: JsonObject) -> None:
        for callback in list(self.on_write):
            callback(verb, obj)


def _key(obj: Mapping[str, Any]) -> KeyOf:
    kind = kinds.find(str(obj.get("apiVersion")), str(obj.get("kind")))
    if kind is None:
        raise Invalid("NoSuchKind", f'no matches for kind "{obj.get("kind")}" in version "{obj.get("apiVersion")}"')
    meta = obj["metadata"]
    if kind.namespaced and not meta.get("namespace"):
        raise Invalid("BadRequest", "the namespace of the object is missing")
    return kind, (meta.get("namespace") or "") if kind.namespaced else "", meta["name"]


def _config(obj: Mapping[str, Any]) -> JsonObject:
    """A copy of what the caller says, without what only the server writes."""
    draft = copied(dict(obj))
    draft["metadata"] = {k: v for k, v in draft.get("metadata", {}).items() if k not in SERVER_FIELDS}
    return draft


def _scope(tree: dict[Any, Any], kind: Kind, subresource: str) -> dict[Any, Any]:
    """The part of a tree that a write to `subresource` may touch."""
    if subresource == "status":
        return {"status": tree["status"]} if "status" in tree else {}
    part = {k: v for k, v in tree.items() if k not in ("apiVersion", "kind")}
    if kind in WITH_STATUS:
        part.pop("status", None)
    part["metadata"] = {k: v for k, v in part.get("metadata", {}).items() if k not in ("name", "namespace")}
    return {k: v for k, v in part.items() if v != {} or k != "metadata"}


def _spec(obj: JsonObject, kind: Kind) -> Any:
    """What counts for metadata.generation."""
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def _merge(target: JsonObject, body: Mapping[str, Any]) -> None:
    """JSON merge patch (RFC 7386)."""
    for key, value in body.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            _merge(inner, value)
        else:
            target[key] = copied(value)


def _selector(labels: str) -> Callable[[Mapping[str, str]], bool]:
    """Equality-based selectors and bare keys, joined by commas."""
    terms = [term.strip() for term in labels.split(",") if term.strip()]

    def match(own: Mapping[str, str]) -> bool:
        for term in terms:
            if "!=" in term:
                key, _, value = term.partition("!=")
                if own.get(key) == value:
                    return False
            elif "=" in term:
                key, _, value = term.replace("==", "=").partition("=")
                if own.get(key) != value:
                    return False
            elif term.startswith("!"):
                if term[1:] in own:
                    return False
            elif term not in own:
                return False
        return True

    return match
