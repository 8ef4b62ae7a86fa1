"""Pairs of one object that a CEL rule accepts and one that only this rule refuses.

`good` and `bad` are merged into the smallest valid object of the kind (None removes a field, lists replace). With `old`
the rule compares with an earlier object: `old` is made first, then good and bad are tried as its update.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tests.unit.api.samples import DIGEST, minimal

Patch = dict[str, Any]
OTHER_DIGEST = "sha256:" + "b" * 64


@dataclass(frozen=True)
class Case:
    """One rule of `kind`, found by its message."""

    kind: str
    message: str
    good: Patch
    bad: Patch
    old: Patch | None = None
    label: str = ""

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.label or self.message[:50]}"


def merged(base: Any, patch: Any) -> Any:
    """`base` with `patch` laid over it, as a JSON merge patch does."""
    if not isinstance(patch, dict) or not isinstance(base, dict):
        return deepcopy(patch)
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key, {}), value)
    return result


def spec_object(kind: str, patch: Patch, name: str = "rain") -> dict[str, Any]:
    """The smallest valid object of `kind` with `patch` laid over its spec."""
    whole = minimal(kind, name)
    return {**whole, "spec": merged(whole["spec"], patch)}


EXACTLY = "exactly one of "


def env(*entries: Patch) -> Patch:
    return {"env": list(entries)}


def _git_sync() -> list[Case]:
    kind = "GitSync"
    ref = EXACTLY + "branch, tag, semver, name and commit must be set"
    credentials = "url may not contain credentials: put them into the Secret that secretRef names"
    follow = "a following GitSync writes nothing back: writeBack.method must be None with follow"
    branch = "write-back needs ref.branch: a tag or a commit cannot move"
    return [
        Case(kind, ref, {"ref": {"tag": "v1"}}, {"ref": {"branch": "main", "tag": "v1"}}, label="ref two"),
        Case(kind, ref, {"ref": {"semver": ">=1.0.0"}}, {"ref": {}}, label="ref none"),
        Case(kind, ref, {"ref": {"commit": "a" * 40}}, {"ref": {"commit": "a" * 40, "name": "refs/heads/x"}}),
        Case(kind, credentials, {"url": "ssh://git@git.example/m.git"}, {"url": "https://me:secret@git.example/m.git"}),
        Case(
            kind,
            credentials,
            {"url": "ssh://git@git.example:22/m.git"},
            {"url": "ssh://git:secret@git.example/m.git"},
            label="credentials ssh",
        ),
        Case(kind, follow, {"follow": True}, {"follow": True, "writeBack": {"method": "Commit"}}),
        Case(
            kind,
            branch,
            {"ref": {"branch": "prod"}, "writeBack": {"method": "Commit"}},
            {"ref": {"tag": "v1"}, "writeBack": {"method": "Commit"}},
        ),
        Case(kind, "path may not contain '..'", {"path": "models/..prod/a..b"}, {"path": "models/../prod"}),
    ]


def _volumes(kind: str) -> list[Case]:
    """Which volumes the pods of a kind may have."""

    def volumes(*items: Patch) -> Patch:
        return {"template": {"volumes": list(items)}}

    def mount(name: str) -> Patch:
        return {"template": {"volumeMounts": [{"name": name, "mountPath": "/data"}]}}

    allowed = (
        {"name": "a", "configMap": {"name": "a"}},
        {"name": "b", "secret": {"secretName": "b"}},
        {"name": "c", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "d"}},
        {"name": "e", "projected": {"sources": [{"configMap": {"name": "a"}}]}},
        {"name": "f", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "g", "csi": {"driver": "a.example"}},
        {"name": "h", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
        {"name": "i", "image": {"reference": "registry/files:1"}},
    )
    host = "hostPath may not be used: it reaches files of the node; use a persistentVolumeClaim or ephemeral instead"
    exactly = (
        "exactly one of configMap, secret, emptyDir, persistentVolumeClaim, projected, downwardAPI, csi, ephemeral "
        "and image must be set; other kinds of volumes are refused"
    )
    ours = "name may not start with perennial-: those volumes are the operator's"
    return [
        Case(kind, host, volumes(*allowed), volumes({"name": "x", "hostPath": {"path": "/"}}), label="hostPath"),
        Case(
            kind,
            host,
            volumes({"name": "x", "emptyDir": {}}),
            volumes({"name": "x", "emptyDir": {}, "hostPath": {"path": "/"}}),
            label="hostPath beside another",
        ),
        Case(kind, exactly, volumes(*allowed), volumes({"name": "x"}), label="no volume type"),
        Case(
            kind,
            exactly,
            volumes(*allowed),
            volumes({"name": "x", "emptyDir": {}, "secret": {"secretName": "b"}}),
            label="two volume types",
        ),
        Case(
            kind,
            ours,
            volumes({"name": "x", "emptyDir": {}}),
            volumes({"name": "perennial-model", "emptyDir": {}}),
            label="volume of the operator",
        ),
        Case(kind, ours, mount("x"), mount("perennial-model"), label="mount of the operator"),
    ]


def _training_job() -> list[Case]:
    kind = "TrainingJob"
    dataset = {"name": "train", "uri": "s3://b/rain/train/"}
    evaluation = {"name": "newest", "uri": "s3://b/rain/eval/", "use": "Evaluate"}
    champion = [{"metric": "log_loss", "champion": {"maxIncrease": "0"}}]
    whole = {"gate": champion, "evaluate": {"args": ["--evaluate"]}, "datasets": [dataset, evaluation]}
    gate = EXACTLY + "min, max and champion must be set"
    bounds = EXACTLY + "maxIncrease, maxDecrease, minIncrease and minDecrease must be set"
    base = EXACTLY + "version and uri must be set"
    variable = EXACTLY + "value and valueFrom must be set"
    secret = {"secretKeyRef": {"name": "store", "key": "token"}}
    again = "else the training itself would run again"
    nodes = "more than one node needs stage, or a digest on every dataset, so that all nodes see the same data"
    hyperparameters = (
        "names of hyperparameters must have at most 63 letters, digits, '_', '.' or '-' and start with a letter or '_'"
    )
    labels = "keys may not be app.kubernetes.io/managed-by or start with perennial.dev/: the operator sets those"
    return [
        Case(
            kind,
            gate,
            {"gate": [{"metric": "auc", "min": "0.8"}, {"metric": "auc", "max": "0.99"}]},
            {"gate": [{"metric": "auc", "min": "0.8", "max": "0.9"}]},
        ),
        Case(kind, gate, {"gate": [{"metric": "auc", "max": "1"}]}, {"gate": [{"metric": "auc"}]}, label="gate none"),
        Case(kind, bounds, whole, {**whole, "gate": [{"metric": "auc", "champion": {}}]}),
        Case(
            kind,
            bounds,
            {**whole, "gate": [{"metric": "auc", "champion": {"minIncrease": "0.01"}}]},
            {**whole, "gate": [{"metric": "auc", "champion": {"minIncrease": "0.01", "minDecrease": "0"}}]},
            label="champion two",
        ),
        Case(
            kind,
            "a champion check needs evaluate, which runs for the candidate and for the champion",
            whole,
            {**whole, "evaluate": None},
        ),
        Case(
            kind,
            "a champion check needs at least one dataset with use Evaluate, which neither model was fitted on",
            whole,
            {**whole, "datasets": [dataset, {**evaluation, "use": "Both"}]},
        ),
        Case(
            kind,
            "queue needs stage: without it Kueue would evict every run while its data is still being fetched",
            {"queue": {"name": "gpu"}, "stage": {"claim": "staging"}},
            {"queue": {"name": "gpu"}},
        ),
        Case(kind, nodes, {"nodes": 2, "datasets": [{**dataset, "digest": DIGEST}]}, {"nodes": 2}),
        Case(
            kind,
            nodes,
            {"nodes": 2, "stage": {"claim": "staging"}},
            {"nodes": 2, "datasets": [{**dataset, "digest": DIGEST}, evaluation]},
            label="nodes one pinned",
        ),
        Case(kind, base, {"base": {"version": "rain-r3f9a2c1b"}}, {"base": {}}),
        Case(
            kind,
            base,
            {"base": {"uri": "s3://b/base/", "digest": DIGEST}},
            {"base": {"version": "rain-r3f9a2c1b", "uri": "s3://b/base/", "digest": DIGEST}},
            label="base both",
        ),
        Case(
            kind,
            "uri and digest must be set together",
            {"base": {"uri": "s3://b/base/", "digest": DIGEST}},
            {"base": {"uri": "s3://b/base/"}},
        ),
        Case(kind, variable, env({"name": "A", "value": ""}), env({"name": "A"})),
        Case(
            kind,
            variable,
            env({"name": "A", "valueFrom": secret}),
            env({"name": "A", "value": "x", "valueFrom": secret}),
            label="env both",
        ),
        Case(
            kind,
            "name may not start with PERENNIAL_: the operator sets those",
            env({"name": "MY_PERENNIAL_X", "value": "x"}),
            env({"name": "PERENNIAL_X", "value": "x"}),
        ),
        Case(
            kind,
            f"at least one of image, command and args must be set, {again}",
            {"validate": {"image": "tests:1"}},
            {"validate": {}},
        ),
        Case(
            kind,
            f"at least one of command and args must be set, {again}",
            {"evaluate": {"command": ["evaluate"]}},
            {"evaluate": {}},
        ),
        Case(
            kind,
            "a request of kind Drift must name its policy",
            {"request": {"id": "a1", "kind": "Drift", "policy": "rain"}},
            {"request": {"id": "a1", "kind": "Drift"}},
        ),
        Case(
            kind,
            hyperparameters,
            {"hyperparameters": {"learning_rate": "0.1"}},
            {"hyperparameters": {"learning rate": "1"}},
        ),
        Case(
            kind,
            hyperparameters,
            {"hyperparameters": {"a" * 63: "1"}},
            {"hyperparameters": {"a" * 64: "1"}},
            label="hyperparameters long",
        ),
        Case(
            kind,
            labels,
            {"template": {"labels": {"team": "weather"}}},
            {"template": {"labels": {"perennial.dev/run": "x"}}},
        ),
        Case(
            kind,
            labels,
            {"template": {"labels": {"app.kubernetes.io/name": "x"}}},
            {"template": {"labels": {"app.kubernetes.io/managed-by": "x"}}},
            label="labels managed-by",
        ),
        *_volumes(kind),
    ]


NUMERIC = {"name": "wind", "kind": "Numeric", "edges": ["0", "1.5"], "counts": [1, 2, 3]}
CATEGORICAL = {"name": "sky", "kind": "Categorical", "categories": ["clear", "rain"], "counts": [5, 1, 0]}
T1, T2, T3 = (f"2026-11-0{day}T10:00:00Z" for day in (1, 2, 3))
FACTS: Patch = {
    "metrics": {"auc": "0.86"},
    "championMetrics": {"auc": "0.84"},
    "gate": {"passed": True, "checks": [{"metric": "auc", "rule": "at least 0.8", "outcome": "Passed"}]},
    "lineage": {"trainingJob": "rain-train", "finishedTime": T1, "request": {"id": "a1", "kind": "Manual"}},
    "samples": {"uri": "s3://models/rain/samples/s.csv", "digest": OTHER_DIGEST, "rows": 6},
    "baseline": {"rows": 6, "features": [NUMERIC, CATEGORICAL], "prediction": {**NUMERIC, "name": "prediction"}},
}
CHANGED: Patch = {
    "model": "snow",
    "artifact": {"digest": OTHER_DIGEST},
    "metrics": {"auc": "0.87"},
    "championMetrics": {"f1": "0.5"},
    "gate": {"passed": False},
    "lineage": {"finishedTime": T2},
    "samples": {"rows": 7},
    "baseline": {"rows": 7},
}


def baseline(*features: Patch) -> Patch:
    return {"baseline": {"rows": 6, "features": list(features)}}


def _model_version() -> list[Case]:
    kind = "ModelVersion"
    numeric = "a Numeric histogram must have edges, no categories, and one count more than edges"
    categorical = "a Categorical histogram must have categories, no edges, and one count more than categories"
    cases = [
        Case(kind, numeric, baseline(NUMERIC), baseline({**NUMERIC, "counts": [1, 2]}), label="numeric counts"),
        Case(
            kind,
            numeric,
            baseline({"name": "constant", "kind": "Numeric", "edges": [], "counts": [6]}),
            baseline({"name": "wind", "kind": "Numeric", "counts": [6]}),
            label="numeric without edges",
        ),
        Case(kind, numeric, baseline(NUMERIC), baseline({**NUMERIC, "categories": ["a", "b"]}), label="numeric both"),
        Case(kind, categorical, baseline(CATEGORICAL), baseline({**CATEGORICAL, "counts": [5, 1]})),
        Case(
            kind, categorical, baseline(CATEGORICAL), baseline({**CATEGORICAL, "edges": ["1", "2"]}), label="cat both"
        ),
        Case(
            kind,
            EXACTLY + "version and uri must be set",
            {"lineage": {"base": {"version": "rain-r3f9a2c1b"}}},
            {"lineage": {"base": {}}},
        ),
        Case(
            kind,
            "uri and digest must be set together",
            {"lineage": {"base": {"uri": "s3://b/base/", "digest": DIGEST}}},
            {"lineage": {"base": {"version": "rain-r3f9a2c1b", "digest": DIGEST}}},
        ),
    ]
    return cases + _immutable_facts(kind) + _records(kind)


def _immutable_facts(kind: str) -> list[Case]:
    unchanged = "a ModelVersion's facts may not change: make a new ModelVersion instead"
    cases = [
        Case(kind, unchanged, FACTS, merged(FACTS, {fact: change}), old=FACTS, label=f"{fact} changed")
        for fact, change in CHANGED.items()
    ]
    for fact in FACTS:
        message = f"{fact} may not be added or removed later: make a new ModelVersion instead"
        without = {name: value for name, value in FACTS.items() if name != fact}
        cases.append(Case(kind, message, without, FACTS, old=without, label=f"{fact} added"))
        cases.append(Case(kind, message, FACTS, {**FACTS, fact: None}, old=FACTS, label=f"{fact} removed"))
    return cases


def _records(kind: str) -> list[Case]:
    kept = "entries of served may be added and closed, but not removed"
    closed = "an entry with toTime is closed and may not change: add a new entry instead"
    open_entry = {"deployment": "rain", "fromTime": T1}
    closed_entry = {**open_entry, "toTime": T2, "requests": 100}
    second = {"deployment": "rain", "fromTime": T3}
    return [
        Case(
            kind,
            kept,
            {"served": [open_entry, {**second, "deployment": "other"}]},
            {"served": [second]},
            old={"served": [open_entry]},
        ),
        Case(kind, kept, {"served": [open_entry]}, {"served": None}, old={"served": [open_entry]}, label="served gone"),
        Case(
            kind, kept, {"served": [open_entry]}, {"served": []}, old={"served": [open_entry]}, label="served emptied"
        ),
        Case(
            kind,
            closed,
            {"served": [closed_entry, second]},
            {"served": [{**closed_entry, "toTime": T3}]},
            old={"served": [closed_entry]},
        ),
        Case(
            kind,
            closed,
            {"served": [closed_entry]},
            {"served": [open_entry]},
            old={"served": [closed_entry]},
            label="served reopened",
        ),
    ]


def _gateway() -> list[Case]:
    """What traffic.gateway needs, and what it excludes."""
    kind = "ModelDeployment"
    metric = {"name": "errors", "prometheus": {"source": "main", "query": "up"}, "max": "0.01"}
    gateway = {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["*.example.org"]}}

    def through(analysis: Patch, rollout: Patch | None = None, **traffic: Any) -> Patch:
        checks = {"metrics": [metric], **analysis}
        return {"rollout": {"analysis": checks, **(rollout or {})}, "traffic": {**gateway, **traffic}}

    needed = (
        "traffic.gateway needs at least one entry in rollout.analysis.metrics: the routers do not count requests "
        "through a Gateway, so metrics decide"
    )
    excluded = (
        (
            "rollout.analysis.latency",
            "the routers do not time requests through a Gateway; use an entry of rollout.analysis.metrics",
            through({"latency": {"maxMilliseconds": 100}}),
        ),
        (
            "rollout.analysis.predictions",
            "the routers do not read answers through a Gateway",
            through({"predictions": {}}),
        ),
        (
            "rollout.mirrorPercent",
            "the routers cannot copy requests through a Gateway",
            through({}, {"mirrorPercent": 20}),
        ),
        ("traffic.override", "only the routers let a request choose its revision", through({}, override=True)),
        ("traffic.stickyHeader", "only the routers keep callers on their revision", through({}, stickyHeader="x-user")),
    )
    return [
        Case(kind, needed, through({}), through({"metrics": []})),
        *(Case(kind, f"{field} may not be set with traffic.gateway: {why}", through({}), bad)
          for field, why, bad in excluded),
    ]  # fmt: skip


def _model_deployment() -> list[Case]:
    kind = "ModelDeployment"
    artifact = {"uri": "s3://b/m/", "digest": DIGEST, "format": "sklearn"}
    server = {"image": "server:1"}
    rising = "weights of steps must rise strictly, from 1 to 99; 100 follows by itself"
    replicas = "replicas and scaling may not both be set: remove replicas, or remove scaling"
    prometheus = {"source": "main", "query": "up"}

    def steps(*weights: int) -> Patch:
        return {"rollout": {"steps": [{"weight": weight} for weight in weights]}}

    def analysis(**fields: Any) -> Patch:
        return {"rollout": {"analysis": fields}}

    return [
        Case(
            kind,
            "version and artifact may not both be set: remove one of them",
            {"model": {"artifact": artifact}},
            {"model": {"artifact": artifact, "version": "rain-r3f9a2c1b"}},
        ),
        Case(
            kind,
            "version may not be set with updatePolicy Direct, which chooses the version itself: remove version, or use "
            "updatePolicy Manual or Git",
            {"model": {"updatePolicy": "Git", "version": "rain-r3f9a2c1b"}},
            {"model": {"updatePolicy": "Direct", "version": "rain-r3f9a2c1b"}},
        ),
        Case(
            kind,
            "artifact serves exactly what it names: updatePolicy must be Manual with it",
            {"model": {"updatePolicy": "Direct"}},
            {"model": {"updatePolicy": "Direct", "artifact": artifact}},
        ),
        Case(
            kind,
            "runtime and container may not both be set: remove one of them",
            {"container": server},
            {"runtime": "sklearn", "container": server},
        ),
        Case(kind, replicas, {"scaling": {"maxReplicas": 3}}, {"scaling": {"maxReplicas": 3}, "replicas": 2}),
        Case(
            kind,
            "minReplicas must be at most maxReplicas",
            {"scaling": {"minReplicas": 3, "maxReplicas": 3}},
            {"scaling": {"minReplicas": 4, "maxReplicas": 3}},
        ),
        Case(kind, rising, steps(1, 2, 99), steps(5, 5), label="steps equal"),
        Case(kind, rising, steps(*range(1, 21)), steps(5, 25, 10), label="steps falling"),
        Case(
            kind,
            "maxErrorRate must be greater than 0 and less than 1",
            analysis(maxErrorRate="0.001"),
            analysis(maxErrorRate="0"),
        ),
        Case(
            kind,
            "maxErrorRate must be greater than 0 and less than 1",
            analysis(maxErrorRate="0.999"),
            analysis(maxErrorRate="1.0"),
            label="maxErrorRate 1",
        ),
        Case(kind, "maxErrorRatio must be at least 1", analysis(maxErrorRatio="1"), analysis(maxErrorRatio="0.99")),
        Case(kind, "alpha must be greater than 0 and at most 0.5", analysis(alpha="0.5"), analysis(alpha="0.51")),
        Case(
            kind,
            "alpha must be greater than 0 and at most 0.5",
            analysis(alpha="0.0001"),
            analysis(alpha="0"),
            label="alpha 0",
        ),
        Case(
            kind,
            "maxSeconds must be greater than warmupSeconds",
            analysis(maxSeconds=6),
            analysis(maxSeconds=5),
        ),
        Case(
            kind,
            "maxDistance must be greater than 0",
            analysis(predictions={"maxDistance": "0.001"}),
            analysis(predictions={"maxDistance": "0.0"}),
        ),
        Case(
            kind,
            "rollout.analysis.predictions reads what models answer: observation.samplePercent and "
            "observation.maxBodyBytes must be greater than 0 with it",
            {**analysis(predictions={}), "observation": {"samplePercent": 1, "maxBodyBytes": 1}},
            {**analysis(predictions={}), "observation": {"samplePercent": 0}},
        ),
        Case(
            kind,
            "rollout.analysis.predictions reads what models answer: observation.samplePercent and "
            "observation.maxBodyBytes must be greater than 0 with it",
            {**analysis(), "observation": {"maxBodyBytes": 0}},
            {**analysis(predictions={}), "observation": {"maxBodyBytes": 0}},
            label="maxBodyBytes 0",
        ),
        Case(
            kind,
            "rollout.analysis.predictions and traffic.stickyHeader may not both be set: callers who keep a revision "
            "ask canary and stable different things",
            {**analysis(), "traffic": {"stickyHeader": "x-user"}},
            {**analysis(predictions={}), "traffic": {"stickyHeader": "x-user"}},
        ),
        Case(
            kind,
            "at least one of min and max must be set",
            analysis(metrics=[{"name": "a", "prometheus": prometheus, "min": "0", "max": "1"}]),
            analysis(metrics=[{"name": "a", "prometheus": prometheus}]),
        ),
        Case(
            kind,
            EXACTLY + "value and valueFrom must be set",
            {"container": {**server, **env({"name": "A", "value": "x"})}},
            {"container": {**server, **env({"name": "A"})}},
        ),
        Case(
            kind,
            "name may not start with PERENNIAL_: the operator sets those",
            {"container": {**server, **env({"name": "A", "value": "x"})}},
            {"container": {**server, **env({"name": "PERENNIAL_A", "value": "x"})}},
        ),
        Case(
            kind,
            "keys may not be app.kubernetes.io/managed-by or start with perennial.dev/: the operator sets those",
            {"template": {"labels": {"perennial.de/x": "y"}}},
            {"template": {"labels": {"perennial.dev/revision": "y"}}},
        ),
        *_volumes(kind),
    ]


def _drift_policy() -> list[Case]:
    kind = "DriftPolicy"
    prometheus = {"source": "main", "query": "up"}
    performance = {"dataset": {"uri": "s3://b/labels/"}, "metric": "auc"}
    retrain = {"trainingJobRef": {"name": "rain-train"}}
    source = EXACTLY + "observations, prometheus and performance must be set"
    limit = EXACTLY + "max and min must be set"
    metric = EXACTLY + "min, max, maxDecrease and maxIncrease must be set"
    names = "names must be set with include Listed, and only then"
    action = "action Retrain or Propose needs retrain with a trainingJobRef"
    cooldown = "retrain.cooldownSeconds must be at least window.seconds"
    alpha = "alpha must be greater than 0 and at most 0.5"
    by_performance = {"source": {"performance": {**performance, "min": "0.8"}}, "retrain": retrain}
    return [
        Case(
            kind,
            source,
            {"source": {"observations": {}}},
            {"source": {"observations": {}, "prometheus": {**prometheus, "max": "1"}}},
        ),
        Case(kind, source, {"source": {"prometheus": {**prometheus, "max": "1"}}}, {"source": {}}, label="source none"),
        Case(
            kind,
            limit,
            {"source": {"prometheus": {**prometheus, "min": "1"}}},
            {"source": {"prometheus": {**prometheus, "min": "1", "max": "2"}}},
        ),
        Case(
            kind,
            metric,
            by_performance,
            merged(by_performance, {"source": {"performance": {"maxDecrease": "0.1"}}}),
        ),
        Case(
            kind,
            "source.performance needs retrain with the trainingJobRef whose evaluate scores the data",
            by_performance,
            {**by_performance, "retrain": None},
        ),
        Case(kind, names, {"features": {"include": "Listed", "names": ["wind"]}}, {"features": {"include": "Listed"}}),
        Case(
            kind,
            names,
            {"features": {"include": "None"}},
            {"features": {"include": "None", "names": ["wind"]}},
            label="names with None",
        ),
        Case(
            kind,
            "exclude needs include All",
            {"features": {"exclude": ["wind"]}},
            {"features": {"include": "None", "exclude": ["wind"]}},
        ),
        Case(
            kind,
            "features.include None needs prediction true, else nothing would be tested",
            {
                "features": {"include": "None", "prediction": False},
                "schedule": {"cron": "0 3 * * 0", "action": "Notify"},
            },
            {"features": {"include": "None", "prediction": False}},
        ),
        Case(kind, "effect must be greater than 0", {"test": {"effect": "0.01"}}, {"test": {"effect": "0"}}),
        Case(kind, alpha, {"test": {"alpha": "0.5"}}, {"test": {"alpha": "0.6"}}),
        Case(
            kind,
            "offsetSeconds must be less than seconds",
            {"window": {"seconds": 60, "offsetSeconds": 59}},
            {"window": {"seconds": 60, "offsetSeconds": 60}},
        ),
        Case(kind, action, {"action": "Retrain", "retrain": retrain}, {"action": "Retrain"}),
        Case(kind, action, {"action": "Propose", "retrain": retrain}, {"action": "Propose"}, label="Propose"),
        Case(
            kind,
            "schedule.action Retrain or Propose needs retrain with a trainingJobRef",
            {"schedule": {"cron": "0 3 * * 0"}, "retrain": retrain},
            {"schedule": {"cron": "0 3 * * 0"}},
        ),
        Case(
            kind,
            cooldown,
            {"window": {"seconds": 604800}, "retrain": {**retrain, "cooldownSeconds": 604800}},
            {"window": {"seconds": 604800}, "retrain": retrain},
        ),
    ]


def _model_names() -> list[Case]:
    message = (
        "a model's name may not start with 'perennial-', contain '-rev-' or '-run-', or end with '-rev' or '-run', "
        "because its versions are named after it"
    )

    def named(kind: str, name: str) -> Patch:
        return {"model": {"name": name}} if kind == "ModelDeployment" else {"model": name}

    return [
        Case(kind, message, named(kind, "revenue-runner"), named(kind, "rain-run"), label="model name")
        for kind in ("TrainingJob", "ModelVersion", "ModelDeployment")
    ]


CASES = (
    *_git_sync(),
    *_training_job(),
    *_model_version(),
    *_model_deployment(),
    *_gateway(),
    *_drift_policy(),
    *_model_names(),
)
