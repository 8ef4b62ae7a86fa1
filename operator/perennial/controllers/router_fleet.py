"""The routers of a namespace as a ModelDeployment needs them: made with the first one, owned by all, believed by uid.

Every ModelDeployment of the namespace is an owner, none the controller: Kubernetes removes the routers with the last.
Must not decide about traffic.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from perennial.api import kinds, names
from perennial.controllers.router_pods import RouterPods
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, NameTaken
from perennial.domain.revision import canonical
from perennial.ports import ObjectStore
from perennial.render.ownership import owner_reference
from perennial.render.router import TOKEN_KEY, RouterSettings, router_labels, router_objects
from perennial.runtime.cache import Cache

_FLEET_HASH = "perennial.dev/fleet-hash"


class RouterFleet(RouterPods):
    """Makes and heals the routers of each namespace."""

    def __init__(self, store: ObjectStore, cache: Cache, settings: RouterSettings, manager: str) -> None:
        super().__init__(store, cache)
        self._settings = settings
        self._manager = manager
        self._hashes: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, deployment: Mapping[str, Any]) -> bool:
        """Make sure that the routers exist and that this ModelDeployment is one of their owners; whether it wrote."""
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
            # The Deployment comes last: its hash says that everything before it was made.
            for obj in [_secret(namespace, owners), *router_objects(namespace, self._settings, owners)]:
                await self._bring(obj, namespace, wanted)
        return True

    def _is_whole(self, deployment: Mapping[str, Any], fleet_hash: str) -> bool:
        found = self._cache.get(kinds.DEPLOYMENT, deployment["metadata"]["namespace"], names.ROUTER)
        return found is not None and _annotation(found, _FLEET_HASH) == fleet_hash and _owned_by(found, deployment)

    async def _bring(self, obj: JsonObject, namespace: str, fleet_hash: str) -> None:
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
                self._cache.upsert(await self._store.create(obj, manager=self._manager))
            except Conflict as error:
                raise Conflict(error.reason, f"{obj['kind']} {meta['name']} was made a moment ago") from error
            return
        if (live["metadata"].get("labels") or {}).get(names.LABEL_MANAGED_BY) != names.MANAGED_BY_PERENNIAL:
            raise NameTaken(
                "NameTaken",
                f"{obj['kind']} {meta['name']} exists and is not ours, so this namespace can have no routers: "
                "rename or remove it.",
            )
        obj["metadata"]["uid"] = live["metadata"]["uid"]
        self._cache.upsert(await self._store.apply(obj, manager=self._manager, force=True))

    def _fleet_hash(self, namespace: str) -> str:
        """Of everything but the owners and the token: other settings of the operator bring the routers up to date."""
        if namespace not in self._hashes:
            text = canonical(router_objects(namespace, self._settings))
            self._hashes[namespace] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._hashes[namespace]


def _secret(namespace: str, owners: Sequence[Mapping[str, Any]]) -> JsonObject:
    """The Secret of the routers' token, without it."""
    return {
        "apiVersion": kinds.SECRET.api_version,
        "kind": kinds.SECRET.kind,
        "metadata": {
            "name": names.ROUTER,
            "namespace": namespace,
            "labels": router_labels(),
            "ownerReferences": [owner_reference(owner, controller=False) for owner in owners],
        },
        "type": "Opaque",
    }


def _annotation(obj: Mapping[str, Any], key: str) -> str | None:
    value: str | None = (obj["metadata"].get("annotations") or {}).get(key)
    return value


def _owned_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    return any(ref["uid"] == owner["metadata"]["uid"] for ref in obj["metadata"].get("ownerReferences") or ())
