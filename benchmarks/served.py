"""What benchmarks of rollouts share: a ModelDeployment of trivial models, its operator, and pods that send requests.

Models lie on a volume of the namespace, and their server names the model in every answer. Must not measure anything.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
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

NAME = "bench"
FAIL_SHARE = 0.2
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
class Model:
    """A model of a run; a bad one fails for FAIL_SHARE of its requests."""

    run: int
    bad: bool = False

    @property
    def content(self) -> str:
        """Its only file."""
        return json.dumps({"mean": 0, "failShare": FAIL_SHARE if self.bad else 0, "run": self.run})

    @property
    def artifact(self) -> Json:
        """What spec.model.artifact says of it."""
        listing = f"{hashlib.sha256(self.content.encode()).hexdigest()}  model.json\n".encode()
        digest = f"sha256:{hashlib.sha256(listing).hexdigest()}"
        return {"uri": f"pvc://models/m{self.run}/", "digest": digest, "format": "trivial"}


def deployment(namespace: str, image: str, model: Model, rollout: Mapping[str, Any]) -> Json:
    """The ModelDeployment, serving that model."""
    probe = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1}
    spec = {
        "model": {"name": NAME, "artifact": model.artifact},
        "container": {
            "image": image,
            "command": ["python3", "-c", SERVER],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": probe,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "rollout": {"scaleDownDelaySeconds": 30, "revisionHistoryLimit": 1, **rollout},
    }
    return _object(kinds.MODEL_DEPLOYMENT, namespace, NAME, {"spec": spec})


def _objects(namespace: str, models: Sequence[Model]) -> list[Json]:
    """The volume, the client's files, and a name for the routers' own pages."""
    script = (Path(__file__).parent / "client.py").read_text()
    files = json.dumps({f"m{model.run}": model.content for model in models})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    routers = {"clusterIP": "None", "selector": {"perennial.dev/component": "router"}, "ports": [{"port": 9910}]}
    return [
        _object(kinds.PERSISTENT_VOLUME_CLAIM, namespace, "models", {"spec": claim}),
        _object(kinds.CONFIG_MAP, namespace, "client", {"data": {"client.py": script, "models.json": files}}),
        _object(kinds.SERVICE, namespace, "bench-routers", {"spec": routers}),
    ]


def _client(namespace: str, image: str, verb: str, env: Mapping[str, str], name: str) -> Json:
    """A pod that runs the client; labelled like the operator, because the routers' pages answer nobody else."""
    volumes: list[Json] = [
        {"name": "files", "configMap": {"name": "client"}},
        {"name": "store", "persistentVolumeClaim": {"claimName": "models"}},
    ]
    mounts = [{"name": "files", "mountPath": "/files"}, {"name": "store", "mountPath": "/store"}]
    if verb != "write":
        volumes.append({"name": "token", "secret": {"secretName": "perennial-router"}})
        mounts.append({"name": "token", "mountPath": "/token"})
    container = {
        "name": "client",
        "image": image,
        "command": ["python3", "/files/client.py", verb],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "volumeMounts": mounts,
    }
    user = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "runAsNonRoot": True}
    spec = {"restartPolicy": "Never", "securityContext": user, "containers": [container], "volumes": volumes}
    pod = _object(kinds.POD, namespace, name, {"spec": spec})
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "perennial", "app.kubernetes.io/component": "client"}
    return pod


def _object(kind: kinds.Kind, namespace: str, name: str, body: Json) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}


@dataclass(frozen=True)
class Place:
    """A namespace with models, for which an operator is installed."""

    cluster: Running
    namespace: str
    images: tuple[str, str]
    """perennial and trivial."""

    def client(self, verb: str, *, name: str = "", **env: str) -> str:
        """Start a pod that runs a verb of client.py; the pod's name."""
        name = name or f"client-{verb}"
        pod = _client(self.namespace, self.images[0], verb, env, name)
        self.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(pod))
        return name

    def wait(self, pod: str, condition: str, seconds: int = 120) -> None:
        """Wait for a condition of a pod, as kubectl's --for names it."""
        words = ("wait", f"--for={condition}", f"pod/{pod}", f"--timeout={seconds}s")
        self.cluster.kubectl("-n", self.namespace, *words, timeout=seconds + 10)

    def lines(self, pod: str) -> list[Json]:
        """What a client has told so far."""
        text = self.cluster.kubectl("-n", self.namespace, "logs", pod)
        return [json.loads(line) for line in text.splitlines()]


SUCCEEDED = "jsonpath={.status.phase}=Succeeded"
READY = "condition=Ready"


def prepared(cluster: Running, namespace: str, images: tuple[str, str], models: Sequence[Model]) -> Place:
    """A namespace with these models on its volume."""
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_objects(namespace, models)))
    made = Place(cluster, namespace, images)
    made.wait(made.client("write"), SUCCEEDED)
    return made


@contextmanager
def place(prefix: str, models: Sequence[Model]) -> Iterator[Place]:
    """A cluster, a namespace with these models, and the operator; all that was made is removed."""
    with using("bench") as cluster:
        perennial, trivial = project.perennial(), project.trivial()
        cluster.load(perennial, trivial)
        support.apply_crds(cluster)
        with support.namespace(cluster, prefix) as namespace:
            made = prepared(cluster, namespace, (perennial.tag, trivial.tag), models)
            with support.installed(cluster, namespace, perennial.tag):
                yield made


class Serving:
    """The ModelDeployment while it serves one model after the other; follows it by a watch."""

    def __init__(self, store: KubeStore, namespace: str, latest: "asyncio.Queue[Json]") -> None:
        self.store = store
        self.namespace = namespace
        self._latest = latest

    async def patch(self, spec: Mapping[str, Any]) -> None:
        """Change the spec."""
        target = PatchTarget(kinds.MODEL_DEPLOYMENT, self.namespace, NAME)
        await self.store.patch(target, {"spec": dict(spec)}, manager="bench")

    async def name(self, model: Model) -> None:
        """Name another model; what was seen before is forgotten."""
        while not self._latest.empty():
            self._latest.get_nowait()
        await self.patch({"model": {"artifact": model.artifact}})

    async def until(self, what: str, reached: Callable[[Json], bool], seconds: float) -> Json:
        """The first status since then of which this is true."""
        status: Json = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                obj = await asyncio.wait_for(self._latest.get(), end - time.monotonic())
            except TimeoutError:
                break
            status = obj.get("status") or {}
            if reached(status):
                return status
        raise support.BenchmarkError(f"waited {seconds:.0f} s for {what} in vain: {status}")

    async def settled(self, seconds: float) -> None:
        """Wait until no rollout is in progress and something serves."""
        end = time.monotonic() + seconds
        while True:
            obj = await self.store.get(kinds.MODEL_DEPLOYMENT, self.namespace, NAME)
            status = (obj or {}).get("status") or {}
            if "rollout" not in status and status.get("traffic"):
                return
            if time.monotonic() > end:
                raise support.BenchmarkError(f"no rest within {seconds:.0f} s: {status}")
            await asyncio.sleep(0.5)


@asynccontextmanager
async def serving(where: Place, model: Model, rollout: Mapping[str, Any]) -> AsyncIterator[Serving]:
    """The ModelDeployment, once it serves that model."""
    latest: asyncio.Queue[Json] = asyncio.Queue()
    opened = asyncio.Event()
    async with open_access(str(where.cluster.kubeconfig)) as access:
        store = KubeStore(access)

        async def watch() -> None:
            async for event in follow(access, where.namespace, kinds.MODEL_DEPLOYMENT, opened):
                latest.put_nowait(event["object"])

        watching = asyncio.create_task(watch())
        await opened.wait()
        await store.create(deployment(where.namespace, where.images[1], model, rollout), manager="bench")
        found = Serving(store, where.namespace, latest)
        await found.settled(300)
        try:
            yield found
        finally:
            watching.cancel()


def epoch(text: str) -> float:
    """A time of status, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def zero_at(revision: str, verdict: float, lines: Sequence[Json]) -> float:
    """When the last router that had carried a withdrawn revision reported no weight for it, confirmed by Envoy."""
    zero = []
    for router in {line["router"] for line in lines if "router" in line}:
        said = [line for line in lines if line.get("router") == router]
        carried = [line["t"] for line in said if (line["weights"] or {}).get(revision)]
        if not carried:
            continue  # it came later
        free = [line["t"] for line in said if line["confirmed"] and line["t"] > max(carried[-1], verdict)]
        if not free:
            raise support.BenchmarkError(f"router {router} never reported weight 0 for {revision}")
        zero.append(free[0])
    if not zero:
        raise support.BenchmarkError(f"no router ever reported weight for {revision}")
    return max(zero)
