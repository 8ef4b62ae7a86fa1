"""Which router pods of a namespace may be asked, and with what token: only pods whose owner chain leads to our
Deployment, by uid, for a stranger's pod with our labels would get the token and be believed. Must not make anything.
"""

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from perennial.api import kinds, names
from perennial.domain.decision import JsonObject
from perennial.domain.owners import controller_of
from perennial.domain.rollout.pods import is_serving
from perennial.domain.times import parse_time
from perennial.ports import ObjectStore
from perennial.render.router import TOKEN_KEY
from perennial.runtime.cache import Cache

LEAVING_SECONDS = 15


class RouterPods:
    """The routers as they can be asked."""

    def __init__(self, store: ObjectStore, cache: Cache) -> None:
        self._store = store
        self._cache = cache
        self._tokens: dict[str, str] = {}
        self._owners_of_sets: dict[str, str] = {}

    async def token(self, namespace: str, *, fresh: bool = False) -> str | None:
        """The bearer token of the namespace's routers; read once, and again when `fresh`."""
        if fresh or namespace not in self._tokens:
            secret = await self._store.get(kinds.SECRET, namespace, names.ROUTER)
            data = (secret or {}).get("data") or {}
            if TOKEN_KEY not in data:
                return None
            self._tokens[namespace] = base64.b64decode(data[TOKEN_KEY]).decode()
        return self._tokens[namespace]

    async def ready_pods(self, namespace: str) -> list[tuple[str, str, str]]:
        """(name, uid, ip) of the ready router pods whose owner chain leads to our Deployment, by uid."""
        return [_address(pod) for pod in await self._believed(namespace) if is_serving(pod)]

    async def leaving_pods(self, namespace: str, now: datetime) -> list[tuple[str, str, str]]:
        """The same of pods that are being stopped: they tell their last counts once they have drained."""
        return [_address(pod) for pod in await self._believed(namespace) if _is_leaving(pod, now)]

    async def _believed(self, namespace: str) -> list[JsonObject]:
        """All router pods with an address whose owner chain leads to our Deployment."""
        fleet = self._cache.get(kinds.DEPLOYMENT, namespace, names.ROUTER)
        if fleet is None:
            return []
        found = []
        for pod in self._cache.list(kinds.POD, namespace, {names.LABEL_COMPONENT: names.COMPONENT_ROUTER}):
            reachable = (pod.get("status") or {}).get("podIP")
            if reachable and await self._owner_uid(namespace, pod) == fleet["metadata"]["uid"]:
                found.append(pod)
        return found

    async def _owner_uid(self, namespace: str, pod: Mapping[str, Any]) -> str | None:
        """The uid of the Deployment above the pod's ReplicaSet; owners never change, so it is asked once."""
        owner = controller_of(pod)
        if owner is None or owner.get("kind") != kinds.REPLICA_SET.kind:
            return None
        uid = owner["uid"]
        if uid not in self._owners_of_sets:
            found = await self._store.get(kinds.REPLICA_SET, namespace, owner["name"])
            above = controller_of(found) if found is not None and found["metadata"]["uid"] == uid else None
            if above is None:
                return None
            self._owners_of_sets[uid] = above["uid"]
        return self._owners_of_sets[uid]


def _address(pod: Mapping[str, Any]) -> tuple[str, str, str]:
    return pod["metadata"]["name"], pod["metadata"]["uid"], pod["status"]["podIP"]


def _is_leaving(pod: Mapping[str, Any], now: datetime) -> bool:
    """Whether it is being stopped; deletionTimestamp is when its grace ends, and a lost node never removes it."""
    end = pod["metadata"].get("deletionTimestamp")
    return bool(end) and now < parse_time(end) + timedelta(seconds=LEAVING_SECONDS)
