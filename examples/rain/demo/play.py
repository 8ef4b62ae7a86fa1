"""The plot of the demo: every phase of the loop, what must hold in each, and what is written down.

Acts only through what people and clients have: Git commits, kubectl, requests, uploads. Reads the cluster to tell what
happens. Must not decide anything that Perennial decides.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from examples.rain.demo import servers
from examples.rain.demo.stage import DemoError, Stage, repository_files
from examples.rain.demo.watch import Watcher
from perennial.api import kinds
from perennial.domain import conditions
from perennial.domain.times import parse_time

DEPLOYMENT = "rain"
POLICIES = ("rain-inputs", "rain-predictions")
FIRST, LAST, WINDOW = 10, 28, 8
RATE = 100
SHORT, FULL = 7, 40  # characters of a commit's name
GPUS = "jsonpath={.items[*].status.allocatable.nvidia\\.com/gpu}"


@dataclass
class Result:
    """What the phases found; the report is made of it."""

    seconds: dict[str, float] = field(default_factory=dict)
    first_version: str = ""
    second_version: str = ""
    broken_version: str = ""
    years: dict[int, dict[str, Any]] = field(default_factory=dict)
    never: dict[int, float] = field(default_factory=dict)
    windows: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    retrain_years: list[int] = field(default_factory=list)
    input_drift_first_year: int | None = None
    load: dict[str, Any] = field(default_factory=dict)
    replay_failures: dict[str, int] = field(default_factory=dict)
    replay_sent: int = 0
    abort_seconds: float | None = None
    revert_commit: str = ""
    bad_revision: str = ""
    commits: dict[str, str] = field(default_factory=dict)
    git_log: list[str] = field(default_factory=list)


class Play:
    """One performance on one stage."""

    def __init__(self, stage: Stage, watcher: Watcher) -> None:
        self.stage = stage
        self.watcher = watcher
        self.result = Result()

    @asynccontextmanager
    async def phase(self, name: str, title: str) -> AsyncIterator[None]:
        """Time a phase and name it in the timeline."""
        self.stage.timeline.tell(f"--- {title}")
        start = time.time()
        yield
        self.result.seconds[name] = round(time.time() - start, 1)

    async def perform(self) -> Result:
        """All phases in order; DemoError when one does not hold."""
        async with self.phase("prepare", "a Git server, an artifact store, ten years of labelled data"):
            await self.prepare()
        async with self.phase("first_version", "the first commit: train, pass the gate, commit the version, serve it"):
            await self.first_version()
        await self.start_load()
        async with self.phase("replay", f"years {FIRST} to {LAST} are replayed, one window of {WINDOW} s a year"):
            await self.replay()
        async with self.phase("broken_model", "a person commits a model that fails for a fifth of the inputs"):
            await self.broken_model()
        async with self.phase("reckoning", "what came of it"):
            await self.reckon()
        return self.result

    async def prepare(self) -> None:
        """Servers up, bucket filled, repository with a first commit."""
        stage = self.stage
        await stage.serve_git_and_store()
        await stage.job("prepare", stage.tags["rain"], ["python3", "prepare.py"], env=servers.store_env())
        await stage.wait("the data upload", lambda: stage.job_done("prepare"), 180)
        gpus = any(int(count) for count in stage.kubectl("get", "nodes", "-o", GPUS).split())
        files = repository_files(stage.tags, stage.namespace, WINDOW, gpus)
        await stage.person("first-commit", "Rain: train, serve, watch", files)
        where = "with a GPU" if gpus else "without GPUs, the cluster offers none"
        stage.timeline.tell(f"Ada pushed the manifests of rain to Git (training {where})")
        stage.apply(yaml.safe_load(files["gitsync.yaml"]))

    async def first_version(self) -> None:
        """Version 1 is trained, committed and served."""
        version = await self.stage.wait("version 1 to serve", self._serving, 420)
        self.result.first_version = version
        commit = await self.stage.wait("the record in Git that version 1 serves", self._written_back, 60)
        self.stage.timeline.tell(f"version 1, {version}, serves; Git says so in {commit[:12]}")

    async def start_load(self) -> None:
        """Steady load in a pod of its own, for the rest of the demo."""
        command = ["python3", "load.py", "--host", DEPLOYMENT, "--model", DEPLOYMENT, "--rate", str(RATE)]
        await self.stage.job("load", self.stage.tags["rain"], command, env=servers.store_env())
        await self.stage.wait("the steady load", lambda: self.stage.job_log("load"), 60)
        self.stage.timeline.tell(f"steady load of {RATE} requests/s, marked so that it is not binned for drift")

    async def replay(self) -> None:
        """The replay runs to its end while we read along."""
        stage = self.stage
        stage.apply(*replay_account())
        command = ["python3", "replay.py", "--url", DEPLOYMENT, "--model", DEPLOYMENT, "--namespace", stage.namespace]
        command += ["--first", str(FIRST), "--last", str(LAST), "--window", str(WINDOW)]
        await stage.job("replay", stage.tags["rain"], command, env=servers.store_env(), account="replay")
        read = 0
        while True:
            lines = (await stage.job_log("replay")).splitlines()
            for line in lines[read:]:
                self._replayed(line)
            read = max(read, len(lines))
            if await stage.job_done("replay"):
                break
            await asyncio.sleep(1.0)
        for line in (await stage.job_log("replay")).splitlines()[read:]:
            self._replayed(line)
        await self._judge_replay()

    def _replayed(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        if "year" in said:
            self.result.years[said["year"]] = said
            self.stage.timeline.tell(
                f"year {said['year']}: {said['sent']} rows, {said['failed']} failed, log loss {said['log_loss']:.3f}"
            )
        if said.get("done"):
            self.result.replay_sent = said["sent"]
        if "failures" in said:
            self.result.replay_failures = said["failures"]

    async def _judge_replay(self) -> None:
        result = self.result
        by_end = {int(y["window_end"]): year for year, y in result.years.items()}
        for policy in POLICIES:
            seen = self.watcher.windows.get(policy, {})
            result.windows[policy] = {by_end[end]: window for end, window in seen.items() if end in by_end}
        drifted = [year for year, w in sorted(result.windows["rain-inputs"].items()) if w["state"] == "Drifted"]
        result.input_drift_first_year = drifted[0] if drifted else None
        policy = await self.stage.store.get(kinds.DRIFT_POLICY, self.stage.namespace, "rain-predictions")
        triggers = (policy or {}).get("status", {}).get("history", ())
        result.retrain_years = sorted(by_end.get(int(parse_time(t["windowEnd"]).timestamp()), -1) for t in triggers)
        stable = await self._stable_version()
        if stable == result.first_version:
            raise DemoError(f"{stable} still serves after the replay; {await self.stage.trouble()}")
        result.second_version = stable or ""

    async def broken_model(self) -> None:
        """A person commits the broken version; the canary must be aborted and Git reverted."""
        stage = self.stage
        await stage.job("broken", stage.tags["rain"], ["python3", "broken.py"], env=servers.store_env())
        await stage.wait("the broken model's upload", lambda: stage.job_done("broken"), 120)
        facts = json.loads((await stage.job_log("broken")).strip().splitlines()[-1])
        name = self.result.broken_version = "rain-ada1"
        before = await self._stable()
        version = {
            "apiVersion": kinds.MODEL_VERSION.api_version,
            "kind": "ModelVersion",
            "metadata": {"name": name},
            "spec": {"model": "rain", "artifact": facts},
        }
        files = {f"versions/{name}.yaml": yaml.safe_dump(version, sort_keys=False)}
        edit = f"sed -i -E 's/^( +version:).*/\\1 {name}/' models/serving.yaml"
        await stage.person("broken-commit", f"Try {name}, made on my laptop", files, edit)
        stage.timeline.tell(f"Ada pushed {name}: its encoder never saw the warmest fifth of the days")
        self.watcher.watch_abort(name)
        aborted = await stage.wait("the canary to be aborted", lambda: self._rejected(name), 300, every=0.1)
        self.result.bad_revision = aborted["revision"]
        await stage.wait("the routers' confirmation of weight 0", self.watcher.abort_verified, 30, every=0.1)
        self.result.abort_seconds = self.watcher.abort_seconds()
        self.result.revert_commit = await stage.wait("the revert in Git", lambda: self._reverted(name), 90)
        after = await self._stable()
        if before != after:
            raise DemoError(f"stable moved from {before} to {after} while the broken model was tried")
        await stage.wait("the deployment to be ready again", self._ready, 90)

    async def reckon(self) -> None:
        """Stop the load, score the counterfactual, read the repository's history."""
        stage = self.stage
        pods = await stage.store.list(kinds.POD, stage.namespace, labels="job-name=load")
        log = await stage.job_log("load")
        self.result.load = json.loads(log.strip().splitlines()[-1])
        for pod in pods:
            await stage.store.delete(kinds.POD, stage.namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"])
        version = await stage.store.get(kinds.MODEL_VERSION, stage.namespace, self.result.first_version)
        uri = (version or {})["spec"]["artifact"]["uri"]
        command = ["python3", "score.py", "--uri", uri, "--first", str(FIRST), "--last", str(LAST)]
        await stage.job("score", stage.tags["rain"], command, env=servers.store_env())
        await stage.wait("the score of the first model on all years", lambda: stage.job_done("score"), 120)
        losses = json.loads((await stage.job_log("score")).strip().splitlines()[-1])["log_loss"]
        self.result.never = {int(year): loss for year, loss in losses.items()}
        log = await stage.git_log("%H %an: %s")
        self.result.git_log = [line[:SHORT] + line[FULL:] for line in log]
        history = (await self._deployment()).get("status", {}).get("history", ())
        self.result.commits = {entry["version"]: entry.get("commit", "") for entry in history}
        tried = next((line[:FULL] for line in log if self.result.broken_version in line), "")
        self.result.commits[self.result.broken_version] = tried

    async def _deployment(self) -> dict[str, Any]:
        return await self.stage.store.get(kinds.MODEL_DEPLOYMENT, self.stage.namespace, DEPLOYMENT) or {}

    async def _stable(self) -> str | None:
        return (await self._deployment()).get("status", {}).get("stable", {}).get("revision")

    async def _stable_version(self) -> str | None:
        return (await self._deployment()).get("status", {}).get("stable", {}).get("version")

    async def _ready(self) -> bool | None:
        found = (await self._deployment()).get("status", {}).get("conditions", ())
        return conditions.is_true(found, "Ready") or None

    async def _serving(self) -> str | None:
        status = (await self._deployment()).get("status", {})
        if not conditions.is_true(status.get("conditions", ()), "Available"):
            return None
        return status.get("stable", {}).get("version") if not status.get("rollout") else None

    async def _written_back(self) -> str | None:
        sync = await self.stage.store.get(kinds.GIT_SYNC, self.stage.namespace, "rain") or {}
        back = sync.get("status", {}).get("writeBack", {})
        version = await self.stage.store.get(kinds.MODEL_VERSION, self.stage.namespace, self.result.first_version) or {}
        served = version.get("spec", {}).get("served", ())
        return back.get("lastCommit") if served and not back.get("pending") else None

    async def _rejected(self, version: str) -> dict[str, Any] | None:
        rejected = (await self._deployment()).get("status", {}).get("rejected", ())
        return next((r for r in rejected if r.get("version") == version), None)

    async def _reverted(self, version: str) -> str | None:
        obj = await self.stage.store.get(kinds.MODEL_VERSION, self.stage.namespace, version) or {}
        named = (await self._deployment()).get("spec", {}).get("model", {}).get("version")
        if not obj.get("spec", {}).get("rejections") or named == version:
            return None
        sync = await self.stage.store.get(kinds.GIT_SYNC, self.stage.namespace, "rain") or {}
        return sync.get("status", {}).get("writeBack", {}).get("lastCommit")


def replay_account() -> list[dict[str, Any]]:
    """An account that may read drift policies: the replay waits for windows and triggers."""
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "replay"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "replay"},
            "rules": [{"apiGroups": ["perennial.dev"], "resources": ["driftpolicies"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "replay"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "replay"},
            "subjects": [{"kind": "ServiceAccount", "name": "replay"}],
        },
    ]


async def quiet(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
