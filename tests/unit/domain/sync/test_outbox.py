"""What is derived for Git from the state of deployments and versions, as tables."""

from typing import Any

import pytest

from perennial.domain.sync.outbox import (
    Change,
    DeploymentView,
    OutboxWorld,
    VersionView,
    as_pending,
    derive,
    from_pending,
    group_of,
)

SCOPE = ("default", "rain", "app")


def version(name: str, day: int | None = 1, **extra: Any) -> VersionView:
    """An accepted version that finished on a day of November."""
    spec: dict[str, Any] = {"model": "rain", "gate": {"passed": True, "checks": [{"metric": "x"}]}, **extra}
    if day is not None:
        spec["lineage"] = {"finishedTime": f"2026-11-{day:02}T00:00:00Z"}
    return VersionView(name, None, spec)


def deployment(
    named: str | None = None, *, policy: str = "Git", spec: Any = None, base: Any = ..., **status: Any
) -> DeploymentView:
    """A ModelDeployment in Git and, unless `spec` says otherwise, equal in the cluster."""
    model = {"name": "rain", "updatePolicy": policy} | ({"version": named} if named else {})
    document = {"kind": "ModelDeployment", "spec": {"model": model, "replicas": 2}}
    live = {
        "metadata": {"name": "rain", "generation": 3, "annotations": {"perennial.dev/commit": "c" * 40}},
        "spec": spec if spec is not None else document["spec"],
        "status": {"observedGeneration": 3, **status},
    }
    return DeploymentView("rain", document, live, document if base is ... else base)


def changes(view: DeploymentView, *versions: VersionView, ended: frozenset[str] = frozenset()) -> list[Change]:
    """The derived changes of one deployment."""
    return list(derive(OutboxWorld(SCOPE, [view], {v.name: v for v in versions}, ended)).changes)


def summary(found: list[Change]) -> list[tuple[str, str]]:
    """Kind and version of each."""
    return [(change.kind, change.version) for change in found]


@pytest.mark.parametrize(
    ("view", "versions", "wanted"),
    [
        (deployment(), [version("a")], [("Update", "a")]),
        (deployment("a"), [version("a"), version("b", 2)], [("Update", "b")]),
        (deployment("a"), [version("a"), version("b", 2), version("c", 3)], [("Update", "c")]),
        (deployment("b"), [version("a"), version("b", 2)], []),
        (deployment("a"), [version("a", 2), version("b", 2)], []),
        (deployment("unknown"), [version("a")], []),
        (deployment("a"), [version("a", None), version("b", 1)], [("Update", "b")]),
        (deployment("a", policy="Manual"), [version("a"), version("b", 2)], []),
        (deployment("a", policy="Direct"), [version("a"), version("b", 2)], []),
        (deployment("a", rollout={"id": "x"}), [version("a"), version("b", 2)], []),
        (deployment("a", spec={"model": {"name": "rain", "updatePolicy": "Git", "version": "z"}}),
         [version("a"), version("b", 2)], []),
        (deployment("a", observedGeneration=2), [version("a"), version("b", 2)], []),
        (deployment("a"), [version("a"), version("b", 2, model="snow")], []),
        (deployment("a"), [version("a"), version("b", 2, gate={"passed": False, "checks": [1]})], []),
        (deployment("a"), [version("a"), version("b", 2, gate={"passed": True, "checks": []})], []),
        (deployment("a"), [version("a"), version("b", 2, gate=None)], []),
        (deployment("a"), [version("a"), version("b", 2, retired={"reason": "x"})], []),
        (deployment("a"), [version("a"), version("b", 2, proposed=[{"deployment": "rain"}])], []),
        (deployment("a"), [version("a"), version("b", 2, proposed=[{"deployment": "other"}])], [("Update", "b")]),
        (deployment("a"), [version("a"), version("b", 2, rejections=[{"deployment": "rain"}])], []),
        (deployment("a"), [version("a"), version("b", 2), version("c", 3, rejections=[{"deployment": "rain"}])],
         [("Update", "b")]),
        (deployment("a", rejected=[{"version": "b", "revision": "r", "reason": "x", "time": "t"}],
                    stable={"version": "b"}), [version("a"), version("b", 2)], []),
    ],
)  # fmt: skip
def test_a_newer_accepted_version_is_proposed_once(
    view: DeploymentView, versions: list[VersionView], wanted: list[tuple[str, str]]
) -> None:
    assert summary(changes(view, *versions)) == wanted


def promoted(name: str, **extra: Any) -> dict[str, Any]:
    """Status of a deployment in which `name` is stable."""
    return {"stable": {"version": name}, "history": [{"version": name, "promotedTime": "T2"}], **extra}


@pytest.mark.parametrize(
    ("status", "record", "policy", "wanted"),
    [
        (promoted("a"), [], "Git", ["Served"]),
        (promoted("a"), [], "Manual", ["Served"]),
        (promoted("a"), [], "Direct", []),
        (promoted("a"), [{"deployment": "rain", "fromTime": "T1"}], "Git", []),
        (promoted("a"), [{"deployment": "rain", "fromTime": "T1", "toTime": "T1b"}], "Git", ["Served"]),
        (promoted("a"), [{"deployment": "rain", "fromTime": "T2", "toTime": "T3"}], "Git", []),
        (promoted("a"), [{"deployment": "other", "fromTime": "T1"}], "Git", ["Served"]),
        (promoted("a", rollout={"id": "x"}), [], "Git", []),
        ({"stable": {"version": "a"}, "history": []}, [], "Git", []),
        ({"stable": {"version": "a"}, "history": [{"version": "z", "promotedTime": "T2"}]}, [], "Git", []),
    ],
)
def test_a_promotion_is_recorded_when_git_has_no_open_entry(
    status: dict[str, Any], record: list[Any], policy: str, wanted: list[str]
) -> None:
    found = changes(deployment("a", policy=policy, **status), version("a", served=record))
    assert [change.kind for change in found] == wanted


FAILED = {"revision": "rb", "version": "b", "reason": "CanaryFailed", "message": "bad", "time": "T3"}


def test_a_failed_canary_is_reverted_and_rejected_together() -> None:
    found = changes(
        deployment("b", **promoted("a", rejected=[FAILED])),
        version("a", served=[{"deployment": "rain"}]),
        version("b", 2),
    )
    assert summary(found) == [("Revert", "b"), ("Reject", "b")]
    assert (found[0].from_version, found[0].to_version) == ("b", "a")
    assert (found[1].revision, found[1].word, found[1].reason, found[1].moment) == ("rb", "CanaryFailed", "bad", "T3")


@pytest.mark.parametrize(
    ("view", "record", "wanted", "refused"),
    [
        (deployment("a", **promoted("a", rejected=[FAILED])), [], ["Reject"], 0),
        (deployment("b", **promoted("a", rejected=[FAILED])), [{"deployment": "rain", "revision": "rb"}], [], 0),
        (deployment("b", **promoted("a", rejected=[FAILED])), [{"deployment": "rain", "time": "old"}],
         ["Revert", "Reject"], 0),
        (deployment("b", policy="Manual", **promoted("a", rejected=[FAILED])), [], [], 0),
        (deployment("b", **promoted("b", rejected=[FAILED])), [], [], 0),
        (deployment("b", base=None, **promoted("a", rejected=[FAILED])), [], [], 1),
        (deployment("b", base={"kind": "ModelDeployment", "spec": {"replicas": 9}},
                    **promoted("a", rejected=[FAILED])), [], [], 1),
        (deployment("c", base=None, **promoted("a", rejected=[FAILED])), [], [], 0),
    ],
)  # fmt: skip
def test_what_becomes_of_a_failed_canary(
    view: DeploymentView, record: list[Any], wanted: list[str], refused: int
) -> None:
    served = [{"deployment": "rain"}]
    versions = {"a": version("a", served=served), "b": version("b", 2, rejections=record, served=served)}
    found = derive(OutboxWorld(SCOPE, [view], versions))
    assert [change.kind for change in found.changes] == wanted
    assert len(found.refused) == refused
    if refused:
        assert "git revert cccccccccccc" in found.refused[0]


def test_ids_are_the_same_in_every_pass_and_differ_by_sync_deployment_and_version() -> None:
    first, second = changes(deployment(), version("a")), changes(deployment(), version("a"))
    assert first == second
    elsewhere = derive(OutboxWorld(("prod", "rain", "app"), [deployment()], {"a": version("a")})).changes
    assert elsewhere[0].id != first[0].id
    assert changes(deployment(), version("b"))[0].id != first[0].id


def test_what_ended_is_not_derived_again() -> None:
    view = deployment("b", **promoted("a", rejected=[FAILED]))
    versions = (version("a", served=[{"deployment": "rain"}]), version("b", 2))
    ended = frozenset(change.id for change in changes(view, *versions))
    assert changes(view, *versions, ended=ended) == []


def test_gits_records_win_over_the_clusters() -> None:
    view = VersionView("b", {"model": "rain"}, version("b", 2, rejections=[{"deployment": "rain"}]).live)
    assert summary(changes(deployment("a"), version("a"), view)) == [("Update", "b")]


def test_a_pending_entry_carries_a_field_change_through_a_restart() -> None:
    change = changes(deployment("a"), version("a"), version("b", 2))[0]
    entry = as_pending(change, "h" * 40, "T9")
    again = from_pending(entry, {})
    assert again is not None
    assert (again.id, again.from_version, again.to_version, again.moment) == (change.id, "a", "b", "T9")
    served = {"id": "x", "kind": "Served", "object": "ModelDeployment/rain", "version": "a"}
    assert from_pending(served, {}) is None


def test_a_revert_and_its_rejection_are_one_commit_and_others_are_not() -> None:
    def entry(kind: str, version: str, name: str = "rain") -> dict[str, str]:
        return {"id": kind + version, "kind": kind, "object": f"ModelDeployment/{name}", "version": version}

    pending = [
        entry("Revert", "b"),
        entry("Update", "c"),
        entry("Reject", "c"),
        entry("Reject", "b"),
        entry("Reject", "b", "x"),
    ]
    assert [e["id"] for e in group_of(pending)] == ["Revertb", "Rejectb"]
    assert [e["id"] for e in group_of(pending[1:])] == ["Updatec"]
    assert group_of([]) == []
