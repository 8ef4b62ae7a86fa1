"""The running agent: its parts put together, its start from the last known state, and its orderly end.

The end is led by the agent, because Envoy alone would stop in the middle of requests. Envoy's container has a preStop
hook that writes `terminating` and waits for `drained` (render/router.py); both are files in the shared directory, so a
restart of the agent alone never drains Envoy.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from aiohttp import web

from perennial.router.admin import EnvoyAdmin, EnvoyAway, EnvoyDown
from perennial.router.apply import Applier, last_snapshot
from perennial.router.endpoints import EndpointService
from perennial.router.envoy import STAT_PREFIX, Layout
from perennial.router.follow import Follower, NamespaceReader
from perennial.router.http import Identity, Pages, Token
from perennial.router.model import Snapshot
from perennial.router.observer import Observer, handlers
from perennial.router.signatures import Signatures
from perennial.router.tallies import RequestCounts

log = logging.getLogger(__name__)

TERMINATING, DRAINED = "terminating", "drained"
_LOOK_SECONDS = 0.1
_CHECK_SECONDS = 5.0
_DRAIN_AT_LEAST_SECONDS = 3.0
"""Other nodes go on sending here until they have seen that this pod is leaving."""
_DRAIN_AT_MOST_SECONDS = 25.0
_FINAL_READ_SECONDS = 10.0
_HOOK_SECONDS = 3.0
_ACTIVE = f"^http\\.{STAT_PREFIX}\\.downstream_(cx|rq)_active$"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Everything the agent is told. host and port: where its own pages are served."""

    namespace: str
    pod: str
    pod_uid: str
    layout: Layout
    token: Token
    host: str = "0.0.0.0"  # noqa: S104 - the operator reaches the pod on its pod IP
    port: int = 9910
    kubeconfig: str | None = None


class Agent:
    """One agent beside one Envoy."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._admin = EnvoyAdmin(settings.layout.admin_port)
        self._endpoints = EndpointService()
        self._observer = Observer()
        self._signatures = Signatures()
        self._drained = asyncio.Event()
        self._requests = RequestCounts(self._admin, self._observer.restart)
        self._applier = Applier(settings.layout, self._admin, self._endpoints, self._requests_seen)
        self._reader = NamespaceReader(settings.namespace, settings.kubeconfig)
        self._follower = Follower(settings.namespace, self._reader, self._take)
        identity = Identity(settings.pod, settings.pod_uid, time.time())
        self._pages = Pages(
            identity, settings.token, self._applier, self._observer, self._requests, self._signatures, time.time
        )

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains if the pod is going, and returns."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._start_from_last_state()
        server = await self._serve_envoy()
        runner = web.AppRunner(self._pages.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._settings.host, self._settings.port).start()
        stopping = asyncio.create_task(stop.wait())
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._applier.run(),
                self._follower.run(),
                self._signatures.run(),
                self._check_for_ever(),
                self._drain_when_told(),
            )
        ]
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a crash of one part ends the agent; it starts again from its files
            await self._end()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await server.stop(0)
            await runner.cleanup()
            await self._admin.close()
            await self._reader.close()

    def _start_from_last_state(self) -> None:
        last = last_snapshot(self._settings.layout)
        if last is not None:
            log.info("starting from the recorded state of %d deployments", len(last.deployments))
            self._follower.remember(last)
            self._endpoints.publish(last.endpoints)
            self._take(last)

    def _take(self, snapshot: Snapshot) -> None:
        self._observer.follow(snapshot)
        self._signatures.follow(snapshot)
        self._applier.submit(snapshot)

    async def _requests_seen(self) -> None:
        with suppress(EnvoyAway):
            await self._requests.refresh()

    async def _check_for_ever(self) -> None:
        """Notices a restarted Envoy soon, so that little is counted under the wrong start time."""
        while True:
            with suppress(EnvoyAway):
                await self._requests.check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def _serve_envoy(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
        server.add_generic_rpc_handlers((handlers(self._observer), self._endpoints.handlers()))
        server.add_insecure_port(f"unix:{self._settings.layout.socket}")
        await server.start()
        return server

    def _marker(self, name: str) -> Path:
        return Path(self._settings.layout.directory, name)

    async def _drain_when_told(self) -> None:
        """At the hook's word lets Envoy finish and stops it, each time: the kubelet runs the hook also for a failed
        probe, and then Envoy starts again in the same pod. Its start removes both markers.
        """
        while True:
            await self._until_marked(TERMINATING)
            self._pages.draining = True
            log.info("draining")
            await self._drain()
            self._marker(DRAINED).touch()
            self._drained.set()
            log.info("drained")
            await self._until_marked(TERMINATING, there=False)
            self._drained.clear()
            self._pages.draining = False
            log.info("Envoy starts again")

    async def _until_marked(self, name: str, *, there: bool = True) -> None:
        while self._marker(name).exists() != there:  # noqa: ASYNC110 - a file of another container has no event
            await asyncio.sleep(_LOOK_SECONDS)

    async def _drain(self) -> None:
        """One order after another, each until Envoy has taken it: one that is slow for a moment has requests to end.

        Only an Envoy that is down is given up at once.
        """
        begun = time.monotonic()
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: self._admin.post("/healthcheck/fail"),
            lambda: self._admin.post("/drain_listeners?graceful"),
            lambda: self._await_quiet(begun),
            self._requests.refresh,
            lambda: self._admin.post("/quitquitquit"),
        )
        with suppress(EnvoyDown):
            for step in steps:
                await self._insist(step, begun)

    async def _insist(self, step: Callable[[], Awaitable[object]], begun: float) -> None:
        """Until Envoy has taken it, while there is time; EnvoyDown when there is none to take it."""
        while True:
            try:
                await step()
                return
            except EnvoyDown:
                raise
            except EnvoyAway as error:
                if time.monotonic() - begun > _DRAIN_AT_MOST_SECONDS:
                    log.warning("Envoy does not answer while it is drained: %s", error)
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _await_quiet(self, begun: float) -> None:
        while (spent := time.monotonic() - begun) < _DRAIN_AT_MOST_SECONDS:
            if spent >= _DRAIN_AT_LEAST_SECONDS and not any((await self._admin.stats(_ACTIVE)).values()):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end(self) -> None:
        """After SIGTERM: nothing more when only the agent restarts; else drain and let the counts be read once more."""
        deadline = time.monotonic() + _HOOK_SECONDS
        while not self._marker(TERMINATING).exists():
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        await self._drained.wait()
        self._pages.final_read.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pages.final_read.wait(), _FINAL_READ_SECONDS)
