"""A Gateway API controller played by hand on the in-memory API: it accepts every HTTPRoute whose Gateway is there."""

from typing import Any

from perennial.api import kinds
from perennial.domain.decision import JsonObject
from tests.fakes.world import World

PROGRAMMED = {"type": "Programmed", "status": "True", "reason": "Programmed", "message": ""}


class FakeGateways:
    """`make` a Gateway; `deaf`: its controller looks at no route any more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.deaf = False
        self.routes: list[dict[str, int]] = []
        """The weights of every route that was written, in order."""
        world.store.on_event.append(self._on_event)

    async def make(self, name: str = "edge", namespace: str = "default") -> None:
        """A programmed Gateway."""
        spec = {"gatewayClassName": "edge-class", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
        await self.world.person(
            {
                "apiVersion": kinds.GATEWAY.api_version,
                "kind": kinds.GATEWAY.kind,
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }
        )
        self.world.store.put_status(kinds.GATEWAY, namespace, name, {"conditions": [PROGRAMMED]})

    def route(self, name: str = "rain") -> JsonObject | None:
        """The route, if it exists."""
        found = [obj for obj in self.world.store.all(kinds.HTTP_ROUTE) if obj["metadata"]["name"] == name]
        return found[0] if found else None

    def _on_event(self, type_: str, obj: JsonObject) -> None:
        if obj["kind"] != kinds.HTTP_ROUTE.kind or type_ == "DELETED":
            return
        refs = obj["spec"]["rules"][0]["backendRefs"]
        weights = {ref["name"]: ref["weight"] for ref in refs}
        if not self.routes or self.routes[-1] != weights:
            self.routes.append(weights)
        if not self.deaf:
            self._accept(obj)

    def _accept(self, route: JsonObject) -> None:
        meta = route["metadata"]
        there = {gateway["metadata"]["name"] for gateway in self.world.store.all(kinds.GATEWAY)}
        conditions: list[dict[str, Any]] = [
            {"type": type_, "status": "True", "reason": type_, "observedGeneration": meta["generation"]}
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": ref, "controllerName": "example.org/edge", "conditions": conditions}
            for ref in route["spec"]["parentRefs"]
            if ref["name"] in there
        ]
        if (route.get("status") or {}).get("parents") != parents:
            self.world.store.put_status(kinds.HTTP_ROUTE, meta["namespace"], meta["name"], {"parents": parents})
