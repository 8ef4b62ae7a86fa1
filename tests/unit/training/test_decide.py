"""Properties of decide over random worlds: it never fails, comes to rest, and every status is well formed."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.api.names import LABEL_RUN
from perennial.domain.conditions import MAX_MESSAGE_BYTES
from perennial.domain.training.champion import Champion
from perennial.domain.training.decide import decide
from perennial.domain.training.record import parse_record, record_line
from perennial.domain.training.run import identity, job_name
from perennial.domain.training.world import CreateAttempt, CreateVersion, DeleteJob, Publication, World

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
SPEC: dict[str, Any] = {
    "model": "rain",
    "image": "i:1",
    "datasets": [{"name": "train", "uri": "s3://b/t/"}],
    "output": {"uri": "s3://b/m/", "format": "sklearn"},
    "gate": [{"metric": "auc", "min": "0.8"}],
    "retry": {"maxAttempts": 2, "backoffSeconds": 10},
    "deadlineSeconds": 3600,
    "pendingSeconds": 600,
    "historyLimit": 1,
}
RECORD = parse_record(
    record_line({"artifact": {"uri": "s3://b/m/x/", "digest": DIGEST, "sizeBytes": 1, "format": "sklearn"}}),
    output_uri="s3://b/m/",
)
TIMES = st.sampled_from(
    ["2026-11-25T09:00:00Z", "2026-11-25T11:55:00Z", "2026-11-25T12:00:00Z", "2026-11-25T12:05:00Z"]
)
STATES = st.one_of(
    st.just({}),
    st.builds(lambda at: {"running": {"startedAt": at}}, TIMES),
    st.builds(lambda reason: {"waiting": {"reason": reason}}, st.sampled_from(["ImagePullBackOff", "PodInitializing"])),
    st.builds(
        lambda code, at: {"terminated": {"exitCode": code, "startedAt": at, "finishedAt": at}},
        st.sampled_from([0, 1, 65, 75, 137]),
        TIMES,
    ),
)


def _owner() -> dict[str, Any]:
    return {"controller": True, "uid": "owner"}


def _job(name: str, run: str, conditions: list[str], ours: bool) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {LABEL_RUN: run},
            "creationTimestamp": "2026-11-25T11:00:00Z",
            "ownerReferences": [_owner()] if ours else [],
        },
        "status": {"conditions": [{"type": t, "status": "True", "message": "said"} for t in conditions]},
    }


@st.composite
def worlds(draw: st.DrawFn) -> World:
    champion = draw(st.booleans())
    spec = {**SPEC, "suspend": draw(st.booleans())}
    if champion:
        spec["gate"] = [{"metric": "auc", "champion": {"minIncrease": "0"}}]
        spec["evaluate"] = {"command": ["x"]}
    run_id = draw(st.sampled_from([identity(spec).id, "deadbeef"]))
    attempt = draw(st.integers(0, 3))
    status: dict[str, Any] = {}
    if draw(st.booleans()):
        run: dict[str, Any] = {
            "id": run_id,
            "recipe": "r1",
            "specHash": run_id * 8,
            "attempt": attempt,
            "failedAttempts": draw(st.integers(0, 2)),
            "startedTime": draw(TIMES),
            "attemptTime": draw(TIMES),
            "job": job_name("t", run_id, max(attempt, 1)),
            "datasets": [],
        }
        if draw(st.booleans()):
            run["runningTime"] = draw(TIMES)
        status = {"run": run, "history": []}
        if draw(st.integers(0, 4)) == 0:
            run["finishedTime"] = draw(TIMES)
            outcome = draw(st.sampled_from(["Succeeded", "TrainingFailed", "GateFailed", "AlreadyMade"]))
            status["history"] = [{"id": run_id, "outcome": outcome, "startedTime": run["startedTime"], "message": "m"}]
    children = {}
    if draw(st.booleans()):
        kinds = draw(st.sampled_from([[], ["Complete"], ["Failed"]]))
        children[""] = _job(job_name("t", run_id, max(attempt, 1)), run_id, kinds, draw(st.integers(0, 9)) > 0)
    pods = [
        {
            "metadata": {"name": "p", "uid": "p"},
            "spec": {"initContainers": [{"name": "fetch"}, {"name": "train"}], "containers": [{"name": "publish"}]},
            "status": {
                "initContainerStatuses": [{"name": name, "state": draw(STATES)} for name in ("fetch", "train")],
                "containerStatuses": [{"name": "publish", "state": draw(STATES)}],
            },
        }
        for _ in range(draw(st.integers(0, 1)) if children else 0)
    ]
    leftovers = [
        _job(f"old-{n}", "0ld", draw(st.sampled_from([[], ["Failed"]])), True) for n in range(draw(st.integers(0, 2)))
    ]
    version = None
    if draw(st.integers(0, 3)) == 0:
        version = {
            "metadata": {"name": f"rain-r{run_id}"},
            "spec": {
                "lineage": {"run": draw(st.sampled_from([run_id, "x"]))},
                "gate": {"passed": draw(st.booleans()), "checks": []},
            },
        }
    return World(
        job={
            "metadata": {"name": "t", "namespace": "n", "uid": "owner", "generation": 3},
            "spec": spec,
            "status": status,
        },
        version=version,
        champion=draw(
            st.sampled_from(
                [None, Champion("None"), Champion("Unknown", message="m"), Champion("Known", "v", DIGEST, "s3://b/c/")]
            )
        ),
        children=children,
        owned=[*leftovers, *children.values()],
        pods=pods,
        publication=draw(
            st.sampled_from([None, Publication(RECORD), Publication(problem="p"), Publication(problem="p", lost=True)])
        ),
    )


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_every_decision_is_well_formed(world: World) -> None:
    decision = decide(world, NOW)
    conditions = {c["type"]: c for c in decision.status["conditions"]}
    assert "Ready" in conditions
    if "Stalled" in conditions:
        assert conditions["Stalled"]["status"] == "True"
        assert conditions["Ready"]["status"] == "False"
    for condition in conditions.values():
        assert len(condition["message"].encode()) <= MAX_MESSAGE_BYTES
        assert condition["observedGeneration"] == world.job["metadata"]["generation"]
    assert len(decision.actions) <= 1
    run = decision.status.get("run") or {}
    is_over = bool(run.get("finishedTime"))
    assert ("Succeeded" in conditions) == (is_over and run["id"] == identity(world.spec).id)
    settled = is_over or "Suspended" in conditions["Ready"]["reason"]
    assert settled or decision.requeue_after is not None, "a run that goes on must be looked at again"


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_irreversible_acts_carry_out_what_the_status_read_already_said(world: World) -> None:
    decision = decide(world, NOW)
    recorded = world.recorded.get("run") or {}
    for action in decision.actions:
        if world.spec["suspend"] and isinstance(action, DeleteJob):
            assert not recorded or recorded.get("finishedTime") or recorded["id"] == identity(world.spec).id
        else:
            assert recorded.get("id") == identity(world.spec).id, "nothing is done for a run that is not recorded"
        if isinstance(action, CreateAttempt):
            assert recorded["attempt"] >= 1
            assert action.run == recorded
            assert not world.children
            assert not recorded.get("finishedTime")
            assert not world.spec["suspend"]
        if isinstance(action, CreateVersion):
            assert world.version is None
            assert action.name == f"rain-r{recorded['id']}"
        if isinstance(action, DeleteJob):
            assert action.name in {job["metadata"]["name"] for job in world.owned}


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_deciding_again_on_the_status_written_comes_to_rest(world: World) -> None:
    """Only the status changes between passes: after a few the status stays, whatever the actions are."""
    seen = world
    for _ in range(8):
        decision = decide(seen, NOW)
        job = {**seen.job, "status": decision.status}
        current = (decision.status.get("run") or {}).get("id")
        attempt = (decision.status.get("run") or {}).get("attempt")
        same = (current, attempt) == (
            (seen.recorded.get("run") or {}).get("id"),
            (seen.recorded.get("run") or {}).get("attempt"),
        )
        following = World(
            job=job,
            version=seen.version if current == identity(seen.spec).id and same else None,
            champion=seen.champion,
            children=seen.children if same else {},
            owned=seen.owned,
            pods=seen.pods if same else (),
            publication=seen.publication,
        )
        if decision.status == seen.recorded:
            return
        seen = following
    raise AssertionError(f"no rest: {decide(seen, NOW).status} after {seen.recorded}")
