"""What a thousand ModelDeployments at rest cost the operator.

Each serves an artifact from one pod on nodes played by KWOK, is promoted and Ready; the two routers are real pods. No
DriftPolicy looks at anything. Measured is a whole resync period (five minutes) after everything has come to rest.
"""

import argparse
import asyncio
import itertools
import sys
import time
from typing import Any

from benchmarks import support
from benchmarks.watcher import Watching, watching
from localcluster import project
from localcluster.using import Running, using
from perennial.adapters.kube import KubeStore, connect_store
from perennial.api.kinds import LEASE, MODEL_DEPLOYMENT

OBJECTS = 1000
WINDOWS = 5
WINDOW_SECONDS = 60
PARALLEL = 16
LEASE_PERIOD = 2.0
HOW = (
    "{objects} ModelDeployments with an artifact, promoted, one pod each on KWOK nodes, two real routers, operator "
    "installed as a pod, {windows} windows of 60 s (with one resync): CPU and memory from /proc of its process, writes "
    "and requests (for 60 s, the Lease's and the watches' taken off) from its own count."
)
Sample = dict[str, float]


def deployment(number: int, namespace: str) -> dict[str, Any]:
    """The ModelDeployment of that number; every one is another model."""
    place = {"nodeSelector": {"type": "fake"}, "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]}
    artifact = {"uri": f"s3://bench/models/m{number}/", "digest": f"sha256:{number:064x}", "format": "bench"}
    return {
        "apiVersion": MODEL_DEPLOYMENT.api_version,
        "kind": MODEL_DEPLOYMENT.kind,
        "metadata": {"name": f"idle-{number:04d}", "namespace": namespace},
        "spec": {
            "model": {"name": f"m{number}", "artifact": artifact},
            "runtime": "bench",
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "template": place,
        },
    }


async def create(store: KubeStore, namespace: str, objects: int) -> None:
    """All of them, some at a time."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(number: int) -> None:
        async with gate:
            await store.create(deployment(number, namespace), manager="bench")

    await asyncio.gather(*(one(number) for number in range(objects)))


async def until_served(store: KubeStore, namespace: str, objects: int, limit: float) -> None:
    """Wait until every one is Ready with a stable revision at 100 and no rollout; BenchmarkError after `limit` s."""
    end = time.monotonic() + limit
    while True:
        found = await store.list(MODEL_DEPLOYMENT, namespace)
        served = [obj for obj in found if _served(obj.get("status") or {})]
        support.say(f"{len(served)} of {objects} are served")
        if len(served) == objects:
            return
        if time.monotonic() > end:
            waiting = next(obj for obj in found if not _served(obj.get("status") or {}))
            raise support.BenchmarkError(f"not served after {limit:.0f} s: {waiting.get('status')}")
        await asyncio.sleep(5)


def _served(status: dict[str, Any]) -> bool:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    weights = [share["weight"] for share in status.get("traffic") or () if share["weight"]]
    return ready and weights == [100] and "rollout" not in status


def renewals(watch: Watching) -> int:
    """How often the Lease was written until now, as the watcher saw it."""
    return sum(count for key, count in watch.seen().events.items() if key.startswith(f"{LEASE.plural}/"))


def sample(operator: support.InstalledOperator, watch: Watching) -> Sample:
    """Counts and CPU time at a moment between two renewals of the Lease, so that no renewal is counted half."""
    before = renewals(watch)
    support.wait("the Lease's renewal", lambda: renewals(watch) > before, 30, every=0.02)
    time.sleep(LEASE_PERIOD / 8)
    metrics = operator.metrics()
    seen = renewals(watch)
    return {
        "time": time.monotonic(),
        "cpu": operator.cpu_seconds(),
        "rss_mib": operator.rss_mib(),
        "writes": metrics.writes - seen,
        "requests": metrics.requests - seen,
        "passes": metrics.total("perennial_reconcile_total"),
    }


def window(first: Sample, last: Sample) -> Sample:
    """What changed between two samples, for 60 seconds; writes as they were."""
    seconds = last["time"] - first["time"]
    each = 60 / seconds
    return {
        "cpu_percent": (last["cpu"] - first["cpu"]) / seconds * 100,
        "rss_mib": last["rss_mib"],
        "writes": last["writes"] - first["writes"],
        "requests": (last["requests"] - first["requests"]) * each,
        "passes": (last["passes"] - first["passes"]) * each,
    }


def at_rest(operator: support.InstalledOperator, limit: float = 300) -> None:
    """Wait until the operator has made next to no pass for ten seconds (its Lease is no pass)."""

    def quiet() -> bool:
        before = operator.metrics().total("perennial_reconcile_total")
        time.sleep(10)
        return operator.metrics().total("perennial_reconcile_total") - before <= OBJECTS / 20

    support.wait("the operator to come to rest", quiet, limit)


def measure(cluster: Running, namespace: str, operator: support.InstalledOperator, objects: int) -> list[Sample]:
    """Make the objects, wait for rest, and take the windows."""

    async def make() -> None:
        async with connect_store(str(cluster.kubeconfig)) as (store, _):
            await create(store, namespace, objects)
            await until_served(store, namespace, objects, 900)

    asyncio.run(make())
    at_rest(operator)
    with watching(str(cluster.kubeconfig), namespace, (LEASE,)) as watch:
        samples = [sample(operator, watch)]
        for number in range(WINDOWS):
            time.sleep(max(0.0, samples[0]["time"] + (number + 1) * WINDOW_SECONDS - time.monotonic() - LEASE_PERIOD))
            samples.append(sample(operator, watch))
            support.say(f"window {number + 1}: {window(samples[-2], samples[-1])}")
    return samples


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=OBJECTS)
    objects: int = parser.parse_args().objects
    with using("bench", fake_nodes=3) as cluster:
        if len(cluster.kubectl("get", "nodes", "-l", "type=fake", "-o", "name").split()) * 1000 < objects:
            raise support.BenchmarkError("this cluster has too few KWOK nodes; let the benchmark make its own")
        image = project.perennial()
        cluster.load(image)
        support.apply_crds(cluster)
        settings = {"runtimes": {"bench": {"formats": ["bench"], "image": "registry.local/none:1"}}}
        with (
            support.namespace(cluster, "bench-idle") as namespace,
            support.installed(cluster, namespace, image.tag, settings) as operator,
        ):
            samples = measure(cluster, namespace, operator, objects)
            if operator.restarts():
                raise support.BenchmarkError("the operator was restarted meanwhile; see build/bench/operator.log")
    windows = [window(first, last) for first, last in itertools.pairwise(samples)]
    whole = window(samples[0], samples[-1])
    figures = {
        "cpu_percent": whole["cpu_percent"],
        "cpu_percent_median_window": support.percentile([w["cpu_percent"] for w in windows], 0.5),
        "rss_mib": max(w["rss_mib"] for w in windows),
        "writes": whole["writes"],
        "requests": whole["requests"],
        "passes": whole["passes"],
    }
    support.write("idle", figures, {"windows": windows}, HOW.format(objects=objects, windows=WINDOWS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
