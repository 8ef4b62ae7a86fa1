"""One active operator: a coordination.k8s.io Lease, acquired before anything is written and given back on a clean stop.

Expiry is judged by how long the record has not changed as seen by this process's own monotonic clock, never by
comparing clocks of two machines (as client-go's leader election does). Must not stop the process itself: it raises.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from perennial.api import kinds
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, PerennialError, Transient
from perennial.domain.times import rfc3339
from perennial.ports import Clock, ObjectStore, PatchTarget
from perennial.runtime import metrics

log = logging.getLogger(__name__)

MANAGER = "perennial-lease"


class LeaseLost(Exception):
    """The Lease could not be renewed in time, or somebody else holds it: this process must write nothing more."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds, as client-go's defaults: others may take over after `duration`; we give up after `deadline`."""

    duration: float = 15.0
    deadline: float = 10.0
    period: float = 2.0


@dataclass(slots=True)
class _Seen:
    version: str
    at: float


class Lease:
    """The Lease `namespace/name` as held or wanted by `identity` (unique per process or per pod)."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes = LeaseTimes(),
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times
        self._now = now
        self._sleep = sleep
        self._renewed: float | None = None
        self._seen: _Seen | None = None
        self._mine: JsonObject | None = None  # the Lease as we last wrote it

    @property
    def held(self) -> bool:
        """Whether nobody else can hold the Lease now, judged without a request."""
        return self._renewed is not None and self._now() - self._renewed < self._times.deadline

    def guard(self) -> None:
        """Raise Transient unless the Lease is held: called before every write of a pass."""
        if not self.held:
            raise Transient("NotLeader", "this operator does not hold the Lease (any more); another one goes on")

    async def acquire(self) -> None:
        """Return once the Lease is held; waits for its holder to release it or to expire."""
        waiting_for = ""
        while True:
            try:
                holder = await self._try()
            except PerennialError as error:
                log.warning("the Lease %s/%s cannot be had yet: %s", self._namespace, self._name, error.message)
            else:
                if holder == self._identity:
                    log.info("this operator (%s) holds the Lease %s/%s", holder, self._namespace, self._name)
                    metrics.LEADER.set(1)
                    return
                if holder != waiting_for:
                    log.info("standby: %s holds the Lease %s/%s", holder, self._namespace, self._name)
                    waiting_for = holder
            await self._sleep(self._times.period)

    async def keep(self) -> None:
        """Renew for ever; LeaseLost when that fails for `deadline` seconds or another holder is seen."""
        while True:
            await self._sleep(self._times.period)
            try:
                async with asyncio.timeout(self._times.deadline):
                    holder = await self._try()
            except (PerennialError, TimeoutError) as error:
                log.warning("the Lease was not renewed: %s", error)
                holder = self._identity
            if holder != self._identity or not self.held:
                self._renewed = None
                metrics.LEADER.set(0)
                words = f"{holder} took it" if holder != self._identity else "it could not be renewed in time"
                raise LeaseLost(f"the Lease {self._namespace}/{self._name} is lost: {words}")

    async def release(self) -> None:
        """Give the Lease back so that another operator need not wait for its expiry."""
        if self._renewed is None:
            return
        self._renewed = self._mine = None
        metrics.LEADER.set(0)
        try:
            current = await self._store.get(kinds.LEASE, self._namespace, self._name)
            if current is not None and current["spec"].get("holderIdentity") == self._identity:
                await self._write(current, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except PerennialError as error:
            log.info("the Lease was not given back (it expires by itself): %s", error.message)

    async def _try(self) -> str:
        """Take or renew the Lease when it may be; returns who holds it now."""
        asked = self._now()
        if self._mine is not None and await self._renew_unread(self._mine):
            self._renewed = asked
            return self._identity
        current = await self._store.get(kinds.LEASE, self._namespace, self._name)
        if current is None:
            try:
                self._mine = await self._create()
            except Conflict:
                return "another operator that just started"
            self._renewed = asked
            return self._identity
        spec = current.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if holder not in ("", self._identity) and not self._expired(current, spec):
            return holder
        taken: JsonObject = {"leaseDurationSeconds": int(self._times.duration)}
        if holder != self._identity:
            taken |= {
                "holderIdentity": self._identity,
                "acquireTime": rfc3339(self._clock.now(), micro=True),
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
            }
        try:
            written = await self._write(current, taken)
        except Conflict:
            # Somebody wrote it since we read it: not renewed, but not lost either until the next look says so.
            return holder or "another operator"
        if written is None:
            return "nobody: the Lease was deleted"
        self._mine = written
        self._renewed = asked
        return self._identity

    async def _renew_unread(self, mine: JsonObject) -> bool:
        """Renew with one request, as nobody else writes a Lease that is held; False when somebody did."""
        try:
            self._mine = await self._write(mine, {})
        except Conflict:
            self._mine = None
        return self._mine is not None

    def _expired(self, current: JsonObject, spec: JsonObject) -> bool:
        version = str(current["metadata"]["resourceVersion"])
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._now())
        duration = float(spec.get("leaseDurationSeconds") or self._times.duration)
        return self._now() - self._seen.at >= duration

    async def _create(self) -> JsonObject:
        now = rfc3339(self._clock.now(), micro=True)
        body = {
            "apiVersion": kinds.LEASE.api_version,
            "kind": kinds.LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._times.duration),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
        return await self._store.create(body, manager=MANAGER)

    async def _write(self, current: JsonObject, spec: JsonObject) -> JsonObject | None:
        """Patch the Lease as it was read; Conflict when somebody else wrote meanwhile, None when it is gone."""
        meta = current["metadata"]
        target = PatchTarget(kinds.LEASE, self._namespace, self._name, meta["uid"], meta["resourceVersion"])
        body = {"spec": {**spec, "renewTime": rfc3339(self._clock.now(), micro=True)}}
        return await self._store.patch(target, body, manager=MANAGER)
