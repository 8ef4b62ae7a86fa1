"""A toy Gateway API for rollout decisions: one route, its Gateways, and what their controller says of it.

Every route is accepted at once unless `quiet`, when the controller has not looked yet; `says` changes its words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.rollout.gateway import GatewaySeen, RouteSeen, missing_api, objections, taken
from perennial.domain.rollout.spec import read_spec
from perennial.render.gateway import http_route, is_attached, weights_of

PROGRAMMED = {"type": "Programmed", "status": "True"}
OWNER = {"apiVersion": "v1", "kind": "M", "metadata": {"name": "rain", "namespace": "ns", "uid": "u1"}}
PORTS = {letter * 8: 8080 for letter in "abcdef"}


def gateway(*conditions: dict[str, Any]) -> dict[str, Any]:
    """A Gateway with these conditions, programmed when none are given."""
    return {"spec": {"gatewayClassName": "edge-class"}, "status": {"conditions": list(conditions or (PROGRAMMED,))}}


@dataclass
class ToyGateway:
    """See the module. says: condition -> (status, reason, message) where that is not plain True."""

    gateways: dict[str, dict[str, Any] | None] = field(default_factory=lambda: {"edge": gateway()})
    route: dict[str, Any] | None = None
    quiet: bool = False
    says: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    installed: bool = True
    stranger: bool = False
    unreadable: str | None = None
    generation: int = 0
    written: list[dict[str, int]] = field(default_factory=list)

    def apply(self, spec: dict[str, Any], weights: Mapping[str, int]) -> None:
        """Our write; another content is another generation."""
        ask = read_spec(spec).gateway
        assert ask is not None
        assert weights and all(weight > 0 for weight in weights.values())
        wanted = http_route(OWNER, ask, weights, PORTS)
        assert self.route is None or self.route["spec"] != wanted["spec"], "what is right already is not written"
        self.written.append(dict(weights))
        self.put(wanted["spec"], self.route.get("status") if self.route else None)

    def put(self, spec: dict[str, Any], status: dict[str, Any] | None) -> None:
        """A route with this content, by whomever."""
        self.generation += 1
        meta = {**OWNER["metadata"], "generation": self.generation}
        self.route = {"metadata": meta, "spec": spec, **({"status": status} if status else {})}
        if not self.quiet:
            self.look()

    def look(self) -> None:
        """The controller looks at the route."""
        assert self.route is not None
        parents = []
        for ref in self.route["spec"]["parentRefs"]:
            if self.gateways.get(ref["name"]) is None:
                continue
            said = {"Accepted": ("True", "Accepted", ""), "ResolvedRefs": ("True", "ResolvedRefs", ""), **self.says}
            conditions = [
                {"type": type_, "status": status, "reason": reason, "message": message,
                 "observedGeneration": self.generation}
                for type_, (status, reason, message) in said.items()
            ]  # fmt: skip
            parents.append({"parentRef": ref, "controllerName": "example.org/edge", "conditions": conditions})
        self.route["status"] = {"parents": parents}

    def seen(self, spec: dict[str, Any], status: Mapping[str, Any]) -> GatewaySeen | None:
        """What a pass reads."""
        ask = read_spec(spec).gateway
        if ask is None and "gateway" not in status:
            return None
        if self.unreadable is not None:
            return GatewaySeen(unreadable=self.unreadable)
        if not self.installed or self.stranger:
            return GatewaySeen(obstacle=taken("rain") if self.stranger else missing_api())
        if self.route is None:
            return GatewaySeen()
        weights = weights_of(self.route)
        if ask is None:
            return GatewaySeen(RouteSeen("r", weights))
        wanted = http_route(OWNER, ask, weights, PORTS)
        attached = is_attached(self.route, wanted)
        intact = attached and self.route["spec"]["rules"] == wanted["spec"]["rules"]
        return GatewaySeen(RouteSeen("r", weights, attached, intact), objections(self.route, ask, self.gateways))

    @property
    def weights(self) -> dict[str, int]:
        """What the route carries; empty without a route."""
        return weights_of(self.route) if self.route is not None else {}
