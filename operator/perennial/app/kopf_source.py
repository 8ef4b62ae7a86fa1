"""kopf as an event source: watches in, `on_event` out. The only module that imports kopf.

No create, update, delete or field handlers, no timers, daemons, indexes or peering: each costs writes or finalizers on
every object, or loses objects. Nothing here writes to the cluster.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import kopf

from perennial.adapters.kube import Access, path_of
from perennial.api.kinds import Kind
from perennial.runtime.cache import CHILD_KINDS, CHILD_SELECTOR, WATCHED_KINDS

OnEvent = Callable[[str | None, Mapping[str, Any]], None]
OnLife = Callable[[str], None]


class Backoffs:
    """kopf's delays between tries of a failed request: jittered, at most 30 s, for about ten minutes."""

    def __iter__(self) -> Iterator[float]:
        total, ceiling = 0.0, 1.0
        while total < 600:
            delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311 (jitter)
            total += delay
            yield delay
            ceiling = min(30.0, ceiling * 2)


class NoDiffBase(kopf.DiffBaseStorage):
    """Nothing to compare with: only field handlers need it, and there are none. kopf would copy every object twice and
    compare it, 0.8 ms of CPU time of the 1.0 ms that an event of a pod costs in kopf.
    """

    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[str | list[str] | tuple[str, ...] | None] | None = None
    ) -> kopf.BodyEssence:
        """Nothing."""
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing: the patch stays empty."""


PEER: Any = "perennial"
"""kopf would ask the system for a user's name, and a container's uid has none; peering is off all the same."""


def watch_paths(namespaces: Sequence[str]) -> list[str]:
    """The URL paths of all watches, for the watchdog."""
    return [path_of(kind, namespace) for kind in WATCHED_KINDS for namespace in (namespaces or ("",))]


class KopfSource:
    """Watches the five kinds and our labelled children until `stop` is set."""

    def __init__(self, access: Access, namespaces: Sequence[str], on_event: OnEvent, on_life: OnLife) -> None:
        self._access = access
        self._namespaces = tuple(namespaces)
        self._on_event = on_event
        self._on_life = on_life

    async def run(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        """Run kopf; returns when `stop` is set, raises what kopf cannot survive."""
        async with self._session() as session:
            scope: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
            await kopf.operator(
                registry=self._registry(session),
                settings=settings(),
                standalone=True,
                identity=PEER,
                stop_flag=stop,
                ready_flag=ready,
                **scope,
            )

    def _registry(self, session: aiohttp.ClientSession) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def login(**_: Any) -> kopf.AiohttpSession:
            namespace = self._access.namespace
            return kopf.AiohttpSession(aiohttp_session=session, server=self._access.server, default_namespace=namespace)

        kopf.on.login(registry=registry)(login)
        for kind in WATCHED_KINDS:
            self._watch(registry, kind)
        return registry

    def _watch(self, registry: kopf.OperatorRegistry, kind: Kind) -> None:
        async def seen(event: Any, **_: Any) -> None:
            obj = event["object"]
            namespace = (obj.get("metadata") or {}).get("namespace") if self._namespaces else None
            self._on_life(path_of(kind, namespace))
            self._on_event(event["type"], obj)

        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")(seen)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Our own HTTP session for kopf: a fresh token on each request, and life signs for the watchdog."""
        trace = aiohttp.TraceConfig()

        async def answered(_: Any, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            if params.method == "GET" and params.response.status == 200:
                self._on_life(params.url.path)

        trace.on_request_end.append(answered)

        async def authorize(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            value = await self._access.authorization()
            if value is not None:
                request.headers["Authorization"] = value
            return await handler(request)

        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._access.ssl_context),
            headers={"User-Agent": "perennial"},
            trace_configs=[trace],
            middlewares=(authorize,),
            read_bufsize=2**21,
        ) as session:
            yield session


def settings() -> kopf.OperatorSettings:
    """kopf's settings; why each one: reference/kopf.md section 7 of the design."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.networking.request_timeout = 15
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = Backoffs()
    chosen.watching.connect_timeout = 5
    chosen.watching.server_timeout = 120
    chosen.watching.chunk_size = 100  # ModelVersions may have 256 KiB each
    chosen.watching.reconnect_backoff = 1.0
    for kind in CHILD_KINDS:
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = CHILD_SELECTOR
    chosen.execution.max_workers = 8
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.persistence.finalizer = "perennial.dev/kopf"
    chosen.process.ultimate_exiting_timeout = 25
    return chosen
