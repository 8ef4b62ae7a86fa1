"""client-go's rules of a work queue, on a clock that the test moves."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.runtime.backoff import Backoff
from perennial.runtime.queue import WorkQueue


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def queue(ticks: Ticks) -> WorkQueue[str]:
    return WorkQueue(ticks, Backoff(base=1.0, cap=300.0, uniform=lambda low, high: high))


def taken(queue: WorkQueue[str]) -> list[str]:
    keys = []
    while (item := queue.pop_ready()) is not None:
        keys.append(item[0])
    return keys


def test_a_queued_key_is_queued_once_and_in_order(queue: WorkQueue[str]) -> None:
    for key in "abab":
        queue.add(key)
    assert taken(queue) == ["a", "b"]


def test_a_key_added_while_it_runs_runs_once_more_after(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert taken(queue) == ["a"]
    queue.add("a")
    queue.add("a")
    assert taken(queue) == []
    queue.done("a")
    assert taken(queue) == ["a"]
    queue.done("a")
    assert taken(queue) == []


def test_a_delayed_add_keeps_the_earliest_time(queue: WorkQueue[str], ticks: Ticks) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    assert queue.next_due() == 5
    ticks.now = 4.9
    assert taken(queue) == []
    ticks.now = 5
    assert taken(queue) == ["a"]
    queue.done("a")
    ticks.now = 100
    assert taken(queue) == []


def test_a_pass_started_early_drops_the_timer(queue: WorkQueue[str], ticks: Ticks) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert taken(queue) == ["a"]
    queue.done("a")
    ticks.now = 100
    assert taken(queue) == []


def test_a_timer_set_while_running_stays(queue: WorkQueue[str], ticks: Ticks) -> None:
    queue.add("a")
    taken(queue)
    queue.add_after("a", 10)
    queue.done("a")
    ticks.now = 10
    assert taken(queue) == ["a"]


def test_back_off_doubles_per_key_up_to_the_cap_and_forget_starts_over(queue: WorkQueue[str]) -> None:
    assert [queue.retry("a") for _ in range(12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert queue.retry("b") == 1
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.retry("a") == 1


def test_retry_waits_at_least_what_the_server_asked_for(queue: WorkQueue[str]) -> None:
    assert queue.retry("a", at_least=7) == 7


def test_a_soft_add_counts_after_a_good_pass_only(queue: WorkQueue[str]) -> None:
    queue.add("a")
    taken(queue)
    queue.add("a", soft=True)
    queue.done("a")
    assert taken(queue) == ["a"]
    queue.add("a", soft=True)
    queue.retry("a")
    queue.done("a")
    assert taken(queue) == []


def test_a_hard_add_survives_a_failing_pass(queue: WorkQueue[str]) -> None:
    queue.add("a")
    taken(queue)
    queue.add("a")
    queue.retry("a")
    queue.done("a")
    assert taken(queue) == ["a"]


def test_the_wait_for_a_worker_is_told(queue: WorkQueue[str], ticks: Ticks) -> None:
    queue.add("a")
    ticks.now = 3
    assert queue.pop_ready() == ("a", 3)


async def test_get_wakes_for_adds_timers_and_close() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue(loop.time)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after("late", 0.02)
    async with asyncio.timeout(5):
        item = await waiting
        assert item is not None
        assert item[0] == "late"
        ends = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.close()
        assert await asyncio.gather(*ends) == [None] * 3


async def test_two_waiting_workers_share_two_keys() -> None:
    queue: WorkQueue[str] = WorkQueue(asyncio.get_running_loop().time)
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    async with asyncio.timeout(5):
        got = await asyncio.gather(*workers)
    assert sorted(item[0] for item in got if item) == ["a", "b"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "soft", "after", "pop", "done", "fail", "tick"]), st.sampled_from("abc"))
    )
)
def test_no_key_runs_twice_at_once_and_no_hard_add_is_lost(steps: list[tuple[str, str]]) -> None:
    ticks = Ticks()
    queue: WorkQueue[str] = WorkQueue(ticks, Backoff(uniform=lambda low, high: high))
    running: set[str] = set()
    owed: set[str] = set()

    def pop() -> str | None:
        item = queue.pop_ready()
        if item is None:
            return None
        assert item[0] not in running
        running.add(item[0])
        owed.discard(item[0])
        return item[0]

    for step, key in steps:
        if step == "add":
            queue.add(key)
            owed.add(key)
        elif step == "soft":
            queue.add(key, soft=True)
        elif step == "after":
            queue.add_after(key, 2.0)
        elif step == "pop":
            pop()
        elif step == "tick":
            ticks.now += 1.0
        elif key in running:
            running.discard(key)
            if step == "fail":
                queue.retry(key)
            queue.done(key)
    for key in sorted(running):
        running.discard(key)
        queue.done(key)
    while (key := pop()) is not None:  # type: ignore[assignment]
        running.discard(key)
        queue.done(key)
    assert not owed


@given(st.integers(0, 1000))
def test_full_jitter_stays_within_its_bounds(failures: int) -> None:
    delay = Backoff().delay(failures)
    assert 0.05 <= delay <= min(300.0, 0.25 * 2.0 ** min(failures, 32))
