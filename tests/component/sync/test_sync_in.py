"""Documents of a real repository become objects, and nothing that is wrong in it removes anything."""

from typing import Any, cast

import pytest

from perennial.api import kinds
from perennial.domain.authors import Author, read_authors
from perennial.domain.errors import Unavailable
from perennial.ports import GitRepository
from tests.component.sync.conftest import Bench, config_map, deployment

CM = kinds.CONFIG_MAP


async def test_applies_what_the_path_holds_with_its_mark_path_and_commit(bench: Bench) -> None:
    commit = bench.person.push({"app/a.yaml": config_map("a"), "other/b.yaml": config_map("b"), "app/readme.md": "x"})
    world = await bench.start()
    made = world.obj(CM, "a")
    assert made["metadata"]["labels"] == {"perennial.dev/sync": "rain"}
    assert made["metadata"]["annotations"] == {"perennial.dev/path": "app/a.yaml", "perennial.dev/commit": commit}
    assert not bench.exists(CM, "b")
    status = bench.status()
    assert status["lastAppliedRevision"] == f"main@sha1:{commit}"
    assert status["objects"] == 1
    assert status["inventory"] == [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a"}]
    assert bench.condition("Ready")["status"] == "True"
    assert bench.condition("Reconciling") == {}
    assert bench.exists(kinds.SERVICE_ACCOUNT, "perennial-sync")
    assert world.obj(kinds.ROLE_BINDING, "perennial-sync")["roleRef"]["name"] == "perennial-sync"


async def test_an_unmoved_head_makes_no_request_to_the_cluster(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/d.yaml": deployment()})
    world = await bench.start()
    await bench.poll()
    before = len(world.store.requests)
    asked = len(bench.server.requests)
    await world.run_for(300)
    assert world.store.requests[before:] == []
    assert len(bench.server.requests) - asked >= 4


async def test_a_changed_file_is_applied_alone_and_the_others_keep_their_commit(bench: Bench) -> None:
    first = bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b")})
    world = await bench.start()
    writes = len(world.store.writes)
    second = await bench.push({"app/b.yaml": config_map("b", "2")})
    assert [w[:3] for w in world.store.writes[writes:] if w[1] != "GitSync"] == [("apply", "ConfigMap", "b")]
    assert world.obj(CM, "a")["metadata"]["annotations"]["perennial.dev/commit"] == first
    assert world.obj(CM, "b")["metadata"]["annotations"]["perennial.dev/commit"] == second
    assert [r["revision"] for r in bench.status()["history"]] == [f"main@sha1:{second}", f"main@sha1:{first}"]


async def test_all_authors_since_the_last_look_are_noted_where_ones_own_approval_is_forbidden(bench: Bench) -> None:
    def strict(version: str) -> dict[str, str]:
        return {"app/d.yaml": deployment(version=version, rollout="{forbidOwnApproval: true}")}

    def noted() -> list[tuple[str, str]]:
        annotations = bench.world.obj(kinds.MODEL_DEPLOYMENT, "rain")["metadata"]["annotations"]
        return [(author.name, author.email) for author in read_authors(annotations["perennial.dev/authors"])]

    bench.person.push(strict("rain-r1"), author="Bob <bob@example.org>")
    await bench.start()
    assert noted() == [("Bob", "bob@example.org")]
    bench.person.push(strict("rain-r2"))
    bench.person.push({"app/a.yaml": config_map("a")}, author="Zoë Ö <zoe@example.org>")
    await bench.poll()
    both = [("Zoë Ö", "zoe@example.org"), ("Ada", "ada@example.org")]
    assert noted() == both  # who pushed last is not taken for the author of the change
    await bench.push({"app/a.yaml": config_map("a", "2")}, "another file")
    assert noted() == both
    bench.world.restart()
    await bench.poll()
    mdep = bench.world.obj(kinds.MODEL_DEPLOYMENT, "rain")
    await bench.world.store.patch(_target(mdep), {"spec": {"replicas": 5}}, manager="kubectl-edit")
    await bench.world.settle()
    assert noted() == both
    annotation = {"metadata": {"annotations": {"perennial.dev/authors": "[]"}}}
    await bench.world.store.patch(_target(mdep), annotation, manager="kubectl-edit")
    await bench.world.run_for(601)
    assert noted() == both  # what was written by hand is healed


async def test_a_change_is_not_applied_before_its_authors_are_known(bench: Bench) -> None:
    class Silent:
        """Tells everything but authors."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.repositories, name)

        async def authors(self, *_: Any) -> tuple[Author, ...]:
            raise Unavailable("GitUnreachable", "the server does not answer")

    bench.person.push({"app/d.yaml": deployment(version="rain-r1", rollout="{forbidOwnApproval: true}")})
    bench.git = cast(GitRepository, Silent())
    bench.world.restart()
    await bench.start()
    assert not bench.exists(kinds.MODEL_DEPLOYMENT, "rain")
    bench.git = bench.repositories
    bench.world.restart()
    await bench.world.settle()
    assert bench.exists(kinds.MODEL_DEPLOYMENT, "rain")


async def test_sync_requested_looks_at_once_and_is_echoed(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    world = await bench.start()
    bench.person.push({"app/b.yaml": config_map("b")})
    wanted = bench.manifest()
    wanted["metadata"]["annotations"] = {"perennial.dev/sync-requested": "now-1"}
    await world.person(wanted)
    await world.settle()
    assert bench.exists(CM, "b")
    assert bench.status()["lastHandledSyncRequest"] == "now-1"


async def test_a_long_request_is_echoed_as_far_as_status_holds_it_and_looks_once(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    world = await bench.start()
    wanted = bench.manifest()
    wanted["metadata"]["annotations"] = {"perennial.dev/sync-requested": "x" * 300}
    await world.person(wanted)
    await world.settle()
    assert bench.status()["lastHandledSyncRequest"] == "x" * 256
    asked = len(bench.server.requests)
    await world.run_for(30)
    assert len(bench.server.requests) == asked


async def test_what_left_the_repository_is_removed(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b")})
    world = await bench.start()
    await bench.push({"app/b.yaml": None})
    assert not bench.exists(CM, "b")
    assert bench.exists(CM, "a")
    assert bench.status()["objects"] == 1
    assert world.obj(kinds.GIT_SYNC, "rain")["status"]["errors"] == []


async def test_prune_spares_the_disabled_the_relabelled_and_everything_when_it_is_off(bench: Bench) -> None:
    kept = config_map("kept").replace("\ndata:", "\n  annotations:\n    perennial.dev/prune: disabled\ndata:")
    bench.person.push({"app/a.yaml": config_map("a"), "app/kept.yaml": kept, "app/own.yaml": config_map("own")})
    world = await bench.start()
    own = world.obj(CM, "own")
    own["metadata"]["labels"] = {"perennial.dev/sync": "another"}
    await world.person({k: own[k] for k in ("apiVersion", "kind", "metadata", "data")})
    await bench.push({"app/kept.yaml": None, "app/own.yaml": None})
    assert bench.exists(CM, "kept") and bench.exists(CM, "own")
    assert bench.status()["objects"] == 1


async def test_prune_refuses_more_than_max_prune_percent_and_says_how_to_proceed(bench: Bench) -> None:
    bench.person.push({f"app/{n}.yaml": config_map(f"c{n}") for n in range(10)})
    world = await bench.start()
    await bench.push({f"app/{n}.yaml": None for n in range(6)})
    assert len(world.store.all(CM)) == 10
    assert bench.status()["objects"] == 10
    assert bench.condition("Stalled")["reason"] == "PruneRefused"
    assert "6 of 10" in bench.condition("Ready")["message"]
    assert "spec.maxPrunePercent" in bench.condition("Ready")["message"]
    await world.person(bench.manifest(maxPrunePercent=60))
    await world.settle()
    assert len(world.store.all(CM)) == 4
    assert bench.condition("Ready")["status"] == "True"


async def test_a_revision_that_replaces_everything_is_a_large_prune_and_stays_refused(bench: Bench) -> None:
    bench.person.push({f"app/{n}.yaml": config_map(f"old{n}") for n in range(12)})
    world = await bench.start()
    gone = {f"app/{n}.yaml": None for n in range(12)}
    await bench.push(gone | {f"app/new{n}.yaml": config_map(f"new{n}") for n in range(12)})
    assert "12 of 12" in bench.condition("Ready")["message"]
    await world.run_for(1300)  # two heals later it is still refused
    assert len(world.store.all(CM)) == 24
    assert bench.condition("Stalled")["reason"] == "PruneRefused"
    await world.person(bench.manifest(maxPrunePercent=100))
    await world.settle()
    assert len(world.store.all(CM)) == 12


async def test_what_serves_and_the_rollback_target_are_never_pruned(bench: Bench) -> None:
    version = "apiVersion: perennial.dev/v1alpha1\nkind: ModelVersion\nmetadata:\n  name: {}\nspec:\n  model: rain\n"
    bench.person.push(
        {"app/d.yaml": deployment(version="v3")} | {f"app/v{n}.yaml": version.format(f"v{n}") for n in (1, 2, 3)}
    )
    world = await bench.start()
    world.store.put_status(
        kinds.MODEL_DEPLOYMENT,
        "default",
        "rain",
        {"stable": {"version": "v3"}, "history": [{"version": "v3"}, {"version": "v2"}]},
    )
    await bench.push({"app/d.yaml": None, "app/v1.yaml": None, "app/v2.yaml": None, "app/v3.yaml": None, "app/x": "x"})
    assert bench.exists(kinds.MODEL_DEPLOYMENT, "rain")
    assert bench.exists(kinds.MODEL_VERSION, "v3") and bench.exists(kinds.MODEL_VERSION, "v2")
    assert not bench.exists(kinds.MODEL_VERSION, "v1")
    message = bench.condition("Stalled")["message"]
    assert "ModelDeployment rain" in message and "rollback target" in message and "kubectl delete" in message
    assert bench.status()["objects"] == 3


async def test_the_result_of_a_training_job_in_git_is_not_pruned(bench: Bench) -> None:
    head = "apiVersion: perennial.dev/v1alpha1\nkind: {}\nmetadata:\n  name: {}\nspec:\n  model: rain\n"
    made = {f"app/v{n}.yaml": head.format("ModelVersion", f"rain-r{n}") for n in (1, 2)}
    bench.person.push({"app/t.yaml": head.format("TrainingJob", "rain-train")} | made)
    world = await bench.start()
    world.store.put_status(kinds.TRAINING_JOB, "default", "rain-train", {"lastVersion": "rain-r1"})
    await bench.push({"app/v1.yaml": None, "app/v2.yaml": None})
    assert not bench.exists(kinds.MODEL_VERSION, "rain-r2")
    assert bench.exists(kinds.MODEL_VERSION, "rain-r1")
    assert "it is the result of TrainingJob rain-train" in bench.condition("Stalled")["message"]
    await bench.push({"app/t.yaml": None, "app/x": "x"})
    assert not bench.exists(kinds.MODEL_VERSION, "rain-r1")
    assert bench.condition("Ready")["status"] == "True"


BAD = [
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\n", 4, "not valid YAML"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: &m {name: a}\n", 3, "anchors are not allowed"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: *m\n", 3, "aliases are not allowed"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n---\n", 1, "no metadata.name"),
    ("\n---\na: 1\n---\n" + config_map("never"), 3, "has no apiVersion"),
    ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", 1, "cluster-scoped"),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", 1, "spec.serviceAccountName"),
    ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\n", 1, "names namespace other"),
    ("apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\n", 1, "is not applied by Perennial"),
]


async def test_bad_documents_are_named_and_stop_neither_the_others_nor_remove_anything(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/gone.yaml": config_map("gone")})
    await bench.start()
    files: dict[str, str | None] = {f"app/bad{number}.yaml": text for number, (text, _, _) in enumerate(BAD)}
    await bench.push({**files, "app/a.yaml": None, "app/gone.yaml": None, "app/new.yaml": config_map("new")})
    assert bench.exists(CM, "a") and bench.exists(CM, "gone") and bench.exists(CM, "new")
    found = {error["path"]: (error["line"], error["message"]) for error in bench.status()["errors"]}
    for number, (_, line, words) in enumerate(BAD):
        assert found[f"app/bad{number}.yaml"][0] == line
        assert words in found[f"app/bad{number}.yaml"][1]
    assert bench.condition("Stalled")["reason"] == "InvalidManifests"
    assert "app/bad0.yaml:4" in bench.condition("Ready")["message"]
    assert "more in status.errors" in bench.condition("Ready")["message"]
    assert bench.status()["lastAppliedRevision"] != bench.status()["lastAttemptedRevision"]
    await bench.push({**dict.fromkeys(files), "app/a.yaml": config_map("a", "2")})
    assert bench.condition("Ready")["status"] == "True"
    assert not bench.exists(CM, "gone")


async def test_the_same_object_twice_is_an_error_that_names_both_places(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b") + "---\n" + config_map("a", "2")})
    await bench.start()
    messages = [error["message"] for error in bench.status()["errors"]]
    assert len(messages) == 2
    assert all("app/a.yaml:1" in message and "app/b.yaml:8" in message for message in messages)
    assert not bench.exists(CM, "a") and bench.exists(CM, "b")


async def test_a_symbolic_link_is_refused(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")}, links={"app/link.yaml": "../../etc/passwd"})
    await bench.start()
    assert bench.exists(CM, "a")
    assert "symbolic link" in bench.status()["errors"][0]["message"]
    assert bench.status()["errors"][0]["path"] == "app/link.yaml"


async def test_ignored_files_are_left_out(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/tests/b.yaml": "not: [yaml", "app/c.yaml": config_map("c")})
    await bench.start(ignore="tests/\n/c.yaml\n")
    assert bench.exists(CM, "a") and not bench.exists(CM, "c")
    assert bench.condition("Ready")["status"] == "True"


async def test_an_unreachable_repository_removes_nothing_and_comes_right_by_itself(bench: Bench) -> None:
    commit = bench.person.push({"app/a.yaml": config_map("a")})
    await bench.start()
    bench.server.refuse = 503
    await bench.poll()
    assert bench.condition("SourceReady")["status"] == "False"
    assert bench.condition("Ready")["status"] == "False"
    assert bench.condition("Reconciling")["reason"] == "ProgressingWithRetry"
    assert f"main@sha1:{commit} stands" in bench.condition("Ready")["message"]
    assert "it is tried again" in bench.condition("Ready")["message"]
    assert bench.exists(CM, "a") and bench.status()["objects"] == 1
    bench.server.refuse = None
    await bench.world.run_for(400)
    assert bench.condition("Ready")["status"] == "True"
    assert bench.condition("SourceReady")["status"] == "True"


async def test_healing_goes_on_while_the_repository_is_away(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    world = await bench.start()
    bench.server.refuse = 503
    await world.store.delete(CM, "default", "a", uid=None)
    await world.run_for(700)
    assert bench.exists(CM, "a")


@pytest.mark.parametrize(
    ("case", "reason"), [("branch", "RefNotFound"), ("path", "PathNotFound"), ("empty", "EmptyRepository")]
)
async def test_a_deleted_branch_a_missing_path_or_an_empty_repository_is_never_zero_objects(
    bench: Bench, case: str, reason: str
) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "top.txt": "x"})
    await bench.start()
    if case == "path":
        await bench.push({"app/a.yaml": None})
    else:
        if case == "branch":
            bench.person.git("branch", "other", "main")
        bench.person.reset("")
        await bench.poll()
    assert bench.condition("SourceReady")["reason"] == reason
    assert bench.condition("Stalled")["status"] == "True"
    assert bench.exists(CM, "a") and bench.status()["objects"] == 1


async def test_a_rewritten_history_is_followed(bench: Bench) -> None:
    first = bench.person.push({"app/a.yaml": config_map("a")})
    bench.person.push({"app/b.yaml": config_map("b")})
    world = await bench.start()
    commit = bench.person.push({"app/c.yaml": config_map("c")}, onto=first)
    await bench.poll()
    assert not bench.exists(CM, "b") and bench.exists(CM, "c")
    assert bench.status()["lastAppliedRevision"] == f"main@sha1:{commit}"
    assert world.obj(CM, "a")


async def test_a_change_by_hand_comes_back_when_healing_and_at_once_for_our_kinds(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/d.yaml": deployment(replicas="2")})
    world = await bench.start()
    mdep = world.obj(kinds.MODEL_DEPLOYMENT, "rain")
    mdep["spec"]["replicas"] = 5
    await world.store.patch(_target(mdep), {"spec": {"replicas": 5}}, manager="kubectl-edit")
    await world.settle()
    assert world.obj(kinds.MODEL_DEPLOYMENT, "rain")["spec"]["replicas"] == 2
    await world.store.patch(_target(world.obj(CM, "a")), {"data": {"value": "9"}}, manager="kubectl-edit")
    await world.run_for(601)
    assert world.obj(CM, "a")["data"] == {"value": "1"}


async def test_a_field_held_by_another_applying_manager_is_named_and_left_alone(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b")})
    world = bench.world
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    await world.store.apply({**held, "data": {"value": "theirs"}}, manager="helm-controller")
    await bench.start()
    assert world.obj(CM, "a")["data"] == {"value": "theirs"}
    message = bench.status()["errors"][0]["message"]
    assert ".data.value" in message and "helm-controller" in message
    assert bench.exists(CM, "b")


async def test_equal_values_are_shared_with_the_maker(bench: Bench) -> None:
    text = "apiVersion: perennial.dev/v1alpha1\nkind: ModelVersion\nmetadata:\n  name: rain-r1\nspec:\n  model: rain\n"
    bench.person.push({"app/v.yaml": text + "  proposed:\n  - {deployment: rain, time: '2026-11-25T10:00:00Z'}\n"})
    made = {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelVersion", "spec": {"model": "rain"}}
    metadata = {"name": "rain-r1", "namespace": "default"}
    await bench.world.store.create({**made, "metadata": metadata}, manager="perennial-training-job")
    world = await bench.start()
    assert bench.condition("Ready")["status"] == "True"
    assert world.obj(kinds.MODEL_VERSION, "rain-r1")["spec"]["proposed"][0]["deployment"] == "rain"


async def test_a_refused_object_stops_neither_the_others_nor_prunes(bench: Bench) -> None:
    bench.person.push(
        {"app/a.yaml": config_map("a"), "app/s.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"}
    )
    bench.world.store.forbidden.add(("default/perennial-sync", "apply", "Service"))
    await bench.start()
    assert bench.exists(CM, "a") and not bench.exists(kinds.SERVICE, "s")
    error = bench.status()["errors"][0]
    assert error["path"] == "app/s.yaml" and "cannot apply resource" in error["message"]


async def test_a_passing_failure_of_the_api_server_is_retried(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    bench.world.store.fail("apply", Unavailable("Unavailable", "the API server does not answer"), kind=CM)
    await bench.start()
    assert bench.condition("Reconciling")["reason"] == "ProgressingWithRetry"
    await bench.poll()
    assert bench.exists(CM, "a") and bench.condition("Ready")["status"] == "True"


async def test_an_object_of_another_git_sync_is_not_taken(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "two/a.yaml": config_map("a", "2")})
    world = await bench.start()
    other = bench.manifest(path="two")
    other["metadata"]["name"] = "second"
    await world.person(other)
    await world.settle()
    errors = world.obj(kinds.GIT_SYNC, "second")["status"]["errors"]
    assert "GitSync rain" in errors[0]["message"]
    assert world.obj(CM, "a")["data"] == {"value": "1"}


async def test_its_own_object_may_come_from_the_repository_and_is_never_pruned(bench: Bench) -> None:
    own = (
        "apiVersion: perennial.dev/v1alpha1\nkind: GitSync\nmetadata: {name: rain}\nspec:\n"
        f"  url: {bench.server.url('rain')}\n  ref: {{branch: main}}\n  path: app\n  prune: true\n  periodSeconds: 30\n"
    )
    bench.person.push({"app/sync.yaml": own, "app/a.yaml": config_map("a")})
    world = await bench.start()
    assert bench.sync()["spec"]["periodSeconds"] == 30
    assert bench.condition("Ready")["status"] == "True"
    assert bench.status()["observedGeneration"] == bench.sync()["metadata"]["generation"]
    before = len(world.store.writes)
    await world.run_for(25)
    assert world.store.writes[before:] == []
    await bench.push({"app/sync.yaml": None})
    assert "it is the GitSync itself" in bench.condition("Stalled")["message"]


async def test_a_following_sync_suspends_jobs_and_policies(bench: Bench) -> None:
    bench.person.push(
        {
            "app/t.yaml": "apiVersion: perennial.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: t}\n"
            "spec: {model: rain}\n"
        }
    )
    world = await bench.start(follow=True)
    assert world.obj(kinds.TRAINING_JOB, "t")["spec"]["suspend"] is True


async def test_suspend_writes_status_and_nothing_else(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    world = await bench.start()
    await world.person(bench.manifest(suspend=True))
    await bench.push({"app/b.yaml": config_map("b")})
    assert not bench.exists(CM, "b")
    assert bench.condition("Ready")["reason"] == "Suspended"


async def test_a_missing_secret_is_named(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a")})
    await bench.start(secretRef={"name": "git"})
    assert bench.condition("SourceReady")["reason"] == "SecretNotFound"
    assert "Secret git does not exist" in bench.condition("Stalled")["message"]


async def test_a_restart_costs_reads_and_no_writes(bench: Bench) -> None:
    bench.person.push({f"app/{n}.yaml": config_map(f"c{n}") for n in range(12)})
    world = await bench.start()
    before = len(world.store.writes)
    world.restart()
    await world.settle()
    assert world.store.writes[before:] == []


def _target(obj: dict) -> "object":  # type: ignore[type-arg]
    from perennial.ports import PatchTarget

    meta = obj["metadata"]
    kind = kinds.find(obj["apiVersion"], obj["kind"])
    assert kind is not None
    return PatchTarget(kind, meta["namespace"], meta["name"])


async def test_a_prune_that_fails_for_a_moment_is_done_by_the_next_pass(bench: Bench) -> None:
    bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b")})
    world = await bench.start()
    bench.person.push({"app/b.yaml": None})
    world.store.fail("delete", Unavailable("Unavailable", "no answer"), kind=CM)
    await bench.poll()
    assert not bench.exists(CM, "b")
    assert bench.status()["objects"] == 1
