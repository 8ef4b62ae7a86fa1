"""What the agent keeps of the namespace that it follows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from perennial.api.kinds import DRIFT_POLICY, MODEL_DEPLOYMENT, Kind
from perennial.router.follow import Follower
from perennial.router.model import Snapshot
from perennial.router.observer import Observer

BASELINE = {"rows": 10, "features": [{"name": "x", "kind": "Numeric", "edges": ["0.5"], "counts": [5, 5]}]}


def deployment(version: str, resource_version: str) -> dict[str, Any]:
    status = {"stable": {"revision": f"rev{version[-1]}", "version": version}}
    return {"metadata": {"name": "rain", "resourceVersion": resource_version}, "spec": {}, "status": status}


class Reader:
    """A namespace with one deployment and one policy; `events` are what the watch on deployments tells."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked: list[str] = []

    async def read_all(self, kind: Kind, _selector: str) -> tuple[list[dict[str, Any]], str]:
        policy = {"metadata": {"name": "drift"}, "spec": {"deploymentRef": {"name": "rain"}, "window": {"seconds": 60}}}
        return {MODEL_DEPLOYMENT: [deployment("rain-r0", "1")], DRIFT_POLICY: [policy]}.get(kind, []), "1"

    async def get(self, _kind: Kind, name: str) -> dict[str, Any]:
        self.asked.append(name)
        return {"spec": {"baseline": BASELINE}}

    async def watch(self, kind: Kind, _selector: str, _version: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        if kind != MODEL_DEPLOYMENT:
            await asyncio.Event().wait()
        while True:
            yield "MODIFIED", await self.events.get()


async def test_baselines_of_versions_that_serve_no_more_are_let_go() -> None:
    reader, observer, snapshots = Reader(), Observer(), asyncio.Queue[Snapshot]()
    follower = Follower("default", reader, snapshots.put_nowait)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    try:
        for number in range(4):
            if number:
                reader.events.put_nowait(deployment(f"rain-r{number}", str(number + 1)))
            snapshot = Snapshot("")
            while f"rain-r{number}" not in snapshot.baselines:
                snapshot = await asyncio.wait_for(snapshots.get(), 5)
                observer.follow(snapshot)
        assert reader.asked == ["rain-r0", "rain-r1", "rain-r2", "rain-r3"]
        assert set(follower._baselines) == {"rain-r3"}
        assert set(observer._plans) == {"rain-r3"}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
