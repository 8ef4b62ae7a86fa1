"""Reads what a router reports about one deployment. Pure; the pages are described in docs/reference/router.md."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from perennial.domain.rollout.evidence import Reading
from perennial.domain.rollout.failures import read_arm
from perennial.domain.rollout.predictions import read_pair
from perennial.domain.rollout.signature import read_signatures
from perennial.domain.rollout.world import Recorded, RouterSeen


def read_router(
    pod: str,
    uid: str,
    status: Mapping[str, Any],
    counts: Mapping[str, Any],
    *,
    deployment: str,
    recorded: Recorded,
    failure_codes: frozenset[str],
    created: datetime | None = None,
) -> RouterSeen:
    """One router's pages as facts; `counts` empty: only its weights were asked for.

    A router whose Envoy is away confirms nothing, and its counts are not read: they could not be told from old ones.
    """
    mine = (status.get("deployments") or {}).get(deployment) or {}
    started = status.get("started") or {}
    confirmed = bool(mine.get("confirmed")) and started.get("envoy") is not None
    seen = RouterSeen(
        pod=pod,
        uid=uid,
        answered=True,
        traffic_version=int(mine.get("trafficVersion", -1)),
        confirmed=confirmed,
        weights={str(r): int(w) for r, w in (mine.get("weights") or {}).items() if int(w) > 0},
        created=created,
        inputs=read_signatures(mine.get("inputs")),
    )
    rollout = recorded.rollout
    counters = (counts.get("deployments") or {}).get(deployment)
    if rollout is None or counters is None or not confirmed:
        return seen
    of_counts = counts.get("started") or started
    revisions = counters.get("revisions") or {}
    target = rollout.target.revision
    of_canary = revisions if recorded.weight_of(target) > 0 else counters.get("copies") or {}
    stable = recorded.stable.revision if recorded.stable is not None else ""
    canary_page, stable_page = of_canary.get(target) or {}, revisions.get(stable) or {}
    reading = Reading(
        pod_uid=uid,
        started=(str(of_counts.get("agent")), str(of_counts.get("envoy"))),
        traffic_version=seen.traffic_version,
        confirmed=seen.serves(recorded),
        canary=read_arm(canary_page, failure_codes),
        stable=read_arm(stable_page, failure_codes),
        predictions=read_pair(canary_page, stable_page),
    )
    return replace(seen, reading=reading)
