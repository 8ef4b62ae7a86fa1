"""Decisions become commits in a real repository, each exactly once, whatever happens in between."""

import asyncio
from collections.abc import Mapping
from typing import Any

from perennial.api import kinds
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Unavailable
from perennial.domain.sync.documents import parse_file
from tests.component.sync.conftest import Bench, config_map, deployment
from tests.fakes.world import World

MDEP, MVER = kinds.MODEL_DEPLOYMENT, kinds.MODEL_VERSION
NAMED = {"name": "rain", "namespace": "default"}
WRITES = {"writeBack": {"method": "Commit"}}


def version(name: str, day: int, *, passed: bool = True, **spec: Any) -> JsonObject:
    """A ModelVersion as a training run makes it."""
    return {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": "rain",
            "artifact": {"uri": f"s3://b/{name}", "digest": "sha256:" + name[-1] * 64, "format": "sklearn"},
            "metrics": {"roc_auc": "0.86"},
            "championMetrics": {"roc_auc": "0.81"},
            "gate": {"passed": passed, "checks": [{"metric": "roc_auc", "outcome": "Passed"}]},
            "lineage": {
                "trainingJob": "rain-train",
                "run": name[-1] * 8,
                "request": {"id": "abcd1234", "kind": "Drift", "policy": "rain-drift"},
                "datasets": [{"name": "train", "uri": "s3://b/d", "digest": "sha256:" + "d" * 64}],
                "finishedTime": f"2026-11-{day:02}T10:00:00Z",
            },
            "baseline": {
                "rows": 10,
                "features": [{"name": "x", "kind": "Numeric", "edges": ["0.5"], "counts": [5, 5]}],
            },
            **spec,
        },
    }


async def train(world: World, name: str, day: int, **spec: Any) -> None:
    """A training run ends with a version."""
    await world.store.create(version(name, day, **spec), manager="perennial-training-job")
    await world.settle()


def serve(world: World, name: str, **status: Any) -> None:
    """What the ModelDeployment's controller would report: `name` is stable and its commit is the one that lives."""
    obj = world.obj(MDEP, "rain")
    old = [h for h in (obj["status"].get("history") or []) if h["version"] != name]
    commit = obj["metadata"]["annotations"]["perennial.dev/commit"]
    entry = {"version": name, "revision": f"rev{name[-1]}", "commit": commit, "promotedTime": _promoted(name)}
    report(world, stable={"version": name, "revision": f"rev{name[-1]}"}, history=[entry, *old], **status)


def _promoted(name: str) -> str:
    return f"2026-11-26T0{name[-1]}:00:00Z"


def report(world: World, **status: Any) -> None:
    """Write the ModelDeployment's status; keys set to None go."""
    obj = world.obj(MDEP, "rain")
    merged = {**obj["status"], "observedGeneration": obj["metadata"]["generation"], **status}
    world.store.put_status(MDEP, "default", "rain", {k: v for k, v in merged.items() if v is not None})


async def began(bench: Bench, **spec: Any) -> World:
    """A repository with a ModelDeployment without a version, synced."""
    bench.person.push({"app/d.yaml": deployment(), "app/other.yaml": config_map("other")}, "Begin")
    world = await bench.start(**(WRITES | spec))
    report(world)
    await world.settle()
    return world


async def first_served(bench: Bench) -> World:
    """v1 was trained, proposed, promoted and recorded."""
    world = await began(bench)
    await train(world, "rain-r1", 1)
    report(world)
    serve(world, "rain-r1")
    await world.settle()
    return world


def spec_of(bench: Bench, name: str) -> Mapping[str, Any]:
    """The spec of a version's document at the head."""
    return parse_file("f", bench.person.read(f"app/versions/{name}.yaml").encode()).documents[0].content["spec"]


async def test_a_new_accepted_version_becomes_one_commit_and_is_applied_at_once(bench: Bench) -> None:
    world = await began(bench)
    await train(world, "rain-r1", 1)
    head = bench.person.head()
    assert bench.person.log() == ["Roll out rain-r1 to rain", "Begin"]
    expected = deployment().replace("    updatePolicy", "    version: rain-r1\n    updatePolicy")
    assert bench.person.read("app/d.yaml") == expected.rstrip()
    spec = spec_of(bench, "rain-r1")
    assert spec["proposed"] == [{"deployment": "rain", "time": "2026-11-25T10:00:00Z"}]
    assert {k: v for k, v in spec.items() if k != "proposed"} == version("rain-r1", 1)["spec"]
    assert world.obj(MDEP, "rain")["spec"]["model"]["version"] == "rain-r1"
    assert bench.status()["lastAppliedRevision"] == f"main@sha1:{head}"
    assert bench.status()["writeBack"]["pending"] == []
    assert bench.status()["writeBack"]["lastCommit"] == head
    assert bench.condition("Ready")["status"] == "True"
    body = bench.person.git("log", "-1", "main", "--format=%B")
    assert "roc_auc 0.86 (champion 0.81)" in body
    trailers = dict(
        line.split(": ", 1) for line in bench.person.git("log", "-1", "main", "--format=%(trailers)").splitlines()
    )
    assert trailers["Model-Version"] == "rain-r1"
    assert trailers["Training-Job"] == "rain-train"
    assert trailers["Dataset-Digest"].startswith("train sha256:ddd")
    assert trailers["Trigger"] == "Drift rain-drift abcd1234"
    assert trailers["Perennial-Change"] == bench.status()["writeBack"]["history"][0]["id"]
    assert bench.person.git("log", "-1", "main", "--format=%an <%ae>") == "Perennial <perennial@perennial.dev>"
    assert "WrittenBack" in world.events.reasons("GitSync")


async def test_comments_order_and_quotes_stay(bench: Bench) -> None:
    text = deployment(version="'old'   ").replace("# what serves", "# what  serves, 'quoted'")
    bench.person.push({"app/d.yaml": "# top\n" + text + "---\n" + config_map("x")}, "Begin")
    world = await bench.start(**WRITES)
    await train(world, "old", 1, lineage={})
    report(world)
    await train(world, "rain-r1", 1)
    assert (
        bench.person.read("app/d.yaml")
        == "# top\n" + text.replace("'old'", "'rain-r1'") + "---\n" + config_map("x").rstrip()
    )


async def test_a_promotion_is_recorded_and_closes_its_predecessors_entry(bench: Bench) -> None:
    world = await first_served(bench)
    assert bench.person.log()[0] == "rain-r1 serves rain"
    assert spec_of(bench, "rain-r1")["served"] == [{"deployment": "rain", "fromTime": _promoted("rain-r1")}]
    await train(world, "rain-r2", 2)
    report(world)
    serve(world, "rain-r2")
    await world.settle()
    assert bench.person.log()[:2] == ["rain-r2 serves rain", "Roll out rain-r2 to rain"]
    old = {"deployment": "rain", "fromTime": _promoted("rain-r1"), "toTime": _promoted("rain-r2")}
    assert spec_of(bench, "rain-r1")["served"] == [old]
    assert spec_of(bench, "rain-r2")["served"] == [{"deployment": "rain", "fromTime": _promoted("rain-r2")}]
    before = bench.person.log()
    await bench.poll()
    assert bench.person.log() == before


async def test_who_approved_a_promotion_is_recorded_in_git(bench: Bench) -> None:
    world = await began(bench)
    await train(world, "rain-r1", 1)
    commit = world.obj(MDEP, "rain")["metadata"]["annotations"]["perennial.dev/commit"]
    promoted = {"version": "rain-r1", "revision": "rev1", "commit": commit, "promotedTime": _promoted("rain-r1")}
    report(
        world,
        stable={"version": "rain-r1", "revision": "rev1"},
        history=[{**promoted, "approvedBy": "ada, system:serviceaccount:team:ci"}],
    )
    await world.settle()
    assert spec_of(bench, "rain-r1")["served"] == [
        {
            "deployment": "rain",
            "fromTime": _promoted("rain-r1"),
            "approvedBy": "ada, system:serviceaccount:team:ci",
        }
    ]


async def test_a_failed_canary_is_reverted_and_rejected_in_one_commit(bench: Bench) -> None:
    world = await first_served(bench)
    await train(world, "rain-r2", 2)
    failed(world, "rain-r2")
    await world.settle()
    assert bench.person.log()[:2] == ["Revert rain to rain-r1", "Roll out rain-r2 to rain"]
    ids = bench.person.git("log", "-1", "main", "--format=%(trailers:key=Perennial-Change,valueonly)").split()
    assert len(ids) == 2 and len(set(ids)) == 2
    assert "version: rain-r1" in bench.person.read("app/d.yaml")
    rejection = spec_of(bench, "rain-r2")["rejections"][0]
    assert rejection["deployment"] == "rain" and rejection["message"] == "20 of 100 requests failed"
    assert world.obj(MDEP, "rain")["spec"]["model"]["version"] == "rain-r1"
    assert world.obj(MVER, "rain-r2")["spec"]["rejections"][0]["reason"] == "CanaryFailed"
    before = bench.person.log()
    await bench.poll()
    assert bench.person.log() == before


def failed(world: World, name: str) -> None:
    """The canary of `name` failed."""
    entry = {
        "revision": f"rev{name[-1]}", "version": name, "reason": "CanaryFailed",
        "message": "20 of 100 requests failed", "time": "2026-11-27T00:00:00Z",
    }  # fmt: skip
    report(world, rejected=[entry])


CHANGED = ("app/d.yaml", "app/versions/rain-r2.yaml")


async def test_a_person_may_take_a_rejection_back(bench: Bench) -> None:
    world = await first_served(bench)
    await train(world, "rain-r2", 2)
    failed(world, "rain-r2")
    await world.settle()
    undone = {name: bench.person.git("cat-file", "blob", f"main~1:{name}") + "\n" for name in CHANGED}
    await bench.push(undone, 'Revert "Revert rain to rain-r1"')
    await bench.poll()
    assert bench.person.log()[0].startswith('Revert "')
    assert "rejections" not in spec_of(bench, "rain-r2")
    assert world.obj(MDEP, "rain")["spec"]["model"]["version"] == "rain-r2"


async def test_a_canary_whose_commit_changed_more_is_not_taken_back_but_named(bench: Bench) -> None:
    world = await first_served(bench)
    await train(world, "rain-r2", 2)
    text = bench.person.read("app/d.yaml")
    commit = await bench.push({"app/d.yaml": text + "\n  replicas: 3\n"})
    failed(world, "rain-r2")
    await world.settle()
    assert bench.person.head() == commit
    stalled = bench.condition("Stalled")
    assert stalled["reason"] == "CannotWriteBack"
    assert f"git revert {commit[:12]}" in stalled["message"]


async def test_a_field_that_a_person_moved_is_superseded_and_the_rejection_still_recorded(bench: Bench) -> None:
    world = await first_served(bench)
    await train(world, "rain-r2", 2)
    text = bench.person.read("app/d.yaml").replace("rain-r2", "rain-r9")
    bench.person.push({"app/d.yaml": text}, "Mine")
    failed(world, "rain-r2")
    await world.settle()
    assert "rain-r9" in bench.person.read("app/d.yaml")
    assert spec_of(bench, "rain-r2")["rejections"][0]["deployment"] == "rain"
    outcomes = {entry["kind"]: entry["outcome"] for entry in bench.status()["writeBack"]["history"][:2]}
    assert outcomes == {"Revert": "Superseded", "Reject": "Written"}


async def test_an_update_that_a_person_overtook_is_superseded_and_recorded(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment(version="mine-1")}, "Begin")
    world = await bench.start(**WRITES)
    await train(world, "mine-1", 1, lineage={})
    report(world)
    await world.settle()
    bench.person.push({"app/d.yaml": deployment(version="mine-2")}, "Mine")
    await train(world, "rain-r1", 1)
    assert bench.person.log()[0] == "Record rain-r1 for rain"
    assert bench.person.read("app/d.yaml") == deployment(version="mine-2").rstrip()
    entry = bench.status()["writeBack"]["history"][0]
    assert entry["outcome"] == "Superseded" and "mine-2" in entry["message"]
    await bench.poll()
    assert bench.person.log()[0] == "Record rain-r1 for rain"
    assert "Superseded" in world.events.reasons("GitSync")


class Racing:
    """A repository in which somebody pushes right before each of our first `times` pushes."""

    def __init__(self, bench: Bench, times: int) -> None:
        self._bench, self._left, self.pushes = bench, times, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench.repositories, name)

    async def push(self, *arguments: Any) -> None:
        """Push after the other one."""
        self.pushes += 1
        if self._left:
            self._left -= 1
            await asyncio.to_thread(self._bench.person.push, {f"app/race{self._left}.txt": "x"}, "Race")
        await self._bench.repositories.push(*arguments)


async def test_a_branch_that_moves_between_fetch_and_push_is_tried_again(bench: Bench) -> None:
    world = await began(bench)
    bench.git = racing = Racing(bench, 2)  # type: ignore[assignment]
    bench.world.restart()
    await world.settle()
    await train(world, "rain-r1", 1)
    assert bench.person.log() == ["Roll out rain-r1 to rain", "Race", "Race", "Begin"]
    assert racing.pushes == 3


async def test_a_cluster_rebuilt_from_the_repository_commits_nothing(bench: Bench) -> None:
    world = await first_served(bench)
    await train(world, "rain-r2", 2)
    failed(world, "rain-r2")
    await world.settle()
    head = bench.person.head()
    bench.world = world = bench.new_world()
    await bench.start(**WRITES)
    report(world)
    await world.settle()
    assert world.obj(MDEP, "rain")["spec"]["model"]["version"] == "rain-r1"
    serve(world, "rain-r1")
    await world.settle()
    await bench.poll()
    assert bench.person.head() == head


async def test_a_push_that_is_refused_is_named_and_retried_and_serving_goes_on(bench: Bench) -> None:
    world = await began(bench)
    hook = bench.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'main is a protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    await train(world, "rain-r1", 1)
    assert bench.condition("Stalled")["reason"] == "PushRefused"
    assert "protected branch" in bench.condition("Stalled")["message"]
    assert len(bench.status()["writeBack"]["pending"]) == 1
    hook.unlink()
    await world.run_for(200)
    assert bench.person.log()[0] == "Roll out rain-r1 to rain"
    assert bench.condition("Ready")["status"] == "True"


async def test_an_api_server_that_fails_for_a_moment_loses_nothing(bench: Bench) -> None:
    world = await began(bench)
    world.store.fail("status", Unavailable("Unavailable", "no answer"), kind=kinds.GIT_SYNC, times=2)
    await train(world, "rain-r1", 1)
    await bench.poll()
    assert bench.person.log() == ["Roll out rain-r1 to rain", "Begin"]


async def test_only_allowed_paths_are_written(bench: Bench) -> None:
    world = await began(bench, writeBack={"method": "Commit", "paths": ["app/versions"]})
    await train(world, "rain-r1", 1)
    assert bench.condition("Stalled")["reason"] == "PathNotAllowed"
    assert "app/d.yaml" in bench.condition("Stalled")["message"]


async def test_behind_another_tool_it_only_finds_documents_and_writes_back(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment(), "app/chart.yaml": "{{ not yaml"}, "Begin")
    world = bench.world
    applied = parse_file("f", deployment().encode()).documents[0].content
    applied["metadata"]["namespace"] = "default"
    await world.store.apply(applied, manager="argocd-controller")
    await bench.start(**WRITES, apply=False)
    report(world)
    await train(world, "rain-r1", 1)
    assert bench.person.log() == ["Roll out rain-r1 to rain", "Begin"]
    assert "version" not in world.obj(MDEP, "rain")["spec"]["model"]
    assert bench.status()["inventory"] == []
    await bench.poll()
    assert len(bench.person.log()) == 2


async def test_two_git_syncs_that_write_one_document_are_both_stalled(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment()}, "Begin")
    world = await bench.start(**WRITES, apply=False)
    await world.person({**parse_file("f", deployment().encode()).documents[0].content, "metadata": NAMED})
    other = bench.manifest(**WRITES, apply=False)
    other["metadata"]["name"] = "second"
    await world.person(other)
    await world.settle()
    await bench.poll()
    for name in ("rain", "second"):
        conditions = world.obj(kinds.GIT_SYNC, name)["status"]["conditions"]
        stalled = next(c for c in conditions if c["type"] == "Stalled")
        assert "another GitSync" in stalled["message"]


async def test_pull_requests_are_refused_in_words(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment()})
    await bench.start(writeBack={"method": "PullRequest"})
    assert "not supported by this version" in bench.condition("Stalled")["message"]


async def test_a_repository_that_goes_away_with_a_change_pending_is_asked_at_its_period_only(bench: Bench) -> None:
    world = await began(bench)
    hook = bench.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    await train(world, "rain-r1", 1)
    assert len(bench.status()["writeBack"]["pending"]) == 1
    hook.unlink()
    gone = bench.bare.rename(bench.bare.with_name("away"))
    passes = await world.run_for(240)
    assert passes < 30
    gone.rename(bench.bare)
    await world.run_for(400)
    assert bench.person.log()[0] == "Roll out rain-r1 to rain"


async def test_a_malformed_version_in_git_stops_no_other_decision(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment()}, "Begin")
    world = bench.world
    await world.person({**parse_file("f", deployment().encode()).documents[0].content, "metadata": NAMED})
    await bench.start(**WRITES, apply=False)
    report(world)
    head = "apiVersion: perennial.dev/v1alpha1\nkind: ModelVersion\n"
    await bench.push(
        {
            "app/text.yaml": f"{head}metadata:\n  name: text\nspec: none\n",
            "app/served.yaml": f"{head}metadata:\n  name: served\nspec:\n  model: rain\n  served: [yes-it-does]\n",
            "app/time.yaml": f"{head}metadata:\n  name: time\nspec:\n  model: rain\n  lineage: {{finishedTime: x}}\n",
            "app/meta.yaml": f"{head}metadata: none\nspec:\n  model: rain\n",
        }
    )
    await train(world, "rain-r1", 1)
    await bench.poll()
    assert bench.person.log()[0] == "Roll out rain-r1 to rain"


async def test_a_webhook_is_refused_in_words(bench: Bench) -> None:
    bench.person.push({"app/d.yaml": deployment()})
    await bench.start(webhook={"secretRef": {"name": "hook"}})
    assert "webhook is not supported by this version" in bench.condition("Stalled")["message"]
