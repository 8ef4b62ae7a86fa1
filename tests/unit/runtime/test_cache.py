"""The cache never goes back, keeps no ghosts that it can know of, and knows who owns whom."""

from typing import Any

import pytest

from perennial.api import kinds, names
from perennial.runtime.cache import Cache, version_of

OURS = {names.LABEL_MANAGED_BY: names.MANAGED_BY_PERENNIAL}


def job(
    version: int, *, uid: str = "j", labels: dict[str, str] | None = None, owner: str | None = "o"
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": "a",
        "namespace": "n",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": OURS if labels is None else labels,
        "managedFields": [{"manager": "x"}],
    }
    if owner is not None:
        meta["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "X", "name": "other", "uid": "not-controller"},
            {
                "apiVersion": "perennial.dev/v1alpha1",
                "kind": "TrainingJob",
                "name": "t",
                "uid": owner,
                "controller": True,
            },
        ]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta}


def seen(cache: Cache) -> int | None:
    obj = cache.get(kinds.JOB, "n", "a")
    return None if obj is None else version_of(obj)


def test_an_older_or_equal_state_is_no_news() -> None:
    cache = Cache()
    assert cache.apply_event("ADDED", job(5))
    assert not cache.apply_event("MODIFIED", job(5))
    assert not cache.apply_event("MODIFIED", job(4))
    assert cache.upsert(job(6))
    assert not cache.apply_event("MODIFIED", job(6))
    assert seen(cache) == 6


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.apply_event("ADDED", job(99))
    assert cache.apply_event("MODIFIED", job(100))


def test_a_late_answer_does_not_bring_back_what_was_deleted() -> None:
    cache = Cache()
    cache.apply_event("ADDED", job(5))
    assert cache.apply_event("DELETED", job(7))
    assert not cache.upsert(job(6))
    assert seen(cache) is None


def test_a_late_deletion_does_not_remove_a_new_object_of_the_name() -> None:
    cache = Cache()
    cache.apply_event("ADDED", job(5, uid="old"))
    cache.apply_event("ADDED", job(9, uid="new"))
    assert not cache.apply_event("DELETED", job(8, uid="old"))
    assert seen(cache) == 9
    assert cache.by_uid("old") is None


def test_an_object_that_loses_our_label_leaves_and_may_come_back() -> None:
    cache = Cache()
    cache.apply_event("ADDED", job(5))
    assert cache.apply_event("MODIFIED", job(6, labels={}))
    assert seen(cache) is None
    assert cache.apply_event("ADDED", job(7))
    assert seen(cache) == 7


@pytest.mark.parametrize(
    "obj",
    [
        job(1, labels={}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n", "uid": "s", "labels": OURS}},
    ],
)
def test_what_is_not_watched_is_never_cached(obj: dict[str, Any]) -> None:
    assert not Cache().upsert(obj)


def test_children_are_found_by_their_controller_only() -> None:
    cache = Cache()
    cache.apply_event("ADDED", job(5))
    assert [o["metadata"]["name"] for o in cache.owned_by("o")] == ["a"]
    assert cache.owned_by("not-controller") == []
    cache.apply_event("MODIFIED", job(6, owner="p"))
    assert cache.owned_by("o") == []
    assert len(cache.owned_by("p")) == 1
    cache.apply_event("MODIFIED", job(7, owner=None))
    assert cache.owned_by("p") == []


def test_managed_fields_and_baselines_are_left_out() -> None:
    cache = Cache()
    cache.apply_event(None, job(5))
    version = {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": "v", "namespace": "n", "uid": "v", "resourceVersion": "6"},
        "spec": {"model": "rain", "baseline": {"rows": 9}},
    }
    cache.apply_event(None, version)
    found, kept = cache.get(kinds.JOB, "n", "a"), cache.get(kinds.MODEL_VERSION, "n", "v")
    assert found is not None
    assert kept is not None
    assert "managedFields" not in found["metadata"]
    assert kept["spec"] == {"model": "rain"}
    assert version["spec"]["baseline"] == {"rows": 9}


def test_prune_drops_what_vanished_unseen_but_nothing_newer_than_the_list() -> None:
    cache = Cache()
    cache.apply_event(None, job(5, uid="ghost"))
    before = cache.uids(kinds.JOB)
    newer = job(8, uid="newer")
    newer["metadata"]["name"] = "b"
    cache.upsert(newer)
    gone = cache.prune(kinds.JOB, before, [])
    assert [o["metadata"]["uid"] for o in gone] == ["ghost"]
    assert [o["metadata"]["uid"] for o in cache.list(kinds.JOB)] == ["newer"]


def test_list_selects_by_namespace_and_labels() -> None:
    cache = Cache()
    cache.apply_event(None, job(5, labels={**OURS, "x": "1"}))
    assert len(cache.list(kinds.JOB, "n", {"x": "1"})) == 1
    assert cache.list(kinds.JOB, "n", {"x": "2"}) == []
    assert cache.list(kinds.JOB, "m") == []
