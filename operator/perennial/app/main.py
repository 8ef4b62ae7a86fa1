"""`perennial operator`: settings, Lease, cache, workers, pages, and kopf last; a clean stop in the reverse order.

Nothing of the domain happens here. Exit codes: 0 stopped as asked, 1 ended by trouble (the kubelet starts it again),
2 wrong settings or options.
"""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import click

from perennial.adapters.events import EventWriter
from perennial.adapters.kube import Access, KubeStore, open_access
from perennial.adapters.routers import HttpRouterReports
from perennial.app import logs, wiring
from perennial.app.http import Pages
from perennial.app.kopf_source import KopfSource, watch_paths
from perennial.app.own_image import own_image
from perennial.app.settings import Settings, SettingsError, identity, load
from perennial.app.watchdog import Watchdog
from perennial.domain.errors import PerennialError, Stalled
from perennial.ports import GitRepository, MetricsSource, RouterReports
from perennial.runtime import metrics
from perennial.runtime.cache import CHILD_KINDS, CHILD_SELECTOR, WATCHED_KINDS, Cache
from perennial.runtime.clock import SystemClock
from perennial.runtime.controller import Controller, Loop
from perennial.runtime.lease import Lease, LeaseLost, LeaseTimes
from perennial.runtime.tracked import TrackedStore

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
FIRST_RESYNC_SECONDS = 30.0


class Ended(Exception):
    """The operator must end now; the text says why."""


class Operator:
    """One run of the operator, from the Lease to its release."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], access: Access) -> None:
        self.settings = settings
        self.access = access
        self.clock = SystemClock()
        self.cache = Cache()
        self.loop = Loop(self.cache)
        self.watchdog = Watchdog(watch_paths(settings.namespaces))
        self.stop = asyncio.Event()
        self.phase = "starting"
        self.store = KubeStore(access, namespaces=settings.namespaces)
        self.environ = environ
        self.image = settings.image or ""
        self.namespace = environ.get("POD_NAMESPACE") or access.namespace
        me = identity(environ)
        chosen = settings.lease
        self.lease = Lease(
            self.store,
            self.clock,
            namespace=chosen.namespace or self.namespace,
            name=chosen.name,
            identity=me,
            times=LeaseTimes(chosen.duration_seconds, chosen.renew_deadline_seconds, chosen.retry_seconds),
        )
        self.events = EventWriter(self.store, self.clock, instance=environ.get("POD_NAME") or me)
        self._tasks: list[asyncio.Task[Any]] = []

    def not_ready(self) -> str | None:
        """None when the caches are filled and the Lease is held, or while another operator holds it."""
        return None if self.phase in ("standby", "running") else f"the operator is {self.phase}"

    async def run(self) -> int:
        """Until a signal or trouble; returns the exit code."""
        self._on_signals()
        async with AsyncExitStack() as stack:
            pages = Pages(self.watchdog.trouble, self.not_ready)
            try:
                port = await pages.start(self.settings.http.host, self.settings.http.port)
            except OSError as error:
                raise Ended(f"port {self.settings.http.port} of the pages cannot be opened: {error.strerror}") from None
            stack.push_async_callback(pages.stop)
            log.info("pages answer on port %d", port)
            if not await self._until_stopped(self.find_image()):
                return 0
            self.phase = "standby"
            if not await self._until_stopped(self.lease.acquire()):
                return 0
            stack.push_async_callback(self.lease.release)
            self.phase = "filling its cache"
            session = await stack.enter_async_context(aiohttp.ClientSession())
            repositories = wiring.repositories(self.settings)
            stack.callback(repositories.close)
            reports = HttpRouterReports()
            stack.push_async_callback(reports.close)
            self._make_controllers(repositories, wiring.prometheus(self.settings, session), reports)
            keeping = self._spawn(self.lease.keep())
            try:
                if not await self._until_stopped(self.fill()):
                    return 0
                return await self._work(keeping)
            finally:
                await self._end_tasks()

    async def find_image(self) -> None:
        """Which image routers and steps run from; SettingsError when nobody can tell."""
        self.image = self.image or await own_image(self.store, self.environ)
        log.info("routers and steps run from %s", self.image)

    def _make_controllers(self, git: GitRepository, metrics_source: MetricsSource, reports: RouterReports) -> None:
        tracked = TrackedStore(self.store, self.loop.on_written, self.lease.guard)
        ports = wiring.Ports(tracked, self.cache, self.events, self.clock, git, metrics_source, reports)
        guarded = TrackedStore(self.store, lambda _: None, self.lease.guard)
        for reconciler in wiring.reconcilers(self.settings, ports, image=self.image, operator_namespace=self.namespace):
            self.loop.add(Controller(reconciler, guarded, self.cache, self.clock))

    async def _work(self, keeping: asyncio.Task[Any]) -> int:
        """Run workers and watches until something ends; returns the exit code."""
        self.loop.wake_all(lambda: 0.0)
        workers = [self._spawn(c.work()) for c in self.loop.controllers for _ in range(self.settings.workers)]
        self._spawn(self.events.run())
        others = [keeping, self._spawn(self._resync()), self._spawn(self.watchdog.run())]
        stopping, end_watches, ready = self._spawn(self.stop.wait()), asyncio.Event(), asyncio.Event()
        self._spawn(self._take_signals_back(ready))
        self.watchdog.open()
        source = KopfSource(self.access, self.settings.namespaces, self.loop.on_event, self.watchdog.saw)
        # kopf cancels at its end whatever task was made after its start: so it is started last and ended after us.
        watching = self._spawn(source.run(end_watches, ready))
        self.phase = "running"
        log.info("running; watching %s", ", ".join(self.settings.namespaces) or "the whole cluster")
        done, _ = await asyncio.wait([*workers, *others, stopping, watching], return_when=asyncio.FIRST_COMPLETED)
        self.phase = "stopping"
        trouble = _trouble(done, stopping, watching)
        if trouble is not None:
            log.critical("the operator ends: %s", trouble)
        await self._drain(workers, hurry=not self.lease.held)
        end_watches.set()
        await asyncio.wait([watching], timeout=DRAIN_SECONDS)
        await self.events.flush(2.0)
        log.info("stopped")
        return 0 if trouble is None else 1

    async def _drain(self, workers: Sequence[asyncio.Task[Any]], *, hurry: bool) -> None:
        """Let passes end; without the Lease none may go on."""
        self.loop.close()
        if not hurry:
            await asyncio.wait(workers, timeout=DRAIN_SECONDS)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def fill(self) -> None:
        """List every watched kind, so that the first pass sees the whole world and writes nothing needless."""
        for kind in WATCHED_KINDS:
            while True:
                try:
                    listed = await self._list(kind)
                    break
                except Stalled as error:
                    hint = " (apply the CRDs first: kubectl apply -k manifests)" if error.reason == "NoSuchKind" else ""
                    raise Ended(f"{kind.plural} cannot be listed: {error.message}{hint}") from None
                except PerennialError as error:
                    log.warning("%s cannot be listed yet: %s", kind.plural, error.message)
                    await asyncio.sleep(2.0)
            for obj in listed:
                self.cache.apply_event(None, obj)
        log.info("cache filled: %s", ", ".join(f"{n} {kind}" for kind, n in self.cache.counts().items() if n))

    async def _list(self, kind: Any) -> list[dict[str, Any]]:
        return await self.store.list(kind, labels=CHILD_SELECTOR if kind in CHILD_KINDS else "")

    async def _resync(self) -> None:
        """Look at the whole world again and again: soon after the start, then every `resyncSeconds`."""
        delay = min(FIRST_RESYNC_SECONDS, self.settings.resync_seconds)
        while True:
            await asyncio.sleep(delay)
            delay = self.settings.resync_seconds
            await self.resync()

    async def resync(self) -> None:
        """kopf never reports what vanished while a watch was broken: list, prune by uid, and look at all again."""
        for kind in WATCHED_KINDS:
            before = self.cache.uids(kind)
            try:
                listed = await self._list(kind)
            except PerennialError as error:
                log.warning("resync of %s is left out this time: %s", kind.plural, error.message)
                continue
            for obj in listed:
                self.loop.on_event(None, obj)
            for gone in self.cache.prune(kind, before, listed):
                log.info("%s %s vanished unseen", kind.kind, gone["metadata"]["name"])
                self.loop.wake_for(gone)
        for kind_name, count in self.cache.counts().items():
            metrics.CACHE_OBJECTS.labels(kind_name).set(count)
        self.loop.wake_all(lambda: random.uniform(0.0, self.settings.resync_seconds))  # noqa: S311 (jitter)

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Wait for `work`; False when a signal came first."""
        task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        done, pending = await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        for other in pending:
            other.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if task in done:
            task.result()
        return task in done

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)

    async def _take_signals_back(self, ready: asyncio.Event) -> None:
        """kopf installs its own signal handlers; ours drain the workers first."""
        await ready.wait()
        self._on_signals()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _trouble(done: set[asyncio.Task[Any]], stopping: asyncio.Task[Any], watching: asyncio.Task[Any]) -> str | None:
    """Why the operator ends, or None when it was asked to."""
    for task in done:
        if task is stopping or task.cancelled():
            continue
        error = task.exception()
        if error is None:
            if task is not watching:  # kopf ends by itself only on a signal that it caught before us
                return str(task.result() or "a worker ended by itself")
        elif isinstance(error, LeaseLost):
            return str(error)
        else:
            log.error("a part of the operator failed", exc_info=error)
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


async def operate(settings: Settings, environ: Mapping[str, str], kubeconfig: str | None = None) -> int:
    """Run the operator against the cluster of `kubeconfig` (see `open_access`)."""
    async with open_access(kubeconfig) as access:
        return await Operator(settings, environ, access).run()


def run_operator(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """`perennial operator`: returns the exit code."""
    try:
        result = _command.main(list(arguments), standalone_mode=False, obj=environ or os.environ)
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Abort:
        return 0
    return int(result or 0)


@click.command("operator", help="Run the operator: watch, decide, apply.")
@click.option("--config", help="Settings file (default /etc/perennial/config.yaml, or $PERENNIAL_CONFIG).")
@click.option("--namespace", "namespaces", multiple=True, help="Watch only this namespace; repeatable.")
@click.option("--kubeconfig", help="Cluster to use (default $KUBECONFIG, else the pod's account).")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
@click.pass_context
def _command(
    context: click.Context,
    config: str | None,
    namespaces: tuple[str, ...],
    kubeconfig: str | None,
    log_level: str | None,
) -> int:
    environ: Mapping[str, str] = context.obj
    options = {"namespaces": list(namespaces) or None, "log_level": log_level}
    try:
        settings = load(config, environ, options)
        logs.set_up(settings.log_level)
        return asyncio.run(operate(settings, environ, kubeconfig))
    except SettingsError as error:
        click.echo(f"perennial operator: {error}", err=True)
        return 2
    except (Ended, PerennialError) as error:
        log.critical("the operator ends: %s", error)
        return 1


if __name__ == "__main__":
    sys.exit(run_operator(sys.argv[1:]))
