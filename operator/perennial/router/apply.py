"""Brings a Snapshot into Envoy in an order that fails no request, and knows what Envoy really has.

Up: endpoints and clusters first, then, when Envoy has them, the routes. Down: routes first, then, when Envoy has those
and the last request is done, the cluster. File xDS has no ordering of its own: a route to a cluster that Envoy does not
know yet answers 503. Level-triggered: a pass compares and acts, and is repeated until nothing is left to do; a newer
snapshot interrupts every wait.
"""

import asyncio
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from perennial.router.admin import EnvoyAdmin, EnvoyAway, Shared
from perennial.router.endpoints import EndpointService
from perennial.router.envoy import ROUTES, STAT_PREFIX, Layout, Routed, RouteTable, render_clusters
from perennial.router.model import Snapshot, effective_weights, snapshot_from_json
from perennial.router.packed import packed_version

log = logging.getLogger(__name__)

_ROUTES_VERSION = f"http.{STAT_PREFIX}.rds.{ROUTES}.version_text"
_CLUSTERS_VERSION = "cluster_manager.cds.version_text"
_WARMING = "cluster_manager.warming_clusters"
_VERSIONS = "|".join("^" + name.replace(".", "\\.") + "$" for name in (_ROUTES_VERSION, _CLUSTERS_VERSION))
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.005, 0.05
_PATIENCE_SECONDS = 2.0
_FIRM_SECONDS = 0.25
"""A newer snapshot interrupts the wait for new clusters only after this long: in a burst of changes Envoy still gets to
know them."""
_READING_SECONDS = 1.0
"""And the wait for a version after this long: more to read, while Envoy reads the last one, only makes it slower."""
_RETRY_SECONDS = 0.25
_TABLES = 256
KEEP_SECONDS = 5.0
"""A cluster stays at least this long without weight: Envoy reports a route table a moment before its workers use it."""
_DRAIN_SECONDS = 600.0
"""A cluster whose last requests do not end is removed after this long all the same."""


def write_file(path: str, content: Any) -> None:
    """Writes JSON beside `path` and renames it: Envoy and a restarted agent never see half a file."""
    write_bytes(path, orjson.dumps(content))


def write_bytes(path: str, content: bytes) -> None:
    """The same for content that is no JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temporary = f"{path}.new"
    Path(temporary).write_bytes(content)
    os.replace(temporary, path)


def read_file(path: str) -> Any:
    """The JSON of a file, None when there is none or it cannot be read."""
    try:
        return orjson.loads(Path(path).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None


class Applier:
    """The one writer of the xDS files. `read_counts` is awaited before clusters, and their statistics, vanish, and
    again once they have: a cluster that comes back counts from zero, and the reader must have seen that it was gone.
    """

    def __init__(
        self,
        layout: Layout,
        admin: EnvoyAdmin,
        endpoints: EndpointService,
        read_counts: Callable[[], Awaitable[None]],
    ) -> None:
        self._layout = layout
        self._admin = admin
        self._endpoints = endpoints
        self._read_counts = read_counts
        self._wanted: Snapshot | None = None
        self._changed = asyncio.Event()
        self._retiring: dict[str, float] = {}
        self._removed: set[str] = set()
        clusters = read_file(layout.clusters) or {"resources": []}
        self._installed = {resource["name"] for resource in clusters["resources"]}
        # After a restart of the agent, Envoy has these already; it must not be taken for empty while it reconnects.
        self._ready = frozenset(self._installed)
        self._clusters_version = str(clusters.get("version_info", ""))
        self._routes_version = packed_version(layout.routes)
        self._rendered: Snapshot | None = None
        self._recorded: Snapshot | None = None
        self._reported_routes = Shared(lambda: self._reported(_ROUTES_VERSION))
        self._table = RouteTable()
        self._routed: Mapping[str, Routed] = {}
        self._tables: OrderedDict[str, int] = OrderedDict()
        self._since: dict[str, int] = {}
        self._count = 0

    def submit(self, snapshot: Snapshot) -> None:
        """Makes this the wanted state; returns at once."""
        if snapshot != self._wanted:
            self._wanted = snapshot
            self._changed.set()

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            settled = False
            if self._wanted is not None:
                self._changed.clear()
                settled = await self._pass(self._wanted)
            try:
                await asyncio.wait_for(self._changed.wait(), None if settled else _RETRY_SECONDS)
            except TimeoutError:
                continue

    async def status(self, only: str | None = None) -> dict[str, dict[str, Any]]:
        """Per deployment (or of that one): trafficVersion, the weights in the route table, and whether Envoy itself
        reports a table with these weights (and what a header may choose), and they are what status.traffic asks for.
        """
        try:
            table = self._tables.get(str(await self._reported_routes()), -1)
        except EnvoyAway:
            table = -1
        snapshot = self._rendered
        if snapshot is None:
            return {}
        result = {}
        for deployment in snapshot.deployments:
            if only not in (None, deployment.name):
                continue
            weights = effective_weights(deployment, self._ready)
            as_wanted = all(weights.get(share.revision, 0) == share.weight for share in deployment.traffic)
            result[deployment.name] = {
                "trafficVersion": deployment.traffic_version,
                "weights": weights,
                "confirmed": as_wanted and table >= self._since[deployment.name],
            }
        return result

    @property
    def applied(self) -> bool:
        """Whether some snapshot has been rendered since the start."""
        return self._rendered is not None

    async def _pass(self, snapshot: Snapshot) -> bool:
        """One pass; True when nothing is left to do until the snapshot changes."""
        wanted = snapshot.clusters()
        for cluster in wanted:
            self._retiring.pop(cluster, None)
        self._publish(snapshot, emptied=False)
        if not wanted <= self._installed:
            if self._removed & wanted:
                await self._read_counts()
                self._removed.clear()
            self._install(self._installed | wanted)
        ready, all_ready = await self._await_ready(snapshot, wanted)
        self._write_routes(snapshot, ready)
        if self._recorded is not snapshot:
            write_file(self._layout.state, snapshot)
            self._recorded = snapshot
        confirmed = await self._await_version(_ROUTES_VERSION, lambda: self._routes_version)
        if not confirmed:
            return False
        self._publish(snapshot, emptied=True)
        return all_ready and await self._retire(wanted)

    def _publish(self, snapshot: Snapshot, *, emptied: bool) -> None:
        """Tells Envoy the endpoints. A cluster that lost its last one keeps it until no route needs it (`emptied`)."""
        endpoints = {c: snapshot.endpoints_of(c) for c in self._installed | snapshot.clusters()}
        if not emptied:
            endpoints = {c: now or self._endpoints.taken(c) for c, now in endpoints.items()}
        self._endpoints.publish(endpoints)

    def _install(self, clusters: set[str]) -> None:
        rendered = render_clusters(clusters)
        write_file(self._layout.clusters, rendered)
        self._installed = clusters
        self._clusters_version = rendered["version_info"]

    def _write_routes(self, snapshot: Snapshot, ready: frozenset[str]) -> None:
        rendered = self._table.render(snapshot, ready)
        self._ready, self._rendered = ready, snapshot
        if rendered.version != self._routes_version:
            write_bytes(self._layout.routes, rendered.content)
            self._routes_version = rendered.version
            self._count += 1
        self._note_table(self._table.routed)

    def _note_table(self, routed: Mapping[str, Routed]) -> None:
        """Since which table each deployment is routed so: Envoy may report that one or any later one."""
        self._tables[self._routes_version] = self._count
        self._tables.move_to_end(self._routes_version)
        if len(self._tables) > _TABLES:
            self._tables.popitem(last=False)
        for name in sorted(routed.keys() | self._routed.keys()):
            if name not in routed:
                self._since.pop(name, None)
            elif routed[name] != self._routed.get(name):
                self._since[name] = self._count
                log.info("route table %s: %s gets %s", self._routes_version, name, routed[name])
        self._routed = routed

    async def _await_ready(self, snapshot: Snapshot, wanted: set[str]) -> tuple[frozenset[str], bool]:
        """The clusters that may get weight, and whether that is all that have endpoints.

        A cluster that is new in Envoy is waited for, but never in the way of the others: with a cluster missing after
        the wait, the routes are written without it and the next pass looks again.
        """
        backed = {cluster for cluster in wanted if snapshot.endpoints_of(cluster)}
        if backed <= self._ready:
            return frozenset(backed), True
        if await self._admin.down():
            # Nobody to wait for: a starting Envoy reads clusters before routes.
            return frozenset(backed), True
        wait = _Wait(self._changed, _FIRM_SECONDS)
        while True:
            self._endpoints.progress.clear()
            if all(self._endpoints.taken(cluster) for cluster in backed) and await self._warm():
                return frozenset(backed), True
            if wait.over:
                break
            try:
                await asyncio.wait_for(self._endpoints.progress.wait(), wait.next_pause())
            except TimeoutError:
                continue
        known = self._ready & backed
        return frozenset(
            known | {c for c in backed if self._endpoints.taken(c)} if await self._warm() else known
        ), False

    async def _warm(self) -> bool:
        """Whether Envoy has the clusters of the file and all of them are warm."""
        try:
            if await self._reported(_CLUSTERS_VERSION) != self._clusters_version:
                return False
            return (await self._admin.stats(f"^{re.escape(_WARMING)}$", "Gauges")).get(_WARMING) == 0
        except EnvoyAway:
            return False

    async def _reported(self, version: str) -> int | str | None:
        """A version as Envoy reports it; EnvoyAway when it does not answer."""
        return (await self._admin.stats(_VERSIONS, "TextReadouts")).get(version)

    async def _await_version(self, name: str, wanted: Callable[[], str]) -> bool:
        """Whether Envoy reports the wanted version before it is time to look at something newer."""
        wait = _Wait(self._changed, _READING_SECONDS)
        while not wait.over:
            try:
                if await self._reported(name) == wanted():
                    return True
            except EnvoyAway:
                return False
            await asyncio.sleep(wait.next_pause())
        return False

    async def _retire(self, wanted: set[str]) -> bool:
        """Removes clusters that no route needs once their last request is done; True when none is left."""
        unneeded = self._installed - wanted
        now = time.monotonic()
        since = {cluster: now - self._retiring.setdefault(cluster, now) for cluster in unneeded}
        due = {cluster for cluster in unneeded if since[cluster] > KEEP_SECONDS}
        busy = await self._busy() if due else set()
        gone = {cluster for cluster in due if since[cluster] > _DRAIN_SECONDS or cluster not in busy}
        if gone:
            await self._read_counts()
            for cluster in gone:
                del self._retiring[cluster]
            self._install(self._installed - gone)
            self._removed |= gone
            if await self._await_version(_CLUSTERS_VERSION, lambda: self._clusters_version):
                await self._read_counts()
                self._removed.clear()
        return not unneeded - gone

    async def _busy(self) -> set[str]:
        """The clusters with requests in progress; while Envoy does not answer, all of them."""
        try:
            stats = await self._admin.stats(r"^cluster\.[^.]*-(rev|pick|copy)-[^.]*\.upstream_rq_active$", "Gauges")
        except EnvoyAway:
            return set(self._installed)
        return {name.split(".")[1] for name, active in stats.items() if active}


class _Wait:
    """How long to wait for Envoy, and how often to ask it meanwhile: less and less often."""

    def __init__(self, changed: asyncio.Event, firm_seconds: float) -> None:
        self._changed = changed
        self._firm_seconds = firm_seconds
        self._begun = time.monotonic()
        self._pause = _FIRST_POLL_SECONDS

    @property
    def over(self) -> bool:
        """Whether it is time to look at something newer."""
        spent = time.monotonic() - self._begun
        return spent > (self._firm_seconds if self._changed.is_set() else _PATIENCE_SECONDS)

    def next_pause(self) -> float:
        """Seconds until the next question."""
        pause, self._pause = self._pause, min(self._pause * 1.5, _LONGEST_POLL_SECONDS)
        return pause


def last_snapshot(layout: Layout) -> Snapshot | None:
    """What an earlier agent of this pod applied last, None when there is nothing or it is of an older shape."""
    raw = read_file(layout.state)
    try:
        return None if raw is None else snapshot_from_json(raw)
    except (KeyError, TypeError) as error:
        log.warning("the recorded state cannot be read and is left aside: %r", error)
        return None
