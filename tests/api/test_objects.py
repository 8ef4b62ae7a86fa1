"""Defaults, limits, printed columns, subresources and field ownership on a real API server."""

from typing import Any

import pytest

from perennial.api.kinds import DRIFT_POLICY, GIT_SYNC, MODEL_DEPLOYMENT, MODEL_VERSION, TRAINING_JOB, Kind, find
from perennial.api.v1alpha1 import RESOURCES
from tests.api.cases import FACTS, Patch, merged, spec_object
from tests.api.server import APPLY, TABLE, ApiServer, Refused, path_of
from tests.unit.api.samples import DIGEST, MINIMAL, minimal
from tests.unit.api.test_defaults import DEFAULTS

T = "2026-11-01T10:00:00Z"


def kind_of(name: str) -> Kind:
    kind = find("perennial.dev/v1alpha1", name)
    assert kind is not None
    return kind


def create(server: ApiServer, namespace: str, whole: dict[str, Any]) -> dict[str, Any]:
    return server.request("POST", path_of(kind_of(whole["kind"]), namespace), whole, fieldValidation="Strict")


def apply_status(
    server: ApiServer, namespace: str, kind: Kind, name: str, status: Patch, manager: str = "perennial-test"
) -> dict[str, Any]:
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "status": status}
    path = path_of(kind, namespace, name, "status")
    return server.request("PATCH", path, body, content=APPLY, fieldManager=manager, force="true")


def condition(type_: str, status: str = "True", reason: str = "Fine") -> Patch:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": "All is well.",
        "lastTransitionTime": T,
        "observedGeneration": 1,
    }


@pytest.mark.parametrize("kind", MINIMAL)
def test_the_server_fills_in_the_defaults_of_the_design(api_server: ApiServer, namespace: str, kind: str):
    made = create(api_server, namespace, minimal(kind, "defaults"))
    assert made["spec"] == {**MINIMAL[kind], **DEFAULTS[kind]}
    assert made["status"] == {"observedGeneration": -1}
    resource = next(resource for resource in RESOURCES if resource.__name__ == kind)
    assert resource.model_validate(made).spec == resource.model_validate(minimal(kind)).spec  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", MINIMAL)
def test_an_unknown_field_is_refused_by_name(api_server: ApiServer, namespace: str, kind: str):
    with pytest.raises(Refused, match=r'unknown field \\?"spec.perodSeconds'):
        create(api_server, namespace, spec_object(kind, {"perodSeconds": 5}, "unknown"))


@pytest.mark.parametrize(
    ("kind", "patch", "words"),
    [
        ("GitSync", {"prune": None}, "spec.prune: Required value"),
        ("GitSync", {"periodSeconds": 0}, "should be greater than or equal to 1"),
        ("GitSync", {"url": "--upload-pack=x"}, "spec.url in body should match"),
        ("GitSync", {"url": "file:///etc"}, "spec.url in body should match"),
        ("GitSync", {"path": "-x"}, "spec.path in body should match"),
        ("GitSync", {"path": "/etc"}, "spec.path in body should match"),
        ("GitSync", {"ref": {"branch": "-x"}}, "spec.ref.branch in body should match"),
        ("TrainingJob", {"gate": None}, "spec.gate: Required value"),
        ("TrainingJob", {"gate": []}, "spec.gate in body should have at least 1 items"),
        ("TrainingJob", {"datasets": []}, "spec.datasets in body should have at least 1 items"),
        ("TrainingJob", {"gate": [{"metric": "auc", "min": "high"}]}, "min in body should match"),
        ("TrainingJob", {"gate": [{"metric": "auc", "min": 0.8}]}, "must be of type string"),
        ("TrainingJob", {"output": {"uri": "https://b/models/"}}, "spec.output.uri in body should match"),
        ("TrainingJob", {"datasets": [{"name": "a", "uri": "file:///etc/"}]}, "uri in body should match"),
        ("TrainingJob", {"datasets": [{"name": "a", "uri": "https://me:secret@b/x"}]}, "uri in body should match"),
        ("TrainingJob", {"resources": {"limits": {"nvidia.com/gpu": "one"}}}, "should match"),
        ("TrainingJob", {"template": {"securityContext": {"runAsUser": 0}}}, "greater than or equal to 1"),
        ("ModelVersion", {"artifact": {"digest": "sha256:abc"}}, "spec.artifact.digest in body should match"),
        ("ModelVersion", {"artifact": {"digest": None}}, "spec.artifact.digest: Required value"),
        ("ModelDeployment", {"rollout": {"steps": [{"weight": 100}]}}, "should be less than or equal to 99"),
        ("ModelDeployment", {"rollout": {"steps": [{"weight": i} for i in range(1, 22)]}}, "at most 20 items"),
        ("ModelDeployment", {"rollout": {"steps": []}}, "at least 1 items"),
        ("ModelDeployment", {"rollout": {"scaleDownDelaySeconds": 5}}, "greater than or equal to 30"),
        ("ModelDeployment", {"model": {"updatePolicy": "Auto"}}, 'supported values: "Manual", "Git", "Direct"'),
        ("ModelDeployment", {"model": {"name": "a" * 31}}, "Too long: may not be more than 30 bytes"),
        ("ModelDeployment", {"model": {"servedName": "a/b"}}, "spec.model.servedName in body should match"),
        ("ModelDeployment", {"model": {"servedName": "a" * 64}}, "Too long: may not be more than 63 bytes"),
        ("ModelDeployment", {"traffic": {"gateway": {"parentRefs": []}}}, "should have at least 1 items"),
        (
            "ModelDeployment",
            {"traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["a..b"]}}},
            "spec.traffic.gateway.hostnames[0] in body should match",
        ),
        ("DriftPolicy", {"schedule": {"cron": "@daily"}}, "spec.schedule.cron"),
        ("DriftPolicy", {"test": {"alpha": "-0.1"}}, "spec.test.alpha in body should match"),
    ],
)
def test_a_value_beyond_its_limit_is_refused(
    api_server: ApiServer, namespace: str, kind: str, patch: Patch, words: str
):
    with pytest.raises(Refused) as refused:
        create(api_server, namespace, spec_object(kind, patch, "limits"))
    assert words in str(refused.value)


def test_entries_with_the_same_name_are_refused(api_server: ApiServer, namespace: str):
    twice = [{"name": "a", "uri": "s3://b/a/"}, {"name": "a", "uri": "s3://b/b/"}]
    with pytest.raises(Refused, match=r"spec\.datasets\[1\]: Duplicate value"):
        create(api_server, namespace, spec_object("TrainingJob", {"datasets": twice}, "twice"))


def test_quantities_are_integers_or_strings(api_server: ApiServer, namespace: str):
    limits = {"nvidia.com/gpu": 1, "memory": "2Gi", "cpu": "500m"}
    made = create(api_server, namespace, spec_object("TrainingJob", {"resources": {"limits": limits}}, "quantities"))
    assert made["spec"]["resources"]["limits"] == limits


def test_pod_extras_are_kept_as_they_are(api_server: ApiServer, namespace: str):
    template = {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    made = create(api_server, namespace, spec_object("ModelDeployment", {"template": template}, "extras"))
    assert made["spec"]["template"] == template


def test_status_is_not_written_with_the_spec_nor_the_spec_with_the_status(api_server: ApiServer, namespace: str):
    for resource in RESOURCES:
        kind = resource.resource_kind
        made = create(api_server, namespace, {**minimal(kind.kind, "sub"), "status": {"observedGeneration": 7}})
        assert made["status"] == {"observedGeneration": -1}
        path = path_of(kind, namespace, "sub", "status")
        changed = merged(made, {"status": {"observedGeneration": 1}, "spec": {"suspend": True}})
        stored = api_server.request("PUT", path, changed)
        assert stored["status"]["observedGeneration"] == 1
        assert stored["spec"] == made["spec"]
        assert stored["metadata"]["generation"] == made["metadata"]["generation"]


def test_a_status_that_was_applied_is_read_back_unchanged_and_a_second_apply_writes_nothing(
    api_server: ApiServer, namespace: str
):
    create(api_server, namespace, minimal("ModelDeployment", "same"))
    status = {
        "observedGeneration": 1,
        "conditions": [condition("Available"), condition("Ready")],
        "stable": {"revision": "3f9a2c1b", "version": "rain-r3f9a2c1b", "digest": DIGEST, "replicas": 1},
        "traffic": [{"revision": "3f9a2c1b", "weight": 100}],
        "trafficVersion": 1,
    }
    first = apply_status(api_server, namespace, MODEL_DEPLOYMENT, "same", status)
    second = apply_status(api_server, namespace, MODEL_DEPLOYMENT, "same", status)
    assert first["status"] == status
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_conditions_of_two_managers_do_not_overwrite_each_other(api_server: ApiServer, namespace: str):
    create(api_server, namespace, minimal("GitSync", "managers"))
    apply_status(api_server, namespace, GIT_SYNC, "managers", {"conditions": [condition("Ready")]}, "one")
    both = apply_status(api_server, namespace, GIT_SYNC, "managers", {"conditions": [condition("SourceReady")]}, "two")
    assert {c["type"] for c in both["status"]["conditions"]} == {"Ready", "SourceReady"}


def test_a_condition_that_is_no_longer_applied_is_gone(api_server: ApiServer, namespace: str):
    create(api_server, namespace, minimal("TrainingJob", "gone"))
    busy = {"conditions": [condition("Ready"), condition("Reconciling")]}
    apply_status(api_server, namespace, TRAINING_JOB, "gone", busy)
    after = apply_status(api_server, namespace, TRAINING_JOB, "gone", {"conditions": [condition("Ready")]})
    assert [c["type"] for c in after["status"]["conditions"]] == ["Ready"]


def test_a_status_apply_with_a_stale_resource_version_is_a_conflict(api_server: ApiServer, namespace: str):
    made = create(api_server, namespace, minimal("GitSync", "stale"))
    apply_status(api_server, namespace, GIT_SYNC, "stale", {"observedGeneration": 1})
    body = {
        "apiVersion": GIT_SYNC.api_version,
        "kind": "GitSync",
        "metadata": {"name": "stale", "resourceVersion": made["metadata"]["resourceVersion"]},
        "status": {"observedGeneration": 2},
    }
    with pytest.raises(Refused) as refused:
        path = path_of(GIT_SYNC, namespace, "stale", "status")
        api_server.request("PATCH", path, body, content=APPLY, fieldManager="perennial-test", force="true")
    assert refused.value.code == 409


def test_a_status_field_that_the_schema_does_not_know_is_refused(api_server: ApiServer, namespace: str):
    create(api_server, namespace, minimal("GitSync", "strange"))
    with pytest.raises(Refused, match="field not declared in schema"):
        apply_status(api_server, namespace, GIT_SYNC, "strange", {"mood": "good"})


def test_a_model_version_made_by_training_and_then_synced_from_git_is_no_conflict(
    api_server: ApiServer, namespace: str
):
    whole = {**spec_object("ModelVersion", FACTS, "rain-r3f9a2c1b")}
    api_server.request("POST", path_of(MODEL_VERSION, namespace), whole, fieldManager="perennial-training-job")
    path = path_of(MODEL_VERSION, namespace, "rain-r3f9a2c1b")
    synced = merged(whole, {"spec": {"proposed": [{"deployment": "rain", "time": T}]}})
    after = api_server.request("PATCH", path, synced, content=APPLY, fieldManager="perennial-git-sync")
    assert after["spec"]["proposed"] == [{"deployment": "rain", "time": T}]
    reverted = api_server.request("PATCH", path, whole, content=APPLY, fieldManager="perennial-git-sync")
    assert "proposed" not in reverted["spec"]
    assert reverted["spec"] == whole["spec"]


def test_the_largest_baseline_fits(api_server: ApiServer, namespace: str):
    features = [
        {
            "name": f"feature-{i}",
            "kind": "Numeric",
            "edges": [f"{edge}.25" for edge in range(31)],
            "low": "0",
            "high": "31",
            "counts": [1000] * 32,
            "noise": "0.1",
        }
        for i in range(256)
    ]
    whole = spec_object("ModelVersion", {"baseline": {"rows": 32000, "features": features}}, "largest")
    made = create(api_server, namespace, whole)
    assert len(made["spec"]["baseline"]["features"]) == 256
    made["metadata"]["labels"] = {"touched": "yes"}
    api_server.request("PUT", path_of(MODEL_VERSION, namespace, "largest"), made)


def test_scale_reads_and_writes_replicas(api_server: ApiServer, namespace: str):
    create(api_server, namespace, minimal("ModelDeployment", "scaled"))
    path = path_of(MODEL_DEPLOYMENT, namespace, "scaled", "scale")
    apply_status(
        api_server,
        namespace,
        MODEL_DEPLOYMENT,
        "scaled",
        {"replicas": 1, "selector": "perennial.dev/deployment=scaled"},
    )
    scale = api_server.request("GET", path)
    assert scale["spec"]["replicas"] == 1
    assert scale["status"] == {"replicas": 1, "selector": "perennial.dev/deployment=scaled"}
    api_server.request("PUT", path, merged(scale, {"spec": {"replicas": 3}}))
    stored = api_server.request("GET", path_of(MODEL_DEPLOYMENT, namespace, "scaled"))
    assert stored["spec"]["replicas"] == 3


ROWS: list[tuple[Kind, Patch, Patch, dict[str, Any]]] = [
    (
        GIT_SYNC,
        {},
        {"conditions": [condition("Ready", reason="Synced")], "lastAppliedRevision": "main@sha1:abc", "objects": 12},
        {"Ready": "True", "Revision": "main@sha1:abc", "Objects": 12, "Status": "Synced"},
    ),
    (
        TRAINING_JOB,
        {},
        {
            "conditions": [condition("Succeeded"), condition("Ready", reason="Training")],
            "run": {"id": "3f9a2c1b", "attempt": 2, "request": {"id": "a1", "kind": "Drift", "policy": "rain"}},
            "metric": "roc_auc=0.86",
            "lastVersion": "rain-r3f9a2c1b",
        },
        {
            "Status": "Training",
            "Attempt": 2,
            "Metric": "roc_auc=0.86",
            "Version": "rain-r3f9a2c1b",
            "Trigger": "Drift",
        },
    ),
    (
        MODEL_VERSION,
        FACTS,
        {"deployments": ["rain"]},
        {"Model": "rain", "Gate": True, "Metrics": '{"auc":"0.86"}', "Serving": '["rain"]'},
    ),
    (
        MODEL_DEPLOYMENT,
        {},
        {
            "conditions": [condition("Ready", "False", "CanaryRunning")],
            "stable": {"revision": "3f9a2c1b", "version": "rain-r3f9a2c1b", "digest": DIGEST},
            "canary": {"revision": "77aa2c1b", "version": "rain-r77aa2c1b", "weight": 25},
            "rollout": {"id": "a1", "targetRevision": "77aa2c1b", "step": 2, "steps": 3, "progress": "2/3"},
            "url": "http://rain.default",
            "history": [{"revision": "3f9a2c1b", "promotedTime": T, "commit": "a" * 40}],
        },
        {
            "Ready": "False",
            "Stable": "rain-r3f9a2c1b",
            "Canary": "rain-r77aa2c1b",
            "Weight": 25,
            "Step": "2/3",
            "Status": "CanaryRunning",
            "URL": "http://rain.default",
            "Digest": DIGEST,
            "Commit": "a" * 40,
        },
    ),
    (
        DRIFT_POLICY,
        {},
        {
            "state": "Drifted",
            "effect": "0.287",
            "threshold": "0.22",
            "window": {"samples": 365},
            "lastTrigger": {"id": "a1", "trainingJobTime": T},
        },
        {"Target": "rain", "State": "Drifted", "Effect": "0.287", "Threshold": "0.22", "Samples": 365},
    ),
]


@pytest.mark.parametrize(("kind", "patch", "status", "row"), ROWS, ids=lambda value: getattr(value, "kind", ""))
def test_printed_columns(
    api_server: ApiServer, namespace: str, kind: Kind, patch: Patch, status: Patch, row: dict[str, Any]
):
    create(api_server, namespace, spec_object(kind.kind, patch, "printed"))
    apply_status(api_server, namespace, kind, "printed", status)
    table = api_server.request("GET", path_of(kind, namespace, "printed"), accept=TABLE)
    cells = dict(zip((c["name"] for c in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True))
    assert {name: cells[name] for name in row} == row
    for name in ("Age", "Finished", "Last-Retrain"):
        assert cells.get(name, "set") not in ("", "<unknown>", None)


def test_all_kinds_answer_to_their_category_and_short_names(api_server: ApiServer):
    served = api_server.request("GET", "/apis/perennial.dev/v1alpha1")["resources"]
    mine = [entry for entry in served if "/" not in entry["name"]]
    assert {entry["shortNames"][0] for entry in mine} == {"gsync", "tjob", "mver", "mdep", "drift"}
    assert all(entry["categories"] == ["perennial"] for entry in mine)


def test_the_largest_inventory_fits(api_server: ApiServer, namespace: str):
    create(api_server, namespace, minimal("GitSync", "inventory"))
    inventory = [{"apiVersion": "v1", "kind": "ConfigMap", "name": f"settings-{i:05}"} for i in range(5000)]
    stored = apply_status(api_server, namespace, GIT_SYNC, "inventory", {"objects": 5000, "inventory": inventory})
    assert stored["status"]["inventory"] == inventory
    with pytest.raises(Refused, match="must have at most 5000 items"):
        apply_status(api_server, namespace, GIT_SYNC, "inventory", {"inventory": [*inventory, inventory[0]]})
