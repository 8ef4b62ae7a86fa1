"""A status is written once, guarded, and not at all when it is equal."""

from typing import Any

import pytest

from perennial.api import kinds
from perennial.domain.errors import Conflict
from perennial.runtime.cache import Cache
from perennial.runtime.status import plain, write_status
from tests.contract.store_suite import policy
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore


async def made() -> tuple[MemoryStore, Cache, dict[str, Any]]:
    store, cache = MemoryStore(FakeClock()), Cache()
    return store, cache, await store.create(policy("default"), manager="person")


async def test_an_equal_status_makes_no_request() -> None:
    store, cache, obj = await made()
    requests = len(store.requests)
    assert not await write_status(store, cache, obj, {"observedGeneration": -1, "gone": None}, manager="m")
    assert len(store.requests) == requests


async def test_a_new_status_is_written_and_cached() -> None:
    store, cache, obj = await made()
    assert await write_status(store, cache, obj, {"observedGeneration": 1, "drifted": ("a",)}, manager="m")
    cached = cache.get(kinds.DRIFT_POLICY, "default", "watch")
    assert cached is not None
    assert cached["status"] == {"observedGeneration": 1, "drifted": ["a"]}
    assert not await write_status(store, cache, cached, {"observedGeneration": 1, "drifted": ["a"]}, manager="m")


async def test_a_stale_or_recreated_object_is_not_written() -> None:
    store, cache, obj = await made()
    await store.apply(policy("default", suspend=True), manager="person", force=True)
    with pytest.raises(Conflict):
        await write_status(store, cache, obj, {"observedGeneration": 1}, manager="m")
    await store.delete(kinds.DRIFT_POLICY, "default", "watch", uid=None)
    with pytest.raises(Conflict):
        await write_status(store, cache, obj, {"observedGeneration": 1}, manager="m")
    assert store.all(kinds.DRIFT_POLICY) == []


async def test_fields_that_the_server_dropped_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, cache, obj = await made()
    apply = store.apply

    async def pruning(body: dict[str, Any], **options: Any) -> dict[str, Any]:
        kept = {key: value for key, value in body["status"].items() if key != "unknown"}
        return await apply({**body, "status": kept}, **options)

    monkeypatch.setattr(store, "apply", pruning)
    await write_status(store, cache, obj, {"observedGeneration": 1, "unknown": 1}, manager="m")
    assert "did not keep status.unknown of DriftPolicy default/watch" in caplog.text


def test_plain_is_what_json_gives_back() -> None:
    assert plain({"a": (1, {"b": None}), "c": None}) == {"a": [1, {}]}
