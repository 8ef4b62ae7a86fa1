"""Makes the routing Snapshot from Kubernetes objects. Pure: no I/O, no clock; objects are plain dicts.

Each object is read once, when it changes; a Snapshot is put together from what was read, so that a change among a
thousand deployments costs next to nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from perennial.api.names import LABEL_SERVED_NAME
from perennial.domain.rollout.state import State
from perennial.router.model import Deployment, Endpoint, Share, Snapshot, WindowSpec, grpc_name, is_grpc, split_cluster

_SERVICE_LABEL = "kubernetes.io/service-name"
_PORT_NAME, _GRPC_PORT_NAME = "http", "grpc"

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Slice:
    """The ready endpoints of one EndpointSlice of a revision's Service, whose name is the cluster's; served_name: the
    model's name at its servers, where that is not the deployment's; grpc: the same pods on their port for gRPC, None
    when they have none of its own."""

    cluster: str
    endpoints: frozenset[Endpoint]
    served_name: str | None = None
    grpc: frozenset[Endpoint] | None = None


@dataclass(frozen=True, slots=True)
class WindowWish:
    """How one DriftPolicy wants the counts of a deployment cut."""

    deployment: str
    window: WindowSpec


def assemble(
    namespace: str,
    deployments: Iterable[Deployment],
    slices: Iterable[Slice | None],
    wishes: Iterable[WindowWish | None],
    baselines: Mapping[str, Mapping[str, Any] | None],
) -> Snapshot:
    """The Snapshot of a namespace from what the read_* functions gave. baselines: those fetched so far, by
    ModelVersion name.
    """
    windows: dict[str, set[WindowSpec]] = {}
    for wish in wishes:
        if wish is not None:
            windows.setdefault(wish.deployment, set()).add(wish.window)
    cut = [replace(d, windows=tuple(sorted(windows[d.name]))) if d.name in windows else d for d in deployments]
    pieces = [piece for piece in slices if piece is not None]
    served, own_grpc = _served_names(pieces), _grpc_revisions(pieces)
    cut = [replace(d, served_names=served[d.name]) if d.name in served else d for d in cut]
    cut = [replace(d, grpc_revisions=own_grpc[d.name]) if d.name in own_grpc else d for d in cut]
    needed = needed_versions(cut)
    return Snapshot(
        namespace=namespace,
        deployments=tuple(sorted(cut, key=lambda deployment: deployment.name)),
        endpoints=_endpoints(pieces),
        baselines={version: baselines[version] for version in sorted(needed) if version in baselines},
    )


def needed_versions(deployments: Iterable[Deployment]) -> set[str]:
    """The ModelVersions whose baselines are needed: those of stable and canary, where windows or compared predictions
    are wanted."""
    return {version for d in deployments if d.windows or d.predictions for version in d.versions.values()}


def read_deployment(obj: JsonObject) -> Deployment:
    """What a ModelDeployment says of its traffic; its windows come from the DriftPolicies."""
    spec, status = obj.get("spec", {}), obj.get("status", {})
    traffic, observation = spec.get("traffic", {}), spec.get("observation", {})
    analysis = spec.get("rollout", {}).get("analysis", {})
    arms = [status.get(arm) or {} for arm in ("stable", "canary")]
    name = obj["metadata"]["name"]
    rollout = status.get("rollout") or {}
    choosable = traffic.get("override", False) and rollout.get("state") != State.WITHDRAWING
    return Deployment(
        name=name,
        traffic_version=status.get("trafficVersion", 0),
        traffic=tuple(Share(item["revision"], item["weight"]) for item in status.get("traffic", ())),
        stable=arms[0].get("revision"),
        versions={arm["revision"]: arm["version"] for arm in arms if arm.get("revision") and arm.get("version")},
        timeout_seconds=traffic.get("timeoutSeconds", 60),
        retries=traffic.get("retries", 0),
        sample_percent=observation.get("samplePercent", 100),
        max_body_bytes=observation.get("maxBodyBytes", 65536),
        max_rows=observation.get("maxRowsPerRequest", 32),
        latency_limit_ms=analysis.get("latency", {}).get("maxMilliseconds"),
        canary=rollout.get("targetRevision") if choosable else None,
        sticky_header=traffic.get("stickyHeader"),
        **_copies(spec, status),
        predictions="predictions" in analysis,
    )


def _copies(spec: JsonObject, status: JsonObject) -> dict[str, Any]:
    """Who gets copies of how many requests: a canary without weight beside a stable, until it is withdrawn.

    Not one that waits for an approval without weight: its inputs differ, and no copy would fit them. And not before
    its sample inputs, which are to find what would be wrong with copies too.
    """
    rollout, percent = status.get("rollout") or {}, spec.get("rollout", {}).get("mirrorPercent", 0)
    target = rollout.get("targetRevision")
    weights = {item["revision"]: item["weight"] for item in status.get("traffic", ())}
    stable = (status.get("stable") or {}).get("revision")
    going = target and stable and target != stable and rollout.get("state") not in (State.WITHDRAWING, State.APPROVAL)
    smoke = rollout.get("smoke") or {}
    due = "smoke" in spec.get("rollout", {}) and not smoke and rollout.get("state") == State.SCALING
    going = going and not rollout.get("replacing") and not due and smoke.get("over", True)
    if not going or not percent or weights.get(target, 0) or not weights.get(stable, 0):
        return {}
    return {"copies_to": target, "copy_percent": percent}


def read_policy(obj: JsonObject) -> WindowWish | None:
    """How a DriftPolicy wants the counts of its deployment cut; None for one that reads another source."""
    spec = obj.get("spec", {})
    source = spec.get("source") or {}
    target = spec.get("deploymentRef", {}).get("name")
    if target is None or (source and "observations" not in source):
        return None
    window = spec.get("window", {})
    return WindowWish(target, WindowSpec(window.get("seconds", 86400), window.get("offsetSeconds", 0)))


def read_slice(obj: JsonObject) -> Slice | None:
    """The ready endpoints of an EndpointSlice; None for one that is no revision's or names no address and port."""
    labels = obj["metadata"].get("labels", {})
    service = labels.get(_SERVICE_LABEL, "")
    port, grpc_port = _ports(obj)
    if split_cluster(service) is None or is_grpc(service) or port is None or obj.get("addressType") == "FQDN":
        return None
    ready = [e for e in obj.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False]
    addresses = [address for e in ready for address in e.get("addresses", ())]
    endpoints = frozenset(Endpoint(address, port) for address in addresses)
    grpc = None if grpc_port in (None, port) else frozenset(Endpoint(address, grpc_port) for address in addresses)
    return Slice(service, endpoints, labels.get(LABEL_SERVED_NAME), grpc)


def _served_names(slices: Iterable[Slice]) -> dict[str, dict[str, str]]:
    """Deployment -> revision -> the model's name at its servers, for the slices that name one."""
    found: dict[str, dict[str, str]] = {}
    for piece in slices:
        parts = split_cluster(piece.cluster) if piece.served_name else None
        if parts and piece.served_name:
            found.setdefault(parts[0], {})[parts[1]] = piece.served_name
    return found


def _grpc_revisions(slices: Iterable[Slice]) -> dict[str, tuple[str, ...]]:
    """Deployment -> the revisions that take gRPC on a port of its own."""
    found: dict[str, set[str]] = {}
    for piece in slices:
        parts = split_cluster(piece.cluster) if piece.grpc is not None else None
        if parts:
            found.setdefault(parts[0], set()).add(parts[1])
    return {deployment: tuple(sorted(revisions)) for deployment, revisions in found.items()}


def _endpoints(slices: Iterable[Slice]) -> dict[str, tuple[Endpoint, ...]]:
    """Cluster -> its ready endpoints, sorted; a cluster may have several slices, and one address may be in two."""
    found: dict[str, frozenset[Endpoint]] = {}
    for piece in slices:
        found[piece.cluster] = found.get(piece.cluster, frozenset()) | piece.endpoints
        if piece.grpc is not None:
            second = grpc_name(piece.cluster)
            found[second] = found.get(second, frozenset()) | piece.grpc
    return {cluster: tuple(sorted(ready)) for cluster, ready in sorted(found.items())}


def _ports(piece: JsonObject) -> tuple[int | None, int | None]:
    """The port named http, else the first; and the one named grpc."""
    ports = [(port.get("name"), port.get("port")) for port in piece.get("ports") or ()]
    named = dict(ports)
    return named.get(_PORT_NAME, ports[0][1] if ports else None), named.get(_GRPC_PORT_NAME)
