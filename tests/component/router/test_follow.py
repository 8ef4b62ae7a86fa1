"""What is handed on of a namespace that changes, and how often."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from perennial.api.kinds import ENDPOINT_SLICE, MODEL_DEPLOYMENT, Kind
from perennial.router.follow import Follower
from perennial.router.model import Snapshot


def mdep(name: str, version: int, **status: Any) -> dict[str, Any]:
    """A ModelDeployment at that trafficVersion."""
    meta = {"name": name, "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {}, "status": {"trafficVersion": version, **status}}


class Reader:
    """Lists nothing, then tells what is put into its queues."""

    def __init__(self) -> None:
        self.events: dict[str, asyncio.Queue[tuple[str, dict[str, Any]]]] = {}

    async def read_all(self, kind: Kind, selector: str) -> tuple[list[dict[str, Any]], str]:
        return [], "1"

    def of(self, kind: Kind) -> "asyncio.Queue[tuple[str, dict[str, Any]]]":
        return self.events.setdefault(kind.plural, asyncio.Queue())

    async def watch(self, kind: Kind, selector: str, version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        while True:
            yield await self.of(kind).get()


@asynccontextmanager
async def following(reader: Reader) -> AsyncIterator["asyncio.Queue[Snapshot]"]:
    """What a Follower hands on; the empty namespace has been handed on already."""
    handed: asyncio.Queue[Snapshot] = asyncio.Queue()
    task = asyncio.create_task(Follower("team", reader, handed.put_nowait).run())  # type: ignore[arg-type]
    try:
        assert (await asyncio.wait_for(handed.get(), 5)).deployments == ()
        yield handed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_burst_of_changes_is_handed_on_together_and_completely() -> None:
    reader = Reader()
    async with following(reader) as handed:
        for number in range(500):
            reader.of(MODEL_DEPLOYMENT).put_nowait(("ADDED", mdep(f"m{number:03}", 2)))
        snapshots = [await asyncio.wait_for(handed.get(), 5)]
        while len(snapshots[-1].deployments) < 500:
            snapshots.append(await asyncio.wait_for(handed.get(), 5))
    assert len(snapshots) < 50


async def test_the_last_of_many_changes_of_one_object_is_what_counts() -> None:
    reader = Reader()
    async with following(reader) as handed:
        for version in range(2, 100):
            reader.of(MODEL_DEPLOYMENT).put_nowait(("MODIFIED", mdep("rain", version)))
        while (await asyncio.wait_for(handed.get(), 5)).deployments[0].traffic_version < 99:
            pass
        reader.of(MODEL_DEPLOYMENT).put_nowait(("DELETED", mdep("rain", 100)))
        assert (await asyncio.wait_for(handed.get(), 5)).deployments == ()


async def test_news_that_the_router_does_not_look_at_are_not_handed_on() -> None:
    reader = Reader()
    async with following(reader) as handed:
        reader.of(MODEL_DEPLOYMENT).put_nowait(("ADDED", mdep("rain", 2)))
        await asyncio.wait_for(handed.get(), 5)
        again = {
            **mdep("rain", 2, conditions=[{"type": "Ready"}]),
            "metadata": {"name": "rain", "resourceVersion": "3"},
        }
        stranger = {"metadata": {"name": "x", "resourceVersion": "4", "labels": {}}, "addressType": "IPv4"}
        reader.of(MODEL_DEPLOYMENT).put_nowait(("MODIFIED", again))
        reader.of(ENDPOINT_SLICE).put_nowait(("ADDED", stranger))
        reader.of(MODEL_DEPLOYMENT).put_nowait(("ADDED", mdep("sun", 5)))
        seen = await asyncio.wait_for(handed.get(), 5)
        assert [d.name for d in seen.deployments] == ["rain", "sun"]
