"""One holder at a time, judged by one's own clock."""

import pytest

from perennial.api import kinds
from perennial.domain.errors import Conflict, Transient, Unavailable
from perennial.ports import PatchTarget
from perennial.runtime.lease import Lease, LeaseLost
from perennial.runtime.tracked import TrackedStore
from tests.contract.store_suite import config_map
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore


class Scene:
    """Two candidates on one store and one clock; sleeping moves the clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.slept = 0.0
        self.limit = 1000.0

    def lease(self, identity: str) -> Lease:
        return Lease(
            self.store,
            self.clock,
            namespace="system",
            name="operator",
            identity=identity,
            now=self.clock.monotonic,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.slept += seconds
        if self.slept > self.limit:
            raise TimeoutError("slept too long")

    def holder(self) -> str:
        (lease,) = self.store.all(kinds.LEASE)
        return str(lease["spec"]["holderIdentity"])


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_the_first_one_gets_it_at_once(scene: Scene) -> None:
    lease = scene.lease("a")
    assert not lease.held
    await lease.acquire()
    assert lease.held
    assert (scene.holder(), scene.slept) == ("a", 0.0)


async def test_a_dead_holder_is_replaced_after_the_duration_not_before(scene: Scene) -> None:
    await scene.lease("a").acquire()
    second = scene.lease("b")
    await second.acquire()
    assert 15 <= scene.slept <= 17
    assert scene.holder() == "b"
    (lease,) = scene.store.all(kinds.LEASE)
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_released_lease_is_taken_at_once(scene: Scene) -> None:
    first = scene.lease("a")
    await first.acquire()
    await first.release()
    assert not first.held
    await scene.lease("b").acquire()
    assert scene.slept == 0


async def test_the_same_pod_takes_its_lease_back_at_once(scene: Scene) -> None:
    await scene.lease("pod-uid").acquire()
    await scene.lease("pod-uid").acquire()
    assert scene.slept == 0


async def test_a_living_holder_keeps_it(scene: Scene) -> None:
    first, second = scene.lease("a"), scene.lease("b")
    await first.acquire()
    scene.limit = 120

    async def renewing_sleep(seconds: float) -> None:
        await scene.sleep(seconds)
        await first.acquire()

    second._sleep = renewing_sleep
    with pytest.raises(TimeoutError):
        await second.acquire()
    assert scene.holder() == "a"


async def test_a_holder_that_cannot_renew_gives_up_before_others_take_over(scene: Scene) -> None:
    lease = scene.lease("a")
    await lease.acquire()
    for verb in ("get", "patch"):
        scene.store.fail(verb, Unavailable("ApiServerUnreachable", "down"), times=100)
    with pytest.raises(LeaseLost, match="could not be renewed"):
        await lease.keep()
    assert scene.slept <= 12


async def test_a_holder_that_slept_too_long_sees_that_it_was_replaced(scene: Scene) -> None:
    first = scene.lease("a")
    await first.acquire()
    scene.clock.advance(60)
    assert not first.held
    with pytest.raises(Transient, match="does not hold"):
        first.guard()
    await scene.lease("b").acquire()
    with pytest.raises(LeaseLost, match="b took it"):
        await first.keep()


async def test_a_stale_holder_writes_nothing(scene: Scene) -> None:
    lease = scene.lease("a")
    await lease.acquire()
    store = TrackedStore(scene.store, lambda _: None, lease.guard)
    await store.create(config_map("default"), manager="x")
    scene.clock.advance(60)
    with pytest.raises(Transient):
        await store.create(config_map("default", "two"), manager="x")
    with pytest.raises(Transient):
        await store.apply(config_map("default"), manager="x")
    with pytest.raises(Transient):
        await store.patch(PatchTarget(kinds.CONFIG_MAP, "default", "one"), {}, manager="x")
    with pytest.raises(Transient):
        await store.acting_as("default", "t").delete(kinds.CONFIG_MAP, "default", "one", uid=None)
    assert [o["metadata"]["name"] for o in scene.store.all(kinds.CONFIG_MAP)] == ["one"]


async def test_a_lost_race_is_not_a_hold(scene: Scene) -> None:
    lease = scene.lease("a")
    scene.store.fail("create", Conflict("AlreadyExists", "exists"))
    await lease.acquire()
    assert scene.slept == 2
    assert lease.held


async def test_one_conflict_on_renewal_is_survived(scene: Scene) -> None:
    lease = scene.lease("a")
    await lease.acquire()
    scene.store.fail("patch", Conflict("Conflict", "modified"))
    scene.limit = 20
    with pytest.raises(TimeoutError):
        await lease.keep()
    assert lease.held


async def test_a_renewal_is_one_request(scene: Scene) -> None:
    lease = scene.lease("a")
    await lease.acquire()
    before = len(scene.store.requests)
    scene.limit = 9
    with pytest.raises(TimeoutError):
        await lease.keep()
    assert [verb for verb, _ in scene.store.requests[before:]] == ["patch"] * 4


async def test_a_deleted_lease_is_lost_or_made_anew_but_never_assumed(scene: Scene) -> None:
    lease = scene.lease("a")
    await lease.acquire()
    await scene.store.delete(kinds.LEASE, "system", "operator", uid=None)
    scene.limit = 5
    with pytest.raises(TimeoutError):
        await lease.keep()
    assert scene.holder() == "a"
