"""What may be applied, taken from another manager, or removed."""

from typing import Any

import pytest

from perennial.api import kinds
from perennial.domain.sync.documents import Document, SourceError
from perennial.domain.sync.manifest import Mark, ObjectId, Scope, desired_objects
from perennial.domain.sync.ownership import Held, covers, held_by_others, same_but_bookkeeping
from perennial.domain.sync.prune import Fate, too_much, verdict, versions_in_use
from perennial.domain.sync.repository import GitFile
from perennial.domain.sync.selection import select

SCOPE = Scope("default", "rain")


def doc(kind: str, name: str = "a", api: str = "v1", line: int = 1, **extra: Any) -> Document:
    """A document."""
    return Document("f.yaml", line, {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **extra})


def refusal(document: Document, scope: Scope = SCOPE) -> str:
    """The one error."""
    objects, errors = desired_objects([document], scope)
    assert objects == () and len(errors) == 1
    return errors[0].message


@pytest.mark.parametrize("kind", ["Secret", "ServiceAccount"])
def test_rights_of_its_own_need_a_named_account(kind: str) -> None:
    assert "spec.serviceAccountName" in refusal(doc(kind))
    assert len(desired_objects([doc(kind)], Scope("default", "rain", named_account=True))[0]) == 1


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"uid": "x"}, "metadata.uid cannot come from Git"),
        ({"ownerReferences": []}, "metadata.ownerReferences"),
        ({"generateName": "x"}, "metadata.generateName"),
        ({"labels": {"a": 1}}, "mapping of strings"),
        ({"labels": ["a"]}, "mapping of strings"),
        ({"labels": {"perennial.dev/sync": "other"}}, "is set by the GitSync"),
        ({"annotations": {"perennial.dev/command": "{}"}}, "cannot come from Git"),
        ({"annotations": {"perennial.dev/authors": "[]"}}, "is set by the GitSync"),
        ({"namespace": "other"}, "only to its own namespace default"),
    ],
)
def test_metadata_that_cannot_come_from_git_is_refused(metadata: dict[str, Any], words: str) -> None:
    document = doc("ConfigMap")
    document.content["metadata"] |= metadata
    assert words in refusal(document)


def test_a_sops_secret_and_status_and_order() -> None:
    named = Scope("default", "rain", named_account=True)
    assert "SOPS" in refusal(doc("Secret", sops={"mac": "x"}), named)
    ours = "perennial.dev/v1alpha1"
    documents = [
        doc("GitSync", api=ours), doc("DriftPolicy", api=ours), doc("TrainingJob", api=ours), doc("ConfigMap"),
        doc("ModelDeployment", api=ours, status={"x": 1}), doc("ModelVersion", api=ours), doc("Service"),
    ]  # fmt: skip
    objects, errors = desired_objects(documents, SCOPE)
    assert errors == ()
    order = ["ConfigMap", "Service", "ModelVersion", "ModelDeployment", "TrainingJob", "DriftPolicy", "GitSync"]
    assert [item.kind.kind for item in objects] == order
    assert all("status" not in item.body for item in objects)


def test_authors_are_noted_only_where_ones_own_approval_is_forbidden() -> None:
    ours = "perennial.dev/v1alpha1"
    strict = doc("ModelDeployment", api=ours, spec={"rollout": {"forbidOwnApproval": True}})
    for document, wanted in ((strict, "[]"), (doc("ModelDeployment", api=ours, spec={"rollout": {}}), None)):
        [one] = desired_objects([document], SCOPE)[0]
        rendered = one.rendered(Mark("c1", "[]"))
        assert rendered["metadata"]["annotations"].get("perennial.dev/authors") == wanted


def test_the_digest_is_that_of_the_content_and_place_but_not_of_the_commit() -> None:
    one, two = (desired_objects([doc("ConfigMap", data={"a": value})], SCOPE)[0][0] for value in ("1", "2"))
    assert one.digest != two.digest
    assert one.rendered(Mark("c1"))["metadata"]["annotations"]["perennial.dev/commit"] == "c1"
    assert "perennial.dev/commit" not in one.body["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("candidates", "total", "percent", "refused"),
    [
        (9, 9, 50, False),
        (5, 10, 50, False),
        (6, 10, 50, True),
        (10, 10, 100, False),
        (1, 10, 0, True),
        (10, 10, 50, True),
    ],
)
def test_the_percentage_guards_from_ten_objects_up(candidates: int, total: int, percent: int, refused: bool) -> None:
    assert (too_much(candidates, total, percent) is not None) == refused


def live(kind: str = "ConfigMap", **metadata: Any) -> dict[str, Any]:
    """A live object with the mark of `rain`."""
    return {"kind": kind, "metadata": {"name": "a", "labels": {"perennial.dev/sync": "rain"}, **metadata}}


OWNER = {"apiVersion": "perennial.dev/v1alpha1", "kind": "DriftPolicy", "name": "p", "controller": True}


@pytest.mark.parametrize(
    ("entry", "obj", "fate"),
    [
        (ObjectId("", "ConfigMap", "a"), live(), Fate.DELETE),
        (ObjectId("", "ConfigMap", "a"), None, Fate.FORGET),
        (ObjectId("", "ConfigMap", "a"), live(labels={}), Fate.FORGET),
        (ObjectId("", "ConfigMap", "a"), live(labels={"perennial.dev/sync": "other"}), Fate.FORGET),
        (ObjectId("", "ConfigMap", "a"), live(annotations={"perennial.dev/prune": "disabled"}), Fate.FORGET),
        (ObjectId("", "ConfigMap", "a"), live(annotations={"perennial.dev/prune": "enabled"}), Fate.DELETE),
        (ObjectId("perennial.dev", "TrainingJob", "a"), live(ownerReferences=[OWNER]), Fate.FORGET),
        (ObjectId("perennial.dev", "GitSync", "rain"), live(), Fate.KEEP),
        (ObjectId("perennial.dev", "GitSync", "other"), live(), Fate.DELETE),
        (ObjectId("perennial.dev", "ModelVersion", "used"), live(), Fate.KEEP),
        (ObjectId("perennial.dev", "ModelVersion", "old"), live(), Fate.DELETE),
        (ObjectId("perennial.dev", "ModelDeployment", "a"), live() | {"status": {"stable": {"a": 1}}}, Fate.KEEP),
        (ObjectId("perennial.dev", "ModelDeployment", "a"), live(), Fate.DELETE),
    ],
)  # fmt: skip
def test_every_guard_of_prune(entry: ObjectId, obj: dict[str, Any] | None, fate: Fate) -> None:
    found = verdict(entry, obj, "rain", {"used": "it serves in rain"})
    assert found.fate is fate
    assert ("kubectl delete" in found.message) == (fate is Fate.KEEP)


def test_versions_in_use_are_the_stable_the_trial_the_rollback_target_and_the_named() -> None:
    status = {
        "stable": {"version": "v3"},
        "canary": {"version": "v4"},
        "history": [{"version": "v3"}, {"version": "v2"}, {"version": "v1"}],
    }
    used = versions_in_use([{"metadata": {"name": "rain"}, "spec": {"model": {"version": "v5"}}, "status": status}])
    assert set(used) == {"v2", "v3", "v4", "v5"}
    assert used["v3"] == "it serves in rain"


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": [1, {"b": 1, "c": 2}]}, {"a": [1, {"b": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": 1.0}, {"a": 1}, True),
    ],
)
def test_covers(one: Any, other: Any, wanted: bool) -> None:
    assert covers(one, other) is wanted


def test_bookkeeping_is_not_a_difference_but_a_label_is() -> None:
    base = {
        "metadata": {"name": "a", "resourceVersion": "1", "annotations": {"perennial.dev/commit": "x"}},
        "status": 1,
    }
    other = {"metadata": {"name": "a", "resourceVersion": "2", "annotations": {"perennial.dev/commit": "y"}}}
    assert same_but_bookkeeping(base, other)
    assert not same_but_bookkeeping(base, {"metadata": {**other["metadata"], "labels": {"a": "b"}}})


def managed(manager: str, operation: str, fields: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    """A managedFields entry."""
    return {"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields}


CONTAINER = {"f:spec": {"f:c": {'k:{"name":"x"}': {".": {}, "f:name": {}, "f:image": {}}}, "f:r": {}}}


@pytest.mark.parametrize(
    ("entry", "wanted", "held"),
    [
        (managed("helm", "Apply", CONTAINER), {"spec": {"r": 2}}, [Held("helm", ".spec.r")]),
        (managed("helm", "Apply", CONTAINER), {"spec": {"r": 1}}, []),
        (managed("helm", "Update", CONTAINER), {"spec": {"r": 2}}, []),
        (managed("perennial-git-sync", "Apply", CONTAINER), {"spec": {"r": 2}}, []),
        (managed("helm", "Apply", CONTAINER, "status"), {"spec": {"r": 2}}, []),
        (managed("helm", "Apply", CONTAINER), {"spec": {"c": [{"name": "x", "image": "2"}]}},
         [Held("helm", ".spec.c[name=x].image")]),
        (managed("helm", "Apply", CONTAINER), {"spec": {"c": [{"name": "y", "image": "2"}]}}, []),
        (managed("helm", "Apply", {"f:spec": {"f:c": {}}}), {"spec": {"c": []}}, [Held("helm", ".spec.c")]),
    ],
)  # fmt: skip
def test_only_other_appliers_hold_fields(entry: dict[str, Any], wanted: dict[str, Any], held: list[Held]) -> None:
    obj = {"metadata": {"managedFields": [entry]}, "spec": {"r": 1, "c": [{"name": "x", "image": "1"}]}}
    assert held_by_others(obj, wanted) == held


def test_selection_takes_yaml_below_the_path_and_refuses_links_and_submodules() -> None:
    tree = [
        GitFile("app/a.yaml", "1", "100644"), GitFile("app/b.yml", "2", "100755"), GitFile("app/c.txt", "3", "100644"),
        GitFile("app/link", "4", "120000"), GitFile("app/sub", "5", "160000"),
        GitFile("app/skip/x.yaml", "6", "100644"),
        GitFile("app/versions/v.yaml", "7", "100644"), GitFile("app/versions/archive/o.yaml", "8", "100644"),
    ]  # fmt: skip
    found = select(tree, "app", "skip/\n# comment\n!keep")
    assert [file.path for file in found.files] == ["app/a.yaml", "app/b.yml", "app/versions/v.yaml"]
    assert [file.path for file in found.archived] == ["app/versions/archive/o.yaml"]
    assert [error.path for error in found.errors] == ["app/link", "app/sub"]


def test_a_name_that_is_not_utf8_is_an_error_that_status_can_hold() -> None:
    tree = [GitFile("app/a\udce9.yaml", "1", "100644"), GitFile("app/a\udce9.txt", "2", "100644")]
    found = select(tree, "app", "")
    assert found.files == ()
    assert [error.as_status()["path"] for error in found.errors] == ["app/a\ufffd.yaml"]
    assert "not UTF-8" in found.errors[0].message
    long = SourceError("d/" * 2000 + "a.yaml", 1, "wrong").as_status()
    assert len(long["path"].encode()) <= 1024


def test_every_kind_that_may_be_applied_can_be_named_again_from_the_inventory() -> None:
    from perennial.domain.sync import inventory

    entries = [
        ObjectId(kind.group, kind.kind, "x") for kind in (kinds.CONFIG_MAP, kinds.MODEL_VERSION, kinds.DEPLOYMENT)
    ]
    rendered = inventory.render(entries, {})
    assert set(inventory.read({"inventory": rendered})) == set(entries)
