"""Exact request counts per revision, from Envoy's cluster statistics.

Envoy forgets a cluster's counters when the cluster goes; this keeps what was seen, so that every number only rises
until Envoy itself starts anew. Must not touch the access log: that one may drop entries.
"""

import re
from collections.abc import Callable
from typing import Any

from perennial.router.admin import EnvoyAdmin, Stats
from perennial.router.model import split_cluster, split_copy, split_pick

_PATTERN = (
    r"^cluster\.%s-(rev-[^.]*|(pick|copy)-[^.-]*(-grpc)?)\.(upstream_rq_[0-9]{3}|upstream_rq_active|grpc\.[0-9]+)$"
    r"|^access_logs\..*dropped$"
)
_NAME = re.compile(r"cluster\.([^.]+)\.(upstream_rq_|grpc\.)([0-9]+|active)")
Codes = dict[tuple[str, str], int]
_DROPPED = "access_logs.grpc_access_log.logs_dropped"


class RequestCounts:
    """Totals by cluster and (kind of counter, code); `restarted` is called when another Envoy process answers."""

    def __init__(self, admin: EnvoyAdmin, restarted: Callable[[], None]) -> None:
        self._admin = admin
        self._restarted = restarted
        self._node = ""
        self._seen: dict[str, Codes] = {}
        self._folded: dict[str, Codes] = {}
        self._active: dict[str, int] = {}
        self._clusters: dict[str, set[str]] = {}
        self.started: float | None = None
        self.dropped = 0

    async def check(self) -> None:
        """Notices when another Envoy process answers; cheap. EnvoyAway when none does."""
        node, started = await self._admin.started()
        if node != self._node:
            if self._node:
                self._restarted()
            self._node, self.started = node, started
            self._seen, self._folded, self._active, self._clusters = {}, {}, {}, {}

    async def refresh(self, deployment: str | None = None) -> None:
        """Reads Envoy's statistics, of one deployment only when it is named. EnvoyAway when Envoy does not answer; the
        totals then stay as they are.
        """
        await self.check()
        self._take(await self._admin.stats(_PATTERN % (deployment or "[^.]*")), deployment)

    def _take(self, stats: Stats, deployment: str | None) -> None:
        now: dict[str, Codes] = {}
        active: dict[str, int] = {}
        for name, value in stats.items():
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            cluster, kind, code = match.groups()
            if code == "active":
                active[cluster] = int(value)
            else:
                now.setdefault(cluster, {})[kind, code] = int(value)
        looked_at = self._clusters.get(deployment, set()) if deployment else {*self._seen, *self._active}
        for cluster in looked_at:
            for key, before in self._seen.pop(cluster, {}).items():
                if now.get(cluster, {}).get(key, 0) < before:
                    folded = self._folded.setdefault(cluster, {})
                    folded[key] = folded.get(key, 0) + before
            self._active.pop(cluster, None)
        self._seen.update(now)
        self._active.update(active)
        for cluster in now.keys() | active.keys():
            owner = split_cluster(cluster) or split_pick(cluster) or split_copy(cluster)
            if owner is not None:
                self._clusters.setdefault(owner[0], set()).add(cluster)
        self.dropped = int(stats.get(_DROPPED, 0))

    def revisions(self, deployment: str) -> dict[str, dict[str, Any]]:
        """revision -> {requests, codes, grpc, active} of the requests split by weight, as of the last refresh."""
        return self._totals(deployment, split_cluster)

    def overrides(self, deployment: str) -> dict[str, dict[str, Any]]:
        """The same of the requests that asked for their revision by header: they are in no other number."""
        return self._totals(deployment, split_pick)

    def copies(self, deployment: str) -> dict[str, dict[str, Any]]:
        """The same of the copies that a canary without weight was sent: nobody waited for their answers."""
        return self._totals(deployment, split_copy)

    def _totals(self, deployment: str, split: Callable[[str], tuple[str, str] | None]) -> dict[str, dict[str, Any]]:
        """A revision with a port of its own for gRPC has a cluster for each; its totals are their sums."""
        found: dict[str, Codes] = {}
        active: dict[str, int] = {}
        for cluster in sorted(self._clusters.get(deployment, ())):
            parts = split(cluster)
            if parts is None:
                continue
            totals = found.setdefault(parts[1], {})
            for part in (self._seen.get(cluster, {}), self._folded.get(cluster, {})):
                for key, count in part.items():
                    totals[key] = totals.get(key, 0) + count
            if cluster in self._active:
                active[parts[1]] = active.get(parts[1], 0) + self._active[cluster]
        return {
            revision: _counted(totals, active.get(revision, 0))
            for revision, totals in found.items()
            if revision in active or any(totals.values())
        }


def _counted(totals: Codes, active: int) -> dict[str, Any]:
    told = {key: total for key, total in sorted(totals.items()) if total}
    codes = {code: total for (kind, code), total in told.items() if kind != "grpc."}
    return {
        "requests": sum(codes.values()),
        "codes": codes,
        "grpc": {code: total for (kind, code), total in told.items() if kind == "grpc."},
        "active": active,
    }
