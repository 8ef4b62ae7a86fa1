"""How long from an object's first watch event to its status: 300 objects at 20 a second, then 300 at once.

The objects are a third each of ModelVersions, suspended TrainingJobs and DriftPolicies without a deployment: each gets
one status from one pass, with no pods behind it, so that the control loop is measured and nothing else.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import support
from benchmarks.watcher import Seen, Watching, watching
from localcluster.using import Running, using
from perennial.adapters.kube import KubeStore, connect_store
from perennial.api.kinds import DRIFT_POLICY, LEASE, MODEL_VERSION, TRAINING_JOB

OBJECTS = 300
PER_SECOND = 20
PARALLEL = 32
KINDS = (MODEL_VERSION, TRAINING_JOB, DRIFT_POLICY)
HOW = (
    "An independent watcher's time from an object's ADDED event to the event with its status; 300 objects "
    "(ModelVersions, suspended TrainingJobs, DriftPolicies in turn) at 20 a second, then 300 at once; "
    "writes are those that the operator counted, without its Lease's."
)
_DIGEST = "sha256:" + "a" * 64
_SPECS: Mapping[str, Mapping[str, Any]] = {
    "ModelVersion": {
        "model": "",
        "artifact": {"uri": "s3://bench/models/rain/", "digest": _DIGEST, "format": "sklearn"},
    },
    "TrainingJob": {
        "model": "",
        "image": "registry.local/none:1",
        "datasets": [{"name": "train", "uri": "s3://bench/train/"}],
        "output": {"uri": "s3://bench/models/", "format": "sklearn"},
        "gate": [{"metric": "roc_auc", "min": "0.80"}],
        "suspend": True,
    },
    "DriftPolicy": {},
}


def made(number: int, prefix: str, namespace: str) -> dict[str, Any]:
    """The object of that number; each three belong to a model of their own, as in life."""
    kind = KINDS[number % len(KINDS)]
    name, model = f"{prefix}-{number:04d}", f"{prefix}-m{number // len(KINDS)}"
    spec = dict(_SPECS[kind.kind])
    if "model" in spec:
        spec["model"] = model
    else:
        spec["deploymentRef"] = {"name": model}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


async def steadily(store: KubeStore, namespace: str) -> None:
    """Create the objects one after another, PER_SECOND a second."""
    started = time.monotonic()
    for number in range(OBJECTS):
        await asyncio.sleep(max(0.0, started + number / PER_SECOND - time.monotonic()))
        await store.create(made(number, "steady", namespace), manager="bench")


async def at_once(store: KubeStore, namespace: str) -> None:
    """Create the objects as fast as the API server takes them."""
    gate = asyncio.Semaphore(PARALLEL)

    async def create(number: int) -> None:
        async with gate:
            await store.create(made(number, "burst", namespace), manager="bench")

    await asyncio.gather(*(create(number) for number in range(OBJECTS)))


@dataclass(frozen=True)
class Measured:
    """What one run gave: what the watcher saw, the operator's writes and CPU time in the steady part, and how
    long creating the burst took."""

    seen: Seen
    writes: float
    cpu_seconds: float
    burst_created_seconds: float


async def measure(cluster: Running, namespace: str, watch: Watching, operator: support.OperatorProcess) -> Measured:
    """The steady part, then the burst."""
    async with connect_store(str(cluster.kubeconfig)) as (store, _):
        before, cpu = writes_without_lease(operator, watch), operator.cpu_seconds()
        await steadily(store, namespace)
        support.wait("the status of the steady objects", lambda: settled(watch) >= OBJECTS, 60)
        await asyncio.sleep(2)  # a second write to any of them would have come by now
        writes = writes_without_lease(operator, watch) - before
        cpu = operator.cpu_seconds() - cpu
        support.say(f"steady part done: {writes / OBJECTS:.2f} writes an object")
        began = time.monotonic()
        await at_once(store, namespace)
        created = time.monotonic() - began
        support.wait("the status of the burst", lambda: settled(watch) >= 2 * OBJECTS, 120)
    return Measured(watch.seen(), writes, cpu, created)


def settled(watch: Watching) -> int:
    """How many objects have their status until now."""
    return len(watch.seen().status)


def writes_without_lease(operator: support.OperatorProcess, watch: Watching) -> float:
    """The operator's writes; renewals of its Lease, seen by the watcher, are taken off."""
    renewals = sum(count for key, count in watch.seen().events.items() if key.startswith(f"{LEASE.plural}/"))
    return operator.metrics().writes - renewals


def delays(seen: Seen, prefix: str, plural: str = "") -> list[float]:
    """Milliseconds from ADDED to the first event with status, of the objects with that prefix."""
    return [
        (seen.status[key] - added) * 1000
        for key, added in seen.added.items()
        if key.startswith(plural) and f"/{prefix}-" in key
    ]


def burst_rate(seen: Seen) -> float:
    """Objects of the burst a second, from the first ADDED to the last status."""
    added = [time_ for key, time_ in seen.added.items() if "/burst-" in key]
    status = [time_ for key, time_ in seen.status.items() if "/burst-" in key]
    return len(status) / (max(status) - min(added))


def main() -> int:
    """Run it."""
    with using("bench") as cluster:
        support.apply_crds(cluster)
        with (
            support.namespace(cluster, "bench-reconcile") as namespace,
            support.operator(cluster, namespace) as operator,
            watching(str(cluster.kubeconfig), namespace, (*KINDS, LEASE)) as watch,
        ):
            result = asyncio.run(measure(cluster, namespace, watch, operator))
    steady = delays(result.seen, "steady")
    by_kind = {kind.kind: delays(result.seen, "steady", kind.plural) for kind in KINDS}
    figures = {
        "p50_ms": support.percentile(steady, 0.5),
        "p99_ms": support.percentile(steady, 0.99),
        "writes_per_object": result.writes / OBJECTS,
        "operator_cpu_ms_per_object": result.cpu_seconds * 1000 / OBJECTS,
        "burst_per_second": burst_rate(result.seen),
        **{f"p50_ms_{kind}": support.percentile(values, 0.5) for kind, values in by_kind.items()},
        "burst_created_per_second": OBJECTS / result.burst_created_seconds,
    }
    runs = {"steady_ms": by_kind, "burst_ms": delays(result.seen, "burst")}
    support.write("reconcile", figures, runs, HOW)
    return 0


if __name__ == "__main__":
    sys.exit(main())
