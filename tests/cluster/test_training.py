"""Training on a real cluster: good runs on S3 and on a claim; each bad input ends in one sentence on its object."""

import asyncio
import copy
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import yaml

from examples.rain.demo import servers
from examples.rain.demo.stage import Stage, Timeline
from perennial.adapters.kube import connect_store
from perennial.api import kinds
from perennial.domain import conditions
from perennial.domain.decision import JsonObject

GIB = 1 << 30
SEED = """
import os, s3fs
fs = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], config_kwargs={"s3": {"addressing_style": "path"}})
for bucket in ("data", "models"):
    fs.mkdir(bucket)
rows = "x\\n" + "\\n".join(str(i % 10) for i in range(500)) + "\\n"
fs.pipe("data/train/v1/a.csv", rows.encode())
fs.pipe("data/train/LATEST", b"v1/\\n")
fs.pipe("data/eval/e.csv", rows.encode())
"""

BASE = """
apiVersion: perennial.dev/v1alpha1
kind: TrainingJob
metadata: {name: good}
spec:
  model: good
  image: IMAGE
  command: [python3, /opt/trivial.py]
  args: [train]
  datasets:
  - {name: train, uri: s3://data/train/}
  - {name: newest, uri: s3://data/eval/, use: Evaluate}
  resources: {requests: {cpu: 50m}, limits: {cpu: "1", memory: 128Mi}}
  output: {uri: s3://models/, format: trivial}
  storage: {secretRef: {name: rain-store}}
  gate: [{metric: rows, min: "100"}]
  retry: {maxAttempts: 1, backoffSeconds: 0}
  pendingSeconds: 600
"""

SOON = {"pendingSeconds": 25}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "exit-1": ({"args": ["exit", "1"]}, "train ended with exit code 1; the end of its log: this container was told"),
    "exit-65": ({"args": ["exit", "65"]}, "exit code 65 (DataInvalid), which is not retried"),
    "memory": (
        {"command": ["python3", "-c", f"bytearray({GIB})"], "args": []},
        "ran out of memory (its limit of 128Mi)",
    ),
    "no-image": ({**SOON, "image": "registry.local/absent:1"}, "cannot get image registry.local/absent:1"),
    "no-gpu": ({**SOON, "resources": {"limits": {"nvidia.com/gpu": "99"}}}, "(missing nvidia.com/gpu)"),
    "no-quota": ({**SOON, "resources": {"limits": {"example.com/gpu": "1"}}}, "exceeded quota"),
    "no-secret": ({**SOON, "storage": {"secretRef": {"name": "absent"}}}, 'secret "absent" not found'),
    "bad-digest": (
        {"datasets": [{"name": "train", "uri": "s3://data/train/", "digest": "sha256:" + "0" * 64}]},
        "is required; correct the digest",
    ),
    "no-data": (
        {"datasets": [{"name": "train", "uri": "s3://data/absent/"}]},
        "s3://data/absent/: there is nothing at that address",
    ),
    "no-metric": ({"gate": [{"metric": "auc", "min": "0"}]}, "auc was not written; written were: mean, rows"),
    "no-model": ({"command": ["true"], "args": []}, "train wrote no model to /perennial/output"),
}


def manifest(on: Stage, name: str, /, **changes: Any) -> JsonObject:
    made: JsonObject = copy.deepcopy(yaml.safe_load(BASE))
    made["metadata"]["name"] = made["spec"]["model"] = name
    made["spec"].update({"image": on.tags["trivial"], **changes})
    return made


@asynccontextmanager
async def stage_with_data(installed: Stage) -> AsyncIterator[Stage]:
    """A namespace under restricted Pod Security with a store that holds training and evaluation data."""
    namespace = f"training-{secrets.token_hex(3)}"
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), namespace, installed.tags)
        stage.kubectl("create", "namespace", namespace)
        stage.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        try:
            stage.apply(*servers.secrets(), *servers.servers(stage.tags))
            stage.kubectl("-n", namespace, "rollout", "status", "deployment/s3", "--timeout=120s")
            await stage.job("seed", stage.tags["perennial"], ["python3", "-c", SEED], env=servers.store_env())
            await stage.wait("the data", lambda: stage.job_done("seed"), 120)
            yield stage
        finally:
            stage.kubectl("delete", "namespace", namespace, "--wait=false")


async def ended(stage: Stage, name: str, limit: float = 240) -> JsonObject:
    """The TrainingJob once its run has ended, with its Succeeded condition."""

    async def look() -> JsonObject | None:
        found = await stage.store.get(kinds.TRAINING_JOB, stage.namespace, name)
        entries = (found or {}).get("status", {}).get("conditions", ())
        return found if conditions.find(entries, "Succeeded") else None

    return await stage.wait(f"the run of {name}", look, limit)


async def test_good_runs_make_one_version_each_and_beat_or_lose_to_their_champion(installed: Stage) -> None:
    async with stage_with_data(installed) as stage:
        evaluate = {"command": ["python3", "/opt/trivial.py"], "args": ["evaluate"]}
        claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        for name in ("scratch", "models"):
            stage.apply(
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim}
            )
        stage.apply(
            manifest(
                stage, "good", resources={"limits": {"nvidia.com/gpu": "1", "memory": "128Mi"}}, evaluate=evaluate
            ),
            manifest(
                stage, "staged", stage={"claim": "scratch"}, output={"uri": "pvc://models/m/", "format": "trivial"}
            ),
        )
        good, staged = await asyncio.gather(ended(stage, "good"), ended(stage, "staged"))
        for job in (good, staged):
            assert conditions.is_true(job["status"]["conditions"], "Succeeded"), job["status"]["message"]
            assert conditions.is_true(job["status"]["conditions"], "DataVerified")
        version = await stage.store.get(kinds.MODEL_VERSION, stage.namespace, good["status"]["lastVersion"])
        assert version is not None
        assert version["spec"]["lineage"]["datasets"][0]["uri"] == "s3://data/train/v1/"
        assert version["spec"]["baseline"]["rows"] == 500
        assert "@sha256:" in version["spec"]["lineage"]["image"]
        assert staged["status"]["run"]["attempt"] == 1

        stage.apply(
            {
                "apiVersion": kinds.MODEL_DEPLOYMENT.api_version,
                "kind": "ModelDeployment",
                "metadata": {"name": "good"},
                "spec": {
                    "model": {"name": "good", "version": version["metadata"]["name"]},
                    "container": {"image": stage.tags["trivial"], "args": ["serve"]},
                    "suspend": True,
                },
            },
            manifest(
                stage,
                "challenger",
                model="good",
                evaluate=evaluate,
                gate=[{"metric": "loss", "champion": {"minDecrease": "0.1"}}],
            ),
        )
        challenger = await ended(stage, "challenger")
        assert "of " + version["metadata"]["name"] in challenger["status"]["message"]
        assert conditions.find(challenger["status"]["conditions"], "Ready") is not None
        assert not conditions.is_true(challenger["status"]["conditions"], "GatePassed")
        jobs = await stage.store.list(kinds.JOB, stage.namespace, labels="perennial.dev/owner-kind=TrainingJob")
        assert len(jobs) == 1 + 3 + 1
        assert len(await stage.store.list(kinds.MODEL_VERSION, stage.namespace)) == 3


async def untold(stage: Stage, jobs: list[JsonObject]) -> list[str]:
    """The jobs of which no event carries the sentence that their condition carries."""
    events = await stage.store.list(kinds.EVENT, stage.namespace)
    said = {((event.get("regarding") or {}).get("name"), event.get("note")) for event in events}
    sentences = {
        job["metadata"]["name"]: (conditions.find(job["status"]["conditions"], "Stalled") or {})["message"]
        for job in jobs
    }
    return [name for name, sentence in sentences.items() if (name, sentence) not in said]


async def test_each_bad_input_ends_in_one_sentence_on_its_object(installed: Stage, quiet_operator: None) -> None:
    async with stage_with_data(installed) as stage:
        quota = {"requests.example.com/gpu": "0"}
        stage.apply(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}, "spec": {"hard": quota}},
            *(manifest(stage, name, **changes) for name, (changes, _) in BAD.items()),
        )
        found = await asyncio.gather(*(ended(stage, name) for name in BAD))
        wrong = {
            name: job["status"]["message"]
            for (name, (_, words)), job in zip(BAD.items(), found, strict=True)
            if words not in job["status"]["message"]
        }
        assert wrong == {}
        for job in found:
            assert conditions.is_true(job["status"]["conditions"], "Stalled")
            assert len(job["status"]["message"].encode()) <= conditions.MAX_MESSAGE_BYTES

        async def all_told() -> bool | None:
            return not await untold(stage, found) or None

        await stage.wait("an event of each", all_told, 30)
        left = await stage.store.list(kinds.MODEL_VERSION, stage.namespace)
        assert [v["spec"]["model"] for v in left] == ["no-metric"], "only the gate's refusal leaves a record"
