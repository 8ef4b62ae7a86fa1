"""Bad input on a real cluster: each ends in one sentence on its object and as an event, and nothing else suffers.

All of it lies in one namespace and one repository, side by side with good neighbours that serve and train. What only
training can get wrong (exit codes, memory, GPUs, quota, data, metrics, an empty model) is in test_training.py.
"""

import copy
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.rain.demo import servers
from examples.rain.demo.stage import ROOT, DemoError, Stage, Timeline
from perennial.adapters.kube import connect_store
from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain import conditions
from perennial.domain.decision import JsonObject
from tests.cluster.operator import LOOP

NEIGHBOUR = "loop"
RECONCILING = "Reconciling"
ZERO = "sha256:" + "0" * 64
PREPARE = """
import sys
sys.path.insert(0, "/files")
import sender
sender.data(0, "first")
sender.artifact(0)
sender.artifact(0.0001)
"""

SYNC = """
apiVersion: perennial.dev/v1alpha1
kind: GitSync
metadata: {name: main}
spec:
  url: http://git.NAMESPACE.svc/rain.git
  ref: {branch: main}
  path: models
  periodSeconds: 2
  prune: true
  secretRef: {name: rain-git}
"""

TRAINING = """
apiVersion: perennial.dev/v1alpha1
kind: TrainingJob
metadata: {name: good-train}
spec:
  model: loop
  image: IMAGE
  command: [python3, /opt/trivial.py, train]
  datasets: [{name: train, uri: s3://loop/train/}]
  resources: {requests: {cpu: 10m}, limits: {memory: 128Mi}}
  output: {uri: s3://loop/models/, format: trivial}
  storage: {secretRef: {name: rain-store}}
  gate: [{metric: rows, min: "100"}]
  retry: {maxAttempts: 1, backoffSeconds: 0}
  pendingSeconds: 15
"""

DEPLOYMENT = """
apiVersion: perennial.dev/v1alpha1
kind: ModelDeployment
metadata: {name: loop}
spec:
  model: {name: loop, artifact: {}}
  container:
    image: IMAGE
    command: [python3, /opt/trivial.py, serve]
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /v2/health/ready, port: 8080}, periodSeconds: 1}
  resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 128Mi}}
  storage: {secretRef: {name: rain-store}}
  rollout:
    steps: [{weight: 50}]
    analysis: {warmupSeconds: 0, maxSeconds: 3}
"""

POLICY = """
apiVersion: perennial.dev/v1alpha1
kind: DriftPolicy
metadata: {name: loop}
spec: {deploymentRef: {name: loop}, window: {seconds: 60}}
"""

BROKEN_FILES = {
    "broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken\ndata: {a: b}\n",
    "unknown-field.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: unknown-field}\ndtaa: {a: b}\n",
    "unknown-in-ours.yaml": POLICY.replace("name: loop}\n", "name: unknown-in-ours}\n", 1).replace(
        "spec: {", "spec: {widnow: 3, "
    ),
    "twice-1.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\n",
    "twice-2.yaml": "\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\n",
    "good.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata: {a: b}\n",
}
IN_REPOSITORY: dict[str, tuple[int, tuple[str, ...]]] = {
    "models/broken.yaml": (4, ("not valid YAML",)),
    "models/unknown-field.yaml": (1, ("dtaa",)),
    "models/unknown-in-ours.yaml": (2, ("widnow",)),
    "models/twice-1.yaml": (1, ("twice", "models/twice-2.yaml:2")),
    "models/twice-2.yaml": (2, ("twice", "models/twice-1.yaml:1")),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A bad object, what its sentence must contain, and which condition carries it besides Ready=False.

    Stalled: only a person or a commit helps; Reconciling: it goes on when the world comes right.
    """

    manifest: JsonObject
    words: tuple[str, ...]
    condition: str = "Stalled"

    @property
    def kind(self) -> Kind:
        return next(kind for kind in kinds.OUR_KINDS if kind.kind == self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def is_in(self, text: str) -> bool:
        return all(word in text for word in self.words)


def manifest(stage: Stage, text: str, name: str, /, **changes: Any) -> JsonObject:
    """The manifest under another name, with fields of its spec replaced; None removes one."""
    made: JsonObject = yaml.safe_load(
        text.replace("IMAGE", stage.tags["trivial"]).replace("NAMESPACE", stage.namespace)
    )
    made["metadata"]["name"] = name
    spec = {**made["spec"], **copy.deepcopy(changes)}
    return {**made, "spec": {key: value for key, value in spec.items() if value is not None}}


def deployment(stage: Stage, name: str, artifact: JsonObject, deadline: int = 12, /, **changes: Any) -> JsonObject:
    """A ModelDeployment of an artifact, under a short deadline."""
    chosen = {key: artifact[key] for key in ("uri", "digest", "format")}
    made = manifest(stage, DEPLOYMENT, name, **{"model": {"name": name, "artifact": chosen}, **changes})
    made["spec"]["rollout"]["progressDeadlineSeconds"] = deadline
    return made


def container(stage: Stage, **changes: Any) -> JsonObject:
    """The trivial server's container with other fields."""
    base: JsonObject = manifest(stage, DEPLOYMENT, "any")["spec"]["container"]
    return {**base, **changes}


def bad_syncs(stage: Stage) -> list[Case]:
    """Repositories that cannot be read."""

    def sync(name: str, *words: str, condition: str = "Stalled", **changes: Any) -> Case:
        return Case(manifest(stage, SYNC, name, **changes), words, condition)

    git = f"http://git.{stage.namespace}.svc"
    return [
        sync(
            "no-host",
            "git.nowhere.svc",
            "cannot be resolved",
            "spec.url",
            condition=RECONCILING,
            url="http://git.nowhere.svc/rain.git",
        ),
        sync("no-server", "8099", "tried again", condition=RECONCILING, url=f"{git}:8099/rain.git", timeoutSeconds=5),
        sync("no-repository", f"{git}/absent.git", "was not found", url=f"{git}/absent.git"),
        sync("no-branch", "branch absent does not exist", ref={"branch": "absent"}),
        sync("no-path", "path absent does not exist", path="absent"),
        sync("no-credentials", "Secret absent does not exist", secretRef={"name": "absent"}),
    ]


def bad_trainings(stage: Stage) -> list[Case]:
    """What test_training.py does not show: references, the store, and that the neighbours' events say it too."""

    def training(name: str, *words: str, **changes: Any) -> Case:
        return Case(manifest(stage, TRAINING, name, **changes), words)

    champion = [{"metric": "rows", "champion": {"minIncrease": "0"}}]
    newest = [
        {"name": "train", "uri": "s3://loop/train/"},
        {"name": "newest", "uri": "s3://loop/eval/", "use": "Evaluate"},
    ]
    evaluate = {"command": ["python3", "/opt/trivial.py", "evaluate"]}
    return [
        training(
            "exit-one",
            "train ended with exit code 1",
            "this container was told",
            command=["python3", "/opt/trivial.py", "exit", "1"],
        ),
        training(
            "no-store",
            "s3://loop/train/",
            "store.nowhere.svc",
            hyperparameters={"other": "run"},
            storage={"secretRef": {"name": "dead-store"}},
        ),
        training("no-base", "ModelVersion absent", "spec.base", base={"version": "absent"}),
        training(
            "no-champion",
            "ModelDeployment absent",
            "spec.champion",
            champion={"deploymentRef": {"name": "absent"}},
            gate=champion,
            datasets=newest,
            evaluate=evaluate,
            pendingSeconds=5,
        ),
    ]


def bad_deployments(stage: Stage, good: JsonObject) -> list[Case]:
    """First versions that cannot serve."""

    def named(name: str, *words: str, condition: str = "Stalled", **changes: Any) -> Case:
        return Case(deployment(stage, name, good, **changes), words, condition)

    absent = "registry.local/absent:1"
    lost = {**good, "uri": "s3://loop/models/absent/"}
    wrong = {**good, "digest": ZERO}
    nothing = {name: wrong[name] for name in ("uri", "digest", "format")}
    return [
        named("wrong-digest", "has digest", good["digest"], "is required", model={"name": "m", "artifact": nothing}),
        Case(deployment(stage, "no-artifact", lost), ("s3://loop/models/absent/", "there is nothing at that address")),
        named("no-store", "store.nowhere.svc", storage={"secretRef": {"name": "dead-store"}}),
        named("no-secret", 'secret "absent" not found', storage={"secretRef": {"name": "absent"}}),
        named("no-image", absent, container=container(stage, image=absent)),
        named("never-ready", "readiness probe", container=container(stage, command=["sleep", "3600"])),
        named(
            "exit-one",
            "exit code 1",
            "this container was told",
            container=container(stage, command=["python3", "/opt/trivial.py", "exit", "1"]),
        ),
        named("no-gpu", "missing nvidia.com/gpu", resources={"limits": {"nvidia.com/gpu": "99"}}),
        named("no-quota", "exceeded quota", "gpus", resources={"limits": {"example.com/gpu": "1"}}),
        named(
            "no-version",
            "ModelVersion absent does not exist",
            condition=RECONCILING,
            model={"name": "m", "version": "absent"},
        ),
        named("no-runtime", "spec.runtime", "absent", runtime="absent", container=None),
        named("no-gitsync", "no GitSync", model={"name": "m", "updatePolicy": "Git"}),
    ]


def bad_changes(stage: Stage, good: JsonObject, other: JsonObject) -> list[Case]:
    """Changes of deployments that serve: the new revision cannot be shown to be good.

    A minute is enough for the kubelet of a busy machine to fetch the model and then miss the image; the sentence is
    written once.
    """
    absent = "registry.local/absent:1"
    return [
        Case(deployment(stage, "bad-change", good, 60, container=container(stage, image=absent)), (absent,)),
        Case(
            deployment(stage, "no-traffic", other, 600),
            ("No canary request has been counted at 50%", "promote no-traffic"),
            RECONCILING,
        ),
    ]


def bad_policies(stage: Stage) -> list[Case]:
    """Policies that refer to nothing."""
    retrain = {"trainingJobRef": {"name": "absent"}, "cooldownSeconds": 60}
    return [
        Case(
            manifest(stage, POLICY, "no-deployment", deploymentRef={"name": "absent"}),
            ("ModelDeployment absent does not exist",),
            RECONCILING,
        ),
        Case(
            manifest(stage, POLICY, "no-training", action="Retrain", retrain=retrain),
            ("TrainingJob absent", "does not exist"),
            RECONCILING,
        ),
    ]


@asynccontextmanager
async def stage_of(installed: Stage) -> AsyncIterator[Stage]:
    """A namespace under restricted Pod Security with a Git server, a store, and another store that does not answer."""
    namespace = f"bad-{secrets.token_hex(3)}"
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), namespace, installed.tags)
        stage.kubectl("create", "namespace", namespace)
        stage.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        try:
            await stage.serve_git_and_store()
            dead = {"AWS_ENDPOINT_URL": "http://store.nowhere.svc:7070", "AWS_MAX_ATTEMPTS": "1"}
            keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
            stage.apply(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dead-store"}, "stringData": dead | keys},
                {
                    "apiVersion": "v1",
                    "kind": "ResourceQuota",
                    "metadata": {"name": "gpus"},
                    "spec": {"hard": {"requests.example.com/gpu": "0"}},
                },
            )
            yield stage
        finally:
            stage.kubectl("delete", "namespace", namespace, "--wait=false")


async def artifacts(stage: Stage) -> tuple[JsonObject, JsonObject]:
    """Training data and two good artifacts in the store; the facts of the two."""
    files = {"sender.py": (LOOP / "sender.py").read_text()}
    command = ["python3", "-c", PREPARE]
    await stage.job("prepare", stage.tags["perennial"], command, env=servers.store_env(), files=files)
    await stage.wait("the artifacts", lambda: stage.job_done("prepare"), 120)
    first, second = (json.loads(line) for line in (await stage.job_log("prepare")).strip().splitlines()[-2:])
    return first, second


async def neighbours_serve(stage: Stage, found: tuple[str, ...]) -> bool | None:
    """Whether those deployments serve."""
    objects = {o["metadata"]["name"]: o for o in await stage.store.list(kinds.MODEL_DEPLOYMENT, stage.namespace)}
    return all(ready(objects.get(name, {})).get("status") == "True" for name in found) or None


def ready(obj: JsonObject) -> JsonObject:
    """The Ready condition; empty when there is none."""
    return dict(conditions.find(obj.get("status", {}).get("conditions", ()), "Ready") or {})


async def said(stage: Stage, cases: list[Case]) -> dict[Case, str]:
    """What the condition of each bad object says, while it is not ready."""
    found: dict[tuple[str, str], JsonObject] = {}
    for kind in {case.kind.kind: case.kind for case in cases}.values():
        found |= {(o["kind"], o["metadata"]["name"]): o for o in await stage.store.list(kind, stage.namespace)}
    told = {}
    for case in cases:
        obj = found.get((case.manifest["kind"], case.name), {})
        condition = conditions.find(obj.get("status", {}).get("conditions", ()), case.condition) or {}
        same = ready(obj).get("status") == "False" and ready(obj)["message"] == condition.get("message")
        told[case] = condition["message"] if same else ""
    return told


def lacking(told: dict[Any, str], cases: list[Case]) -> dict[str, str]:
    """The cases whose sentence is not there yet, with what is there instead."""
    return {
        f"{case.kind.kind} {case.name}: {', '.join(case.words)}": told[case]
        for case in cases
        if not case.is_in(told[case])
    }


async def all_say(stage: Stage, cases: list[Case], limit: float) -> dict[Case, str]:
    """Wait until every bad object says its sentence; else fail with all that do not."""

    async def look() -> dict[Case, str] | None:
        told = await said(stage, cases)
        return None if lacking(told, cases) else told

    try:
        return await stage.wait("every sentence", look, limit, every=1)
    except DemoError:
        missing = lacking(await said(stage, cases), cases)
        pytest.fail("these do not say what is wrong:\n" + yaml.safe_dump(missing, width=1000))


async def events(stage: Stage) -> dict[tuple[str, str], list[str]]:
    """What the namespace's events say, by the kind and name of the object."""
    found: dict[tuple[str, str], list[str]] = {}
    for event in await stage.store.list(kinds.EVENT, stage.namespace):
        about = event.get("regarding") or {}
        found.setdefault((about.get("kind", ""), about.get("name", "")), []).append(event.get("note", ""))
    return found


async def all_are_events(stage: Stage, cases: list[Case]) -> None:
    """Wait until an event of every bad object carries its sentence; the writer takes them from a queue."""
    notes: dict[tuple[str, str], list[str]] = {}

    def silent() -> list[Case]:
        return [c for c in cases if not any(c.is_in(note) for note in notes.get((c.kind.kind, c.name), ()))]

    async def look() -> bool | None:
        notes.update(await events(stage))
        return not silent() or None

    try:
        await stage.wait("every event", look, 30)
    except DemoError:
        heard = {f"{case.kind.kind} {case.name}": notes.get((case.kind.kind, case.name), []) for case in silent()}
        pytest.fail("no event of these carries their sentence:\n" + yaml.safe_dump(heard, width=1000))


async def pods_of(stage: Stage, name: str) -> dict[str, int]:
    """uid -> restarts of the pods of a deployment's stable revision."""
    obj = await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, name) or {}
    revision = obj["status"]["stable"]["revision"]
    labels = f"{names.LABEL_DEPLOYMENT}={name},{names.LABEL_REVISION}={revision}"
    pods = await stage.store.list(kinds.POD, stage.namespace, labels=labels)
    return {p["metadata"]["uid"]: sum(c["restartCount"] for c in p["status"]["containerStatuses"]) for p in pods}


def command_line(stage: Stage, *arguments: str) -> str:
    """What `perennial` prints for a person."""
    base = [sys.executable, "-m", "perennial", "--kubeconfig", str(stage.cluster.kubeconfig), "-n", stage.namespace]
    environment = {**os.environ, "PYTHONPATH": str(Path(ROOT) / "operator")}
    done = subprocess.run([*base, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stdout + done.stderr


async def test_every_bad_input_says_what_is_wrong_and_the_neighbours_go_on(
    installed: Stage, quiet_operator: None
) -> None:
    async with stage_of(installed) as stage:
        first, second = await artifacts(stage)
        serving = (NEIGHBOUR, "bad-change", "no-traffic")
        good_files = {"deployment.yaml": yaml.safe_dump(deployment(stage, NEIGHBOUR, first, 600))}
        good_files["training.yaml"] = yaml.safe_dump(manifest(stage, TRAINING, "good-train"))
        await stage.person("commit", "Good and bad side by side", {**BROKEN_FILES, **good_files})
        cases = [
            *bad_syncs(stage),
            *bad_trainings(stage),
            *bad_deployments(stage, first),
            *bad_policies(stage),
        ]
        stage.apply(
            manifest(stage, SYNC, "main"),
            *(deployment(stage, name, first, 600) for name in serving[1:]),
            *(case.manifest for case in cases),
        )
        await stage.wait("the good neighbours to serve", lambda: neighbours_serve(stage, serving), 400)
        before = {name: await pods_of(stage, name) for name in serving}
        env = [*servers.store_env(), {"name": "WINDOW", "value": "36000"}, {"name": "RATE", "value": "5"}]
        sender = {"sender.py": (LOOP / "sender.py").read_text()}
        command = ["python3", "/files/sender.py", "send"]
        await stage.job("sender", stage.tags["perennial"], command, env=env, files=sender)
        changes = bad_changes(stage, first, second)
        stage.apply(*(case.manifest for case in changes))
        cases += changes

        told = await all_say(stage, cases, 400)
        assert [text for text in told.values() if len(text.encode()) > conditions.MAX_MESSAGE_BYTES] == []
        await the_repository_is_told_by_path_and_line(stage)
        await all_are_events(stage, cases)
        await neighbours_went_on(stage, before)
        shown_by_the_command_line(stage, await said(stage, cases))


async def the_repository_is_told_by_path_and_line(stage: Stage) -> None:
    """Each bad file is an error with its line; what is good beside it is applied."""
    obj = await stage.store.get(kinds.GIT_SYNC, stage.namespace, "main") or {}
    errors = {error["path"]: (error["line"], error["message"]) for error in obj["status"]["errors"]}
    assert {path: line for path, (line, _) in errors.items()} == {
        path: line for path, (line, _) in IN_REPOSITORY.items()
    }
    wrong = {p: errors[p][1] for p, (_, words) in IN_REPOSITORY.items() if not all(w in errors[p][1] for w in words)}
    assert wrong == {}
    condition = ready(obj)
    assert condition["status"] == "False"
    assert "models/broken.yaml:4: " in condition["message"]
    assert "4 more in status.errors" in condition["message"]
    assert any(condition["message"] == note for note in (await events(stage))["GitSync", "main"])
    applied = await stage.store.list(kinds.CONFIG_MAP, stage.namespace, labels=f"{names.LABEL_SYNC}=main")
    assert [o["metadata"]["name"] for o in applied] == ["good"]


async def neighbours_went_on(stage: Stage, before: dict[str, dict[str, int]]) -> None:
    """No pod of what serves was restarted or replaced, no request failed, and the good training made its version."""

    async def trained() -> bool | None:
        job = await stage.store.get(kinds.TRAINING_JOB, stage.namespace, "good-train") or {}
        return conditions.is_true(job.get("status", {}).get("conditions", ()), "Succeeded") or None

    await stage.wait("the good training", trained, 90)
    assert {name: await pods_of(stage, name) for name in before} == before
    assert all(set(pods.values()) == {0} for pods in before.values())
    for name in before:
        obj = await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, name) or {}
        assert conditions.is_true(obj["status"]["conditions"], "Available"), name

    async def enough() -> JsonObject | None:
        lines = (await stage.job_log("sender")).strip().splitlines()
        counts: JsonObject = json.loads(lines[-1]) if lines else {}
        return counts if counts.get("sent", 0) > 50 else None

    counts = await stage.wait("requests to the good neighbour", enough, 60)
    assert counts["failed"] == 0, counts


def shown_by_the_command_line(stage: Stage, told: dict[Case, str]) -> None:
    """`status` of a deployment prints its sentence, and those of the trainings of its model."""
    neighbour = command_line(stage, "status", NEIGHBOUR)
    for case, text in told.items():
        if case.kind is kinds.MODEL_DEPLOYMENT and case.name in ("wrong-digest", "no-version", "bad-change"):
            assert text in command_line(stage, "status", case.name)
        if case.kind is kinds.TRAINING_JOB:
            assert text in neighbour
