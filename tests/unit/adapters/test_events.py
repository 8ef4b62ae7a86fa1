"""Events: repeats are one series, and a slow API server never holds a pass."""

import asyncio
from typing import Any

from perennial.adapters.events import QUEUE, EventWriter
from perennial.api import kinds
from perennial.domain.decision import EventNote
from perennial.domain.errors import Unavailable
from tests.contract.store_suite import policy
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore

NOTE = EventNote("CanaryFailed", "12 of 60 requests failed", "Warning")


def subject(uid: str = "u1") -> dict[str, Any]:
    obj = policy("default")
    obj["metadata"]["uid"] = uid
    return obj


async def write(writer: EventWriter) -> None:
    task = asyncio.create_task(writer.run())
    await writer.flush(5)
    task.cancel()


async def test_an_event_says_what_happened_to_what() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    writer = EventWriter(store, clock, instance="pod-1")
    writer.emit(subject(), NOTE)
    await write(writer)
    (event,) = store.all(kinds.EVENT)
    assert (event["reason"], event["type"], event["note"]) == ("CanaryFailed", "Warning", NOTE.message)
    assert event["regarding"]["name"] == "watch"
    assert event["regarding"]["uid"] == "u1"
    assert event["eventTime"] == "2026-11-25T10:00:00.000000Z"
    assert event["reportingInstance"] == "pod-1"


async def test_repeats_are_counted_in_one_event() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    writer = EventWriter(store, clock, instance="pod-1")
    for _ in range(50):
        writer.emit(subject(), NOTE)
    await write(writer)
    assert len(store.all(kinds.EVENT)) == 1
    assert len(store.writes) == 2
    clock.advance(60)
    writer.emit(subject(), NOTE)
    await write(writer)
    (event,) = store.all(kinds.EVENT)
    assert event["series"]["count"] == 51


async def test_another_message_object_or_a_long_silence_is_a_new_event() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    writer = EventWriter(store, clock, instance="pod-1")
    writer.emit(subject(), NOTE)
    writer.emit(subject("u2"), NOTE)
    writer.emit(subject(), EventNote("CanaryFailed", "another"))
    await write(writer)
    clock.advance(3600)
    writer.emit(subject(), NOTE)
    await write(writer)
    assert len(store.all(kinds.EVENT)) == 4


async def test_a_full_queue_drops_instead_of_blocking() -> None:
    clock = FakeClock()
    writer = EventWriter(MemoryStore(clock), clock, instance="pod-1")
    for index in range(QUEUE + 10):
        writer.emit(subject(), EventNote("A", str(index)))


async def test_a_failing_server_loses_events_not_the_writer() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    store.fail("create", Unavailable("ApiServerError", "down"))
    writer = EventWriter(store, clock, instance="pod-1")
    writer.emit(subject(), NOTE)
    writer.emit(subject("u2"), NOTE)
    await write(writer)
    assert len(store.all(kinds.EVENT)) == 1


async def test_an_unexpected_answer_costs_one_event_and_not_those_after_it() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    store.fail("create", ValueError("no JSON"), kind=kinds.EVENT)  # type: ignore[arg-type]
    writer = EventWriter(store, clock, instance="pod-1")
    writer.emit(subject(), NOTE)
    writer.emit(subject("u2"), NOTE)
    await write(writer)
    assert [event["regarding"]["uid"] for event in store.all(kinds.EVENT)] == ["u2"]
