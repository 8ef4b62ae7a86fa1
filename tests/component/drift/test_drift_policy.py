"""The DriftPolicy controller on an in-memory API: counts in, one TrainingJob per trigger out, whatever happens."""

import json
from datetime import datetime
from typing import Any

import pytest

from perennial.api import kinds
from perennial.domain.errors import Unavailable
from perennial.ports import MetricSample
from perennial.runtime.metrics import REGISTRY
from tests.component.drift.place import MODEL, WINDOW, Place, policy
from tests.fakes.drift import baseline_of, digest

RETRAIN = {"trainingJobRef": {"name": "rain-train"}, "cooldownSeconds": WINDOW}


async def test_calm_windows_are_ok_and_start_nothing() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window()
    status = place.status()
    assert (status["state"], status["window"]["samples"]) == ("Ok", 600)
    assert place.condition("DriftDetected")["status"] == "False"
    assert place.condition("DataHealthy")["status"] == "True"
    assert place.condition("MetricsAvailable")["status"] == "True"
    assert place.condition("Ready")["status"] == "True"
    assert not place.jobs()


async def test_the_effect_of_a_policy_that_is_gone_is_not_told_any_more() -> None:
    def told() -> float | None:
        return REGISTRY.get_sample_value("perennial_drift_effect", {"namespace": "default", "name": "rain-drift"})

    place = Place()
    await place.set_up(policy())
    await place.window()
    assert told() is not None
    await place.world.store.delete(kinds.DRIFT_POLICY, "default", "rain-drift", uid=None)
    await place.world.settle()
    assert told() is None


async def test_drift_with_new_data_starts_one_training_job_and_follows_it_to_promotion() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=1.0)
    assert place.status()["state"] == "WaitingForLabels"
    await place.answer_probes()
    active = place.status()["activeTrigger"]
    assert place.jobs() == [f"rain-drift-{active['id']}"]
    job = place.world.obj(kinds.TRAINING_JOB, active["trainingJob"])
    assert job["spec"]["request"]["kind"] == "Drift"
    assert job["spec"]["request"]["policy"] == "rain-drift"
    assert job["spec"]["suspend"] is False
    assert job["spec"]["datasets"] == place.world.obj(kinds.TRAINING_JOB, "rain-train")["spec"]["datasets"]
    owner = job["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("DriftPolicy", "rain-drift", True)
    await place.finish(active["trainingJob"], version="rain-r00000002")
    assert place.status()["activeTrigger"]["resultVersion"] == "rain-r00000002"
    await place.serve("rain-r00000002", "rain-rev-00000002")
    await place.world.settle()
    status = place.status()
    assert "activeTrigger" not in status
    assert status["lastTrigger"]["outcome"] == "Promoted"
    assert status["lastTrigger"]["gpuSeconds"] == 30
    assert [item["id"] for item in status["history"]] == [active["id"]]
    assert not place.world.store.all(kinds.JOB), "probes that were read are removed"


async def test_the_windows_start_anew_with_the_promoted_version() -> None:
    place = Place()
    await place.set_up(policy(rule={"forWindows": 2}, action="Notify"))
    await place.window(shift=1.0)
    assert (place.status()["state"], place.status()["consecutive"]) == ("Warning", 1)
    place.baseline = baseline_of(50, shift=2.0)
    await place.make_version("rain-r2", place.baseline, digest("second"), "2026-11-25T00:00:00Z")
    await place.serve("rain-r2", "rain-rev-00000002")
    await place.world.settle()
    assert place.status()["consecutive"] == 0
    assert place.condition("DriftDetected")["status"] == "Unknown"
    await place.window(shift=2.0)
    assert (place.status()["state"], place.status()["window"]["revision"]) == ("Ok", "rain-rev-00000002")


async def test_without_requests_the_state_is_unknown_and_nothing_starts() -> None:
    place = Place()
    await place.set_up(policy())
    await place.world.run_for(3 * WINDOW)
    assert place.status()["state"] == "Unknown"
    condition = place.condition("DriftDetected")
    assert (condition["status"], condition["reason"]) == ("Unknown", "NoData")
    assert not place.jobs()


async def test_too_few_rows_are_unknown_and_say_how_many_are_needed() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=3.0, rows=50)
    condition = place.condition("DriftDetected")
    assert (condition["status"], condition["reason"]) == ("Unknown", "TooFewSamples")
    assert str(place.status()["window"]["minSamples"]) in condition["message"]


async def test_an_unknown_window_breaks_no_row_of_drifted_windows() -> None:
    place = Place()
    await place.set_up(policy(rule={"forWindows": 2}, action="Notify"))
    await place.window(shift=1.0)
    await place.world.run_for(WINDOW)
    assert place.status()["state"] == "Unknown"
    await place.window(shift=1.0)
    assert place.status()["state"] == "Drifted"


async def test_notify_reports_and_starts_nothing() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"))
    await place.window(shift=1.0)
    assert place.condition("DriftDetected")["status"] == "True"
    assert {item["feature"] for item in place.status()["drifted"]} == {"a", "prediction"}
    assert "DriftDetected" in place.world.events.reasons("DriftPolicy")
    assert place.condition("Ready")["status"] == "True"
    assert not place.jobs()


async def test_old_data_is_waited_for_and_probed_once_a_window() -> None:
    place = Place()
    place.data = digest("first")
    await place.set_up(policy())
    await place.window(shift=1.0)
    for _ in range(3):
        await place.answer_probes()
        await place.world.run_for(WINDOW)
    probes = [name for kind, name in place.world.created() if kind == "Job"]
    assert 3 <= len(probes) <= 5
    assert len(set(probes)) == len(probes)
    assert place.status()["state"] == "WaitingForLabels"
    assert not place.jobs()
    place.data = digest("second")
    await place.world.run_for(WINDOW)
    await place.answer_probes()
    await place.world.run_for(WINDOW)
    await place.answer_probes()
    assert len(place.jobs()) == 1
    assert place.status()["activeTrigger"]["dataDigest"] == digest("second")


async def test_a_wait_for_data_ends_as_expired() -> None:
    place = Place()
    place.data = digest("first")
    await place.set_up(policy(retrain={**RETRAIN, "maxWaitSeconds": 120}))
    await place.window(shift=1.0)
    await place.answer_probes()
    await place.world.run_for(200)
    assert place.status()["lastTrigger"]["outcome"] == "Expired"
    assert "activeTrigger" not in place.status()


async def test_pinned_training_data_is_a_fault_in_words() -> None:
    place = Place()
    await place.set_up(policy())
    pinned = [{"name": "train", "uri": "s3://rain/train/", "use": "Train", "digest": digest("first")}]
    template = place.world.obj(kinds.TRAINING_JOB, "rain-train")
    await place.world.person({**template, "spec": {**template["spec"], "datasets": pinned}})
    await place.window(shift=1.0)
    ready = place.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DataPinned")
    assert "requireNewData" in ready["message"]


async def test_an_unreadable_data_set_is_said_and_tried_again() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=1.0)
    await place.answer_probes(exit_code=78, message="there is no bucket rain")
    assert place.status()["state"] == "WaitingForLabels"
    await place.world.run_for(WINDOW)
    await place.answer_probes()
    assert len(place.jobs()) == 1


async def test_a_second_policy_waits_while_a_trigger_is_in_flight() -> None:
    place = Place()
    free = {**RETRAIN, "requireNewData": False}
    await place.set_up(policy("one", retrain=free), policy("two", retrain=free))
    await place.window(shift=1.0)
    assert len(place.jobs()) == 1
    await place.window(shift=1.0)
    await place.window(shift=1.0)
    assert len(place.jobs()) == 1


async def test_cooldown_is_counted_from_the_end_of_the_trigger() -> None:
    place = Place()
    await place.set_up(policy(retrain={**RETRAIN, "requireNewData": False, "cooldownSeconds": 5 * WINDOW}))
    await place.window(shift=1.0)
    await place.world.run_for(3 * WINDOW)
    (job,) = place.jobs()
    await place.finish(job, failed="GateFailed")
    assert place.status()["lastTrigger"]["outcome"] == "GateFailed"
    place.data = digest("third")
    await place.window(shift=1.0)
    assert place.status()["state"] == "CoolingDown"
    place.world.restart()
    await place.window(shift=1.0)
    assert place.status()["state"] == "CoolingDown"
    assert len(place.jobs()) == 1


async def test_a_rejected_retrain_is_tried_again_with_new_data_only() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=1.0)
    await place.answer_probes()
    await place.finish(place.jobs()[0], failed="GateFailed")
    for _ in range(3):
        await place.window(shift=1.0)
        await place.answer_probes()
    assert len(place.jobs()) == 1, "the same data is not trained on again"
    place.data = digest("third")
    for _ in range(3):
        await place.window(shift=1.0)
        await place.answer_probes()
    assert len(place.jobs()) == 2


async def test_the_budget_is_a_state_and_survives_a_restart() -> None:
    place = Place()
    budget = {**RETRAIN, "budget": {"maxRetrains": 1, "perSeconds": 86_400}}
    await place.set_up(policy(retrain=budget))
    await place.window(shift=1.0)
    await place.answer_probes()
    await place.finish(place.jobs()[0], failed="TrainingFailed")
    place.data = digest("third")
    await place.window(shift=1.0)
    await place.window(shift=1.0)
    assert place.status()["state"] == "Exhausted"
    assert "BudgetExhausted" in place.world.events.reasons("DriftPolicy")
    place.world.restart()
    await place.window(shift=1.0)
    assert place.status()["state"] == "Exhausted"
    assert len(place.jobs()) == 1


async def test_drift_that_ends_arms_the_policy_again() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=1.0)
    await place.answer_probes()
    await place.finish(place.jobs()[0], failed="GateFailed")
    await place.window()
    await place.window()
    assert place.status()["state"] == "Ok"
    assert place.status()["armed"] is True
    place.data = digest("third")
    await place.window(shift=1.0)
    await place.answer_probes()
    assert len(place.jobs()) == 2


def command(window: str) -> str:
    """An accept-data command for a window."""
    return json.dumps({"verb": "accept-data", "revision": window, "id": "c1", "by": "ada"})


async def test_broken_data_blocks_retraining_until_a_person_accepts_it() -> None:
    place = Place()
    await place.set_up(policy())
    for _ in range(3):
        await place.window(shift=1.0, nulls=100)
    assert place.status()["state"] == "DataBlocked"
    healthy = place.condition("DataHealthy")
    assert (healthy["status"], healthy["reason"]) == ("False", "DataNeedsDecision")
    assert "perennial accept-data rain-drift" in healthy["message"]
    assert not place.jobs()
    obj = place.world.obj(kinds.DRIFT_POLICY, "rain-drift")
    end = obj["status"]["window"]["endTime"]
    meta = {**obj["metadata"], "annotations": {"perennial.dev/command": command(end)}}
    await place.world.person({**obj, "metadata": meta}, manager="ada")
    await place.world.settle()
    await place.answer_probes()
    assert len(place.jobs()) == 1
    assert place.status()["commands"] == ["c1"]
    assert place.condition("DataHealthy")["reason"] == "DataAccepted"
    assert "ada accepted" in place.world.events.messages("DataAccepted")[0]


async def test_repaired_data_releases_retraining_by_itself() -> None:
    place = Place()
    await place.set_up(policy())
    await place.window(shift=1.0, nulls=100)
    assert place.status()["state"] == "DataBlocked"
    await place.window(shift=1.0)
    await place.answer_probes()
    assert len(place.jobs()) == 1


async def test_counts_of_all_routers_add_up_and_survive_their_restart_and_ours() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"), routers=2)
    await place.next_window()
    place.send(rows=300)
    place.send(rows=200, pod="perennial-router-1")
    await place.world.run_for(20)
    place.routers.restart("perennial-router-0")
    place.send(rows=100)
    place.world.restart()
    await place.world.run_for(WINDOW)
    assert place.status()["window"]["samples"] == 600


async def test_a_router_that_vanishes_keeps_its_counts_and_the_loss_is_stated() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"))
    await place.next_window()
    place.send(rows=600)
    await place.world.run_for(20)
    place.routers.restart("perennial-router-0")
    await place.world.run_for(WINDOW)
    window = place.status()["window"]
    assert window["samples"] == 600
    assert window["lost"] > 0


async def test_a_router_that_is_stopped_is_asked_for_its_last_counts() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"), routers=2)
    await place.next_window()
    place.send(rows=300)
    await place.world.run_for(20)
    pod = place.world.obj(kinds.POD, "perennial-router-1")
    await place.world.person(
        {**pod, "metadata": {**pod["metadata"], "finalizers": ["test/kubelet"]}}, manager="kubelet"
    )
    place.send(rows=300, pod="perennial-router-1")
    await place.world.store.delete(kinds.POD, "default", "perennial-router-1", uid=None)
    await place.world.run_for(3)
    place.routers.silent.add("perennial-router-1")
    await place.world.run_for(WINDOW)
    assert place.status()["window"]["samples"] == 600
    assert place.condition("MetricsAvailable")["status"] == "True"


async def test_a_silent_router_is_waited_for_and_then_said() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"), routers=2)
    await place.next_window()
    place.send(rows=600)
    await place.world.run_for(20)
    before = place.status().get("window")
    place.routers.silent.add("perennial-router-1")
    await place.world.run_for(WINDOW - 20)
    assert place.status().get("window") == before, "the silent router may still tell"
    await place.world.run_for(20)
    assert place.status()["window"]["samples"] == 600
    condition = place.condition("MetricsAvailable")
    assert condition["status"] == "False"
    assert "perennial-router-1" in condition["message"]


async def test_without_a_ready_router_the_evidence_is_missing() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"), routers=0)
    await place.world.run_for(3 * WINDOW)
    assert place.status()["state"] == "Unknown"
    assert place.condition("DriftDetected")["reason"] == "RoutersSilent"
    assert place.condition("MetricsAvailable")["status"] == "False"


async def test_a_strangers_pod_with_the_routers_labels_is_neither_asked_nor_told_the_token() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"))
    labels = {"app.kubernetes.io/managed-by": "perennial", "perennial.dev/component": "router"}
    meta = {"name": "stranger", "namespace": "default", "labels": labels}
    await place.world.person({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}})
    status = {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]}
    await place.set_status(kinds.POD, "stranger", status)
    place.routers.pods["stranger"] = 1.0
    await place.next_window()
    place.send(rows=600, pod="stranger")
    await place.world.run_for(WINDOW)
    assert place.status()["window"]["samples"] == 0
    assert place.routers.names == {"perennial-router-0"}


async def test_an_operator_away_for_three_windows_loses_nothing() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"))
    await place.next_window()
    for _ in range(3):
        place.send(rows=600)
        place.world.clock.advance(WINDOW)
    place.world.restart()
    await place.world.run_for(5)
    scores = place.status()
    assert scores["window"]["samples"] == 600
    assert scores["state"] == "Ok"


async def test_one_router_round_serves_all_policies_of_a_namespace() -> None:
    place = Place()
    await place.set_up(policy("one", action="Notify"), policy("two", action="Notify"))
    await place.window()
    before = place.routers.asked
    await place.window()
    rounds = place.routers.asked - before
    assert rounds <= (WINDOW * 2) / 3 + 5


async def test_missing_objects_are_said_and_mended_by_their_appearance() -> None:
    place = Place()
    await place.set_up(policy("rain-drift", deploymentRef={"name": "snow"}))
    ready = place.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DeploymentNotFound")
    assert place.world.events.messages("DeploymentNotFound") == [ready["message"]]
    await place.world.person(
        {**place.world.obj(kinds.DRIFT_POLICY, "rain-drift"), "spec": policy()["spec"], "status": {}}
    )
    await place.world.settle()
    assert place.condition("Ready")["status"] == "True"


async def test_a_version_without_a_baseline_is_unknown() -> None:
    place = Place()
    await place.set_up(policy(action="Notify"))
    version = place.world.obj(kinds.MODEL_VERSION, MODEL)
    spec = {key: value for key, value in version["spec"].items() if key != "baseline"}
    await place.world.store.delete(kinds.MODEL_VERSION, "default", MODEL, uid=None)
    meta = {"name": MODEL, "namespace": "default"}
    await place.world.person(
        {"apiVersion": version["apiVersion"], "kind": "ModelVersion", "metadata": meta, "spec": spec}
    )
    await place.window()
    condition = place.condition("DriftDetected")
    assert (condition["status"], condition["reason"]) == ("Unknown", "NoBaseline")
    assert "reference.csv" in condition["message"]


async def test_an_effect_that_no_window_can_show_is_refused_with_the_reason() -> None:
    place = Place()
    await place.set_up(policy(test={"effect": "0.005"}))
    ready = place.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "EffectNotTestable")
    assert "2000 reference rows" in ready["message"]


async def test_at_rest_nothing_is_written() -> None:
    place = Place()
    await place.set_up(policy(window={"seconds": 86_400}, action="Notify", retrain=None))
    await place.world.run_for(120)
    writes = len(place.world.store.writes)
    await place.world.run_for(600)
    assert len(place.world.store.writes) == writes


class Prometheus:
    """One number, or an error."""

    def __init__(self) -> None:
        self.value: float | None = 0.01
        self.error: Exception | None = None
        self.asked: list[datetime | None] = []

    async def query(self, source: str, query: str, *, at: datetime | None = None) -> MetricSample:
        """See ports.MetricsSource."""
        assert (source, query) == ("main", "errors")
        self.asked.append(at)
        if self.error is not None:
            raise self.error
        return MetricSample(self.value)


def by_metric(**changes: Any) -> Any:
    """A policy on one number of Prometheus with an upper limit of 0.1."""
    source = {"prometheus": {"source": "main", "query": "errors", "max": "0.1"}}
    return policy(source=source, **changes)


async def test_a_metric_beyond_its_limit_is_drift() -> None:
    metrics = Prometheus()
    place = Place(metrics)
    await place.set_up(by_metric(retrain={**RETRAIN, "requireNewData": False}))
    await place.world.run_for(2 * WINDOW)
    assert (place.status()["state"], place.status()["effect"]) == ("Ok", "0.01")
    metrics.value = 0.5
    await place.world.run_for(WINDOW)
    assert place.condition("DriftDetected")["status"] == "True"
    assert len(place.jobs()) == 1
    assert all(at is not None and at.timestamp() % WINDOW == 0 for at in metrics.asked)


@pytest.mark.parametrize("silence", ["no data", "unreachable"])
async def test_a_metric_that_cannot_be_had_is_unknown(silence: str) -> None:
    metrics = Prometheus()
    metrics.value = None
    if silence == "unreachable":
        metrics.error = Unavailable("Unavailable", "main does not answer")
    place = Place(metrics)
    await place.set_up(by_metric())
    await place.world.run_for(3 * WINDOW)
    assert place.status()["state"] == "Unknown"
    assert place.condition("MetricsAvailable")["status"] == ("True" if silence == "no data" else "False")
    assert not place.jobs()


async def test_a_calendar_starts_training_through_the_same_guards() -> None:
    place = Place()
    schedule = {"cron": "2 10 * * *", "timeZone": "Etc/UTC", "action": "Retrain"}
    await place.set_up(policy(action="Notify", schedule=schedule, retrain={**RETRAIN, "requireNewData": False}))
    await place.world.run_for(110)
    assert not place.jobs()
    await place.world.run_for(20)
    (job,) = place.jobs()
    assert place.world.obj(kinds.TRAINING_JOB, job)["spec"]["request"]["kind"] == "Schedule"
    await place.finish(job, failed="GateFailed")
    await place.world.run_for(3 * WINDOW)
    assert len(place.jobs()) == 1


async def test_a_suspended_policy_does_nothing() -> None:
    place = Place()
    await place.set_up(policy(suspend=True))
    await place.window(shift=1.0)
    assert place.condition("Ready")["reason"] == "Suspended"
    assert not place.jobs()
    assert place.routers.asked == 0


async def test_a_strangers_job_of_our_name_is_never_touched() -> None:
    place = Place()
    await place.set_up(policy(retrain={**RETRAIN, "requireNewData": False}))
    original = place.world.store.create

    async def taken(obj: Any, *, manager: str, dry_run: bool = False) -> Any:
        if obj["kind"] == "TrainingJob" and "rain-drift-" in obj["metadata"]["name"]:
            stranger = {**obj, "metadata": {"name": obj["metadata"]["name"], "namespace": "default"}}
            place.world.store.create = original  # type: ignore[method-assign]
            await original(stranger, manager="stranger")
        return await original(obj, manager=manager, dry_run=dry_run)

    place.world.store.create = taken  # type: ignore[method-assign]
    await place.window(shift=1.0)
    ready = place.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NameTaken")
    assert place.world.events.messages("NameTaken") == [ready["message"]]
    end = place.status()["window"]["endTime"]
    await place.window()
    assert place.status()["window"]["endTime"] > end, "windows go on"
    assert place.jobs() == [place.status()["activeTrigger"]["trainingJob"]]


async def test_removing_retrain_ends_a_trigger_that_waits() -> None:
    place = Place()
    place.data = digest("first")
    await place.set_up(policy())
    await place.window(shift=1.0)
    assert "waits for new training data" in place.condition("Ready")["message"]
    spec = {key: value for key, value in policy(action="Notify")["spec"].items() if key != "retrain"}
    await place.world.person({**place.world.obj(kinds.DRIFT_POLICY, "rain-drift"), "spec": spec, "status": {}})
    await place.world.settle()
    assert place.status()["lastTrigger"]["outcome"] == "Aborted"
