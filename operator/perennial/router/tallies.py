"""Exact request counts per revision, from Envoy's cluster statistics.

Envoy forgets a cluster's counters when the cluster goes; this keeps what was seen, so that every number only rises
until Envoy itself starts anew. Must not touch the access log: that one may drop entries.
"""

import re
from collections.abc import Callable
from typing import Any

from perennial.router.admin import EnvoyAdmin, Stats
from perennial.router.model import split_cluster

_PATTERN = (
    r"^cluster\.[^.]*-rev-[^.]*\.(upstream_rq_[0-9]{3}|upstream_rq_active|grpc\.[0-9]+)$|^access_logs\..*dropped$"
)
_NAME = re.compile(r"cluster\.([^.]+)\.(upstream_rq_|grpc\.)([0-9]+|active)")
_DROPPED = "access_logs.grpc_access_log.logs_dropped"


class RequestCounts:
    """Totals by (cluster, kind of counter, code); `restarted` is called when another Envoy process answers."""

    def __init__(self, admin: EnvoyAdmin, restarted: Callable[[], None]) -> None:
        self._admin = admin
        self._restarted = restarted
        self._node = ""
        self._seen: dict[tuple[str, str, str], int] = {}
        self._folded: dict[tuple[str, str, str], int] = {}
        self._active: dict[str, int] = {}
        self.started: float | None = None
        self.dropped = 0

    async def refresh(self) -> None:
        """Reads Envoy's statistics. EnvoyAway when it does not answer; the totals then stay as they are."""
        node, started = await self._admin.started()
        stats = await self._admin.stats(_PATTERN)
        if node != self._node:
            if self._node:
                self._restarted()
            self._node, self.started = node, started
            self._seen, self._folded, self._active = {}, {}, {}
        self._take(stats)

    def _take(self, stats: Stats) -> None:
        now: dict[tuple[str, str, str], int] = {}
        active: dict[str, int] = {}
        for name, value in stats.items():
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            cluster, kind, code = match.groups()
            if code == "active":
                active[cluster] = int(value)
            else:
                now[cluster, kind, code] = int(value)
        for key, before in self._seen.items():
            if now.get(key, 0) < before:
                self._folded[key] = self._folded.get(key, 0) + before
        self._seen, self._active = now, active
        self.dropped = int(stats.get(_DROPPED, 0))

    def revisions(self, deployment: str) -> dict[str, dict[str, Any]]:
        """revision -> {requests, codes, grpc, active} as of the last refresh."""
        result: dict[str, dict[str, Any]] = {}
        for cluster, active in self._active.items():
            owner = split_cluster(cluster)
            if owner and owner[0] == deployment:
                result[owner[1]] = {"requests": 0, "codes": {}, "grpc": {}, "active": active}
        for key in sorted(self._seen.keys() | self._folded.keys()):
            cluster, kind, code = key
            owner = split_cluster(cluster)
            total = self._seen.get(key, 0) + self._folded.get(key, 0)
            if owner is None or owner[0] != deployment or not total:
                continue
            entry = result.setdefault(owner[1], {"requests": 0, "codes": {}, "grpc": {}, "active": 0})
            if kind == "grpc.":
                entry["grpc"][code] = total
            else:
                entry["codes"][code] = total
                entry["requests"] += total
        return result
