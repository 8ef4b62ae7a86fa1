"""The routers of a namespace as a ModelDeployment needs them: made with the first one, gone with the last.

Every ModelDeployment of the namespace owns the anchor, a ConfigMap, and the anchor owns the routers: Kubernetes removes
it with the last ModelDeployment, and the routers with it, also while the operator is away. Must not decide about
traffic.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perennial.api import kinds, names
from perennial.controllers.router_pods import RouterPods
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, NameTaken
from perennial.domain.revision import canonical
from perennial.ports import ObjectStore
from perennial.render.ownership import owner_reference
from perennial.render.router import TOKEN_KEY, RouterSettings, router_anchor, router_labels, router_objects
from perennial.runtime.cache import Cache

_FLEET_HASH = "perennial.dev/fleet-hash"


@dataclass(frozen=True, slots=True)
class _Anchor:
    """The anchor of a namespace as the server had it last: its uid and those of its owners."""

    uid: str
    owners: frozenset[str]


class RouterFleet(RouterPods):
    """Makes and heals the routers of each namespace."""

    def __init__(self, store: ObjectStore, cache: Cache, settings: RouterSettings, manager: str) -> None:
        super().__init__(store, cache)
        self._settings = settings
        self._manager = manager
        self._hashes: dict[str, str] = {}
        self._anchors: dict[str, _Anchor] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, deployment: Mapping[str, Any]) -> bool:
        """Make sure that the routers exist and do not go before this ModelDeployment does; whether it wrote."""
        namespace = deployment["metadata"]["namespace"]
        wanted = self._fleet_hash(namespace)
        if self._is_whole(deployment, wanted):
            return False
        async with self._locks.setdefault(namespace, asyncio.Lock()):  # of many at once the first one does it for all
            if self._is_whole(deployment, wanted):
                return False
            owners = [
                obj
                for obj in self._cache.list(kinds.MODEL_DEPLOYMENT, namespace)
                if not obj["metadata"].get("deletionTimestamp")
            ]
            anchor, wrote = await self._bring_anchor(namespace, owners)
            if not self._is_made(namespace, wanted):
                # The Deployment comes last: its hash says that everything before it was made.
                for obj in [_secret(namespace, anchor), *router_objects(namespace, self._settings, anchor)]:
                    await self._bring(obj, namespace, wanted)
                wrote = True
        return wrote

    def _is_whole(self, deployment: Mapping[str, Any], fleet_hash: str) -> bool:
        namespace = deployment["metadata"]["namespace"]
        anchor = self._anchors.get(namespace)
        known = anchor is not None and deployment["metadata"]["uid"] in anchor.owners
        return known and self._is_made(namespace, fleet_hash)

    def _is_made(self, namespace: str, fleet_hash: str) -> bool:
        """Whether the routers are as they should be and hang on the anchor."""
        found, anchor = self._cache.get(kinds.DEPLOYMENT, namespace, names.ROUTER), self._anchors.get(namespace)
        if found is None or anchor is None or _annotation(found, _FLEET_HASH) != fleet_hash:
            return False
        return anchor.uid in _owners(found)

    async def _bring_anchor(self, namespace: str, deployments: Sequence[Mapping[str, Any]]) -> tuple[JsonObject, bool]:
        """The anchor, owned by all of them, and whether it had to be written."""
        found = await self._store.get(kinds.CONFIG_MAP, namespace, names.ROUTER)
        wrote = found is None or not {obj["metadata"]["uid"] for obj in deployments} <= _owners(found)
        if found is None or wrote:
            found = await self._bring(router_anchor(namespace, deployments), namespace, "")
        self._anchors[namespace] = _Anchor(found["metadata"]["uid"], frozenset(_owners(found)))
        return found, wrote

    async def _bring(self, obj: JsonObject, namespace: str, fleet_hash: str) -> JsonObject:
        """POST what is missing; apply over what is ours; a stranger's object of that name is left alone."""
        kind = kinds.find(obj["apiVersion"], obj["kind"])
        if kind is None:
            raise ValueError(f"the routers need an unknown kind {obj['kind']}")
        meta = obj["metadata"] = {**obj["metadata"], "namespace": namespace}
        if kind == kinds.DEPLOYMENT:
            meta["annotations"] = {**(meta.get("annotations") or {}), _FLEET_HASH: fleet_hash}
        live = await self._store.get(kind, namespace, meta["name"])
        if kind == kinds.SECRET:
            known = (((live or {}).get("data")) or {}).get(TOKEN_KEY)
            obj["data"] = {TOKEN_KEY: known or base64.b64encode(secrets.token_urlsafe(32).encode()).decode()}
        if live is None:
            try:
                made = await self._store.create(obj, manager=self._manager)
            except Conflict as error:
                raise Conflict(error.reason, f"{obj['kind']} {meta['name']} was made a moment ago") from error
            self._cache.upsert(made)
            return made
        if (live["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) != names.MANAGED_BY_PERENNIAL:
            raise NameTaken(
                "NameTaken",
                f"{obj['kind']} {meta['name']} exists and is not ours, so this namespace can have no routers: "
                "rename or remove it.",
            )
        obj["metadata"]["uid"] = live["metadata"]["uid"]
        made = await self._store.apply(obj, manager=self._manager, force=True)
        self._cache.upsert(made)
        return made

    def _fleet_hash(self, namespace: str) -> str:
        """Of everything but the owners and the token: other settings of the operator bring the routers up to date."""
        if namespace not in self._hashes:
            text = canonical(router_objects(namespace, self._settings))
            self._hashes[namespace] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._hashes[namespace]


def _secret(namespace: str, anchor: Mapping[str, Any]) -> JsonObject:
    """The Secret of the routers' token, without it."""
    return {
        "apiVersion": kinds.SECRET.api_version,
        "kind": kinds.SECRET.kind,
        "metadata": {
            "name": names.ROUTER,
            "namespace": namespace,
            "labels": router_labels(),
            "ownerReferences": [owner_reference(anchor, controller=False)],
        },
        "type": "Opaque",
    }


def _annotation(obj: Mapping[str, Any], key: str) -> str | None:
    value: str | None = (obj["metadata"].get("annotations") or {}).get(key)
    return value


def _owners(obj: Mapping[str, Any]) -> set[str]:
    return {str(ref["uid"]) for ref in obj["metadata"].get("ownerReferences") or ()}
