"""What every `ObjectStore` must do. Run against MemoryStore here and against a real API server in tests/api.

A subclass gives the fixtures `store` and `namespace` (an empty namespace, made anew for each test).
"""

import asyncio
from typing import Any

import pytest

from perennial.api import kinds
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, Invalid
from perennial.ports import ObjectStore, PatchTarget

ME, OTHER = "perennial-test", "somebody-else"


def config_map(namespace: str, name: str = "one", data: dict[str, str] | None = None, **meta: Any) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **meta},
        "data": {"a": "1"} if data is None else data,
    }


def policy(namespace: str, name: str = "watch", **spec: Any) -> JsonObject:
    return {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "DriftPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"deploymentRef": {"name": "rain"}, "window": {"seconds": 60}, **spec},
    }


def status_body(obj: JsonObject, status: JsonObject) -> JsonObject:
    meta = {key: obj["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "status": status}


async def until_gone(store: ObjectStore, kind: Kind, namespace: str, name: str) -> None:
    async with asyncio.timeout(60):
        while await store.get(kind, namespace, name) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


class StoreSuite:
    """The suite; methods are collected in subclasses named Test..."""

    async def test_an_absent_object_is_none(self, store: ObjectStore, namespace: str) -> None:
        assert await store.get(kinds.CONFIG_MAP, namespace, "none") is None
        assert await store.patch(PatchTarget(kinds.CONFIG_MAP, namespace, "none"), {"data": {}}, manager=ME) is None
        assert await store.delete(kinds.CONFIG_MAP, namespace, "none", uid=None) is False

    async def test_create_gives_uid_and_version_and_refuses_a_second(self, store: ObjectStore, namespace: str) -> None:
        made = await store.create(config_map(namespace), manager=ME)
        assert made["metadata"]["uid"]
        assert int(made["metadata"]["resourceVersion"]) > 0
        assert made["apiVersion"] == "v1"
        assert made["kind"] == "ConfigMap"
        with pytest.raises(Conflict) as caught:
            await store.create(config_map(namespace), manager=ME)
        assert caught.value.reason == "AlreadyExists"
        assert "one" in caught.value.message

    async def test_get_returns_what_was_made(self, store: ObjectStore, namespace: str) -> None:
        made = await store.create(config_map(namespace), manager=ME)
        seen = await store.get(kinds.CONFIG_MAP, namespace, "one")
        assert seen is not None
        assert seen["data"] == {"a": "1"}
        assert seen["kind"] == "ConfigMap"
        assert seen["metadata"]["uid"] == made["metadata"]["uid"]

    async def test_list_selects_by_labels_and_names_the_kind(self, store: ObjectStore, namespace: str) -> None:
        await store.create(config_map(namespace, "a", labels={"x": "1", "y": "1"}), manager=ME)
        await store.create(config_map(namespace, "b", labels={"x": "1"}), manager=ME)
        await store.create(config_map(namespace, "c"), manager=ME)
        both = await store.list(kinds.CONFIG_MAP, namespace, labels="x=1")
        assert sorted(o["metadata"]["name"] for o in both) == ["a", "b"]
        assert {(o["apiVersion"], o["kind"]) for o in both} == {("v1", "ConfigMap")}
        assert [o["metadata"]["name"] for o in await store.list(kinds.CONFIG_MAP, namespace, labels="x=1,y")] == ["a"]

    async def test_a_dry_run_changes_nothing(self, store: ObjectStore, namespace: str) -> None:
        await store.create(config_map(namespace), manager=ME, dry_run=True)
        assert await store.get(kinds.CONFIG_MAP, namespace, "one") is None
        await store.apply(config_map(namespace), manager=ME)
        changed = await store.apply(config_map(namespace, data={"a": "2"}), manager=ME, dry_run=True)
        assert changed["data"] == {"a": "2"}
        seen = await store.get(kinds.CONFIG_MAP, namespace, "one")
        assert seen is not None
        assert seen["data"] == {"a": "1"}

    async def test_apply_creates_then_drops_what_is_no_longer_said(self, store: ObjectStore, namespace: str) -> None:
        await store.apply(config_map(namespace, data={"a": "1", "b": "1"}), manager=ME)
        after = await store.apply(config_map(namespace, data={"a": "1"}), manager=ME)
        assert after["data"] == {"a": "1"}

    async def test_an_equal_apply_keeps_the_version(self, store: ObjectStore, namespace: str) -> None:
        first = await store.apply(config_map(namespace), manager=ME)
        second = await store.apply(config_map(namespace), manager=ME)
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]

    async def test_apply_leaves_fields_of_others(self, store: ObjectStore, namespace: str) -> None:
        await store.apply(config_map(namespace, data={"b": "1"}), manager=OTHER)
        await store.apply(config_map(namespace, data={"a": "1"}), manager=ME)
        after = await store.apply(config_map(namespace, data={}), manager=ME)
        assert after["data"] == {"b": "1"}

    async def test_a_field_of_another_manager_conflicts_unless_forced(self, store: ObjectStore, namespace: str) -> None:
        await store.apply(config_map(namespace, data={"a": "1"}), manager=OTHER)
        with pytest.raises(Conflict) as caught:
            await store.apply(config_map(namespace, data={"a": "2"}), manager=ME)
        assert OTHER in caught.value.message
        taken = await store.apply(config_map(namespace, data={"a": "2"}), manager=ME, force=True)
        assert taken["data"] == {"a": "2"}
        with pytest.raises(Conflict):
            await store.apply(config_map(namespace, data={"a": "1"}), manager=OTHER)

    async def test_equal_values_are_shared_not_fought_over(self, store: ObjectStore, namespace: str) -> None:
        await store.apply(config_map(namespace, data={"a": "1"}), manager=OTHER)
        await store.apply(config_map(namespace, data={"a": "1"}), manager=ME)
        after = await store.apply(config_map(namespace, data={}), manager=ME)
        assert after["data"] == {"a": "1"}

    async def test_apply_refuses_a_stale_version_or_another_uid(self, store: ObjectStore, namespace: str) -> None:
        old = await store.apply(config_map(namespace), manager=ME)
        await store.apply(config_map(namespace, data={"a": "2"}), manager=ME)
        stale = config_map(namespace, data={"a": "3"}, resourceVersion=old["metadata"]["resourceVersion"])
        with pytest.raises(Conflict):
            await store.apply(stale, manager=ME)
        stranger = config_map(namespace, data={"a": "3"}, uid="11111111-1111-4111-8111-111111111111")
        with pytest.raises(Conflict):
            await store.apply(stranger, manager=ME)

    async def test_a_guarded_apply_never_makes_an_object(self, store: ObjectStore, namespace: str) -> None:
        with pytest.raises(Conflict):
            await store.apply(
                config_map(namespace, uid="11111111-1111-4111-8111-111111111111", resourceVersion="7"), manager=ME
            )
        assert await store.get(kinds.CONFIG_MAP, namespace, "one") is None

    async def test_a_merge_patch_removes_null_keys_and_checks_the_version(
        self, store: ObjectStore, namespace: str
    ) -> None:
        made = await store.create(config_map(namespace, data={"a": "1", "b": "1"}), manager=ME)
        target = PatchTarget(
            kinds.CONFIG_MAP, namespace, "one", made["metadata"]["uid"], made["metadata"]["resourceVersion"]
        )
        after = await store.patch(target, {"data": {"a": None, "c": "1"}}, manager=ME)
        assert after is not None
        assert after["data"] == {"b": "1", "c": "1"}
        with pytest.raises(Conflict):
            await store.patch(target, {"data": {"d": "1"}}, manager=ME)

    async def test_delete_with_another_uid_deletes_nothing(self, store: ObjectStore, namespace: str) -> None:
        made = await store.create(config_map(namespace), manager=ME)
        wrong = "11111111-1111-4111-8111-111111111111"
        assert await store.delete(kinds.CONFIG_MAP, namespace, "one", uid=wrong) is False
        assert await store.delete(kinds.CONFIG_MAP, namespace, "one", uid=made["metadata"]["uid"]) is True
        await until_gone(store, kinds.CONFIG_MAP, namespace, "one")

    async def test_children_go_with_their_owner(self, store: ObjectStore, namespace: str) -> None:
        owner = await store.create(config_map(namespace, "owner"), manager=ME)
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        await store.create(config_map(namespace, "child", ownerReferences=[reference]), manager=ME)
        await store.delete(kinds.CONFIG_MAP, namespace, "owner", uid=None)
        await until_gone(store, kinds.CONFIG_MAP, namespace, "child")

    async def test_an_unknown_kind_or_a_missing_namespace_is_invalid(self, store: ObjectStore, namespace: str) -> None:
        with pytest.raises(Invalid):
            await store.create({"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "a"}}, manager=ME)
        nameless = config_map(namespace)
        del nameless["metadata"]["namespace"]
        with pytest.raises(Invalid):
            await store.create(nameless, manager=ME)

    async def test_status_is_a_resource_of_its_own(self, store: ObjectStore, namespace: str) -> None:
        sync = {
            "apiVersion": "perennial.dev/v1alpha1",
            "kind": "GitSync",
            "metadata": {"name": "shop", "namespace": namespace},
            "spec": {"url": "https://example.com/x.git", "prune": False, "suspend": True},
        }
        made = await store.create({**sync, "status": {"lastHandledSyncRequest": "1"}}, manager=ME)
        assert made["status"] == {"observedGeneration": -1}
        first = {"observedGeneration": 1, "lastHandledSyncRequest": "2"}
        after = await self.put_status(store, made, first)
        assert after["status"]["lastHandledSyncRequest"] == "2"
        assert after["metadata"]["generation"] == made["metadata"]["generation"]
        assert after["spec"]["url"] == "https://example.com/x.git"
        with pytest.raises(Conflict):
            await store.apply(status_body(made, first), manager=ME, force=True, subresource="status")
        shorter = await self.put_status(store, after, {"observedGeneration": 1})
        assert "lastHandledSyncRequest" not in shorter["status"]

    async def put_status(self, store: ObjectStore, obj: JsonObject, status: JsonObject) -> JsonObject:
        """Apply a status; on a cluster where an operator runs too, it may write in between: then read again."""
        for _ in range(10):
            try:
                return await store.apply(status_body(obj, status), manager=ME, force=True, subresource="status")
            except Conflict:
                fresh = await store.get(kinds.GIT_SYNC, obj["metadata"]["namespace"], obj["metadata"]["name"])
                assert fresh is not None
                obj = fresh
        raise AssertionError("another writer won ten times")

    async def test_generation_counts_changes_of_spec_only(self, store: ObjectStore, namespace: str) -> None:
        made = await store.apply(policy(namespace), manager=ME)
        assert made["metadata"]["generation"] == 1
        labelled = policy(namespace)
        labelled["metadata"]["labels"] = {"x": "1"}
        assert (await store.apply(labelled, manager=ME))["metadata"]["generation"] == 1
        changed = policy(namespace, suspend=True)
        assert (await store.apply(changed, manager=ME))["metadata"]["generation"] == 2

    async def test_keyed_list_items_belong_to_whom_says_them(self, store: ObjectStore, namespace: str) -> None:
        def version(**spec: Any) -> JsonObject:
            meta = {"name": "rain-r1", "namespace": namespace}
            return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelVersion", "metadata": meta, "spec": spec}

        artifact = {"uri": "s3://b/x", "digest": "sha256:" + "0" * 64, "format": "sklearn"}
        await store.create(
            version(model="rain", artifact=artifact, metrics={"roc_auc": "0.86", "log_loss": "0.4"}), manager=ME
        )
        for who, deployment in ((OTHER, "a"), (ME, "b")):
            record = {"deployment": deployment, "time": "2026-11-25T10:00:00Z"}
            await store.apply(version(proposed=[record]), manager=who)
        seen = await store.apply(version(proposed=[]), manager=OTHER)
        assert [record["deployment"] for record in seen["spec"]["proposed"]] == ["b"]
        assert seen["spec"]["metrics"] == {"roc_auc": "0.86", "log_loss": "0.4"}
