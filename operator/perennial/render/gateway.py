"""The HTTPRoute of a ModelDeployment: requests from its Gateways straight to the revisions' pods, by weight.

Pure. Every field that the published schema would fill in by itself is written out, so that a route which was read can
be compared with this one. Must not decide weights.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.kinds import GATEWAY, HTTP_ROUTE, SERVICE
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.spec import GatewayRoute
from perennial.render.ownership import child_labels, owner_reference
from perennial.render.serving import revision_name

_ALL_PATHS = {"path": {"type": "PathPrefix", "value": "/"}}


def http_route(
    owner: Mapping[str, Any], route: GatewayRoute, weights: Mapping[str, int], ports: Mapping[str, int]
) -> JsonObject:
    """The route with one rule. weights, ports: of each revision's Service; KeyError for a revision without a port."""
    name = owner["metadata"]["name"]
    parents: list[JsonObject] = []
    for parent in route.parents:
        place = {"sectionName": parent.section, "port": parent.port}
        ref = {"group": GATEWAY.group, "kind": GATEWAY.kind, "name": parent.name}
        parents.append({**ref, **{key: value for key, value in place.items() if value is not None}})
    backends = [
        {"group": SERVICE.group, "kind": SERVICE.kind, "name": revision_name(name, revision),
         "port": ports[revision], "weight": weight}
        for revision, weight in sorted(weights.items())
    ]  # fmt: skip
    spec: JsonObject = {"parentRefs": parents, "rules": [{"backendRefs": backends, "matches": [_ALL_PATHS]}]}
    if route.hostnames:
        spec["hostnames"] = list(route.hostnames)
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.kind,
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": child_labels(owner),
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": spec,
    }


def weights_of(route: Mapping[str, Any]) -> dict[str, int]:
    """Revision -> weight of a route as it was read, of all its rules; other backends by their own names."""
    prefix = revision_name(route["metadata"]["name"], "")
    rules = (route.get("spec") or {}).get("rules") or ()
    refs = [ref for rule in rules for ref in rule.get("backendRefs") or ()]
    return {str(ref.get("name", "")).removeprefix(prefix): int(ref.get("weight", 1)) for ref in refs}


def is_attached(route: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a route that was read has the parents and hosts of the wanted one; fields that a newer schema fills in
    do not matter."""
    found = route.get("spec") or {}
    refs, mine = found.get("parentRefs") or [], wanted["spec"]["parentRefs"]
    same = len(refs) == len(mine) and all(one.items() <= other.items() for one, other in zip(mine, refs, strict=True))
    return same and (found.get("hostnames") or []) == wanted["spec"].get("hostnames", [])
