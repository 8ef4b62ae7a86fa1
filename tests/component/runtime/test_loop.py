"""The loop around a reconciler: a toy one that gives each DriftPolicy one ConfigMap, by intent and then by act."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, PerennialError, Stalled, Unavailable, Waiting
from perennial.runtime.cache import Cache
from perennial.runtime.controller import Controller, Loop
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status
from perennial.runtime.tracked import TrackedStore
from tests.contract.store_suite import policy
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore
from tests.fakes.world import Restless, World, stop_after_every_write


class Toy:
    """Records the intent in status, makes the child in the next pass, then reports it."""

    kind: Kind = kinds.DRIFT_POLICY
    name = "toy"

    def __init__(self, world: World) -> None:
        self.world = world
        self.error: BaseException | None = None
        self.write_first = False

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        if obj["kind"] == "ModelDeployment":
            for other in cache.list(kinds.DRIFT_POLICY, obj["metadata"]["namespace"]):
                if other["spec"]["deploymentRef"]["name"] == obj["metadata"]["name"]:
                    yield Key(obj["metadata"]["namespace"], other["metadata"]["name"])

    async def reconcile(self, key: Key) -> Outcome:
        world = self.world
        obj = world.cache.get(self.kind, key.namespace, key.name)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return DONE
        status: dict[str, Any] = {"observedGeneration": obj["metadata"]["generation"]}
        intent = (obj.get("status") or {}).get("state")
        if self.write_first:
            status["state"] = "Unknown"
        elif intent is None:
            status["state"] = "Warning"
        else:
            if intent == "Warning":
                await self.make_child(obj)
            status["state"] = "Ok"
        changed = await write_status(world.store, world.cache, obj, status, manager="perennial-toy")
        if self.error is not None:
            raise self.error
        return Outcome(changed=changed)

    async def make_child(self, obj: JsonObject) -> None:
        meta = obj["metadata"]
        owner = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"], "uid": meta["uid"]}
        child = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"{meta['name']}-child",
                "namespace": meta["namespace"],
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY_PERENNIAL},
                "ownerReferences": [{**owner, "controller": True}],
            },
        }
        try:
            await self.world.store.create(child, manager="perennial-toy")
        except Conflict as conflict:
            if conflict.reason != "AlreadyExists":
                raise


def status_of(world: World) -> dict[str, Any]:
    return dict(world.obj(kinds.DRIFT_POLICY, "watch")["status"])


def condition(world: World, type_: str) -> dict[str, Any]:
    found = [c for c in status_of(world).get("conditions", []) if c["type"] == type_]
    return found[0] if found else {}


def one_world() -> tuple[World, Toy]:
    world = World()
    toy = Toy(world)
    world.add(toy)
    return world, toy


async def test_intent_act_report_comes_to_rest_without_any_watch_delay() -> None:
    world, _ = one_world()
    await world.person(policy("default"))
    await world.settle()
    assert status_of(world)["state"] == "Ok"
    assert world.store.created == [("DriftPolicy", "watch"), ("Service", "watch-child")]
    assert await world.settle() == 0
    assert await world.run_for(600) == 0


async def test_a_change_of_a_child_wakes_its_owner() -> None:
    world, _ = one_world()
    await world.person(policy("default"))
    await world.settle()
    world.passes.clear()
    child = world.obj(kinds.SERVICE, "watch-child")
    await world.store.delete(kinds.SERVICE, "default", "watch-child", uid=child["metadata"]["uid"])
    await world.settle()
    assert world.passes == [("toy", Key("default", "watch"))]


async def test_a_change_of_a_referred_object_wakes_who_refers_to_it() -> None:
    world, _ = one_world()
    await world.person(policy("default"))
    await world.settle()
    world.passes.clear()
    meta = {"name": "rain", "namespace": "default"}
    await world.person({"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelDeployment", "metadata": meta})
    await world.settle()
    assert world.passes == [("toy", Key("default", "watch"))]


async def test_a_pod_of_a_job_wakes_the_owner_of_the_job_also_by_label() -> None:
    world, _ = one_world()
    await world.person(policy("default"))
    await world.settle()
    world.passes.clear()
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY_PERENNIAL,
        names.LABEL_OWNER_KIND: "DriftPolicy",
        names.LABEL_OWNER_NAME: "watch",
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": "default",
            "labels": labels,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": True}
            ],
        },
    }
    await world.store.create(pod, manager="x")
    await world.settle()
    assert world.passes == [("toy", Key("default", "watch"))]


@pytest.mark.parametrize("error", [Unavailable("NoAnswer", "the store did not answer"), RuntimeError("a bug")])
async def test_a_pass_that_writes_and_fails_backs_off_instead_of_spinning(error: Exception) -> None:
    world, toy = one_world()
    toy.error, toy.write_first = error, True
    await world.person(policy("default"))
    ran = await world.run_for(600)
    assert 8 <= ran <= 16  # 0.25, 0.5, 1, ... 300 s


async def test_a_bug_is_said_on_the_object_and_heals_by_itself() -> None:
    world, toy = one_world()
    toy.error = RuntimeError("secret detail")
    await world.person(policy("default"))
    await world.settle()
    ready = condition(world, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "InternalError")
    assert "secret detail" not in ready["message"]
    toy.error = None
    await world.run_for(10)
    assert condition(world, "Ready") == {}
    assert status_of(world)["state"] == "Ok"


async def test_passing_trouble_is_said_only_when_it_lasts() -> None:
    world, toy = one_world()
    toy.error = Unavailable("NoAnswer", "the object store did not answer")
    await world.person(policy("default"))
    await world.settle()
    assert condition(world, "Reconciling") == {}
    await world.run_for(60)
    assert condition(world, "Reconciling")["message"] == "the object store did not answer"


async def test_a_stalled_pass_is_said_and_not_tried_again_until_something_changes() -> None:
    world, toy = one_world()
    toy.error = Stalled("NameTaken", "the Service watch-child belongs to somebody else")
    toy.write_first = True
    await world.person(policy("default"))
    assert await world.run_for(3600) == 1
    assert condition(world, "Stalled")["reason"] == "NameTaken"
    assert condition(world, "Ready")["status"] == "False"
    toy.error, toy.write_first = None, False
    await world.person(policy("default", suspend=True))
    await world.settle()
    assert condition(world, "Stalled") == {}


async def test_a_waiting_pass_comes_back_at_its_time() -> None:
    world, toy = one_world()
    toy.error = Waiting("Starting", "waiting for the endpoint", retry_after=7)
    await world.person(policy("default"))
    assert await world.settle() == 1
    assert await world.run_for(6.9) == 0
    assert await world.run_for(0.2) == 1


async def test_a_conflict_on_status_is_met_with_a_fresh_look() -> None:
    world, _ = one_world()
    world.store.fail("status", Conflict("Conflict", "the object has been modified"), times=2)
    await world.person(policy("default"))
    await world.run_for(2)
    assert status_of(world)["state"] == "Ok"


async def test_restlessness_is_reported() -> None:
    world = World()

    class Spinner(Toy):
        async def reconcile(self, key: Key) -> Outcome:
            return Outcome(changed=True)

    world.add(Spinner(world))
    await world.person(policy("default"))
    with pytest.raises(Restless):
        await world.settle()


async def test_a_kill_after_any_write_leads_to_the_same_end() -> None:
    async def build() -> World:
        world = World()
        world.add(Toy)
        return world

    async def scenario(world: World) -> None:
        await world.person(policy("default"))
        await world.settle()

    assert await stop_after_every_write(build, scenario) == 3


async def test_the_kill_harness_sees_a_child_made_twice() -> None:
    class Careless(Toy):
        async def make_child(self, obj: JsonObject) -> None:
            meta = {"name": f"c-{len(self.world.store.created)}", "namespace": "default"}
            await self.world.store.create({"apiVersion": "v1", "kind": "Service", "metadata": meta}, manager="x")

    async def build() -> World:
        world = World()
        world.add(Careless)
        return world

    async def scenario(world: World) -> None:
        await world.person(policy("default"))
        await world.settle()

    with pytest.raises(AssertionError, match="led elsewhere"):
        await stop_after_every_write(build, scenario)


async def test_the_cache_never_goes_back_behind_an_own_write() -> None:
    clock = FakeClock()
    store, cache = MemoryStore(clock), Cache()
    loop = Loop(cache)
    tracked = TrackedStore(store, loop.on_written)
    first = await tracked.create(policy("default"), manager="x")
    second = await tracked.apply(policy("default", suspend=True), manager="x", force=True)
    loop.on_event("ADDED", first)
    seen = cache.get(kinds.DRIFT_POLICY, "default", "watch")
    assert seen is not None
    assert seen["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_workers_run_passes_and_end_when_closed() -> None:
    store, cache = MemoryStore(FakeClock()), Cache()
    loop = Loop(cache)
    seen: list[Key] = []
    ran = asyncio.Event()

    class Counting:
        kind, name = kinds.DRIFT_POLICY, "counting"

        def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
            return ()

        async def reconcile(self, key: Key) -> Outcome:
            seen.append(key)
            if len(seen) == 1:
                raise PerennialError("Odd", "once")
            ran.set()
            return DONE

    controller = Controller(Counting(), store, cache, FakeClock())
    loop.add(controller)
    workers = [asyncio.create_task(controller.work()) for _ in range(2)]
    controller.wake(Key("default", "watch"))
    async with asyncio.timeout(5):
        await ran.wait()
        loop.close()
        await asyncio.gather(*workers)
    assert seen == [Key("default", "watch")] * 2


async def test_a_pass_that_hangs_is_ended() -> None:
    store, cache = MemoryStore(FakeClock()), Cache()

    class Hanging(Toy):
        async def reconcile(self, key: Key) -> Outcome:
            await asyncio.Event().wait()
            return DONE

    controller = Controller(Hanging(World()), store, cache, FakeClock(), pass_timeout=0.01)
    controller.wake(Key("default", "watch"))
    item = controller.queue.pop_ready()
    assert item is not None
    await controller.run_pass(item[0])
    assert controller.queue.failures(item[0]) == 1


async def test_a_time_out_of_the_controllers_own_making_is_a_bug() -> None:
    world, toy = one_world()
    toy.error = TimeoutError("not awaited with care")
    await world.person(policy("default"))
    await world.settle()
    assert condition(world, "Ready")["reason"] == "InternalError"


async def test_a_bug_in_one_reference_map_does_not_take_the_event_from_others() -> None:
    class Confused(Toy):
        kind = kinds.MODEL_DEPLOYMENT
        name = "confused"

        def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
            raise KeyError("spec")

    world = World()
    world.add(Confused)
    world.add(Toy)
    await world.person(policy("default"))
    await world.settle()
    assert status_of(world)["state"] == "Ok"


class Spinning(Toy):
    """Asks for the next pass at once though nothing changes, and never gives way by itself."""

    passes = 0

    async def reconcile(self, key: Key) -> Outcome:
        self.passes += 1
        return Outcome(requeue_after=0.0)


async def test_a_pass_that_changes_nothing_cannot_keep_the_others_from_their_turn() -> None:
    world = World()
    spinning = Spinning(world)
    controller = Controller(spinning, world.store, world.cache, world.clock)
    controller.wake(Key("default", "a"))
    worker = asyncio.create_task(controller.work())
    for _ in range(100):
        await asyncio.sleep(0)
    assert spinning.passes == 1
    controller.queue.close()
    await worker


class Busy(Toy):
    """Changes something in every pass, without ever waiting."""

    passes = 0

    async def reconcile(self, key: Key) -> Outcome:
        self.passes += 1
        return Outcome(requeue_after=0.0, changed=self.passes < 1000)


async def test_a_busy_key_gives_way_after_every_pass() -> None:
    world = World()
    busy = Busy(world)
    controller = Controller(busy, world.store, world.cache, world.clock)
    controller.wake(Key("default", "a"))
    worker = asyncio.create_task(controller.work())
    for _ in range(10):
        await asyncio.sleep(0)
    assert 0 < busy.passes <= 10
    controller.queue.close()
    await worker
