"""A watcher independent of the operator: a process of its own that notes when it sees objects and their status.

Times are seconds of this machine's monotonic clock, so they can be compared between its processes.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from perennial.adapters.kube import Access, open_access, path_of
from perennial.api.kinds import Kind


class Seen:
    """What was seen of the objects: by "plural/name" the time of ADDED, of the first event with conditions in status,
    and the number of events."""

    def __init__(self) -> None:
        self.added: dict[str, float] = {}
        self.status: dict[str, float] = {}
        self.events: dict[str, int] = {}

    def note(self, plural: str, event: dict[str, Any], now: float) -> None:
        """One watch event."""
        obj = event["object"]
        key = f"{plural}/{obj['metadata']['name']}"
        if event["type"] == "ADDED":
            self.added.setdefault(key, now)
        self.events[key] = self.events.get(key, 0) + 1
        if (obj.get("status") or {}).get("conditions"):
            self.status.setdefault(key, now)


class Watching:
    """A running watcher process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def seen(self) -> Seen:
        """Everything seen until now."""
        self._pipe.send("tell")
        answer: Seen = self._pipe.recv()
        return answer


@contextmanager
def watching(kubeconfig: str, namespace: str, kinds: Sequence[Kind]) -> Iterator[Watching]:
    """Watch kinds in a namespace for the length of a block; returns when all watches are open."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(kubeconfig, namespace, list(kinds), theirs), daemon=True)
    process.start()
    try:
        if ours.recv() != "open":
            raise RuntimeError("the watcher did not start")
        yield Watching(ours)
    finally:
        process.terminate()
        process.join()


def _main(kubeconfig: str, namespace: str, kinds: list[Kind], pipe: Connection) -> None:
    asyncio.run(_watch_all(kubeconfig, namespace, kinds, pipe))


async def _watch_all(kubeconfig: str, namespace: str, kinds: list[Kind], pipe: Connection) -> None:
    seen = Seen()
    opened = [asyncio.Event() for _ in kinds]
    loop = asyncio.get_running_loop()

    def answer() -> None:
        pipe.recv()
        pipe.send(seen)

    async with open_access(kubeconfig) as access, asyncio.TaskGroup() as group:
        for kind, ready in zip(kinds, opened, strict=True):
            group.create_task(_watch(access, namespace, kind, seen, ready))
        for ready in opened:
            await ready.wait()
        pipe.send("open")
        loop.add_reader(pipe.fileno(), answer)


async def _watch(access: Access, namespace: str, kind: Kind, seen: Seen, ready: asyncio.Event) -> None:
    async for event in follow(access, namespace, kind, ready):
        seen.note(kind.plural, event, time.monotonic())


async def follow(access: Access, namespace: str, kind: Kind, ready: asyncio.Event) -> AsyncIterator[dict[str, Any]]:
    """The watch events of a kind from now on, for up to an hour; `ready` is set when the watch is open."""
    token = await access.authorization()
    headers = {"Authorization": token} if token else {}
    url = access.server + path_of(kind, namespace)
    connector = aiohttp.TCPConnector(ssl=access.ssl_context)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(connector=connector, headers=headers, read_bufsize=2**21, timeout=timeout) as web:
        async with web.get(url, params={"limit": "1"}) as listed:
            listed.raise_for_status()
            version = (await listed.json())["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
        async with web.get(url, params=query) as answer:
            answer.raise_for_status()
            ready.set()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(event["object"].get("message"))
                yield event
