"""The TrainingJob controller in a whole little cluster; the node is played by hand."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from perennial.api.kinds import JOB, MODEL_DEPLOYMENT, MODEL_VERSION, POD, SERVICE, TRAINING_JOB
from perennial.controllers.training_job import TrainingJobController, TrainingSettings
from perennial.domain.conditions import find
from perennial.domain.errors import Forbidden, Invalid
from perennial.domain.training.record import digest_of, record_line
from perennial.domain.training.run import identity, job_name
from perennial.render.training_containers import StepImage
from tests.fakes.kubelet import Kubelet
from tests.fakes.world import World, stop_after_every_write
from tests.support.crds import problems

DIGEST = "sha256:" + "a" * 64
DATA = "sha256:" + "d" * 64
IMAGE_ID = "registry/train@sha256:" + "1" * 64


def training_job(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": "rain",
        "image": "registry/train:1",
        "hyperparameters": {"learning_rate": "0.05"},
        "datasets": [
            {"name": "train", "uri": "s3://b/train/"},
            {"name": "newest", "uri": "s3://b/eval/", "use": "Evaluate"},
        ],
        "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "2Gi"}},
        "output": {"uri": "s3://b/models/", "format": "sklearn"},
        "gate": [{"metric": "log_loss", "max": "0.5"}],
        "retry": {"maxAttempts": 3, "backoffSeconds": 10},
        "deadlineSeconds": 1000,
        "pendingSeconds": 300,
        "historyLimit": 10,
    }
    spec.update(changes)
    return {
        "apiVersion": TRAINING_JOB.api_version,
        "kind": "TrainingJob",
        "metadata": {
            "name": "rain-train",
            "namespace": "default",
            "annotations": {"perennial.dev/commit": "c0ffee1"},
        },
        "spec": spec,
    }


WRONG: list[str] = []


@pytest.fixture(autouse=True)
def whatever_is_written_fits_the_schema() -> Iterator[None]:
    WRONG.clear()
    yield
    assert WRONG == []


def check_schema(verb: str, obj: dict[str, Any]) -> None:
    if obj["kind"] in ("TrainingJob", "ModelVersion") and verb != "delete":
        WRONG.extend(f"{obj['kind']} {problem}" for problem in problems(obj))


def build() -> World:
    world = World()
    world.store.on_write.append(check_schema)
    world.add(
        lambda w: TrainingJobController(w.store, w.cache, w.events, w.clock, TrainingSettings(StepImage("perennial:1")))
    )
    return world


async def fresh() -> World:
    return build()


def run_id(manifest: Mapping[str, Any]) -> str:
    return identity(manifest["spec"]).id


def first_job(manifest: Mapping[str, Any], attempt: int = 1, stage: str = "") -> str:
    return job_name("rain-train", run_id(manifest), attempt, stage)


def status(world: World) -> dict[str, Any]:
    return dict(world.obj(TRAINING_JOB, "rain-train")["status"])


def condition(world: World, type_: str) -> Mapping[str, Any]:
    return find(status(world)["conditions"], type_) or {}


def record(**changes: Any) -> str:
    made = {
        "artifact": {
            "uri": f"s3://b/models/rain/{DIGEST.replace(':', '-')}/",
            "digest": DIGEST,
            "sizeBytes": 5,
            "format": "sklearn",
        },
        "metrics": {"log_loss": "0.42"},
        "evaluated": {"log_loss": "0.41"},
        "datasets": [{"name": "train", "uri": "s3://b/train/v1/", "digest": DATA, "sizeBytes": 10}],
        **changes,
    }
    return record_line(made)


def message(line: str, **changes: Any) -> str:
    return json.dumps({"version": "v", "artifact": DIGEST, "size": 5, "record": digest_of(line), **changes})


def fetched() -> tuple[str, str]:
    line = record_line({"datasets": [{"name": "train", "uri": "s3://b/train/v1/", "digest": DATA, "sizeBytes": 10}]})
    return line, json.dumps({"record": digest_of(line)})


async def play_training(world: World, job: str, line: str | None = None) -> None:
    """A whole good attempt, with a pass after each step."""
    kubelet = Kubelet(world)
    await kubelet.create_pod(job)
    await world.settle()
    kubelet.start(job, "fetch")
    await world.settle()
    world.clock.advance(5)
    said, vouched = fetched()
    kubelet.end(job, "fetch", log=f"fetching\n{said}\n", message=vouched)
    kubelet.start(job, "train", image_id=IMAGE_ID)
    await world.settle()
    world.clock.advance(60)
    kubelet.end(job, "train")
    kubelet.start(job, "publish")
    await world.settle()
    world.clock.advance(5)
    line = line or record()
    kubelet.end(job, "publish", log=f"uploading\n{line}\n", message=message(line))
    kubelet.complete(job)
    await world.settle()


async def good_run(world: World) -> None:
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    await play_training(world, first_job(manifest))


async def test_a_run_is_recorded_before_its_job_and_makes_one_version() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    writes = [(verb, kind) for verb, kind, _, manager in world.store.writes if manager.startswith("perennial")]
    assert writes.index(("status", "TrainingJob")) < writes.index(("create", "Job"))
    assert condition(world, "Ready")["status"] == "True"
    assert condition(world, "Ready")["reason"] == "Pending"

    await play_training(world, first_job(manifest))

    made = world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"]["artifact"]["digest"] == DIGEST
    assert made["spec"]["gate"] == {
        "passed": True,
        "checks": [{"metric": "log_loss", "rule": "max 0.5", "observed": "0.41", "outcome": "Passed"}],
    }
    lineage = made["spec"]["lineage"]
    assert lineage["trainingJob"] == "rain-train"
    assert lineage["commit"] == "c0ffee1"
    assert lineage["image"] == IMAGE_ID
    assert lineage["datasets"] == [{"name": "train", "uri": "s3://b/train/v1/", "digest": DATA}]
    assert lineage["finishedTime"] == "2026-11-25T10:01:10Z"
    now = status(world)
    assert now["lastVersion"] == made["metadata"]["name"]
    assert now["metric"] == "log_loss=0.41"
    assert now["run"]["gpuSeconds"]["held"] == 70
    assert now["run"]["datasets"][0]["digest"] == DATA
    for type_ in ("Ready", "Succeeded", "DataVerified", "GatePassed"):
        assert condition(world, type_)["status"] == "True", type_
    assert not condition(world, "Stalled")


async def test_killed_after_any_write_a_run_makes_the_same_objects_once() -> None:
    kills = await stop_after_every_write(fresh, good_run)
    assert kills >= 6


async def test_a_good_run_costs_few_status_writes_and_rest_costs_none() -> None:
    world = build()
    await good_run(world)
    ours = [w for w in world.store.writes if w[3] == "perennial-training-job"]
    assert len(ours) <= 8, ours
    before = len(world.store.requests)
    await world.run_for(600)
    assert len(world.store.requests) == before


async def test_phases_are_named_while_the_pod_runs() -> None:
    world = build()
    manifest = training_job(evaluate={"command": ["python", "evaluate.py"]})
    await world.person(manifest)
    await world.settle()
    job, kubelet, seen = first_job(manifest), Kubelet(world), []
    await kubelet.create_pod(job)
    for container in ("fetch", "train", "evaluate", "publish"):
        kubelet.start(job, container)
        await world.settle()
        seen.append(condition(world, "Ready")["reason"])
        kubelet.end(job, container)
    assert seen == ["Fetching", "Training", "Evaluating", "Publishing"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(64, "UsageError"), (65, "DataInvalid"), (78, "ConfigInvalid")],
    ids=["usage", "data", "config"],
)
async def test_permanent_exit_codes_end_the_run_at_once(code: int, reason: str) -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    kubelet.end(job, "fetch")
    kubelet.end(job, "train", code, log="first line\nValueError: no column humidity\n")
    kubelet.fail(job)
    await world.settle()
    assert kubelet.jobs() == [job]
    ready = condition(world, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "TrainingFailed")
    assert condition(world, "Stalled")["reason"] == "TrainingFailed"
    assert condition(world, "Succeeded")["reason"] == reason
    assert f"exit code {code}" in ready["message"]
    assert "no column humidity" in ready["message"]
    assert status(world)["run"]["failure"]["exitCode"] == code
    assert world.store.all(MODEL_VERSION) == []


async def test_exit_code_1_is_retried_with_back_off_until_the_budget_is_gone() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    for attempt in (1, 2, 3):
        job = first_job(manifest, attempt)
        assert kubelet.jobs()[-1] == job
        await kubelet.create_pod(job)
        kubelet.end(job, "fetch")
        kubelet.end(job, "train", 1, log="RuntimeError: CUDA error\n")
        kubelet.fail(job)
        await world.settle()
        if attempt < 3:
            assert condition(world, "Ready")["reason"] == "Retrying"
            assert len(kubelet.jobs()) == attempt
            await world.run_for(10 * 2 ** (attempt - 1) + 1)
    assert condition(world, "Ready")["reason"] == "TrainingFailed"
    assert "after 3 attempts" in condition(world, "Ready")["message"]
    await world.run_for(500)
    assert len(kubelet.jobs()) == 3
    assert status(world)["history"][0]["outcome"] == "TrainingFailed"


async def test_out_of_memory_says_so_with_the_limit() -> None:
    world = build()
    manifest = training_job(retry={"maxAttempts": 1, "backoffSeconds": 0})
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    kubelet.end(job, "fetch")
    kubelet.end(job, "train", 137, reason="OOMKilled")
    kubelet.fail(job)
    await world.settle()
    text = condition(world, "Ready")["message"]
    assert "ran out of memory" in text
    assert "2Gi" in text
    assert "resources.limits.memory" in text


async def test_a_drained_node_is_a_free_retry() -> None:
    world = build()
    manifest = training_job(retry={"maxAttempts": 1, "backoffSeconds": 0})
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    for attempt in (1, 2, 3):
        job = first_job(manifest, attempt)
        pod = await kubelet.create_pod(job)
        kubelet.end(job, "train", 143)
        now = dict(kubelet.pod(job)["status"])
        now["conditions"] = [
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "node drained"}
        ]
        kubelet.set_status(pod["metadata"]["name"], now)
        kubelet.fail(job)
        await world.run_for(1)
    assert status(world)["run"]["attempt"] == 4
    assert status(world)["run"]["failedAttempts"] == 0


async def test_a_wrong_digest_is_data_invalid_and_not_retried() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    text = f"dataset train: dataset train at s3://b/train/ has digest {DATA}, but {DIGEST} is required"
    kubelet.end(job, "fetch", 65, message=text)
    kubelet.fail(job)
    await world.settle()
    assert condition(world, "DataVerified")["status"] == "False"
    assert text in condition(world, "Ready")["message"]
    assert kubelet.jobs() == [job]


async def test_a_job_whose_pod_is_gone_is_explained_by_the_jobs_own_words() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    kubelet.fail(job, "Container train for pod default/x failed with exit code 65 matching FailJob rule at index 2")
    await world.settle()
    assert "train ended with exit code 65" in condition(world, "Ready")["message"]


async def test_missing_gpus_are_named_and_end_the_run_after_pending_seconds() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    pod = await kubelet.create_pod(job)
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available"
    kubelet.set_status(
        pod["metadata"]["name"],
        {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}],
        },
    )
    await world.settle()
    assert condition(world, "Ready")["reason"] == "Unschedulable"
    assert "missing nvidia.com/gpu" in condition(world, "Ready")["message"]
    assert condition(world, "Ready")["status"] == "True"
    await world.run_for(310)
    assert condition(world, "Stalled")["status"] == "True"
    assert condition(world, "Succeeded")["reason"] == "Unschedulable"
    assert "nvidia.com/gpu" in condition(world, "Stalled")["message"]
    assert kubelet.jobs() == []


async def test_an_exhausted_quota_is_named() -> None:
    world = build()
    manifest = training_job()
    world.store.fail("create", Forbidden("Forbidden", 'pods "x" is forbidden: exceeded quota: gpus'), kind=POD)
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    note = 'Error creating: pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'
    await kubelet.event(world.obj(JOB, job), "FailedCreate", note)
    await world.run_for(6)
    assert condition(world, "Ready")["reason"] == "Quota"
    assert "requests.nvidia.com/gpu=1" in condition(world, "Ready")["message"]


async def test_an_image_that_does_not_exist_is_named() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    kubelet.end(job, "fetch")
    kubelet.wait(job, "train", "ImagePullBackOff", 'Back-off pulling image "registry/train:1"')
    await world.settle()
    assert condition(world, "Ready")["reason"] == "ImagePull"
    assert "registry/train:1" in condition(world, "Ready")["message"]
    await world.run_for(310)
    assert condition(world, "Stalled")["status"] == "True"
    assert "registry/train:1" in condition(world, "Stalled")["message"]


async def test_a_missing_secret_and_a_missing_volume_are_named() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    pod = await kubelet.create_pod(job)
    kubelet.wait(job, "fetch", "CreateContainerConfigError", 'secret "store" not found')
    await world.settle()
    assert condition(world, "Ready")["reason"] == "ContainerConfig"
    assert 'secret "store" not found' in condition(world, "Ready")["message"]
    kubelet.wait(job, "fetch", "ContainerCreating")
    await kubelet.event(pod, "FailedMount", 'MountVolume.SetUp failed for volume "x": configmap "y" not found')
    await world.run_for(6)
    assert condition(world, "Ready")["reason"] == "Volume"
    assert 'configmap "y" not found' in condition(world, "Ready")["message"]


async def test_a_pod_that_the_server_refuses_is_stalled_in_its_words_and_tried_again() -> None:
    world = build()
    manifest = training_job()
    world.store.fail("create", Invalid("Invalid", "spec.volumes[3].name: Duplicate value"), kind=POD, times=2)
    await world.person(manifest)
    await world.settle()
    assert condition(world, "Stalled")["reason"] == "Invalid"
    assert "Duplicate value" in condition(world, "Stalled")["message"]
    assert world.store.all(JOB) == []
    await world.run_for(61)
    assert len(world.store.all(JOB)) == 1
    assert not condition(world, "Stalled")


async def test_a_deadline_cancels_the_attempt_and_counts() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    kubelet.end(job, "fetch")
    kubelet.start(job, "train")
    await world.run_for(1050)
    assert status(world)["run"]["failedAttempts"] == 1
    assert "spec.deadlineSeconds" in status(world)["run"]["failure"]["message"]
    assert kubelet.jobs() == [first_job(manifest, 2)]


async def test_a_changed_spec_supersedes_and_cancels_the_running_run() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    old, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(old)
    kubelet.start(old, "fetch")
    changed = training_job(hyperparameters={"learning_rate": "0.1"})
    await world.person(changed)
    await world.run_for(5)
    assert kubelet.jobs() == [first_job(changed)]
    assert status(world)["history"][0]["outcome"] == "Superseded"
    assert status(world)["run"]["id"] == run_id(changed)


async def test_a_spec_that_comes_back_after_it_failed_is_trained_anew() -> None:
    world = build()
    once = {"maxAttempts": 1, "backoffSeconds": 0}
    first, other = training_job(retry=once), training_job(retry=once, hyperparameters={"learning_rate": "1"})
    kubelet = Kubelet(world)
    for manifest in (first, other):
        await world.person(manifest)
        await world.settle()
        await kubelet.create_pod(first_job(manifest))
        kubelet.end(first_job(manifest), "fetch", 1)
        kubelet.fail(first_job(manifest))
        await world.run_for(2)
        assert condition(world, "Ready")["reason"] == "TrainingFailed"
    await world.person(first)
    await world.run_for(2)
    assert first_job(first, 2) in kubelet.jobs()
    assert condition(world, "Ready")["reason"] == "Pending"
    await play_training(world, first_job(first, 2))
    assert condition(world, "Succeeded")["status"] == "True"


async def test_fields_that_shape_no_run_start_none() -> None:
    world = build()
    await good_run(world)
    await world.person(training_job(historyLimit=3, deadlineSeconds=7, retry={"maxAttempts": 1}))
    await world.run_for(5)
    assert len(world.store.all(JOB)) == 1
    assert status(world)["observedGeneration"] == 2
    assert condition(world, "Succeeded")["status"] == "True"


async def test_a_new_request_is_a_new_run() -> None:
    world = build()
    await good_run(world)
    asked = training_job(request={"id": "t1", "kind": "Drift", "policy": "p", "reason": "drift"})
    await world.person(asked)
    await world.settle()
    assert first_job(asked) in Kubelet(world).jobs()
    assert status(world)["run"]["request"]["id"] == "t1"
    assert status(world)["lastVersion"] == f"rain-r{run_id(training_job())}"


async def test_a_cluster_rebuilt_from_git_trains_nothing() -> None:
    world = build()
    manifest = training_job()
    version = {
        "apiVersion": MODEL_VERSION.api_version,
        "kind": "ModelVersion",
        "metadata": {"name": f"rain-r{run_id(manifest)}", "namespace": "default"},
        "spec": {
            "model": "rain",
            "artifact": {"uri": "s3://b/m/", "digest": DIGEST, "format": "sklearn"},
            "metrics": {"log_loss": "0.4"},
            "gate": {"passed": True, "checks": [{"metric": "log_loss", "rule": "max 0.5", "outcome": "Passed"}]},
        },
    }
    await world.person(version)
    await world.person(manifest)
    await world.run_for(30)
    assert world.store.all(JOB) == []
    assert status(world)["history"][0]["outcome"] == "AlreadyMade"
    assert condition(world, "Succeeded")["status"] == "True"
    assert status(world)["lastVersion"] == version["metadata"]["name"]


async def test_suspend_cancels_without_cost_and_resume_goes_on() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    await kubelet.create_pod(first_job(manifest))
    kubelet.start(first_job(manifest), "fetch")
    await world.settle()
    await world.person(training_job(suspend=True))
    await world.run_for(5)
    assert kubelet.jobs() == []
    assert condition(world, "Ready")["reason"] == "Suspended"
    await world.person(training_job(suspend=False))
    await world.run_for(5)
    assert kubelet.jobs() == [first_job(manifest, 2)]
    assert status(world)["run"]["failedAttempts"] == 0


async def test_a_suspended_job_with_another_spec_removes_what_still_runs() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    await kubelet.create_pod(first_job(manifest))
    kubelet.start(first_job(manifest), "fetch")
    await world.settle()
    await world.person(training_job(suspend=True, hyperparameters={"depth": "9"}))
    await world.run_for(5)
    assert kubelet.jobs() == []
    assert condition(world, "Ready")["reason"] == "Suspended"
    assert [entry["outcome"] for entry in status(world)["history"]] == ["Superseded"]


async def test_a_suspended_job_starts_nothing() -> None:
    world = build()
    await world.person(training_job(suspend=True))
    await world.run_for(5)
    assert world.store.all(JOB) == []
    assert condition(world, "Ready")["reason"] == "Suspended"


async def test_a_missing_metric_fails_the_gate_and_names_what_was_written() -> None:
    world = build()
    manifest = training_job(gate=[{"metric": "roc_auc", "min": "0.8"}])
    await world.person(manifest)
    await world.settle()
    await play_training(world, first_job(manifest))
    made = world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")
    assert made["spec"]["gate"]["passed"] is False
    assert condition(world, "Ready")["reason"] == "GateFailed"
    assert condition(world, "GatePassed")["status"] == "False"
    assert "roc_auc was not written; written were: log_loss" in condition(world, "Ready")["message"]
    assert "lastVersion" not in status(world)


async def test_success_without_a_message_is_a_failure_with_a_reason() -> None:
    world = build()
    manifest = training_job(retry={"maxAttempts": 1, "backoffSeconds": 0})
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    for container in ("fetch", "train", "publish"):
        kubelet.end(job, container, message="" if container != "publish" else "hello")
    kubelet.complete(job)
    await world.settle()
    assert "publish ended well, but" in condition(world, "Ready")["message"]
    assert world.store.all(MODEL_VERSION) == []


async def test_a_record_that_points_elsewhere_is_refused() -> None:
    world = build()
    manifest = training_job(retry={"maxAttempts": 1, "backoffSeconds": 0})
    await world.person(manifest)
    await world.settle()
    bad = record(artifact={"uri": "s3://somebody-else/m/", "digest": DIGEST, "sizeBytes": 1, "format": "sklearn"})
    await play_training(world, first_job(manifest), bad)
    assert "does not lie under s3://b/models/" in condition(world, "Ready")["message"]
    assert world.store.all(MODEL_VERSION) == []


async def test_a_lost_log_is_read_again_from_the_store_by_a_report_job() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    kubelet.complete(job)  # and its pod was never seen: the operator was away
    await world.settle()
    report = first_job(manifest, stage="report")
    assert kubelet.jobs() == [job, report]
    await kubelet.create_pod(report)
    line = record()
    kubelet.end(report, "report", log=line + "\n", message=message(line))
    kubelet.complete(report)
    await world.settle()
    assert world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")["spec"]["artifact"]["digest"] == DIGEST
    assert condition(world, "Succeeded")["status"] == "True"


async def test_a_failed_report_is_a_failed_attempt() -> None:
    world = build()
    manifest = training_job(retry={"maxAttempts": 2, "backoffSeconds": 0})
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    kubelet.complete(first_job(manifest))
    await world.settle()
    kubelet.fail(first_job(manifest, stage="report"))
    await world.run_for(5)
    assert status(world)["run"]["failure"]["reason"] == "RecordLost"
    assert first_job(manifest, 2) in kubelet.jobs()


async def test_a_deleted_job_is_a_failed_attempt() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    kubelet.start(job, "fetch")
    await world.settle()
    await world.store.delete(JOB, "default", job, uid=None)
    await world.run_for(15)
    assert status(world)["run"]["failure"]["reason"] == "JobDeleted"
    assert kubelet.jobs() == [first_job(manifest, 2)]


async def test_a_strangers_job_of_the_same_name_is_left_alone() -> None:
    world = build()
    manifest = training_job()
    stranger = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": first_job(manifest), "namespace": "default"},
        "spec": {"template": {}},
    }
    await world.store.create(stranger, manager="person")
    await world.person(manifest)
    await world.settle()
    assert condition(world, "Stalled")["reason"] == "NameTaken"
    assert len(world.store.all(JOB)) == 1


CHAMPION_GATE = [{"metric": "log_loss", "champion": {"maxIncrease": "0"}}]


def deployment(name: str = "rain", **status_: Any) -> dict[str, Any]:
    return {
        "apiVersion": MODEL_DEPLOYMENT.api_version,
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"model": {"name": "rain", "version": "rain-rold"}},
    }


def old_version() -> dict[str, Any]:
    return {
        "apiVersion": MODEL_VERSION.api_version,
        "kind": "ModelVersion",
        "metadata": {"name": "rain-rold", "namespace": "default"},
        "spec": {"model": "rain", "artifact": {"uri": "s3://b/models/old/", "digest": DATA, "format": "sklearn"}},
    }


def with_champion() -> dict[str, Any]:
    return training_job(gate=CHAMPION_GATE, evaluate={"command": ["python", "evaluate.py"]})


async def test_the_champion_is_fixed_before_the_job_and_compared() -> None:
    world = build()
    await world.person(old_version())
    await world.person(deployment())
    manifest = with_champion()
    await world.person(manifest)
    await world.settle()
    assert status(world)["run"]["champion"] == {"version": "rain-rold", "digest": DATA}
    job = world.obj(JOB, first_job(manifest))
    names = [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["fetch", "train", "evaluate", "evaluate-champion"]
    await play_training(world, first_job(manifest), record(champion={"log_loss": "0.40"}))
    made = world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")
    assert made["spec"]["gate"]["checks"] == [
        {
            "metric": "log_loss",
            "rule": "champion maxIncrease 0",
            "observed": "0.41",
            "outcome": "Failed",
            "note": "0.41 against 0.40 of rain-rold",
        }
    ]
    assert made["spec"]["championMetrics"] == {"log_loss": "0.40"}
    assert condition(world, "Ready")["reason"] == "GateFailed"


async def test_a_champion_that_kills_its_evaluation_fails_only_its_checks() -> None:
    world = build()
    await world.person(old_version())
    await world.person(deployment())
    manifest = {**with_champion()}
    manifest["spec"]["retry"] = {"maxAttempts": 1, "backoffSeconds": 0}
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    for container in ("fetch", "train", "evaluate"):
        kubelet.end(job, container)
    kubelet.end(job, "evaluate-champion", 137, reason="OOMKilled")
    kubelet.fail(job)
    await world.run_for(2)
    second = world.obj(JOB, first_job(manifest, 2))["spec"]["template"]["spec"]
    assert [c["name"] for c in second["initContainers"]] == ["fetch", "train", "evaluate"]
    given = json.loads(second["containers"][0]["env"][0]["value"])
    assert "evaluate-champion was killed" in given["champion"]["problem"]
    await play_training(world, first_job(manifest, 2), record(championNote=given["champion"]["problem"]))
    check = world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")["spec"]["gate"]["checks"][0]
    assert check["outcome"] == "Failed"
    assert "ran out of memory" in check["note"]


async def test_without_any_deployment_champion_checks_are_skipped() -> None:
    world = build()
    manifest = with_champion()
    await world.person(manifest)
    await world.settle()
    await play_training(world, first_job(manifest))
    made = world.obj(MODEL_VERSION, f"rain-r{run_id(manifest)}")
    assert made["spec"]["gate"]["passed"] is True
    assert made["spec"]["gate"]["checks"][0]["outcome"] == "Skipped"


async def test_an_unknown_champion_is_waited_for_then_stalled_then_found() -> None:
    world = build()
    await world.person(deployment())
    manifest = with_champion()
    await world.person(manifest)
    await world.run_for(20)
    assert condition(world, "Ready")["reason"] == "ChampionUnknown"
    assert condition(world, "Ready")["status"] == "True"
    assert world.store.all(JOB) == []
    await world.run_for(300)
    assert condition(world, "Stalled")["reason"] == "ChampionUnknown"
    await world.person(old_version())
    await world.run_for(61)
    assert len(world.store.all(JOB)) == 1


async def test_several_deployments_of_one_model_are_stalled_with_their_names() -> None:
    world = build()
    await world.person(old_version())
    await world.person(deployment("rain"))
    await world.person(deployment("rain-eu"))
    await world.person(with_champion())
    await world.settle()
    assert condition(world, "Stalled")["reason"] == "ChampionAmbiguous"
    assert "rain, rain-eu" in condition(world, "Stalled")["message"]


async def test_a_missing_base_version_is_named() -> None:
    world = build()
    await world.person(training_job(base={"version": "rain-rnone"}))
    await world.settle()
    assert condition(world, "Stalled")["reason"] == "BaseUnknown"
    assert "rain-rnone" in condition(world, "Stalled")["message"]


async def test_later_attempts_read_the_data_that_the_first_one_resolved() -> None:
    world = build()
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    job, kubelet = first_job(manifest), Kubelet(world)
    await kubelet.create_pod(job)
    line, vouched = fetched()
    kubelet.end(job, "fetch", log=line + "\n", message=vouched)
    kubelet.start(job, "train", image_id=IMAGE_ID)
    await world.settle()
    kubelet.end(job, "train", 1)
    kubelet.fail(job)
    await world.run_for(11)
    second = world.obj(JOB, first_job(manifest, 2))["spec"]["template"]["spec"]["initContainers"]
    given = json.loads(second[0]["env"][0]["value"])
    assert given["items"][0] == {
        "kind": "dataset",
        "name": "train",
        "path": "/perennial/data/train",
        "uri": "s3://b/train/v1/",
        "digest": DATA,
        "moving": False,
    }
    assert second[1]["image"] == IMAGE_ID


async def test_jobs_beyond_the_history_limit_are_removed() -> None:
    world = build()
    kubelet = Kubelet(world)
    manifests = [training_job(historyLimit=2, hyperparameters={"n": str(n)}) for n in range(4)]
    for manifest in manifests:
        await world.person(manifest)
        await world.settle()
        await play_training(world, first_job(manifest))
        await world.run_for(5)
    assert sorted(kubelet.jobs()) == sorted(first_job(m) for m in manifests[2:])
    assert len(status(world)["history"]) == 4
    assert len(world.store.all(MODEL_VERSION)) == 4


async def test_several_nodes_get_a_headless_service_before_their_job() -> None:
    world = build()
    manifest = training_job(nodes=2)
    manifest["spec"]["datasets"] = [{"name": "train", "uri": "s3://b/train/", "digest": DATA}]
    await world.person(manifest)
    await world.settle()
    made = [entry for entry in world.created() if entry[0] in ("Service", "Job")]
    assert made == [("Service", first_job(manifest)), ("Job", first_job(manifest))]
    assert world.obj(SERVICE, first_job(manifest))["spec"]["publishNotReadyAddresses"] is True


async def test_deleting_a_training_job_leaves_its_versions() -> None:
    world = build()
    await good_run(world)
    await world.store.delete(TRAINING_JOB, "default", "rain-train", uid=None)
    await world.run_for(5)
    assert world.store.all(JOB) == []
    assert len(world.store.all(MODEL_VERSION)) == 1


async def test_staged_attempts_run_their_jobs_one_after_another() -> None:
    world = build()
    manifest = training_job(stage={"claim": "scratch"})
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    assert kubelet.jobs() == [first_job(manifest, stage="fetch")]
    for stage in ("fetch", "train", "publish"):
        job = first_job(manifest, stage=stage)
        await kubelet.create_pod(job)
        kubelet.start(job, stage)
        await world.run_for(200)  # each stage has pendingSeconds (300) of its own
        line = record()
        kubelet.end(job, stage, log=line + "\n", message=message(line))
        kubelet.complete(job)
        await world.settle()
    assert len(kubelet.jobs()) == 3
    assert condition(world, "Succeeded")["status"] == "True"
    assert status(world)["run"]["gpuSeconds"]["held"] == 200, "only the stage that trains holds GPUs"


async def test_a_user_cannot_mount_the_operators_volumes() -> None:
    world = build()
    extras = {"volumeMounts": [{"name": "perennial-work", "mountPath": "/everything"}]}
    await world.person(training_job(template=extras))
    await world.settle()
    assert condition(world, "Stalled")["reason"] == "VolumeNameTaken"
    assert world.store.all(JOB) == []


async def retried_run(world: World) -> None:
    """A first attempt that fails, a second one that is good, with a champion; the time between is not played."""
    await world.person(old_version())
    await world.person(deployment())
    manifest = with_champion()
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    await kubelet.create_pod(first_job(manifest))
    kubelet.end(first_job(manifest), "fetch")
    kubelet.end(first_job(manifest), "train", 1, log="flaky\n")
    kubelet.fail(first_job(manifest))
    await world.run_for(12)
    await play_training(world, first_job(manifest, 2), record(champion={"log_loss": "0.5"}))
    await world.run_for(5)


async def superseded_run(world: World) -> None:
    """A spec that changes while the run of the one before trains."""
    manifest = training_job()
    await world.person(manifest)
    await world.settle()
    kubelet = Kubelet(world)
    await kubelet.create_pod(first_job(manifest))
    kubelet.start(first_job(manifest), "fetch")
    await world.settle()
    changed = training_job(hyperparameters={"learning_rate": "0.1"})
    await world.person(changed)
    await world.run_for(5)
    await play_training(world, first_job(changed))
    await world.run_for(5)


@pytest.mark.parametrize("scenario", [retried_run, superseded_run], ids=lambda scenario: scenario.__name__)
async def test_killed_after_any_write_no_job_or_version_is_made_twice(scenario: Any) -> None:
    def made(world: World) -> Any:
        jobs = sorted(name for kind, name in world.created() if kind == "Job")
        versions = sorted(name for kind, name in world.created() if kind == "ModelVersion")
        outcomes = [entry["outcome"] for entry in status(world)["history"]]
        return jobs, versions, outcomes, sorted(Kubelet(world).jobs())

    assert await stop_after_every_write(fresh, scenario, compare=made) >= 8
