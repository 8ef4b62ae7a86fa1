"""The health that Argo CD and Flux see in statuses as our own decisions write them, for each kind."""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from perennial.controllers.model_version import readiness
from perennial.domain.conditions import merged
from perennial.domain.drift.decide import decide as decide_drift
from perennial.domain.drift.world import Champion
from perennial.domain.errors import Stalled, Transient
from perennial.domain.rollout.world import Untargeted
from perennial.domain.sync.decide import Seen, status_of, suspended_status
from perennial.domain.sync.documents import SourceError
from perennial.domain.sync.spec import SyncSpec
from perennial.domain.training.decide import decide as decide_training
from perennial.domain.training.world import World as TrainingWorld
from tests.fakes.drift import Sim, baseline_of
from tests.unit.api.test_health_checks import argo_health, flux_health
from tests.unit.rollout.play import Play, spec_of
from tests.unit.training.test_decide import SPEC as TRAINING

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TEXT = "2026-11-26T12:00:00Z"
SYNC = SyncSpec("ns", "main", "u", 3, "http://git/rain.git", prune=True)
COMMIT = "a" * 40
Json = dict[str, Any]


def whole(spec: Json, status: Json) -> Json:
    """The object as the API server shows it, of the generation that the status is about."""
    return {"metadata": {"name": "it", "generation": status["observedGeneration"]}, "spec": spec, "status": status}


def deployment(
    *, until: str = "Rest", error_rate: float = 0.0, stuck: bool = False, suspend: bool = False, **spec: Any
) -> Json:
    """A second version beside a first one, until the rollout is in that state."""
    play = Play(spec=spec_of(progressDeadlineSeconds=20, **spec)).begin()
    play.error_rates["bbbbbbbb"] = error_rate
    play.spec["suspend"] = suspend
    if stuck:
        play.stuck.add("bbbbbbbb")
    play.settle()
    play.run(100, until=until)
    return whole(play.spec, play.status)


def first_deployment(asked: Any = None, *, stuck: bool = False) -> Json:
    """A first version, or none, after its deadline."""
    play = Play(spec=spec_of(progressDeadlineSeconds=20))
    play.target = asked or play.target
    play.stuck = {"aaaaaaaa"} if stuck else set()
    play.settle()
    play.tick(25)
    return whole(play.spec, play.status)


def training(*, outcome: str = "", suspend: bool = False, passes: int = 3) -> Json:
    """A TrainingJob some passes after it was made, or after its run ended."""
    job: Json = {"metadata": {"name": "t", "namespace": "n", "uid": "u", "generation": 3}, "spec": dict(TRAINING)}
    job["spec"]["suspend"] = suspend
    for _ in range(passes):
        job["status"] = copy.deepcopy(dict(decide_training(TrainingWorld(job=job), NOW).status))
    if outcome:
        run = job["status"]["run"]
        run["finishedTime"] = TEXT
        entry = {"id": run["id"], "outcome": outcome, "startedTime": run["startedTime"], "message": "That is why."}
        job["status"]["history"] = [entry]
        job["status"] = dict(decide_training(TrainingWorld(job=job), NOW).status)
    return whole(job["spec"], job["status"])


def version(**artifact: str) -> Json:
    """A ModelVersion."""
    spec = {"model": "rain", "artifact": artifact}
    conditions = merged((), readiness({"spec": spec}), generation=3, now=TEXT)
    return whole(spec, {"observedGeneration": 3, "conditions": conditions})


def sync(**seen: Any) -> Json:
    """A GitSync after a pass."""
    return whole({}, status_of({}, SYNC, Seen(**{"commit": COMMIT, **seen}), NOW))


def suspended_sync() -> Json:
    """A GitSync that has applied a commit and was suspended then."""
    status = sync(whole=True)["status"]
    return whole({"suspend": True}, suspended_status(status, replace(SYNC, generation=4, suspend=True), NOW))


def policy(*, found: bool = True, **spec: Any) -> Json:
    """A DriftPolicy before its first window closes."""
    champion = Champion("r1", "v1", NOW.timestamp(), baseline_of(1), "", {})
    sim = Sim({"p": spec}, seconds=60, start=int(NOW.timestamp()), champion=champion)
    world = sim.world("p")
    decided = decide_drift(world if found else replace(world, deployment=None), NOW)
    return whole(sim.policies["p"]["spec"], dict(decided.decision.status))


DIGEST = "sha256:" + "0" * 64
SOURCE = Stalled("NotFound", "http://git/rain.git was not found")
NO_VERSION = Untargeted("NoVersionYet", "spec.model.version is not set.")
UNKNOWN = Untargeted("VersionUnknown", "ModelVersion v9 does not exist.", version="v9")
GOOD, DOING, BAD = ("Healthy", "current"), ("Progressing", "inProgress"), ("Degraded", "failed")
ERROR = SourceError("models/x.yaml", 1, "not valid YAML")
CASES: dict[str, tuple[str, Callable[[], Json], tuple[str, str]]] = {
    "canary in progress": ("ModelDeployment", lambda: deployment(until="Analysing"), DOING),
    "canary held": (
        "ModelDeployment",
        lambda: deployment(until="Approval", steps=[{"weight": 50, "approval": True}]),
        DOING,
    ),
    "promoted": ("ModelDeployment", deployment, GOOD),
    "failed canary": ("ModelDeployment", lambda: deployment(error_rate=0.5), BAD),
    "canary without pods": ("ModelDeployment", lambda: deployment(stuck=True), BAD),
    "no version yet": ("ModelDeployment", lambda: first_deployment(NO_VERSION), GOOD),
    "unknown version": ("ModelDeployment", lambda: first_deployment(UNKNOWN), DOING),
    "first version without pods": ("ModelDeployment", lambda: first_deployment(stuck=True), BAD),
    "suspended with another version": ("ModelDeployment", lambda: deployment(suspend=True), ("Suspended", "")),
    "run recorded": ("TrainingJob", lambda: training(passes=1), GOOD),
    "run goes on": ("TrainingJob", training, GOOD),
    "run succeeded": ("TrainingJob", lambda: training(outcome="Succeeded"), GOOD),
    "run failed": ("TrainingJob", lambda: training(outcome="TrainingFailed"), BAD),
    "gate failed": ("TrainingJob", lambda: training(outcome="GateFailed"), BAD),
    "run suspended": ("TrainingJob", lambda: training(suspend=True), ("Suspended", "current")),
    "complete record": ("ModelVersion", lambda: version(uri="s3://b/m/", digest=DIGEST), GOOD),
    "record without digest": ("ModelVersion", lambda: version(uri="s3://b/m/"), BAD),
    "applied": ("GitSync", lambda: sync(whole=True), GOOD),
    "being applied": ("GitSync", lambda: sync(working=True), DOING),
    "no repository": ("GitSync", lambda: sync(commit=None, source=SOURCE), BAD),
    "repository away": ("GitSync", lambda: sync(source=Transient("Unreachable", "git does not answer")), DOING),
    "bad manifest": ("GitSync", lambda: sync(errors=[ERROR]), BAD),
    "sync suspended": ("GitSync", suspended_sync, ("Suspended", "current")),
    "watching": ("DriftPolicy", policy, GOOD),
    "no deployment": ("DriftPolicy", lambda: policy(found=False), DOING),
    "policy suspended": ("DriftPolicy", lambda: policy(suspend=True), ("Suspended", "current")),
}


@pytest.mark.parametrize("case", CASES)
def test_health(case: str) -> None:
    kind, make, expected = CASES[case]
    made = make()
    assert (argo_health(kind, made)[0], flux_health(kind, made)) == expected
    for condition in made["status"]["conditions"]:
        assert condition["observedGeneration"] == made["metadata"]["generation"]
    made["metadata"]["generation"] += 1
    assert flux_health(kind, made) == "inProgress"
    assert argo_health(kind, made)[0] == ("Suspended" if expected[0] == "Suspended" else "Progressing")
    assert not kubectl_wait(made, "Ready")


def test_every_kind_has_each_sort_of_health() -> None:
    assert {kind for kind, _, _ in CASES.values()} == {
        "GitSync", "TrainingJob", "ModelVersion", "ModelDeployment", "DriftPolicy",
    }  # fmt: skip


def kubectl_wait(obj: Json, type_: str) -> bool:
    """Whether `kubectl wait --for=condition=TYPE` ends: a condition of an older generation does not count."""
    for condition in obj["status"]["conditions"]:
        if condition["type"].lower() == type_.lower():
            if condition.get("observedGeneration", 0) < obj["metadata"]["generation"]:
                return False
            return str(condition["status"]).lower() == "true"
    return False
