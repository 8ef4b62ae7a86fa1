"""ModelDeployments of the trivial server for cluster tests of rollouts: one model on a claim, revisions by colour."""

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from examples.rain.demo.stage import Stage, Timeline, job_manifests
from perennial.adapters.kube import connect_store
from perennial.api import kinds
from perennial.domain.conditions import is_true
from perennial.domain.decision import JsonObject
from tests.cluster.operator import LOOP, make_namespace

MODEL = json.dumps({"mean": 0, "failShare": 0})
RATE = 40


@dataclass(frozen=True)
class Team:
    """A namespace with a model, and what people do there."""

    stage: Stage

    async def deploy(self, name: str, colour: str, **spec: Any) -> None:
        """Apply a ModelDeployment of `spec`; another colour is another revision."""
        self.stage.apply(deployment(self.stage, name, colour, spec))

    async def get(self, name: str) -> JsonObject:
        """The ModelDeployment."""
        return await self.stage.store.get(kinds.MODEL_DEPLOYMENT, self.stage.namespace, name) or {}

    async def status(self, name: str) -> JsonObject:
        """Its status."""
        return dict((await self.get(name)).get("status") or {})

    def wait_ready(self, name: str, seconds: int) -> None:
        """`kubectl wait --for=condition=Ready`, at once; ClusterError when it times out."""
        what = ("--for=condition=Ready", f"mdep/{name}", f"--timeout={seconds}s")
        self.stage.cluster.kubectl("-n", self.stage.namespace, "wait", *what, timeout=seconds + 10)

    async def at_rest(self, name: str, seconds: float) -> JsonObject:
        """The status once no rollout is in progress and something serves."""

        async def look() -> JsonObject | None:
            status = await self.status(name)
            return status if "rollout" not in status and is_true(status.get("conditions", ()), "Available") else None

        return await self.stage.wait(f"{name} at rest", look, seconds)

    async def pods(self, revision: str) -> list[JsonObject]:
        """The pods of a revision."""
        return await self.stage.store.list(kinds.POD, self.stage.namespace, labels=f"perennial.dev/revision={revision}")

    async def events(self, name: str) -> dict[str, list[str]]:
        """What the events of a ModelDeployment say, by reason."""
        told: dict[str, list[str]] = {}
        for event in await self.stage.store.list(kinds.EVENT, self.stage.namespace):
            if (event.get("regarding") or {}).get("name") == name:
                told.setdefault(event.get("reason", ""), []).append(event.get("note", ""))
        return told

    async def send(self) -> None:
        """Steady requests to the deployment `loop` from now on."""
        env = [{"name": "RATE", "value": str(RATE)}, {"name": "WINDOW", "value": "100000000"}]  # its mean never shifts
        files = {"sender.py": (LOOP / "sender.py").read_text()}
        command = ["python3", "/files/sender.py", "send"]
        await self.stage.job("sender", self.stage.tags["perennial"], command, env=env, files=files)

        async def sends() -> bool | None:
            return (await self.sent()).get("sent", 0) > RATE or None

        await self.stage.wait("the sender", sends, 60)

    async def sent(self) -> dict[str, int]:
        """What was sent and what failed, with who answered what."""
        lines = (await self.stage.job_log("sender")).strip().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}


@asynccontextmanager
async def team(installed: Stage, model: str = MODEL) -> AsyncIterator[Team]:
    """A namespace under restricted Pod Security with the model, a file model.json, on a claim."""
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        name = f"rollout-{secrets.token_hex(3)}"
        stage = Stage(installed.cluster, store, Timeline(), name, installed.tags)
        make_namespace(stage)
        try:
            await _write_model(stage, model)
            yield Team(stage)
        finally:
            stage.kubectl("delete", "namespace", name, "--wait=false")


async def _write_model(stage: Stage, model: str) -> None:
    script = "mkdir -p /store/m && cp /files/model.json /store/m/"
    files = {"model.json": model}
    config, job = job_manifests("write", stage.tags["perennial"], ["sh", "-c", script], (), files, "default")
    pod = job["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "store", "persistentVolumeClaim": {"claimName": "models"}})
    pod["containers"][0]["volumeMounts"].append({"name": "store", "mountPath": "/store"})
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    stage.apply(claim, config, job)
    await stage.wait("the model", lambda: stage.job_done("write"), 60)


def artifact(model: str = MODEL) -> JsonObject:
    """What spec.model.artifact says of the model."""
    listing = f"{hashlib.sha256(model.encode()).hexdigest()}  model.json\n".encode()
    return {"uri": "pvc://models/m/", "digest": f"sha256:{hashlib.sha256(listing).hexdigest()}", "format": "trivial"}


def deployment(stage: Stage, name: str, colour: str, spec: Mapping[str, Any]) -> JsonObject:
    """The ModelDeployment. Its pods leave quickly: nothing here takes seconds to answer."""
    traffic = {"timeoutSeconds": 5, **spec.get("traffic", {})}
    return manifest(stage, name, artifact(), {"COLOUR": colour}, {**spec, "traffic": traffic})


def manifest(
    stage: Stage, name: str, model: JsonObject, env: Mapping[str, str], spec: Mapping[str, Any], server: str = ""
) -> JsonObject:
    """A ModelDeployment of the trivial server, or of another one (`server`, Python) in its image.

    model: an artifact's facts; env is part of the revision; parts of `spec` go into the parts that are here.
    """
    made: JsonObject = {
        "model": {"name": name, "artifact": {key: model[key] for key in ("uri", "digest", "format")}},
        "container": {
            "image": stage.tags["trivial"],
            "command": ["python3", "-c", server] if server else ["python3", "/opt/trivial.py", "serve"],
            "env": [{"name": key, "value": value} for key, value in env.items()],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 1},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }
    for key, value in spec.items():
        made[key] = {**made[key], **value} if isinstance(made.get(key), dict) else value
    return {
        "apiVersion": kinds.MODEL_DEPLOYMENT.api_version,
        "kind": kinds.MODEL_DEPLOYMENT.kind,
        "metadata": {"name": name},
        "spec": made,
    }
