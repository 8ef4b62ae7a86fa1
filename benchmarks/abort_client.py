"""Runs in a pod of the abort benchmark: steady requests, and what the routers say of their weights.

    abort_client.py write    put the models of /files/models.json onto the volume
    abort_client.py send     requests at RATE a second until killed; JSON lines on standard output

Lines: {"t", "run", "code"} for every answer of a canary (the server names its run), {"t", "code"} for every other
answer that is not 200, and {"t", "router", "version", "weights", "confirmed"} whenever a router says something new.
"""

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

RATE = float(os.environ.get("RATE", "100"))
POLL_SECONDS = 0.03
LOOKUP_SECONDS = 1.0
URL = "http://bench/v2/models/bench/infer"
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [0.5]}]}


def write() -> None:
    """One directory for each model."""
    for name, content in json.loads(Path("/files/models.json").read_text()).items():
        folder = Path("/store") / name
        folder.mkdir(exist_ok=True)
        (folder / "model.json").write_text(content)


def tell(**fields: Any) -> None:
    """One line."""
    print(json.dumps({"t": time.time(), **fields}), flush=True)


async def one(web: aiohttp.ClientSession) -> None:
    """One request."""
    try:
        async with web.post(URL, json=BODY) as answer:
            await answer.read()
            run, code = answer.headers.get("x-bench-run", "0"), str(answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        run, code = "0", type(error).__name__
    if run != "0":
        tell(run=int(run), code=code)
    elif code != "200":
        tell(code=code)


async def send() -> None:
    """RATE requests a second, whatever the answers take."""
    running: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as web:
        while True:
            due = max(due + 1 / RATE, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            running.add(task := asyncio.create_task(one(web)))
            task.add_done_callback(running.discard)


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


async def main(token: str) -> None:
    """Both at once."""
    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        group.create_task(routers(token))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write()
    else:
        asyncio.run(main(Path("/token/token").read_text().strip()))
