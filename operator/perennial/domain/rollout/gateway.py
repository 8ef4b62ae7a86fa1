"""What is known of a ModelDeployment's HTTPRoute, and whether its Gateways send requests by status.traffic. Pure.

A weight counts at the edge when the route carries it and every parent has accepted that very content. What cannot be
read is unknown: it holds a rollout and never ends one. Must not decide what becomes of the rollout.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.domain import reasons
from perennial.domain.conditions import bounded, find
from perennial.domain.rollout.spec import GatewayRoute, Parent

_WORDS = 300
"""Bytes of a parent's message: several and the sentences around them must fit a condition."""

_ADVICE = {
    "NotAllowedByListeners": "let the listener's allowedRoutes take HTTPRoutes of this namespace",
    "NoMatchingListenerHostname": "name hosts that a listener of it takes in spec.traffic.gateway.hostnames",
    "NoMatchingParent": "name a listener or port that it has in spec.traffic.gateway.parentRefs",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps the operator from having a route at all. known: whether it is known that none of ours exists."""

    reason: str
    message: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class RouteSeen:
    """Our HTTPRoute as read now. weights: revision -> weight in its rule. attached: its parents and hosts are those of
    the spec; intact: apart from the weights nothing in it differs from what we write."""

    uid: str
    weights: Mapping[str, int]
    attached: bool = True
    intact: bool = True


@dataclass(frozen=True, slots=True)
class GatewaySeen:
    """What a look at the route and its Gateways gave. objections: why parents do not send requests by the route's
    present content, one sentence for each; empty when all do. unreadable: why nothing is known, for the moment."""

    route: RouteSeen | None = None
    objections: tuple[str, ...] = ()
    obstacle: Obstacle | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """How the route stands. waiting: why its Gateways do not send requests by status yet, as a sentence; None when they
    do. sends_none: it is certain that no route of ours sends anything. objected: that is what the Gateways themselves
    say; otherwise our own next pass may change it."""

    waiting: str | None = None
    sends_none: bool = False
    objected: bool = False

    @property
    def follows(self) -> bool:
        """Whether no Gateway can send anything to a revision whose weight is 0."""
        return self.waiting is None or self.sends_none


@dataclass(frozen=True, slots=True)
class Shares:
    """The weights that a route must carry (revision -> weight above 0). as_recorded: they are those of status.traffic,
    so nobody stands in for a revision that cannot answer. Empty and as recorded: there must be no route."""

    weights: Mapping[str, int] = field(default_factory=dict)
    as_recorded: bool = True


def answering_shares(wanted: Mapping[str, int], answering: Collection[str], stable: str | None) -> dict[str, int]:
    """Weights that send nothing to a revision that cannot answer; zeros stay in it.

    The share of one that cannot goes to stable; when stable cannot either, to the one with the largest share. When
    nobody can, the wanted weights stay. Empty when no weight is above 0.
    """
    if sum(wanted.values()) == 0:
        return {}
    able = [revision for revision in wanted if revision in answering]
    if not able:
        return dict(wanted)
    result = {revision: wanted[revision] if revision in able else 0 for revision in wanted}
    missing = sum(wanted.values()) - sum(result.values())
    if missing:
        heir = stable if stable is not None and stable in able else max(able, key=lambda revision: wanted[revision])
        result[heir] += missing
    return result


def shares(traffic: Sequence[tuple[str, int]], ready: Mapping[str, bool], stable: str | None) -> Shares:
    """What a route must carry for status.traffic. ready: of each revision that exists, whether it has a ready pod. A
    weight of 0 is left out: implementations differ in what they make of it."""
    existing = {revision: weight for revision, weight in traffic if revision in ready}
    answering = [revision for revision in existing if ready[revision]]
    given = {r: weight for r, weight in answering_shares(existing, answering, stable).items() if weight}
    return Shares(given, given == {revision: weight for revision, weight in traffic if weight})


def edge(ask: GatewayRoute | None, seen: GatewaySeen | None, wanted: Shares) -> Edge:
    """How the route stands, for what is asked for and what was seen. wanted: see `shares`; ignored without an ask."""
    if seen is None:
        return Edge("The HTTPRoute was not read yet.") if ask is not None else Edge(sends_none=True)
    if seen.obstacle is not None:
        waiting = seen.obstacle.message if ask is not None or not seen.obstacle.known else None
        return Edge(waiting, sends_none=seen.obstacle.known)
    if seen.unreadable is not None:
        return Edge(f"The HTTPRoute cannot be read: {bounded(seen.unreadable, _WORDS)}")
    route = seen.route
    if not wanted.weights and wanted.as_recorded:
        return Edge("The HTTPRoute is being removed.") if route is not None else Edge(sends_none=True)
    if not wanted.weights:
        return Edge("No revision with weight was seen, so the HTTPRoute stays as it is.")
    if route is None:
        return Edge("The HTTPRoute is being made.")
    if not route.attached or dict(route.weights) != dict(wanted.weights):
        return Edge("The HTTPRoute is being brought to the weights of status.traffic.")
    if seen.objections:
        return Edge(" ".join(seen.objections), objected=True)
    if not wanted.as_recorded:
        return Edge("A revision with weight has no ready pod, so the HTTPRoute leaves it out.")
    return Edge()


def objections(
    route: Mapping[str, Any], ask: GatewayRoute, gateways: Mapping[str, Mapping[str, Any] | None]
) -> tuple[str, ...]:
    """Why parents of the route do not send requests by its present content. gateways: each by name, None: absent."""
    found = (_objection(parent, route, gateways.get(parent.name)) for parent in ask.parents)
    return tuple(dict.fromkeys(words for words in found if words is not None))


def _objection(parent: Parent, route: Mapping[str, Any], gateway: Mapping[str, Any] | None) -> str | None:
    name = f"Gateway {parent.name}"
    if parent.section is not None:
        name += f" (listener {parent.section})"
    if gateway is None:
        return (
            f"{name} does not exist in this namespace: make it, or name another one in spec.traffic.gateway.parentRefs."
        )
    generation = int(route["metadata"].get("generation", 0))
    said = [_unready(entry, name, generation) for entry in _entries(route, parent)]
    if not said:
        kind = gateway["spec"].get("gatewayClassName", "")
        return f'{name} says nothing of the route yet: a controller of GatewayClass "{kind}" must be running.'
    if all(said):
        return said[0]
    programmed = find((gateway.get("status") or {}).get("conditions") or (), "Programmed")
    if programmed is None or programmed.get("status") != "True":
        return f"{name} is not programmed{_told(programmed)}."
    return None


def _entries(route: Mapping[str, Any], parent: Parent) -> Iterable[Mapping[str, Any]]:
    """What controllers say of one of our parents; each controller has an entry of its own."""
    namespace = route["metadata"]["namespace"]
    for entry in (route.get("status") or {}).get("parents") or ():
        ref = entry.get("parentRef") or {}
        mine = (ref.get("name"), ref.get("sectionName"), ref.get("port")) == (parent.name, parent.section, parent.port)
        if mine and ref.get("kind", "Gateway") == "Gateway" and ref.get("namespace", namespace) == namespace:
            yield entry


def _unready(entry: Mapping[str, Any], name: str, generation: int) -> str | None:
    """Why one controller's word is not enough; None when it is."""
    conditions = entry.get("conditions") or ()
    for type_, verb in (("Accepted", "has not accepted the route"), ("ResolvedRefs", "cannot resolve the route")):
        condition = find(conditions, type_)
        if condition is None or int(condition.get("observedGeneration", 0)) < generation:
            return f"{name} has not looked at the route as it is now."
        if condition.get("status") != "True":
            advice = _ADVICE.get(str(condition.get("reason")), "correct the Gateway or spec.traffic.gateway")
            return f"{name} {verb}{_told(condition)}; {advice}."
    partly = find(conditions, "PartiallyInvalid")
    if partly is not None and partly.get("status") == "True":
        return f"{name} takes only a part of the route{_told(partly)}; correct spec.traffic.gateway."
    return None


def _told(condition: Mapping[str, Any] | None) -> str:
    """A condition's own reason and message, to follow a sentence."""
    if condition is None:
        return ""
    message = " ".join(str(condition.get("message") or "").split()).rstrip(".")
    return f": {bounded(': '.join(filter(None, (str(condition.get('reason') or ''), message))), _WORDS)}"


def missing_api() -> Obstacle:
    """The CustomResourceDefinitions are not there."""
    return Obstacle(
        reasons.GATEWAY_API_MISSING,
        "Gateway API (gateway.networking.k8s.io/v1) is not installed in this cluster, so spec.traffic.gateway cannot "
        "work: install its CRDs and a controller, or remove spec.traffic.gateway.",
    )


def taken(name: str) -> Obstacle:
    """A stranger's route has our name."""
    return Obstacle(
        reasons.NAME_TAKEN,
        f"HTTPRoute {name} exists and is not ours, so spec.traffic.gateway cannot work: rename or remove that route, "
        "or remove spec.traffic.gateway.",
    )
