"""Runs in a pod of a benchmark: steady requests, and what the routers say of their weights.

    client.py write      put the models of /files/models.json onto the volume
    client.py canaries   requests at RATE a second until killed; JSON lines on standard output
    client.py seconds    the same with other lines
    client.py share      COUNT requests, eight at a time; one line

Lines of canaries: {"t", "run", "code"} for every answer of a canary (the server names its run), {"t", "code"} for every
other answer that is not 200. Lines of seconds: {"t", "requests", "p99_ms"} for every second in which answers ended,
and {"t", "code", "run", "who", "ms", "body"} for every answer that is not 200: `run` is null when no server gave it,
`who` is the revision that the router named. Both: {"t", "router", "version", "weights", "confirmed"} whenever a router
says something new. The line of share: {"t", "requests", "by": {revision: answers}}.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

RATE = float(os.environ.get("RATE", "100"))
COUNT = int(os.environ.get("COUNT", "10000"))
AT_A_TIME = 8
POLL_SECONDS = 0.03
LOOKUP_SECONDS = 1.0
LONGEST_SECONDS = 30.0
URL = "http://bench/v2/models/bench/infer"
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}


@dataclass(frozen=True)
class Answer:
    """How one request ended. run: None when no server answered; who: the revision that the router named."""

    code: str
    run: str | None
    who: str | None
    seconds: float
    body: str


def write() -> None:
    """One directory for each model."""
    for name, content in json.loads(Path("/files/models.json").read_text()).items():
        folder = Path("/store") / name
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(content)


def tell(**fields: Any) -> None:
    """One line."""
    print(json.dumps({"t": time.time(), **fields}), flush=True)


async def ask(web: aiohttp.ClientSession) -> Answer:
    """One request."""
    begun = time.monotonic()
    try:
        async with web.post(URL, json=BODY) as answer:
            body = await answer.text()
            run, who = answer.headers.get("x-bench-run"), answer.headers.get("x-perennial-revision")
            return Answer(str(answer.status), run, who, time.monotonic() - begun, body)
    except (aiohttp.ClientError, TimeoutError) as error:
        return Answer(type(error).__name__, None, None, time.monotonic() - begun, str(error))


def each_canary(answer: Answer) -> None:
    """Lines of canaries."""
    if answer.run not in (None, "0"):
        tell(run=int(answer.run or 0), code=answer.code)
    elif answer.code != "200":
        tell(code=answer.code)


class Seconds:
    """Lines of seconds."""

    def __init__(self) -> None:
        self._took: list[float] = []

    def __call__(self, answer: Answer) -> None:
        """One answer."""
        self._took.append(answer.seconds)
        if answer.code != "200":
            ms = round(answer.seconds * 1000)
            tell(code=answer.code, run=answer.run, who=answer.who, ms=ms, body=answer.body[:200])

    async def run(self) -> None:
        """A line a second."""
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            took, self._took = sorted(self._took), []
            worst = took[int(0.99 * (len(took) - 1))] if took else 0.0
            tell(requests=len(took), p99_ms=round(worst * 1000, 1))


def session() -> aiohttp.ClientSession:
    """As many connections as are needed; an answer that does not come ends as TimeoutError."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LONGEST_SECONDS))


async def send(note: Callable[[Answer], None]) -> None:
    """RATE requests a second, whatever the answers take."""
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    async with session() as web:

        async def one() -> None:
            note(await ask(web))

        while True:
            due = max(due + 1 / RATE, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            running.add(task := asyncio.create_task(one()))
            task.add_done_callback(running.discard)


async def share() -> None:
    """COUNT requests, AT_A_TIME at once, and who answered them."""
    by: Counter[str] = Counter()
    left = iter(range(COUNT))

    async def some(web: aiohttp.ClientSession) -> None:
        for _ in left:
            by[(await ask(web)).who or "none"] += 1

    async with session() as web:
        await asyncio.gather(*(some(web) for _ in range(AT_A_TIME)))
    tell(requests=COUNT, by=dict(by))


async def routers(token: str) -> None:
    """Follow every router that the headless Service names."""
    loop = asyncio.get_running_loop()
    known: dict[str, asyncio.Task[None]] = {}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as web:
        while True:
            try:
                found = await loop.getaddrinfo("bench-routers", 9910, type=socket.SOCK_STREAM)
            except OSError:
                found = []
            for address in {str(entry[4][0]) for entry in found} - known.keys():
                known[address] = asyncio.create_task(follow(web, address))
            await asyncio.sleep(LOOKUP_SECONDS)


async def follow(web: aiohttp.ClientSession, address: str) -> None:
    """Tell what is new at one router."""
    last: tuple[Any, ...] = ()
    while True:
        try:
            async with web.get(f"http://{address}:9910/v1/status") as answer:
                page = await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(1)
            continue
        of = page.get("deployments", {}).get("bench", {})
        now = (of.get("trafficVersion"), of.get("weights"), of.get("confirmed"))
        if now != last:
            last = now
            tell(router=address, version=now[0], weights=now[1], confirmed=now[2])
        await asyncio.sleep(POLL_SECONDS)


async def steady(verb: str, token: str) -> None:
    """Requests and routers at once."""
    async with asyncio.TaskGroup() as group:
        group.create_task(routers(token))
        if verb == "seconds":
            seconds = Seconds()
            group.create_task(seconds.run())
            group.create_task(send(seconds))
        else:
            group.create_task(send(each_canary))


def main(verb: str) -> None:
    """Run the verb."""
    if verb == "write":
        write()
    elif verb == "share":
        asyncio.run(share())
    else:
        asyncio.run(steady(verb, Path("/token/token").read_text().strip()))


if __name__ == "__main__":
    main(sys.argv[1])
