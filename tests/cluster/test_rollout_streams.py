"""gRPC streams and WebSockets on a real cluster: they outlive weight 0 and end with their server's goodbye when the
spec page says so; who calls again is answered by the revision that serves; unary calls never fail meanwhile."""

import json
import time
from typing import Any

from examples.rain.demo.stage import Stage
from perennial.domain.decision import JsonObject
from tests.cluster.serving import Team, team
from tests.cluster.test_bad_input import command_line

TALK, CHAT = "talk", "chat"
DRAIN, PRE_STOP, TIMEOUT = 30, 10, 5
"""Seconds from weight 0 to the order to stop (of an abort; chosen alike for the promotion), from there to SIGTERM, and
`timeoutSeconds`: when the last process has ended."""
BUSY = 15
"""Seconds that a busy machine may need for all that comes between."""

GRPC = """
import asyncio, os, signal
import grpc

COLOUR = os.environ["COLOUR"].encode()

async def say(request, context):
    return COLOUR

async def talk(messages, context):
    async for message in messages:
        yield COLOUR

async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = grpc.aio.server()
    methods = {"Say": grpc.unary_unary_rpc_method_handler(say), "Talk": grpc.stream_stream_rpc_method_handler(talk)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    server.add_insecure_port("0.0.0.0:8080")
    await server.start()
    await told.wait()
    await server.stop(0)

asyncio.run(main())
"""

SOCKETS = """
import os
from aiohttp import WSCloseCode, web

OPEN = set()

async def chat(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    OPEN.add(socket)
    async for message in socket:
        await socket.send_str(os.environ["COLOUR"])
    OPEN.discard(socket)
    return socket

async def leave(app):
    for socket in set(OPEN):
        await socket.close(code=WSCloseCode.GOING_AWAY)

app = web.Application()
app.router.add_get("/chat", chat)
app.on_shutdown.append(leave)
web.run_app(app, port=8080)
"""

CLIENT = """
import asyncio, collections, json, time
import aiohttp, grpc

TOLD = {"calls": 0, "failed": collections.Counter(), "begun": {}}

async def call(channel):
    say = channel.unary_unary("/test.Echo/Say")
    while True:
        begun = time.time()
        try:
            TOLD["begun"][(await say(b"", timeout=5)).decode()] = begun
        except grpc.aio.AioRpcError as error:
            TOLD["failed"][f"{error.code().name}: {error.details()}"] += 1
        TOLD["calls"] += 1
        await asyncio.sleep(0.02)

async def said(stream):
    await stream.write(b"")
    answer = await stream.read()
    return answer if answer is grpc.aio.EOF else answer.decode()

async def talk(channel):
    begin = channel.stream_stream("/test.Echo/Talk")
    stream = begin()
    while await said(stream) != "green":
        await stream.done_writing()
        await asyncio.sleep(0.1)
        stream = begin()
    TOLD["talk"] = {"begun": time.time()}
    try:
        while await said(stream) == "green":
            await asyncio.sleep(0.5)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it ended, while we asked or before; its code is told below
    ended = time.time()
    again = await asyncio.wait_for(said(begin()), 5)
    TOLD["talk"].update(ended=ended, goodbye=(await stream.code()).name, again=again)

async def chat(web):
    async with web.ws_connect("http://chat/chat") as socket:
        while True:
            await socket.send_str("")
            message = await socket.receive(timeout=5)
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            TOLD.setdefault("chat", {"begun": time.time(), "by": message.data})
            await asyncio.sleep(0.5)
    ended = time.time()
    async with web.ws_connect("http://chat/chat") as socket:
        await socket.send_str("")
        again = await socket.receive_str(timeout=5)
    TOLD["chat"].update(ended=ended, goodbye=int(message.data), again=again)

async def report():
    while True:
        await asyncio.sleep(0.5)
        print(json.dumps(TOLD), flush=True)

async def main():
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel("talk:80", options=options) as channel, aiohttp.ClientSession() as web:
        others = [asyncio.create_task(report()), asyncio.create_task(call(channel))]
        await asyncio.gather(talk(channel), chat(web))
        print(json.dumps(TOLD), flush=True)
        for other in others:
            other.cancel()

asyncio.run(main())
"""


async def deploy(on: Team, name: str, server: str, colour: str) -> None:
    """Apply a revision; a canary of it gets half of what comes until somebody decides."""
    container = {
        "image": on.stage.tags["perennial"],  # its Python has gRPC and aiohttp
        "command": ["python3", "-c", server],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    plan = {"steps": [{"weight": 50, "holdSeconds": 3600}], "scaleDownDelaySeconds": DRAIN}
    await on.deploy(name, colour, container=container, traffic={"timeoutSeconds": TIMEOUT}, rollout=plan)


async def told(stage: Stage) -> JsonObject:
    """What the client saw so far."""
    lines = (await stage.job_log("client")).strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


async def begun(on: Team, what: str) -> Any:
    """Once the client's stream or socket is answered."""

    async def look() -> Any:
        return (await told(on.stage)).get(what)

    return await on.stage.wait(f"{what} to be answered", look, 60)


async def test_streams_end_in_time_with_a_goodbye_and_unary_calls_move_at_once(
    installed: Stage, quiet_operator: None
) -> None:
    servers = {TALK: GRPC, CHAT: SOCKETS}
    async with team(installed) as on:
        for name, server in servers.items():
            await deploy(on, name, server, "blue")
        for name in servers:
            await on.at_rest(name, 60)
        await on.stage.job("client", on.stage.tags["perennial"], ["python3", "-c", CLIENT])
        assert (await begun(on, CHAT))["by"] == "blue"
        for name, server in servers.items():
            await deploy(on, name, server, "green")
        await begun(on, TALK)
        ordered = time.time()
        assert "taken" in command_line(on.stage, "abort", TALK)
        await on.at_rest(TALK, 30)
        aborted = time.time()
        assert "taken" in command_line(on.stage, "promote", CHAT)
        await on.at_rest(CHAT, 30)
        promoted = time.time()
        await on.stage.wait("both to be ended and answered again", lambda: on.stage.job_done("client"), 120)
        seen = await told(on.stage)

    assert seen["failed"] == {} and seen["calls"] > 100
    assert ordered - 1 < seen["begun"]["green"] < aborted, "unary calls leave a canary as soon as it is withdrawn"
    assert seen["begun"]["blue"] > seen[TALK]["ended"]
    assert (seen[TALK]["goodbye"], seen[TALK]["again"]) == ("UNAVAILABLE", "blue")
    assert (seen[CHAT]["goodbye"], seen[CHAT]["again"]) == (1001, "green")
    for name, first, last in ((TALK, ordered, aborted), (CHAT, aborted, promoted)):
        assert first + DRAIN + PRE_STOP <= seen[name]["ended"] <= last + DRAIN + PRE_STOP + TIMEOUT + BUSY, name
