"""GitSync: the documents of a repository become the objects of its namespace, and decisions become commits.

One pass: look at the repository when it is time, apply what differs, remove what left, write back what is pending,
report once. What a pass learnt is remembered here only to save work; losing it costs one comparison with the cluster.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from perennial.api import kinds, names
from perennial.controllers.git_account import ensure_account
from perennial.controllers.git_apply import Applied, Applier
from perennial.controllers.git_counted import CountedRepository
from perennial.controllers.git_source import Snapshot, Source
from perennial.controllers.git_write import WriteBack, WriteMemory, WriteStep
from perennial.domain.authors import authors_text
from perennial.domain.decision import JsonObject
from perennial.domain.errors import PerennialError
from perennial.domain.sync import inventory
from perennial.domain.sync.decide import Seen, news, next_check, status_of, suspended_status
from perennial.domain.sync.documents import SourceError
from perennial.domain.sync.manifest import DesiredObject, Mark, ObjectId, desired_objects, located
from perennial.domain.sync.ownership import MANAGER
from perennial.domain.sync.prune import last_size, results_of, too_much, versions_in_use
from perennial.domain.sync.repository import GitRemote
from perennial.domain.sync.spec import SyncSpec, not_supported, read_spec
from perennial.ports import Clock, EventSink, GitRepository, ObjectStore
from perennial.runtime import metrics
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status

_OUR_NAMES = frozenset(kind.kind for kind in kinds.OUR_KINDS)


@dataclass(frozen=True, slots=True)
class GitSyncSettings:
    """namespaced: the operator has Roles instead of ClusterRoles. jitter: a number in [0, 1) per call.

    sleep: how to wait, in seconds, between two tries to push.
    """

    namespaced: bool = False
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Memory:
    """What one GitSync's passes learnt.

    stale: our own push is not in the snapshot yet, so nothing may be derived from it. keeping: inventory entries that
    left the repository but stay, and `kept` says why; excess: because they are too many at once. applied: the commit
    of the last apply. seen, generation: the generation of the spec in the last pass, and in the last answered look at
    the repository.
    """

    uid: str
    seen: int = -1
    generation: int = -1
    check_at: datetime | None = None
    heal_at: datetime | None = None
    remote: GitRemote | None = None
    snapshot: Snapshot | None = None
    desired: tuple[DesiredObject, ...] = ()
    refused: tuple[SourceError, ...] = ()
    known: dict[ObjectId, Applied] = field(default_factory=dict)
    failures: int = 0
    source: PerennialError | None = None
    errors: tuple[SourceError, ...] = ()
    passing: bool = False
    kept: tuple[str, str] | None = None
    excess: bool = False
    keeping: frozenset[ObjectId] = frozenset()
    applied: str | None = None
    stale: bool = False
    write: WriteMemory = field(default_factory=WriteMemory)

    @property
    def whole(self) -> bool:
        """Whether the snapshot is applied without an error."""
        return self.snapshot is not None and self.applied == self.snapshot.commit and not self.errors


class GitSyncController:
    """Implements `runtime.controller.Reconciler`."""

    kind = kinds.GIT_SYNC
    name = "git-sync"

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        events: EventSink,
        clock: Clock,
        settings: GitSyncSettings,
        git: GitRepository,
    ) -> None:
        self._store = store
        self._cache = cache
        self._events = events
        self._clock = clock
        self._settings = settings
        git = CountedRepository(git)
        self._source = Source(git)
        self._write_back = WriteBack(
            store, cache, clock, self._source, git, jitter=settings.jitter, sleep=settings.sleep
        )
        self._memories: dict[Key, Memory] = {}

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """An object of ours wakes the GitSync that applied it, and every one of its namespace that writes back."""
        if obj["kind"] not in _OUR_NAMES or obj["kind"] == kinds.GIT_SYNC.kind:
            return ()
        meta = obj["metadata"]
        found = {Key(meta["namespace"], mark)} if (mark := (meta.get("labels") or {}).get(names.LABEL_SYNC)) else set()
        for sync in cache.list(kinds.GIT_SYNC, meta["namespace"]):
            if (sync["spec"].get("writeBack") or {}).get("method", "None") != "None":
                found.add(Key(meta["namespace"], sync["metadata"]["name"]))
        return found

    async def reconcile(self, key: Key) -> Outcome:
        """One pass."""
        obj = self._cache.get(kinds.GIT_SYNC, key.namespace, key.name)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return DONE
        spec = read_spec(obj)
        now = self._clock.now()
        recorded = obj.get("status") or {}
        if spec.suspend:
            changed = await self._write(key, suspended_status(recorded, spec, now))
            return Outcome(changed=changed)
        refusal = not_supported(spec)
        if refusal is not None:
            return await self._refuse(key, spec, recorded, refusal, now)
        memory = self._memory(key, spec)
        due = self._due(memory, spec, recorded, now)
        memory.seen = spec.generation
        moved = await self._look(memory, spec, now) if due else False
        await self._apply(key, memory, spec, now, moved=moved, due=due)
        step = await self._write_out(key, memory, spec)
        changed = await self._report(key, memory, spec, now, step, request=spec.request if due else None)
        return Outcome(requeue_after=self._delay(memory, now), changed=changed)

    # -- observe ---------------------------------------------------------------------------------------------------
    def _memory(self, key: Key, spec: SyncSpec) -> Memory:
        memory = self._memories.get(key)
        if memory is None or memory.uid != spec.uid:
            memory = self._memories[key] = Memory(spec.uid)
        return memory

    def _forget(self, key: Key) -> None:
        if self._memories.pop(key, None) is not None:
            for gauge in (metrics.GIT_LAST_CHECK_TIMESTAMP, metrics.WRITE_BACK_PENDING):
                with contextlib.suppress(KeyError):
                    gauge.remove(key.namespace, key.name)

    def _due(self, memory: Memory, spec: SyncSpec, recorded: JsonObject, now: datetime) -> bool:
        return (
            memory.check_at is None
            or now >= memory.check_at
            or memory.seen != spec.generation
            or (spec.request is not None and spec.request != recorded.get("lastHandledSyncRequest"))
        )

    async def _refuse(self, key: Key, spec: SyncSpec, recorded: JsonObject, refusal: str, now: datetime) -> Outcome:
        """Say that this version cannot do what the spec asks for; everything stands."""
        held = set(inventory.read(recorded))
        seen = Seen(trouble=("NotSupported", refusal), entries=held, objects=len(held))
        return Outcome(changed=await self._write(key, status_of(recorded, spec, seen, now)))

    async def _look(self, memory: Memory, spec: SyncSpec, now: datetime) -> bool:
        """Ask the repository; whether another revision (or another part of it) stands now. Trouble is remembered."""
        fresh = memory.generation != spec.generation
        if fresh:
            memory.write, memory.heal_at = WriteMemory(), None
        try:
            if memory.remote is None or fresh:
                if spec.account is None:
                    await ensure_account(self._store, spec.namespace, namespaced=self._settings.namespaced)
                memory.remote = await self._source.remote(self._store, spec, spec.secret)
            head = await self._source.head(memory.remote, spec)
            moved = fresh or memory.snapshot is None or memory.snapshot.commit != head
            if moved:
                known = memory.snapshot.parsed if memory.snapshot is not None else {}
                memory.snapshot = await self._source.snapshot(memory.remote, spec, head, known)
                self._interpret(memory, spec)
        except PerennialError as failure:
            memory.source, memory.remote = failure, None
            memory.failures += 1
            moved = False
        else:
            memory.source, memory.failures, memory.generation = None, 0, spec.generation
            memory.stale = memory.stale and not moved
            metrics.GIT_LAST_CHECK_TIMESTAMP.labels(spec.namespace, spec.name).set(now.timestamp())
        memory.check_at = next_check(spec, memory.failures, self._settings.jitter(), now)
        return moved

    def _interpret(self, memory: Memory, spec: SyncSpec) -> None:
        snapshot = memory.snapshot
        if snapshot is None:
            return
        if not spec.apply:
            memory.desired, memory.refused = located(snapshot.documents, spec.scope), ()
            return
        memory.desired, refused = desired_objects(snapshot.documents, spec.scope)
        excess = inventory.too_many(memory.desired)
        memory.refused = (*snapshot.errors, *refused, *([SourceError(spec.path, 0, excess)] if excess else []))
        if excess:
            memory.desired = ()

    # -- act -------------------------------------------------------------------------------------------------------
    async def _apply(self, key: Key, memory: Memory, spec: SyncSpec, now: datetime, *, moved: bool, due: bool) -> None:
        """Bring the cluster to the snapshot: everything when it is time to heal, else what is known to differ."""
        snapshot = memory.snapshot
        if snapshot is None:
            return
        if not spec.apply:
            memory.errors, memory.passing, memory.kept, memory.applied = memory.refused, False, None, snapshot.commit
            return
        heal = memory.heal_at is None or now >= memory.heal_at
        drifted = [] if heal else self._drifted(memory, spec)
        untried = memory.applied != snapshot.commit
        if not (heal or moved or untried or drifted or (due and not memory.whole)):
            return
        applier = Applier(self._acting(spec), spec.namespace, spec.name, memory.known)
        if heal:
            live = await applier.live(memory.desired)
            suspects = applier.differing(memory.desired, live)
        else:
            changed = {item.id for item in drifted}
            suspects = [item for item in memory.desired if item.id in changed or self._unknown(memory, item)]
            live = await applier.live(suspects)
        await self._intend(key, memory, spec, suspects, now)
        mark = await self._mark(key, memory, snapshot.commit, suspects)
        result = await applier.apply(suspects, live, mark, lambda name: self._exists(spec, name))
        memory.errors, memory.passing = (*memory.refused, *result.errors), result.passing and not memory.refused
        memory.applied, memory.kept = None, None  # a prune that fails here is done by the next pass
        if not memory.errors:
            await self._prune(key, memory, spec, applier)
        memory.applied = snapshot.commit
        if heal:
            memory.heal_at = now + timedelta(seconds=spec.heal_seconds)
            if spec.account is None:
                await ensure_account(self._store, spec.namespace, namespaced=self._settings.namespaced)

    async def _mark(self, key: Key, memory: Memory, commit: str, suspects: Sequence[DesiredObject]) -> Mark:
        """The mark of what changed: the commit, and its authors where something asks for them.

        They are all who wrote a commit since the revision that was applied last, so that nobody's change passes for
        somebody else's who pushed a little later.
        """
        if memory.remote is None or not any(item.asks_authors and self._unknown(memory, item) for item in suspects):
            return Mark(commit)
        since = str(self._recorded(key).get("lastAppliedRevision") or "").rpartition(":")[2]
        return Mark(commit, authors_text(await self._source.authors(memory.remote, commit, since or None)))

    async def _intend(
        self, key: Key, memory: Memory, spec: SyncSpec, suspects: list[DesiredObject], now: datetime
    ) -> None:
        """Record the union of old and new inventory before the first object of it is made."""
        recorded = self._recorded(key)
        entries = {*inventory.read(recorded), *(item.id for item in memory.desired)}
        if memory.snapshot is None or not suspects or entries == set(inventory.read(recorded)):
            return
        seen = Seen(
            commit=memory.snapshot.commit, working=True, entries=entries, objects=len(entries), errors=memory.refused
        )
        await self._write(key, status_of(recorded, spec, seen, now))

    async def _prune(self, key: Key, memory: Memory, spec: SyncSpec, applier: Applier) -> None:
        """Remove what left the repository. Only called after a wholly good apply."""
        memory.keeping, memory.excess = frozenset(), False
        wanted = {item.id for item in memory.desired}
        held = inventory.read(self._recorded(key))
        leaving = [(entry, kind) for entry, kind in held.items() if entry not in wanted and kind is not None]
        if not spec.prune or not leaving:
            return
        excess = too_much(len(leaving), last_size(self._recorded(key)) or len(held), spec.max_prune_percent)
        if excess is not None:
            memory.excess = True
            memory.keeping, memory.kept = frozenset(entry for entry, _ in leaving), ("PruneRefused", excess)
            return
        deployments = await self._store.list(kinds.MODEL_DEPLOYMENT, spec.namespace)
        trainings = [item.id.name for item in memory.desired if item.kind is kinds.TRAINING_JOB]
        found = (self._cache.get(kinds.TRAINING_JOB, spec.namespace, name) for name in trainings)
        results = results_of(obj for obj in found if obj is not None)
        done, kept = await applier.remove(leaving, {**results, **versions_in_use(deployments)})
        memory.keeping = frozenset(entry for entry, _ in leaving if entry not in done)
        memory.kept = ("PruneRefused", "; ".join(kept)) if kept else None

    async def _write_out(self, key: Key, memory: Memory, spec: SyncSpec) -> WriteStep:
        """Write one decision back, when the documents at hand are the newest."""
        if not spec.writes or memory.snapshot is None or memory.stale or memory.source is not None:
            return WriteStep()
        twice = self._found_twice(key, memory, spec)
        step = await self._write_back.step(spec, memory.snapshot, memory.write, self._recorded(key), twice)
        if step.pushed is not None:
            memory.stale = spec.write_back.branch == spec.ref[1]
            memory.check_at = None
        return step

    # -- report ----------------------------------------------------------------------------------------------------
    async def _report(
        self, key: Key, memory: Memory, spec: SyncSpec, now: datetime, step: WriteStep, *, request: str | None
    ) -> bool:
        recorded = self._recorded(key)
        written = memory.write.trouble if spec.writes else None
        entries = self._entries(memory, spec, recorded)
        seen = Seen(
            commit=memory.snapshot.commit if memory.snapshot is not None else None,
            whole=memory.whole,
            excess=memory.excess,
            source=memory.source,
            errors=memory.errors,
            trouble=memory.kept or (written[:2] if written is not None else None),
            passing=memory.passing
            or (not memory.errors and memory.kept is None and written is not None and written[2]),
            entries=entries,
            objects=len(entries) if spec.apply else len(memory.desired),
            request=request,
            write_back=step.status,
        )
        status = status_of(recorded, spec, seen, now)
        waiting = len((status.get("writeBack") or {}).get("pending") or ())
        metrics.WRITE_BACK_PENDING.labels(spec.namespace, spec.name).set(waiting)
        changed = await self._write(key, status)
        obj = self._cache.get(kinds.GIT_SYNC, key.namespace, key.name)
        for note in step.notes if obj is not None else ():
            self._events.emit(obj or {}, note)
        return changed

    def _entries(self, memory: Memory, spec: SyncSpec, recorded: JsonObject) -> set[ObjectId]:
        """The inventory: what is wanted, and what was there and could not (or may not) be removed yet."""
        held = set(inventory.read(recorded))
        if memory.snapshot is None or not spec.apply:
            return held if spec.apply else set()
        wanted = {item.id for item in memory.desired}
        if not memory.whole:
            return held | wanted
        return wanted | (held & memory.keeping)

    async def _write(self, key: Key, status: JsonObject) -> bool:
        obj = self._cache.get(kinds.GIT_SYNC, key.namespace, key.name)
        if obj is None:
            return False
        note = news(obj.get("status") or {}, status)
        changed = await write_status(self._store, self._cache, obj, status, manager=MANAGER)
        if changed and note is not None:
            self._events.emit(obj, note)
        return changed

    # -- small questions -------------------------------------------------------------------------------------------
    def _recorded(self, key: Key) -> JsonObject:
        obj = self._cache.get(kinds.GIT_SYNC, key.namespace, key.name)
        return dict((obj or {}).get("status") or {})

    def _acting(self, spec: SyncSpec) -> ObjectStore:
        return self._store.acting_as(spec.namespace, spec.acting_account)

    def _found_twice(self, key: Key, memory: Memory, spec: SyncSpec) -> list[str]:
        """ModelDeployments whose document another GitSync of the namespace, one that writes back, finds too."""
        own = {item.id.name for item in memory.desired if item.kind is kinds.MODEL_DEPLOYMENT}
        twice: set[str] = set()
        for other, theirs in self._memories.items():
            obj = self._cache.get(kinds.GIT_SYNC, other.namespace, other.name)
            if other == key or other.namespace != key.namespace or obj is None or not read_spec(obj).writes:
                continue
            twice |= own & {item.id.name for item in theirs.desired if item.kind is kinds.MODEL_DEPLOYMENT}
        return sorted(twice)

    def _exists(self, spec: SyncSpec, name: str) -> bool:
        return self._cache.get(kinds.GIT_SYNC, spec.namespace, name) is not None

    def _unknown(self, memory: Memory, item: DesiredObject) -> bool:
        known = memory.known.get(item.id)
        return known is None or known.digest != item.digest

    def _drifted(self, memory: Memory, spec: SyncSpec) -> list[DesiredObject]:
        """Objects of our kinds that the watches saw change since our last look at them."""
        drifted = []
        for item in memory.desired:
            known = memory.known.get(item.id)
            if item.kind not in kinds.OUR_KINDS or known is None:
                continue
            seen = self._cache.get(item.kind, spec.namespace, item.id.name)
            meta = (seen or {}).get("metadata", {})
            if (meta.get("uid"), int(meta.get("generation") or 0)) != (known.uid, known.generation):
                drifted.append(item)
        return drifted

    def _delay(self, memory: Memory, now: datetime) -> float:
        times = [when for when in (memory.check_at, memory.heal_at) if when is not None]
        if memory.write.not_before is not None and memory.write.not_before > now:
            times.append(memory.write.not_before)  # a time gone by waits for the repository to answer again
        return max(0.0, (min(times) - now).total_seconds()) if times else 0.0
