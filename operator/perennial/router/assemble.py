"""Makes the routing Snapshot from Kubernetes objects. Pure: no I/O, no clock; objects are plain dicts."""

from collections.abc import Iterable, Mapping
from typing import Any

from perennial.router.model import Deployment, Endpoint, Share, Snapshot, WindowSpec, split_cluster

_SERVICE_LABEL = "kubernetes.io/service-name"
_PORT_NAME = "http"

JsonObject = Mapping[str, Any]


def assemble(
    namespace: str,
    deployments: Iterable[JsonObject],
    slices: Iterable[JsonObject],
    policies: Iterable[JsonObject],
    baselines: Mapping[str, Mapping[str, Any] | None],
) -> Snapshot:
    """The Snapshot of a namespace. baselines: those fetched so far, by ModelVersion name."""
    windows = _windows(policies)
    parsed = [_deployment(obj, windows) for obj in deployments]
    needed = needed_versions(parsed)
    return Snapshot(
        namespace=namespace,
        deployments=tuple(sorted(parsed, key=lambda deployment: deployment.name)),
        endpoints=_endpoints(slices),
        baselines={version: baselines[version] for version in sorted(needed) if version in baselines},
    )


def needed_versions(deployments: Iterable[Deployment]) -> set[str]:
    """The ModelVersions whose baselines are needed: those of stable and canary, where windows are wanted."""
    return {version for d in deployments if d.windows for version in d.versions.values()}


def _deployment(obj: JsonObject, windows: Mapping[str, set[WindowSpec]]) -> Deployment:
    spec, status = obj.get("spec", {}), obj.get("status", {})
    traffic, observation = spec.get("traffic", {}), spec.get("observation", {})
    analysis = spec.get("rollout", {}).get("analysis", {})
    arms = [status.get(arm) or {} for arm in ("stable", "canary")]
    name = obj["metadata"]["name"]
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
        windows=tuple(sorted(windows.get(name, ()))),
    )


def _windows(policies: Iterable[JsonObject]) -> dict[str, set[WindowSpec]]:
    """Per deployment, how its DriftPolicies want the counts cut; policies with another source want none."""
    result: dict[str, set[WindowSpec]] = {}
    for policy in policies:
        spec = policy.get("spec", {})
        source = spec.get("source") or {}
        target = spec.get("deploymentRef", {}).get("name")
        if target is None or (source and "observations" not in source):
            continue
        window = spec.get("window", {})
        result.setdefault(target, set()).add(WindowSpec(window.get("seconds", 86400), window.get("offsetSeconds", 0)))
    return result


def _endpoints(slices: Iterable[JsonObject]) -> dict[str, tuple[Endpoint, ...]]:
    """Cluster -> its ready endpoints, sorted; a cluster may have several slices, and one address may be in two."""
    found: dict[str, set[Endpoint]] = {}
    for piece in slices:
        service = piece["metadata"].get("labels", {}).get(_SERVICE_LABEL, "")
        port = _port(piece)
        if split_cluster(service) is None or port is None or piece.get("addressType") == "FQDN":
            continue
        ready = found.setdefault(service, set())
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                ready.update(Endpoint(address, port) for address in endpoint.get("addresses", ()))
    return {service: tuple(sorted(ready)) for service, ready in sorted(found.items())}


def _port(piece: JsonObject) -> int | None:
    """The port named http, else the first."""
    ports = piece.get("ports") or []
    numbers: list[int | None] = [port.get("port") for port in ports if port.get("name") == _PORT_NAME]
    numbers += [port.get("port") for port in ports]
    return numbers[0] if numbers else None
