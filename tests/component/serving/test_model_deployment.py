"""The ModelDeployment controller in a whole little cluster: from a named version to a served one, and back."""

import base64
from typing import Any

import pytest

from perennial.api import kinds
from perennial.domain.errors import Invalid
from perennial.domain.times import parse_time
from perennial.ports import MetricSample
from tests.component.serving.rig import GATE, V1, V2, V3, Rig, deployment, version


async def test_the_first_version_is_served_with_everything_it_needs() -> None:
    rig = await Rig().serve_first()
    revision = rig.status["stable"]["revision"]
    names = {(o["kind"], o["metadata"]["name"]) for o in rig.world.store.all() if o["kind"] != "ModelVersion"}
    assert {
        ("Deployment", f"rain-rev-{revision}"),
        ("Service", f"rain-rev-{revision}"),
        ("PodDisruptionBudget", f"rain-rev-{revision}"),
        ("Service", "rain"),
        ("Deployment", "perennial-router"),
        ("Secret", "perennial-router"),
        ("ServiceAccount", "perennial-router"),
        ("RoleBinding", "perennial-router"),
        ("PodDisruptionBudget", "perennial-router"),
    } <= names
    assert rig.status["traffic"] == [{"revision": revision, "weight": 100}]
    assert rig.status["url"] == "http://rain.default.svc"
    assert rig.condition("Ready") == ("True", "Serving")
    assert rig.status["history"][0]["commit"] == "c0ffee1"
    token = base64.b64decode(rig.world.obj(kinds.SECRET, "perennial-router")["data"]["token"]).decode()
    assert set(rig.routers.tokens) == {token}


async def test_nothing_is_written_or_asked_at_rest() -> None:
    rig = await Rig().serve_first(rollout={"scaleDownDelaySeconds": 30})
    await rig.name(V2, rollout={"scaleDownDelaySeconds": 30})
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    await rig.cluster.run_for(60)
    writes, asked, passes = len(rig.world.store.writes), rig.routers.collected, len(rig.world.passes)
    await rig.cluster.run_for(600, step=60)
    assert (len(rig.world.store.writes), rig.routers.collected) == (writes, asked)
    assert len(rig.world.passes) == passes


async def test_a_good_canary_is_promoted_by_steps() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    assert (rig.state, rig.status["canary"]["version"]) == ("Analysing", V2)
    seconds = await rig.cluster.run_until(lambda: rig.stable() == V2)
    assert seconds < 60
    weights = [w.get(rig.status["stable"]["revision"]) for w in rig.routers.seen_weights]
    assert [w for w in dict.fromkeys(weights) if w] == [5, 50, 100]
    assert "rollout" not in rig.status
    assert "canary" not in rig.status
    assert rig.condition("Ready") == ("True", "Serving")
    assert [h["version"] for h in rig.status["history"]] == [V2, V1]
    promoted = rig.world.obj(kinds.DEPLOYMENT, f"rain-rev-{rig.status['stable']['revision']}")
    assert promoted["metadata"]["generation"] == 1  # not even its replicas changed


async def test_a_failing_canary_is_aborted_by_verdict() -> None:
    rig = await Rig().serve_first()
    rig.routers.error_rates[V2] = 0.2
    await rig.name(V2)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=30)
    assert rig.stable() == V1
    assert rig.condition("Stalled") == ("True", "CanaryFailed")
    assert rig.condition("Available")[0] == "True"
    entry = rig.status["rejected"][0]
    assert (entry["version"], entry["reason"]) == (V2, "CanaryFailed")
    assert "more than maxErrorRate 0.05" in entry["message"]
    assert rig.world.events.messages("CanaryFailed") == [entry["message"]]
    await rig.cluster.run_for(120, step=10)
    assert rig.replicas() == {V1: 1, V2: 0}
    assert rig.world.events.reasons().count("RolloutStarted") == 2


async def test_ready_is_never_true_while_the_version_asked_for_does_not_serve() -> None:
    rig = await Rig().serve_first()
    rig.routers.error_rates[V2] = 0.2
    said: list[tuple[str, str]] = []

    def on_event(_: str, obj: dict[str, Any]) -> None:
        if obj["kind"] == "ModelDeployment" and obj["spec"]["model"].get("version") == V2:
            conditions = obj.get("status", {}).get("conditions", ())
            said.extend(
                (c["status"], c["reason"]) for c in conditions if c["type"] == "Ready" and obj["status"].get("rejected")
            )

    rig.world.store.on_event.append(on_event)
    await rig.name(V2)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=30)
    await rig.cluster.run_for(5)
    assert said[-1] == ("False", "CanaryFailed")
    assert {status for status, _ in said} == {"False"}


async def test_the_verdict_and_weight_zero_are_written_together() -> None:
    rig = await Rig().serve_first()
    rig.routers.error_rates[V2] = 0.5
    seen: list[tuple[bool, int]] = []

    def on_event(_: str, obj: dict[str, Any]) -> None:
        if obj["kind"] == "ModelDeployment" and "canary" in obj.get("status", {}):
            seen.append(("rejected" in obj["status"], obj["status"]["canary"]["weight"]))

    rig.world.store.on_event.append(on_event)
    await rig.name(V2)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=30)
    assert (True, 0) in seen
    assert (True, 5) not in seen


async def test_commands_by_annotation_are_executed_once() -> None:
    rig = await Rig().serve_first()
    rig.routers.per_second = 0
    await rig.name(V2)
    await rig.order("skip")
    assert rig.status["canary"]["weight"] == 50
    await rig.cluster.run_for(20)
    assert rig.status["canary"]["weight"] == 50
    await rig.order("promote", "c2")
    assert (rig.stable(), rig.status["commands"]) == (V2, ["c2", "c1"])


async def test_abort_and_retry_by_a_person() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    revision = rig.status["rollout"]["targetRevision"]
    await rig.order("abort")
    assert (rig.state, rig.stable()) == ("Rest", V1)
    assert rig.condition("Stalled") == ("True", "Aborted")
    await rig.order("retry", "c2", revision)
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    assert "rejected" not in rig.status


async def test_a_command_that_is_no_command_is_said_once() -> None:
    rig = await Rig().serve_first()
    await rig.name(V1, annotations={"perennial.dev/command": '{"verb": "destroy", "revision": "x", "id": "1"}'})
    await rig.cluster.run_for(30)
    told = rig.world.events.messages("CommandIgnored")
    assert len(told) == 1
    assert "approve, promote, abort, retry, skip" in told[0]


async def test_a_new_revision_in_the_middle_sets_weight_zero_first() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    second = rig.status["rollout"]["targetRevision"]
    await rig.name(V3)
    third = rig.status["rollout"]["targetRevision"]
    both = [w for w in rig.routers.seen_weights if w.get(second) and w.get(third)]
    assert both == []
    await rig.cluster.run_until(lambda: rig.stable() == V3)
    assert "rejected" not in rig.status
    assert "Superseded" in rig.world.events.reasons()


async def test_back_to_stable_settles_at_once() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    await rig.name(V1)
    assert rig.state == "Rest"
    assert rig.condition("Ready") == ("True", "Serving")
    assert "rejected" not in rig.status


async def test_a_canary_that_never_becomes_ready_says_why_and_ends_on_its_deadline() -> None:
    rig = await Rig().serve_first(rollout={"progressDeadlineSeconds": 60})
    rig.cluster.stuck.add(V2)
    await rig.name(V2, rollout={"progressDeadlineSeconds": 60})
    revision = rig.status["rollout"]["targetRevision"]
    await rig.world.store.create(revision_pod(rig, revision), manager="kube")
    fetch = {"name": "fetch", "state": {"terminated": {"exitCode": 65, "message": "model: the directory is empty"}}}
    rig.world.store.put_status(kinds.POD, "default", "canary-pod", {"initContainerStatuses": [fetch]})
    await rig.cluster.run_for(20)
    assert "container fetch ended with exit code 65: model: the directory is empty" in rig.words()
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=90)
    assert rig.stable() == V1
    assert rig.status["rejected"][0]["reason"] == "ProgressDeadlineExceeded"
    assert "the directory is empty" in rig.status["rejected"][0]["message"]
    assert rig.world.events.messages("ProgressDeadlineExceeded") == [rig.status["rejected"][0]["message"]]
    assert "kubectl perennial retry rain" in rig.words()


async def test_a_server_that_never_becomes_ready_is_named() -> None:
    rig = Rig()
    rig.cluster.stuck.add(V1)
    await rig.world.person(version(V1))
    await rig.name(V1, rollout={"progressDeadlineSeconds": 60})
    revision = rig.status["rollout"]["targetRevision"]
    await rig.world.store.create(revision_pod(rig, revision), manager="kube")
    server = {"name": "server", "ready": False, "state": {"running": {}}}
    rig.world.store.put_status(kinds.POD, "default", "canary-pod", {"containerStatuses": [server]})
    await rig.cluster.run_for(70)
    assert rig.condition("Stalled") == ("True", "ProgressDeadlineExceeded")
    assert rig.condition("Available")[0] == "False"
    assert "readiness probe does not pass" in rig.words()
    assert rig.world.events.messages("ProgressDeadlineExceeded") == [rig.words()]
    rig.cluster.stuck.clear()
    rig.cluster.refresh()
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)


async def test_pods_that_a_quota_refuses_are_told() -> None:
    rig = Rig()
    rig.cluster.stuck.add(V1)
    rig.cluster.refused = 'pods "x" is forbidden: exceeded quota: gpus'
    await rig.world.person(version(V1))
    await rig.name(V1)
    await rig.cluster.run_for(10)
    assert f"its pods cannot be created: {rig.cluster.refused}" in rig.words()


def revision_pod(rig: Rig, revision: str) -> dict[str, Any]:
    found = rig.world.obj(kinds.DEPLOYMENT, f"rain-rev-{revision}")
    labels = found["spec"]["template"]["metadata"]["labels"]
    meta = {"name": "canary-pod", "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}}


async def test_no_traffic_holds_and_says_how_many_requests_are_needed() -> None:
    rig = await Rig().serve_first()
    rig.routers.per_second = 0
    await rig.name(V2)
    await rig.cluster.run_for(60, step=5)
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    assert "142 without a failure are needed" in rig.words()
    assert rig.status["rollout"]["analysis"]["requestsNeeded"] == 142


async def test_routers_away_hold_the_weight() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    await rig.cluster.remove_routers()
    await rig.cluster.run_for(60, step=5)
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    assert "No router tells its counts" in rig.words()
    rig.cluster.router_pods = 2
    await rig.cluster.run_until(lambda: rig.stable() == V2)


async def test_a_silent_router_holds_a_step_but_not_the_verdict() -> None:
    rig = await Rig().serve_first()
    rig.routers.silent.add("perennial-router-rs-1")
    rig.routers.error_rates[V2] = 0.5
    await rig.name(V2)
    assert rig.state == "Shifting"
    assert "1 of 2 routers confirm" in rig.words()
    await rig.cluster.run_until(lambda: "rejected" in rig.status, seconds=60)


async def test_a_router_deaf_to_an_abort_is_deleted_after_ten_seconds() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    rig.routers.deaf.add("perennial-router-rs-0")
    await rig.order("abort")
    assert rig.state == "Withdrawing"
    await rig.cluster.run_for(8)
    assert ("delete", "Pod", "perennial-router-rs-0", "") not in rig.world.store.writes
    await rig.cluster.run_until(
        lambda: ("delete", "Pod", "perennial-router-rs-0", "") in rig.world.store.writes, seconds=5
    )
    rig.routers.deaf.clear()
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=5)


async def test_a_router_deaf_to_a_promotion_is_deleted_after_a_minute_and_the_promotion_ends() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    rig.routers.deaf.add("perennial-router-rs-0")
    await rig.order("promote")
    await rig.cluster.run_for(58)
    assert (rig.state, rig.stable()) == ("Shifting", V1)
    assert "1 of 2 routers confirm 100%" in rig.words() and "not perennial-router-rs-0." in rig.words()
    assert ("delete", "Pod", "perennial-router-rs-0", "") not in rig.world.store.writes
    await rig.cluster.run_until(lambda: rig.stable() == V2, seconds=10)
    assert ("delete", "Pod", "perennial-router-rs-0", "") in rig.world.store.writes


async def test_a_router_that_answers_every_second_look_is_counted_like_the_other() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2, rollout={"steps": [{"weight": 50, "holdSeconds": 600}]})
    await rig.cluster.run_for(8)
    before = rig.status["rollout"]["analysis"]
    for second in range(20):
        rig.routers.silent = {"perennial-router-rs-1"} if second % 2 == 0 else set()
        await rig.cluster.run_for(1)
    after = rig.status["rollout"]["analysis"]
    for arm in ("requests", "stableRequests"):
        assert after[arm] - before[arm] == pytest.approx(rig.routers.per_second * 0.5 * 20, rel=0.05)


async def test_a_stranger_with_the_routers_labels_is_not_believed() -> None:
    rig = await Rig().serve_first()
    labels = {"app.kubernetes.io/managed-by": "perennial", "perennial.dev/component": "router"}
    meta = {"name": "stranger", "namespace": "default", "labels": labels}
    await rig.world.store.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta}, manager="stranger")
    ready = [{"type": "Ready", "status": "True"}]
    rig.world.store.put_status(kinds.POD, "default", "stranger", {"podIP": "10.9.9.9", "conditions": ready})
    rig.routers.deaf.add("stranger")
    await rig.name(V2)
    assert rig.state == "Analysing"  # the stranger's deafness holds nothing up


async def test_an_envoy_that_starts_anew_is_not_counted_twice() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    await rig.cluster.run_for(8)
    before = rig.status["rollout"]["analysis"]["requests"]
    rig.routers.restart_envoy("perennial-router-rs-0")
    rig.routers.restart_envoy("perennial-router-rs-1")
    await rig.cluster.run_for(3)
    after = rig.status["rollout"]["analysis"]["requests"]
    assert before <= after <= before + 15


async def test_direct_serves_the_newest_accepted_version_and_says_which() -> None:
    rig = Rig()
    direct = {"model": {"updatePolicy": "Direct"}}
    await rig.name(None, **direct)
    assert rig.condition("Ready") == ("True", "NoVersionYet")
    await rig.world.person(version(V1))
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)
    assert rig.status["chosenVersion"] == V1
    await rig.world.person(version(V3, gate={"passed": False, "checks": GATE["checks"]}))
    await rig.world.person(version("rain-r0000000", 0))
    await rig.cluster.run_for(10)
    assert (rig.state, rig.status["chosenVersion"]) == ("Rest", V1)  # neither an unaccepted nor an older one
    await rig.world.person(version(V2))
    await rig.cluster.run_until(lambda: rig.stable() == V2, seconds=90)
    assert rig.status["chosenVersion"] == V2


async def test_direct_does_not_choose_a_rejected_version_again() -> None:
    rig = Rig()
    await rig.world.person(version(V1))
    await rig.name(None, model={"updatePolicy": "Direct"})
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)
    rig.routers.error_rates[V2] = 0.5
    await rig.world.person(version(V2))
    await rig.cluster.run_until(lambda: "rejected" in rig.status and rig.state == "Rest", seconds=60)
    await rig.cluster.run_for(30)
    assert (rig.state, rig.stable()) == ("Rest", V1)
    await rig.world.person(version(V3))
    await rig.cluster.run_until(lambda: rig.stable() == V3, seconds=90)


async def test_an_artifact_is_served_without_any_version() -> None:
    rig = Rig()
    artifact = {"uri": "s3://m/x/", "digest": "sha256:" + "e" * 64, "format": "sklearn"}
    await rig.name(None, model={"artifact": artifact})
    await rig.cluster.run_until(lambda: rig.condition("Ready") == ("True", "Serving"), seconds=30)
    assert "version" not in rig.status["stable"]
    assert rig.status["stable"]["digest"] == artifact["digest"]


async def test_a_missing_version_waits_and_is_served_when_it_comes() -> None:
    rig = Rig()
    await rig.name(V1)
    assert rig.condition("Ready") == ("False", "VersionUnknown")
    assert f"ModelVersion {V1} does not exist" in rig.words()
    assert rig.world.events.messages("VersionUnknown") == [rig.words()]
    await rig.world.person(version(V1))
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"runtime": "triton"}, "UnknownRuntime", "known: sklearn"),
        ({"model": {"updatePolicy": "Git"}}, "NoGitSync", "no GitSync of this namespace"),
        ({"model": {"name": "snow"}}, "VersionOfOtherModel", 'model "rain", not of "snow"'),
    ],
)
async def test_what_only_a_person_can_repair_stalls_in_words(spec: dict[str, Any], reason: str, words: str) -> None:
    rig = Rig()
    await rig.world.person(version(V1))
    await rig.name(V1, **spec)
    await rig.cluster.settle()
    assert rig.condition("Stalled") == ("True", reason)
    assert words in rig.words()
    assert rig.world.events.messages(reason) == [rig.words()]


async def test_git_policy_is_content_with_its_gitsync() -> None:
    rig = Rig()
    await rig.world.person(version(V1))
    await rig.world.person(
        {
            "apiVersion": "perennial.dev/v1alpha1",
            "kind": "GitSync",
            "metadata": {"name": "repo", "namespace": "default"},
            "spec": {"url": "https://x"},
        }
    )
    await rig.name(V1, model={"updatePolicy": "Git"}, labels={"perennial.dev/sync": "repo"})
    await rig.cluster.run_until(lambda: rig.condition("Ready") == ("True", "Serving"), seconds=30)


async def test_a_version_without_a_gate_is_rolled_out_with_a_warning() -> None:
    rig = Rig()
    ungated = version(V1)
    del ungated["spec"]["gate"]
    await rig.world.person(ungated)
    await rig.name(V1)
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)
    assert f"ModelVersion {V1} has no gate" in rig.world.events.messages("NotGated")[0]


async def test_a_rejection_in_git_blocks_only_that_version_for_that_deployment() -> None:
    rig = await Rig().serve_first()
    entry = {"deployment": "rain", "revision": "deadbeef", "reason": "CanaryFailed", "message": "It failed before."}
    await rig.world.person(version(V2, rejections=[entry]))
    await rig.name(V2)
    assert rig.condition("Stalled") == ("True", "CanaryFailed")
    assert "It failed before." in rig.words()
    await rig.world.person(version(V2, rejections=[{**entry, "deployment": "another"}]))
    await rig.cluster.run_until(lambda: rig.stable() == V2)


async def test_a_changed_runtime_table_touches_nothing_that_serves() -> None:
    rig = await Rig().serve_first()
    revision = rig.status["stable"]["revision"]
    rig.runtimes["sklearn"] = {"formats": ["sklearn"], "image": "perennial-sklearn:2", "port": 9000}
    rig.world.restart()
    await rig.cluster.run_for(30)
    assert (rig.state, rig.status["stable"]["revision"]) == ("Rest", revision)
    await rig.name(V1, resources={"requests": {"cpu": "1"}})
    await rig.cluster.run_until(lambda: rig.status["stable"]["revision"] != revision)
    made = rig.world.obj(kinds.DEPLOYMENT, f"rain-rev-{rig.status['stable']['revision']}")
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "perennial-sklearn:2"


async def test_the_autoscaler_follows_stable_and_never_shrinks_it_during_a_canary() -> None:
    scaling = {"scaling": {"minReplicas": 1, "maxReplicas": 6}}
    rig = await Rig().serve_first(**scaling)
    first = rig.status["stable"]["revision"]
    hpa = rig.world.obj(kinds.HPA, "rain")["spec"]
    assert (hpa["scaleTargetRef"]["name"], hpa["minReplicas"]) == (f"rain-rev-{first}", 1)
    await rig.world.store.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"rain-rev-{first}", "namespace": "default"},
            "spec": {"replicas": 4},
        },
        manager="hpa",
        force=True,
    )
    await rig.name(V2, **scaling)
    assert rig.world.obj(kinds.HPA, "rain")["spec"]["minReplicas"] == 4
    assert rig.replicas() == {V1: 4, V2: 1}
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    await rig.cluster.settle()
    hpa = rig.world.obj(kinds.HPA, "rain")["spec"]
    assert hpa["scaleTargetRef"]["name"] == f"rain-rev-{rig.status['stable']['revision']}"
    assert hpa["minReplicas"] == 1
    assert rig.replicas()[V2] == 4
    await rig.name(V2)
    assert not rig.world.store.all(kinds.HPA)


@pytest.mark.parametrize("killed", [False, True])
async def test_an_autoscaler_is_removed_though_the_change_also_names_another_version(killed: bool) -> None:
    rig = await Rig().serve_first(scaling={"minReplicas": 1, "maxReplicas": 6})
    assert rig.world.store.all(kinds.HPA)
    if killed:
        rig.world.restart()
    await rig.name(V2, replicas=2)
    assert rig.state == "Analysing"
    assert not rig.world.store.all(kinds.HPA)


class Scripted:
    """A metrics source that answers one number, or nothing."""

    def __init__(self, value: float | None) -> None:
        self.value = value

    async def query(self, source: str, query: str, *, at: Any = None) -> MetricSample:
        return MetricSample(self.value, "no series")


@pytest.mark.parametrize(("value", "stable", "reason"), [(0.9, V2, None), (0.1, V1, "CanaryFailed")])
async def test_a_prometheus_check_may_abort_or_let_through(value: float, stable: str, reason: str | None) -> None:
    check = {"name": "auc", "prometheus": {"source": "main", "query": "auc"}, "min": "0.5"}
    rig = await Rig(metrics=Scripted(value)).serve_first(analysis={"metrics": [check]})
    await rig.name(V2, analysis={"metrics": [check]})
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=120)
    assert rig.stable() == stable
    assert [r["reason"] for r in rig.status.get("rejected", [])] == ([reason] if reason else [])


async def test_a_metric_without_data_holds() -> None:
    check = {"name": "auc", "prometheus": {"source": "main", "query": "auc"}, "min": "0.5"}
    rig = await Rig(metrics=Scripted(None)).serve_first(analysis={"metrics": [check]})
    await rig.name(V2, analysis={"metrics": [check]})
    await rig.cluster.run_for(40, step=5)
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    assert "metric auc has no data" in rig.words()


async def test_a_strangers_service_of_our_name_is_left_alone() -> None:
    rig = Rig()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "rain", "namespace": "default"}, "spec": {}}
    await rig.world.store.create(service, manager="stranger")
    await rig.world.person(version(V1))
    await rig.name(V1)
    assert rig.condition("Stalled") == ("True", "NameTaken")
    assert "ownerReferences" not in rig.world.obj(kinds.SERVICE, "rain")["metadata"]


async def test_a_pod_that_the_server_refuses_stalls_with_its_words() -> None:
    rig = Rig()
    rig.cluster.router_pods = 0
    await rig.world.person(version(V1))
    rig.world.store.fail("create", Invalid("Invalid", "spec.volumes[3]: must be unique"), kind=kinds.POD, times=999)
    await rig.name(V1)
    assert rig.condition("Stalled") == ("True", "Invalid")
    assert "must be unique" in rig.words()


async def test_a_canary_that_the_server_refuses_keeps_nothing_else_from_being_done() -> None:
    rig = await Rig().serve_first()
    rig.world.store.fail("create", Invalid("Invalid", "violates PodSecurity restricted"), kind=kinds.POD, times=999)
    await rig.name(V2)
    assert rig.condition("Stalled") == ("True", "Invalid")
    await rig.name(V2, replicas=3)
    revision = rig.status["stable"]["revision"]
    assert rig.world.obj(kinds.DEPLOYMENT, f"rain-rev-{revision}")["spec"]["replicas"] == 3


async def test_a_refusal_that_lasts_is_written_once() -> None:
    rig = Rig()
    rig.cluster.router_pods = 0
    await rig.world.person(version(V1))
    rig.world.store.fail("create", Invalid("Invalid", "spec.volumes[3]: must be unique"), kind=kinds.POD, times=999)
    await rig.name(V1)
    since, written = rig.status["conditions"], len(rig.world.store.writes)
    await rig.cluster.run_for(120, step=5)
    assert rig.status["conditions"] == since
    assert [w for w in rig.world.store.writes[written:] if w[1] == "ModelDeployment"] == []


async def test_routers_hang_on_what_every_deployment_owns_and_go_with_the_last() -> None:
    rig = await Rig().serve_first()
    other = deployment(V1)
    other["metadata"]["name"] = "rain-two"
    before = len(rig.world.store.writes)
    await rig.world.person(other)
    await rig.cluster.settle()
    anchor = rig.world.obj(kinds.CONFIG_MAP, "perennial-router")["metadata"]
    assert {o["name"] for o in anchor["ownerReferences"]} == {"rain", "rain-two"}
    assert not any(o.get("controller") for o in anchor["ownerReferences"])
    owners = rig.world.obj(kinds.DEPLOYMENT, "perennial-router")["metadata"]["ownerReferences"]
    assert [o["uid"] for o in owners] == [anchor["uid"]]
    touched = [write[1] for write in rig.world.store.writes[before:] if write[2] == "perennial-router"]
    assert touched == ["ConfigMap"]  # a newcomer costs one small write, however many routers' objects there are
    await rig.world.store.delete(kinds.MODEL_DEPLOYMENT, "default", "rain", uid=None)
    await rig.cluster.settle()
    assert rig.world.store.all(kinds.SECRET)
    await rig.world.store.delete(kinds.MODEL_DEPLOYMENT, "default", "rain-two", uid=None)
    await rig.cluster.settle()
    left = {o["kind"] for o in rig.world.store.all()}
    assert left == {"ModelVersion"}


async def test_routers_come_back_when_what_they_hang_on_was_removed_by_hand() -> None:
    rig = await Rig().serve_first()
    await rig.world.store.delete(kinds.CONFIG_MAP, "default", "perennial-router", uid=None)
    await rig.cluster.settle()
    anchor = rig.world.obj(kinds.CONFIG_MAP, "perennial-router")["metadata"]
    for kind in (kinds.DEPLOYMENT, kinds.SECRET, kinds.SERVICE_ACCOUNT, kinds.ROLE_BINDING, kinds.NETWORK_POLICY):
        assert rig.world.obj(kind, "perennial-router")["metadata"]["ownerReferences"][-1]["uid"] == anchor["uid"]


async def test_routers_removed_by_hand_come_back() -> None:
    rig = await Rig().serve_first()
    token = rig.world.obj(kinds.SECRET, "perennial-router")["data"]
    await rig.world.store.delete(kinds.DEPLOYMENT, "default", "perennial-router", uid=None)
    await rig.cluster.settle()
    assert rig.world.obj(kinds.DEPLOYMENT, "perennial-router")
    assert rig.world.obj(kinds.SECRET, "perennial-router")["data"] == token


async def test_unreachable_routers_are_replaced_one_at_a_time_after_an_abort_and_only_once() -> None:
    """The operator may be the one that is cut off: serving must outlive that."""
    rig = await Rig().serve_first()
    await rig.name(V2)
    rig.routers.silent |= {f"perennial-router-rs-{number}" for number in range(9)}
    ready: list[int] = []

    def on_event(type_: str, obj: dict[str, Any]) -> None:
        if type_ == "DELETED" and obj["kind"] == "Pod":
            left = [p for p in rig.world.store.all(kinds.POD) if p["metadata"]["name"].startswith("perennial-router")]
            ready.append(len(left))

    rig.world.store.on_event.append(on_event)
    await rig.order("abort")
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
    await rig.cluster.run_for(120, step=10)
    assert ready == [1, 1]


async def test_a_canary_costs_few_writes_a_second() -> None:
    rig = await Rig().serve_first()
    rig.routers.per_second = 10
    await rig.name(V2)
    await rig.cluster.run_for(10)
    before, asked = len(rig.world.store.writes), rig.routers.collected
    await rig.cluster.run_for(30)
    assert rig.state == "Analysing"
    assert len(rig.world.store.writes) - before <= 60
    assert rig.routers.collected - asked <= 31


async def test_other_replicas_scale_stable_without_a_rollout() -> None:
    rig = await Rig().serve_first()
    revision = rig.status["stable"]["revision"]
    await rig.name(V1, replicas=3)
    assert rig.replicas() == {V1: 3}
    assert (rig.state, rig.status["stable"]["revision"], rig.status["replicas"]) == ("Rest", revision, 3)


async def test_what_people_write_freely_never_makes_the_status_invalid() -> None:
    rig = Rig()
    odd = {"deployment": "rain", "reason": "it was bad!", "message": "Do not use."}
    await rig.world.person(version(V1))
    await rig.world.person(version(V2, rejections=[odd]))
    await rig.name(V1, annotations={"perennial.dev/commit": "not a commit"})
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=30)
    assert "commit" not in rig.status["history"][0]
    await rig.name(V2)
    assert rig.condition("Stalled") == ("True", "CanaryFailed")
    assert "Do not use." in rig.words()


async def test_a_deployment_whose_children_were_deleted_by_hand_gets_them_back() -> None:
    rig = await Rig().serve_first()
    revision = rig.status["stable"]["revision"]
    for kind in (kinds.DEPLOYMENT, kinds.SERVICE):
        await rig.world.store.delete(kind, "default", f"rain-rev-{revision}", uid=None)
    await rig.world.store.delete(kinds.SERVICE, "default", "rain", uid=None)
    await rig.cluster.settle()
    assert rig.world.obj(kinds.DEPLOYMENT, f"rain-rev-{revision}")
    assert rig.world.obj(kinds.SERVICE, "rain")
    assert rig.condition("Ready") == ("True", "Serving")


async def test_counting_begins_right_at_the_end_of_the_warm_up() -> None:
    rig = await Rig().serve_first(analysis={"warmupSeconds": 3, "periodSeconds": 2})
    await rig.name(V2, analysis={"warmupSeconds": 3, "periodSeconds": 2})
    verified = parse_time(rig.status["rollout"]["weightVerifiedTime"])
    await rig.cluster.run_until(lambda: rig.status["rollout"]["analysis"]["requests"] > 0, seconds=20)
    tally = rig.status["rollout"]["evidence"]["tallies"][0]
    began = (rig.world.clock.now() - verified).total_seconds() - tally["milliseconds"] / 1000
    assert began == pytest.approx(3.0, abs=0.1)
