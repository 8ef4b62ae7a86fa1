"""How long a bad canary is seen and how quickly it is gone: 20 % errors at 5 % weight under 100 requests a second.

Thirty times a ModelDeployment gets a model whose server fails for a fifth of its requests, at random. Steps [5],
maxErrorRate 0.01, everything else by default. A pod in the cluster sends the requests and asks the routers for their
weights.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks import support
from benchmarks.watcher import follow
from localcluster import project
from localcluster.using import Running, using
from perennial.adapters.kube import KubeStore, open_access
from perennial.api import kinds
from perennial.ports import PatchTarget

RUNS = 30
RUN_SECONDS = 180
WARMUP_SECONDS = 5
FAIL_SHARE = 0.2
NAME = "bench"
HOW = (
    "{runs} canaries with {share:.0%} errors at 5 % weight under 100 requests/s; start is the canary's first answer "
    "after the {warmup} s of warm-up, verdict the stateTime of the withdrawal in status, zero the moment when "
    "/v1/status of the last router reports weight 0, confirmed by Envoy (asked every 30 ms)."
)
SERVER = """
import random, sys
sys.path.insert(0, "/opt")
import trivial

class Server(trivial.Model):
    # Errors at random, as real ones are: trivial fails at request 4 of every five, and this draws which one it is.
    numbers = iter(lambda: random.randrange(5), None)

    def end_headers(self):
        self.send_header("x-bench-run", str(self.model["run"]))
        super().end_headers()

trivial.Model = Server
sys.exit(trivial.serve())
"""
Json = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What status said of one canary; times in seconds since the epoch."""

    revision: str
    verified: float
    verdict: float
    requests: int
    failures: int


def model(run: int) -> str:
    """The content of a model; run 0 is the good one."""
    return json.dumps({"mean": 0, "failShare": FAIL_SHARE if run else 0, "run": run})


def artifact(run: int) -> Json:
    """What spec.model.artifact says of a model on the volume."""
    listing = f"{hashlib.sha256(model(run).encode()).hexdigest()}  model.json\n".encode()
    digest = f"sha256:{hashlib.sha256(listing).hexdigest()}"
    return {"uri": f"pvc://models/m{run}/", "digest": digest, "format": "trivial"}


def deployment(namespace: str, image: str) -> Json:
    """The ModelDeployment, serving the good model."""
    probe = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1}
    return {
        "apiVersion": kinds.MODEL_DEPLOYMENT.api_version,
        "kind": kinds.MODEL_DEPLOYMENT.kind,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"name": NAME, "artifact": artifact(0)},
            "container": {
                "image": image,
                "command": ["python3", "-c", SERVER],
                "ports": [{"containerPort": 8080}],
                "readinessProbe": probe,
            },
            "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "rollout": {
                "steps": [{"weight": 5}],
                "analysis": {"maxErrorRate": "0.01"},
                "scaleDownDelaySeconds": 30,
                "revisionHistoryLimit": 1,
            },
        },
    }


def place(namespace: str, runs: int) -> list[Json]:
    """The volume, the client's files, and a name for the routers' own pages."""
    script = (Path(__file__).parent / "abort_client.py").read_text()
    models = json.dumps({f"m{run}": model(run) for run in range(runs + 1)})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    routers = {"clusterIP": "None", "selector": {"perennial.dev/component": "router"}, "ports": [{"port": 9910}]}
    return [
        _object(kinds.PERSISTENT_VOLUME_CLAIM, namespace, "models", {"spec": claim}),
        _object(kinds.CONFIG_MAP, namespace, "client", {"data": {"client.py": script, "models.json": models}}),
        _object(kinds.SERVICE, namespace, "bench-routers", {"spec": routers}),
    ]


def client(namespace: str, image: str, verb: str) -> Json:
    """A pod that runs the client; labelled like the operator, because the routers' pages answer nobody else."""
    volumes: list[Json] = [
        {"name": "files", "configMap": {"name": "client"}},
        {"name": "store", "persistentVolumeClaim": {"claimName": "models"}},
    ]
    mounts = [{"name": "files", "mountPath": "/files"}, {"name": "store", "mountPath": "/store"}]
    if verb == "send":
        volumes.append({"name": "token", "secret": {"secretName": "perennial-router"}})
        mounts.append({"name": "token", "mountPath": "/token"})
    container = {
        "name": "client",
        "image": image,
        "command": ["python3", "/files/client.py", verb],
        "volumeMounts": mounts,
    }
    user = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "runAsNonRoot": True}
    spec = {"restartPolicy": "Never", "securityContext": user, "containers": [container], "volumes": volumes}
    pod = _object(kinds.POD, namespace, f"client-{verb}", {"spec": spec})
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "perennial", "app.kubernetes.io/component": "client"}
    return pod


def _object(kind: kinds.Kind, namespace: str, name: str, body: Json) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}


class Runs:
    """One canary after the other; follows the ModelDeployment by a watch."""

    def __init__(self, store: KubeStore, namespace: str, latest: "asyncio.Queue[Json]") -> None:
        self._store = store
        self._namespace = namespace
        self._latest = latest

    async def settled(self, seconds: float) -> None:
        """Wait until no rollout is in progress and something serves."""
        end = time.monotonic() + seconds
        while True:
            obj = await self._store.get(kinds.MODEL_DEPLOYMENT, self._namespace, NAME)
            status = (obj or {}).get("status") or {}
            if "rollout" not in status and status.get("traffic"):
                return
            if time.monotonic() > end:
                raise support.BenchmarkError(f"no rest within {seconds:.0f} s: {status}")
            await asyncio.sleep(0.5)

    async def run(self, number: int) -> Verdict:
        """Name the bad model of that number and wait for its verdict."""
        while not self._latest.empty():
            self._latest.get_nowait()
        target = PatchTarget(kinds.MODEL_DEPLOYMENT, self._namespace, NAME)
        await self._store.patch(target, {"spec": {"model": {"artifact": artifact(number)}}}, manager="bench")
        wanted = artifact(number)["digest"]
        last: Json = {}
        end = time.monotonic() + RUN_SECONDS
        while time.monotonic() < end:
            try:
                obj = await asyncio.wait_for(self._latest.get(), end - time.monotonic())
            except TimeoutError:
                break
            rollout = (obj.get("status") or {}).get("rollout") or {}
            if rollout.get("digest") != wanted:
                continue
            if rollout["state"] == "Withdrawing":
                return _verdict(last, rollout)
            last = rollout
        raise support.BenchmarkError(f"run {number} was not aborted within {RUN_SECONDS} s: {last}")


def _verdict(before: Json, rollout: Json) -> Verdict:
    analysis = rollout.get("analysis") or before.get("analysis") or {}
    verified = before.get("weightVerifiedTime") or rollout.get("weightVerifiedTime")
    if verified is None:
        raise support.BenchmarkError(f"withdrawn before its weight was verified: {rollout}")
    return Verdict(
        rollout["targetRevision"],
        _epoch(verified),
        _epoch(rollout["stateTime"]),
        int(analysis.get("requests", 0)),
        int(analysis.get("failures", 0)),
    )


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def evaluated(number: int, verdict: Verdict, lines: list[Json]) -> Json:
    """The times of one run from the client's lines."""
    answers = [line["t"] for line in lines if line.get("run") == number]
    counted = [t for t in answers if t >= verdict.verified + WARMUP_SECONDS]
    if not counted:
        raise support.BenchmarkError(f"run {number}: the canary gave no counted answer")
    zero = []
    for router in {line["router"] for line in lines if "router" in line}:
        said = [line for line in lines if line.get("router") == router]
        carried = [line["t"] for line in said if (line["weights"] or {}).get(verdict.revision)]
        free = [
            line["t"]
            for line in said
            if line["confirmed"] and carried and line["t"] > carried[-1] and line["t"] > verdict.verdict
        ]
        if not free:
            raise support.BenchmarkError(f"run {number}: router {router} never reported weight 0")
        zero.append(free[0])
    return {
        "run": number,
        "start_to_verdict_s": verdict.verdict - counted[0],
        "verdict_to_zero_s": max(zero) - verdict.verdict,
        "last_canary_answer_after_verdict_s": answers[-1] - verdict.verdict,
        "requests": verdict.requests,
        "failures": verdict.failures,
    }


async def measure(cluster: Running, namespace: str, images: tuple[str, str], runs: int) -> list[Verdict]:
    """Serve the good model, then the bad ones in turn."""
    perennial, trivial = images
    latest: asyncio.Queue[Json] = asyncio.Queue()
    opened = asyncio.Event()
    async with open_access(str(cluster.kubeconfig)) as access:
        store = KubeStore(access)

        async def watch() -> None:
            async for event in follow(access, namespace, kinds.MODEL_DEPLOYMENT, opened):
                latest.put_nowait(event["object"])

        watching = asyncio.create_task(watch())
        await opened.wait()
        await store.create(deployment(namespace, trivial), manager="bench")
        canaries = Runs(store, namespace, latest)
        await canaries.settled(300)
        await store.create(client(namespace, perennial, "send"), manager="bench")
        cluster.kubectl(
            "-n", namespace, "wait", "--for=condition=Ready", "pod/client-send", "--timeout=120s", timeout=130
        )
        await asyncio.sleep(3)
        found = []
        for number in range(1, runs + 1):
            verdict = await canaries.run(number)
            found.append(verdict)
            took = verdict.verdict - verdict.verified - WARMUP_SECONDS
            support.say(f"run {number}: aborted {took:.1f} s after warm-up, {verdict.failures} of {verdict.requests}")
            await canaries.settled(60)
        watching.cancel()
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs: int = parser.parse_args().runs
    with using("bench") as cluster:
        perennial, trivial = project.perennial(), project.trivial()
        cluster.load(perennial, trivial)
        support.apply_crds(cluster)
        with support.namespace(cluster, "bench-abort") as namespace:
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(place(namespace, runs)))
            cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(client(namespace, perennial.tag, "write")))
            written = "--for=jsonpath={.status.phase}=Succeeded"
            cluster.kubectl("-n", namespace, "wait", written, "pod/client-write", "--timeout=120s", timeout=130)
            with support.installed(cluster, namespace, perennial.tag):
                verdicts = asyncio.run(measure(cluster, namespace, (perennial.tag, trivial.tag), runs))
                lines = [
                    json.loads(line) for line in cluster.kubectl("-n", namespace, "logs", "client-send").splitlines()
                ]
    results = [evaluated(number, verdict, lines) for number, verdict in enumerate(verdicts, start=1)]
    seen = [result["start_to_verdict_s"] for result in results]
    gone = [result["verdict_to_zero_s"] for result in results]
    failed = [line for line in lines if "code" in line and "run" not in line]
    figures = {
        "start_to_verdict_p50_s": support.percentile(seen, 0.5),
        "start_to_verdict_p90_s": support.percentile(seen, 0.9),
        "verdict_to_zero_p50_s": support.percentile(gone, 0.5),
        "verdict_to_zero_p99_s": support.percentile(gone, 0.99),
        "verdict_to_last_canary_answer_p99_s": support.percentile(
            [result["last_canary_answer_after_verdict_s"] for result in results], 0.99
        ),
        "requests_failed_stable": len(failed),
    }
    support.write(
        "abort",
        figures,
        {"canaries": results, "failed": failed},
        HOW.format(runs=runs, share=FAIL_SHARE, warmup=WARMUP_SECONDS),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
