"""The installed operator for cluster tests, and what is read to compare one run of the loop with another."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import yaml

from examples.rain.demo import servers
from examples.rain.demo.stage import OPERATOR_PODS, SYSTEM, Stage
from perennial.api import kinds, names
from perennial.domain import conditions
from perennial.domain.errors import PerennialError

LOOP = Path(__file__).resolve().parents[1] / "support" / "loop"
WINDOW = 6
BAD = "loop-by-hand"
IDS = re.compile(r"\br?[0-9a-f]{8,12}\b")
Snapshot = dict[str, list[dict[str, Any]]]


def make_namespace(stage: Stage) -> None:
    """A namespace that admits only restricted pods."""
    stage.kubectl("create", "namespace", stage.namespace)
    stage.kubectl("label", "namespace", stage.namespace, "pod-security.kubernetes.io/enforce=restricted")


async def scale_operator(stage: Stage, replicas: int) -> None:
    """Stop or start the operator as an administrator would."""
    stage.kubectl("-n", SYSTEM, "scale", "deployment", "perennial-operator", f"--replicas={replicas}")
    if replicas:
        await stage.wait("the operator", stage.operator_ready, 120)
        return

    async def gone() -> bool | None:
        return not await stage.store.list(kinds.POD, SYSTEM, labels=OPERATOR_PODS) or None

    await stage.wait("the operator to stop", gone, 60)


@dataclass
class Killer:
    """Kills the operator once at each of `points` (name -> whether the world is there yet), in order of occurrence."""

    stage: Stage
    points: dict[str, Callable[[Snapshot], bool]]
    killed: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until every point was reached, or cancelled."""
        while len(self.killed) < len(self.points):
            try:
                await self._look()
            except PerennialError:
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.1)

    async def _look(self) -> None:
        world = await snapshot(self.stage)
        for name, reached in self.points.items():
            if name not in self.killed and reached(world):
                self.killed.append(name)
                await self._kill()
                return

    async def _kill(self) -> None:
        pods = await self.stage.store.list(kinds.POD, SYSTEM, labels=OPERATOR_PODS)
        for pod in pods:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            await self.stage.store.delete(kinds.POD, SYSTEM, name, uid=uid, grace_seconds=0)
        await self.stage.wait("the operator after a kill", self.stage.operator_ready, 120)


@dataclass
class Recorder:
    """Remembers every object of the loop that ever was, by kind, name and uid."""

    stage: Stage
    seen: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(PerennialError):  # seen at the next look
                await self.look()
            await asyncio.sleep(0.5)

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Look on until the end of the block, and once more there."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            await awaited(task)
        await self.look()

    async def look(self) -> None:
        """Remember what there is now."""
        for kind, objects in (await snapshot(self.stage)).items():
            for obj in objects:
                self.seen.setdefault((kind, obj["metadata"]["name"]), set()).add(obj["metadata"]["uid"])

    def counts(self) -> Counter[str]:
        """How many objects of each kind and role ever were; ids masked."""
        return Counter(f"{kind} {IDS.sub('ID', name)}" for kind, name in self.seen)

    def made_twice(self) -> list[str]:
        """Names that belonged to more than one object."""
        return [f"{kind} {name}" for (kind, name), uids in self.seen.items() if len(uids) > 1]


async def snapshot(stage: Stage) -> Snapshot:
    """The loop's objects and the operator's children, by kind."""
    result: Snapshot = {}
    for kind in (*kinds.OUR_KINDS, kinds.JOB, kinds.DEPLOYMENT):
        labels = "" if kind in kinds.OUR_KINDS else f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY_PERENNIAL}"
        result[kind.kind] = await stage.store.list(kind, stage.namespace, labels=labels)
    return result


@dataclass
class ShortLoop:
    """A small team's loop in one namespace: train, serve, drift, retrain, promote, a bad commit, its revert."""

    stage: Stage
    outside: Stage
    """Where the Git server and the artifact store run: a namespace that outlives the team's."""

    async def begin(self) -> None:
        """Servers, data, repository; the GitSync is applied."""
        stage = self.stage
        await self.serve()
        self.connect()
        await self.people("data-first", "data", "0", "first")
        text = (LOOP / "repository.yaml").read_text()
        manifests = Template(text).substitute(TRIVIAL=stage.tags["trivial"], WINDOW=WINDOW)
        sync = self.sync()
        await stage.person("first-commit", "Train, serve, watch", {"loop.yaml": manifests, "gitsync.yaml": sync})
        stage.apply(yaml.safe_load(sync))

    async def serve(self) -> None:
        """Start the Git server and the artifact store."""
        await self.outside.serve_git_and_store(durable=True)

    def connect(self) -> None:
        """The servers' names and the credentials, in the team's namespace."""
        self.stage.apply(*servers.secrets(), *servers.elsewhere(self.outside.namespace))

    def sync(self) -> str:
        """The GitSync's manifest."""
        return Template((LOOP / "gitsync.yaml").read_text()).substitute(NAMESPACE=self.stage.namespace)

    async def first_version(self) -> str:
        """Version 1 serves."""
        return await self.stage.wait("version 1 to serve", lambda: self.serving(None), 240)

    async def drift_and_retrain(self, first: str) -> str:
        """Traffic whose mean shifts after two windows; version 2 serves and Git says so."""
        env = [*servers.store_env(), {"name": "WINDOW", "value": str(WINDOW)}]
        await self.stage.job("sender", self.stage.tags["perennial"], self.script("send"), env=env, files=self.files())
        second = await self.stage.wait("version 2 to serve", lambda: self.serving(first), 300)
        await self.stage.wait("Git to say that version 2 serves", lambda: self.served(second), 120)
        return second

    async def bad_commit(self) -> str:
        """A person names a failing model; it is rejected and reverted. The version's name."""
        stage = self.stage
        await self.people("artifact", "artifact", "0.3")
        facts = yaml.safe_load((await stage.job_log("artifact")).strip().splitlines()[-1])
        name = BAD
        version = {
            "apiVersion": kinds.MODEL_VERSION.api_version,
            "kind": "ModelVersion",
            "metadata": {"name": name},
            "spec": {"model": "loop", "artifact": facts},
        }
        edit = f"sed -i -E 's/^( +version:).*/\\1 {name}/' models/loop.yaml"
        files = {f"versions/{name}.yaml": yaml.safe_dump(version, sort_keys=False)}
        await stage.person("bad-commit", "A model made by hand", files, edit)
        await stage.wait("the bad version's rejection in Git", lambda: self.rejected(name), 240)
        return name

    async def settled(self) -> bool | None:
        """Whether the deployment is ready and nothing waits to be written to Git."""
        mdep = await self.deployment()
        sync = await self.stage.store.get(kinds.GIT_SYNC, self.stage.namespace, "loop") or {}
        pending = sync.get("status", {}).get("writeBack", {}).get("pending")
        ready = conditions.is_true(mdep.get("status", {}).get("conditions", ()), "Ready")
        synced = conditions.is_true(sync.get("status", {}).get("conditions", ()), "Ready")
        return (ready and synced and not pending and not mdep["status"].get("rollout")) or None

    async def people(self, job: str, *arguments: str) -> None:
        """Something a person does with the artifact store."""
        image = self.stage.tags["perennial"]
        await self.stage.job(job, image, self.script(*arguments), env=servers.store_env(), files=self.files())
        await self.stage.wait(f"job {job}", lambda: self.stage.job_done(job), 120)

    def script(self, *arguments: str) -> list[str]:
        """The sender's command line."""
        return ["python3", "/files/sender.py", *arguments]

    def files(self) -> Mapping[str, str]:
        """The sender's file."""
        return {"sender.py": (LOOP / "sender.py").read_text()}

    async def deployment(self) -> dict[str, Any]:
        """The ModelDeployment; empty when there is none."""
        return await self.stage.store.get(kinds.MODEL_DEPLOYMENT, self.stage.namespace, "loop") or {}

    async def serving(self, other_than: str | None) -> str | None:
        """The stable version when it serves alone and is not `other_than`."""
        status = (await self.deployment()).get("status", {})
        if not conditions.is_true(status.get("conditions", ()), "Available") or status.get("rollout"):
            return None
        version = status.get("stable", {}).get("version")
        return version if version and version != other_than else None

    async def served(self, version: str) -> bool | None:
        """Whether the version's record carries an open `served` entry, synced back from Git."""
        obj = await self.stage.store.get(kinds.MODEL_VERSION, self.stage.namespace, version) or {}
        return any(not entry.get("toTime") for entry in obj.get("spec", {}).get("served", ())) or None

    async def rejected(self, version: str) -> bool | None:
        """Whether Git holds the rejection and no longer names the version."""
        obj = await self.stage.store.get(kinds.MODEL_VERSION, self.stage.namespace, version) or {}
        named = (await self.deployment()).get("spec", {}).get("model", {}).get("version")
        return (bool(obj.get("spec", {}).get("rejections")) and named != version) or None


async def outcome(loop: ShortLoop, recorder: Recorder) -> dict[str, Any]:
    """What a run of the loop left, with ids, hashes and times masked."""
    world = await snapshot(loop.stage)
    mdep = world["ModelDeployment"][0]["status"]
    policy = world["DriftPolicy"][0]["status"]
    return {
        "objects": dict(sorted(recorder.counts().items())),
        "made twice": recorder.made_twice(),
        "commits": [IDS.sub("ID", subject) for subject in await loop.stage.git_log("%an: %s")],
        "promoted": len(mdep["history"]),
        "rejected": [entry["version"] for entry in mdep["rejected"]],
        "triggers": [entry["outcome"] for entry in policy["history"]],
    }


async def play(loop: ShortLoop, killer: Killer | None) -> dict[str, Any]:
    """The short loop from the first commit to the revert."""
    recorder = Recorder(loop.stage)
    tasks = [asyncio.create_task(recorder.run())]
    if killer is not None:
        tasks.append(asyncio.create_task(killer.run()))
    await loop.begin()
    first = await loop.first_version()
    await loop.drift_and_retrain(first)
    assert await loop.bad_commit() == BAD
    await loop.stage.wait("the loop to come to rest", loop.settled, 120)
    await recorder.look()
    for task in tasks:
        await awaited(task)
    return await outcome(loop, recorder)


def awaited(task: "asyncio.Task[None]") -> Awaitable[Any]:
    """Cancel a background task and wait for its end."""
    task.cancel()
    return asyncio.gather(task, return_exceptions=True)
