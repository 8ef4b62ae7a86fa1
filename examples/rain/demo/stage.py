"""The demo's hands: a cluster with the operator installed, and waiting with progress.

Knows kubectl and the cluster driver; must not know the plot (`play.py`).
"""

import asyncio
import functools
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import yaml

from examples.rain.demo import servers
from localcluster import project
from localcluster.using import Running
from perennial.api import kinds
from perennial.domain import conditions
from perennial.ports import ObjectStore

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "demo"
SYSTEM = "perennial-system"
OPERATOR_PODS = "app.kubernetes.io/name=perennial,app.kubernetes.io/component=operator"
PROGRESS_SECONDS = 10.0
CLONE = "git clone -q http://$GIT_USER:$GIT_PASSWORD@git/rain.git /tmp/clone && cd /tmp/clone"
PERSON = 'git -c user.name="Ada Person" -c user.email=ada@example.com'
DEMO_IMAGES = ("perennial", "runtime", "rain", "git", "s3")
FoundT = TypeVar("FoundT")


class DemoError(Exception):
    """A step did not hold; the message says which and what was seen instead."""


@dataclass
class Timeline:
    """What happened, in order, printed as it goes."""

    started: float = field(default_factory=time.time)
    entries: list[tuple[float, str]] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """One thing that happened."""
        now = time.time()
        self.entries.append((now, text))
        print(f"[{now - self.started:6.1f} s] {text}", flush=True)

    def wait(self, text: str) -> None:
        """A progress line; not part of the story."""
        print(f"[{time.time() - self.started:6.1f} s]   ... {text}", flush=True)


@dataclass
class Stage:
    """A cluster to play on."""

    cluster: Running
    store: ObjectStore
    timeline: Timeline
    namespace: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """kubectl against this cluster; ClusterError with its words when it fails."""
        return self.cluster.kubectl(*arguments, stdin=text)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply manifests into the demo's namespace."""
        text = yaml.safe_dump_all([dict(o) for o in objects])
        self.kubectl("-n", self.namespace, "apply", "--server-side", "-f", "-", text=text)

    async def wait(
        self, what: str, look: Callable[[], Awaitable[FoundT | None]], limit: float, every: float = 0.5
    ) -> FoundT:
        """Look until something is found; progress lines while waiting; DemoError after `limit` seconds."""
        end = time.time() + limit
        told = time.time()
        while True:
            found = await look()
            if found is not None and found is not False:
                return found
            if time.time() > end:
                raise DemoError(f"waited {limit:.0f} s for {what} in vain; {await self.trouble()}")
            if time.time() - told > PROGRESS_SECONDS:
                told = time.time()
                self.timeline.wait(f"waiting for {what}")
            await asyncio.sleep(every)

    async def trouble(self) -> str:
        """What the objects of the namespace say is wrong, in their own words."""
        said = []
        for kind in kinds.OUR_KINDS:
            for obj in await self.store.list(kind, self.namespace):
                said += [
                    f"{kind.kind} {obj['metadata']['name']}: {condition.get('message', '')}"
                    for condition in obj.get("status", {}).get("conditions", ())
                    if (condition["type"], condition["status"]) in (("Stalled", "True"), ("Ready", "False"))
                ]
        return "; ".join(said) or "no object says that anything is wrong"

    async def job(
        self,
        name: str,
        image: str,
        command: Sequence[str],
        *,
        env: Sequence[Mapping[str, Any]] = (),
        files: Mapping[str, str] | None = None,
        account: str = "default",
    ) -> None:
        """Start a Job of one pod, with small files mounted at /files."""  # fmt: skip
        self.apply(*job_manifests(name, image, command, env, files or {}, account))

    async def job_log(self, name: str) -> str:
        """The log of a Job's pod so far; empty while there is none."""
        pods = await self.store.list(kinds.POD, self.namespace, labels=f"job-name={name}")
        if not pods:
            return ""
        return await self.store.log(self.namespace, pods[0]["metadata"]["name"], "main", limit_bytes=8 << 20) or ""

    async def person(self, job: str, message: str, files: Mapping[str, str], edit: str = "true") -> None:
        """A person clones, adds files below models/, edits, commits and pushes; again when the branch moved."""
        copies = [f"mkdir -p $(dirname models/{name}) && cp /files/f{i} models/{name}" for i, name in enumerate(files)]
        commit = f'{PERSON} commit -q -m "{message}"'
        push = f"until git push -q origin HEAD:main; do {PERSON} pull -q --rebase origin main; done"
        script = " && ".join(["set -e", CLONE, "git checkout -q -B main", *copies, edit, "git add -A", commit, push])
        numbered = {f"f{i}": text for i, text in enumerate(files.values())}
        await self.job(job, self.tags["perennial"], ["sh", "-c", script], env=servers.git_env(), files=numbered)
        await self.wait("a person's push", lambda: self.job_done(job), 90)

    async def git_log(self, form: str) -> list[str]:
        """The repository's history, newest first."""
        script = f"{CLONE} && git log --format='{form}'"
        name = f"git-log-{int(time.time() * 10) % 100000}"
        await self.job(name, self.tags["perennial"], ["sh", "-c", script], env=servers.git_env())
        await self.wait("the Git log", lambda: self.job_done(name), 60)
        return (await self.job_log(name)).strip().splitlines()

    async def available(self, name: str) -> bool | None:
        """Whether a Deployment of the namespace has a pod that is available."""
        found = await self.store.get(kinds.DEPLOYMENT, self.namespace, name)
        return bool((found or {}).get("status", {}).get("availableReplicas")) or None

    async def operator_ready(self) -> bool | None:
        """Whether an operator pod is Ready and not on its way out."""
        pods = await self.store.list(kinds.POD, SYSTEM, labels=OPERATOR_PODS)
        alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        return any(conditions.is_true(pod.get("status", {}).get("conditions", ()), "Ready") for pod in alive) or None

    async def serve_git_and_store(self, durable: bool = False) -> None:
        """The Git server and the S3 server, up, and the credentials for both."""
        self.apply(*servers.secrets(), *servers.servers(self.tags, durable))
        for name in ("git", "s3"):
            await self.wait(f"the {name} server", functools.partial(self.available, name), 180)

    async def job_done(self, name: str) -> bool | None:
        """True when the Job succeeded, None while it runs; DemoError with its log when it failed."""
        job = await self.store.get(kinds.JOB, self.namespace, name)
        for condition in (job or {}).get("status", {}).get("conditions", ()):
            if condition["status"] != "True":
                continue
            if condition["type"] == "Complete":
                return True
            if condition["type"] == "Failed":
                log = (await self.job_log(name)).strip().splitlines()[-5:]
                raise DemoError(f"Job {name} failed: {' | '.join(log)}")
        return None


def job_manifests(
    name: str,
    image: str,
    command: Sequence[str],
    env: Sequence[Mapping[str, Any]],
    files: Mapping[str, str],
    account: str,
) -> list[dict[str, Any]]:
    """A ConfigMap with the files and a Job that meets the restricted Pod Security level."""
    pod = {
        "serviceAccountName": account,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": list(command),
                "env": [{"name": "HOME", "value": "/tmp"}, *env],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "files", "mountPath": "/files"}],
            }
        ],
        "volumes": [{"name": "files", "configMap": {"name": name}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(files)},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    ]


def build_images(cluster: Running, timeline: Timeline, wanted: Sequence[str] = DEMO_IMAGES) -> dict[str, str]:
    """Build and load images; tags by short name. A cluster that the driver did not make pulls them itself."""
    named = os.environ.get("PERENNIAL_IMAGES")
    if named:  # name=tag,... for clusters whose registry was filled by hand
        return dict(pair.split("=", 1) for pair in named.split(","))
    tags = {}
    for name in wanted:
        timeline.wait(f"image {name}: building when it is new, loading when the cluster lacks it")
        image = project.IMAGES[name]()
        cluster.load(image)
        tags[name] = image.tag
    return tags


def install_folder(cluster: Running) -> Path:
    """Where what is installed is put together; one for each cluster, since tests install into several at once."""
    return BUILD / f"install-{cluster.name or 'given'}"


def install(stage: Stage, prometheus: Mapping[str, Any] | None = None) -> None:
    """One `kubectl apply -k` of manifests/, with this build's image and plain http allowed for a Git server inside.

    prometheus: the sources of metrics, as in the operator's settings.
    """
    folder = install_folder(stage.cluster)
    folder.mkdir(parents=True, exist_ok=True)
    sources = {"prometheus": dict(prometheus)} if prometheus else {}
    config = {"git": {"allowInsecure": True}, "runtimes": runtimes(stage.tags), **sources}
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../../manifests"],
        "images": [_image("perennial", stage.tags["perennial"])],
        "patches": [
            {
                "target": {"kind": "ConfigMap", "name": "perennial-config"},
                "patch": json.dumps([{"op": "replace", "path": "/data/config.yaml", "value": yaml.safe_dump(config)}]),
            },
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    stage.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(folder))


def runtimes(tags: Mapping[str, str]) -> dict[str, Any]:
    """The operator's runtime table with this build's model server."""
    if "runtime" not in tags:
        return {}
    row = {"image": tags["runtime"], "port": 8080, "grpcPort": 8081}
    return {
        format_: {"formats": [format_], "args": [f"--format={format_}"], **row}
        for format_ in ("sklearn", "xgboost", "lightgbm", "onnx")
    }


def _image(name: str, tag: str) -> dict[str, str]:
    repository, _, version = tag.rpartition(":")
    return {"name": name, "newName": repository, "newTag": version}


def repository_files(tags: Mapping[str, str], namespace: str, window: int, gpus: bool) -> dict[str, str]:
    """The example's manifests with this cluster's images, window and GPUs filled in."""
    limits = '{memory: 1Gi, nvidia.com/gpu: "1"}' if gpus else "{memory: 1Gi}"
    values = {"NAMESPACE": namespace, "RAIN_IMAGE": tags["rain"], "WINDOW": str(window), "TRAIN_LIMITS": limits}
    folder = ROOT / "examples" / "rain" / "repository"
    return {p.name: Template(p.read_text()).substitute(values) for p in sorted(folder.glob("*.yaml"))}
