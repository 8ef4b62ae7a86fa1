"""Making the cluster as Git wants it: dry run of everything that may differ, then apply; and removing what left.

Acts as the GitSync's account. What is equal already is not written. Must not decide what Git wants.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perennial.api import names
from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, Forbidden, PerennialError, Stalled, Transient
from perennial.domain.sync.documents import SourceError
from perennial.domain.sync.manifest import DesiredObject, Mark, ObjectId
from perennial.domain.sync.ownership import (
    MANAGER,
    covers,
    held_by_others,
    made_by_operator,
    same_but_bookkeeping,
    sync_of,
)
from perennial.domain.sync.prune import Fate, verdict
from perennial.ports import ObjectStore

PARALLEL = 8
LIST_FROM = 10
"""From so many objects of a kind on, one list is asked instead of each by name."""

ResultT = TypeVar("ResultT")


async def _all(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Run them together; the first failure ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _passes(failure: PerennialError) -> bool:
    """Whether trying again may help. The API server answers 500 to an apply with a field that its schema lacks."""
    return isinstance(failure, Transient) and "typed patch object" not in failure.message


@dataclass(slots=True)
class Applied:
    """What is known to be in the cluster: digest of the body, commit mark, and uid and generation after our write."""

    digest: str
    mark: Mark
    uid: str
    generation: int


@dataclass(slots=True)
class ApplyResult:
    """errors: objects that could not be applied. passing: some failed only for the moment. written: how many writes."""

    errors: list[SourceError] = field(default_factory=list)
    passing: bool = False
    written: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    wanted: DesiredObject
    body: JsonObject
    mark: Mark
    force: bool


class Applier:
    """Applies for one GitSync; `known` is its memory of what it applied and is kept up to date."""

    def __init__(self, store: ObjectStore, namespace: str, sync: str, known: dict[ObjectId, Applied]) -> None:
        self._store = store
        self._namespace = namespace
        self._sync = sync
        self._known = known
        self._gate = asyncio.Semaphore(PARALLEL)

    async def live(self, wanted: Sequence[DesiredObject]) -> dict[ObjectId, JsonObject]:
        """The live objects of those names (missing: not there), by lists where that is cheaper."""
        by_kind: dict[Kind, list[ObjectId]] = {}
        for item in wanted:
            by_kind.setdefault(item.kind, []).append(item.id)
        found: dict[ObjectId, JsonObject] = {}
        for kind, ids in by_kind.items():
            if len(ids) >= LIST_FROM:
                try:
                    listed = await self._store.list(kind, self._namespace)
                except Forbidden:
                    pass  # an account of the user's own may lack the right to list; it may still get each by name
                else:
                    wanted_names = {entry.name: entry for entry in ids}
                    found.update(
                        (wanted_names[obj["metadata"]["name"]], obj)
                        for obj in listed
                        if obj["metadata"]["name"] in wanted_names
                    )
                    continue
            found.update(await self._each_live(kind, ids))
        return found

    def differing(self, desired: Iterable[DesiredObject], live: Mapping[ObjectId, JsonObject]) -> list[DesiredObject]:
        """Of the desired objects those that are not known to be in the cluster exactly as wanted."""
        return [
            item
            for item in desired
            if (known := self._known.get(item.id)) is None
            or known.digest != item.digest
            or item.id not in live
            or live[item.id]["metadata"]["uid"] != known.uid
            or not covers(live[item.id], item.rendered(known.mark))
        ]

    async def apply(
        self,
        suspects: Sequence[DesiredObject],
        live: Mapping[ObjectId, JsonObject],
        mark: Mark,
        rivals: Callable[[str], bool],
    ) -> ApplyResult:
        """Dry-run every suspect, then apply, kind by kind, those that are good and differ. mark: for what changed.

        rivals(name): whether another GitSync of that name exists (an object with its mark is not taken from it).
        """
        result = ApplyResult()
        plans: list[_Plan] = []

        async def check(item: DesiredObject) -> None:
            plan = await self._caught(item, result, lambda: self._check(item, live.get(item.id), mark, rivals))
            if plan is not None:
                plans.append(plan)

        await _all(check(item) for item in suspects)
        order = {item.id: number for number, item in enumerate(suspects)}
        plans.sort(key=lambda plan: order[plan.wanted.id])
        for kind in Counter(plan.wanted.kind for plan in plans):
            await _all(self._write(plan, result) for plan in plans if plan.wanted.kind == kind)
        return result

    async def remove(
        self, entries: Sequence[tuple[ObjectId, Kind]], used: Mapping[str, str]
    ) -> tuple[list[ObjectId], list[str]]:
        """Remove what may go; the entries that are done with, and a sentence for each that is kept. Reads each live."""
        done: list[ObjectId] = []
        kept: list[str] = []

        async def remove_one(entry: ObjectId, kind: Kind) -> None:
            async with self._gate:
                message = await self._remove(entry, kind, used)
            if message is not None:
                kept.append(message)
                return
            self._known.pop(entry, None)
            done.append(entry)

        await _all(remove_one(entry, kind) for entry, kind in entries)
        return done, sorted(kept)

    # -- inside ----------------------------------------------------------------------------------------------------
    async def _each_live(self, kind: Kind, ids: Sequence[ObjectId]) -> dict[ObjectId, JsonObject]:
        async def one(entry: ObjectId) -> tuple[ObjectId, JsonObject | None]:
            async with self._gate:
                return entry, await self._get(kind, entry)

        return {entry: obj for entry, obj in await _all(one(entry) for entry in ids) if obj is not None}

    async def _remove(self, entry: ObjectId, kind: Kind, used: Mapping[str, str]) -> str | None:
        """Delete one object if it may go, by a live read; the sentence why not when it stays in the inventory."""
        live = await self._get(kind, entry)
        fate = verdict(entry, live, self._sync, used)
        if fate.fate is Fate.KEEP:
            return fate.message
        if fate.fate is Fate.DELETE and live is not None:
            try:
                await self._store.delete(kind, self._namespace, entry.name, uid=live["metadata"]["uid"])
            except Stalled as refused:
                return f"{entry.words} left the repository but cannot be removed: {refused.message}"
        return None

    async def _get(self, kind: Kind, entry: ObjectId) -> JsonObject | None:
        return await self._store.get(kind, self._namespace, entry.name)

    async def _caught(
        self, item: DesiredObject, result: ApplyResult, work: Callable[[], Awaitable[ResultT]]
    ) -> ResultT | None:
        """The result of `work`, or None with the error noted at the object's document."""
        async with self._gate:
            try:
                return await work()
            except PerennialError as failure:
                result.errors.append(item.error(failure.message))
                result.passing = result.passing or _passes(failure)
                self._known.pop(item.id, None)
                return None

    async def _check(
        self, item: DesiredObject, live: JsonObject | None, newest: Mark, rivals: Callable[[str], bool]
    ) -> _Plan | None:
        """Dry run; the plan to write, or None when the cluster is as wanted."""
        if live is not None:
            owner = made_by_operator(live)
            if owner is not None:
                raise Stalled("NameTaken", f"the object was made by {owner}: give it another name in the repository")
            other = sync_of(live)
            if other is not None and other != self._sync and rivals(other):
                raise Stalled("NameTaken", f"it is applied by GitSync {other}: keep it in one of the two paths")
        mark = self._mark(item, live, newest)
        body = item.rendered(mark)
        force, dry = await self._dry_run(item, body)
        if live is not None and same_but_bookkeeping(live, dry):
            self._remember(item, mark, live)
            return None
        return _Plan(item, body, mark, force)

    async def _dry_run(self, item: DesiredObject, body: JsonObject) -> tuple[bool, JsonObject]:
        try:
            return False, await self._store.apply(body, manager=MANAGER, dry_run=True)
        except Conflict as conflict:
            owned = await self._get(item.kind, item.id)
            held = held_by_others(owned, body) if owned is not None else []
            if held:
                fields = ", ".join(sorted({entry.field for entry in held})[:5])
                managers = ", ".join(sorted({entry.manager for entry in held}))
                raise Stalled(
                    "FieldConflict",
                    f"{fields} is held by the field manager {managers}, which applied another value: "
                    "let only one of the two set it",
                ) from conflict
            return True, await self._store.apply(body, manager=MANAGER, force=True, dry_run=True)

    async def _write(self, plan: _Plan, result: ApplyResult) -> None:
        async def write() -> None:
            written = await self._store.apply(plan.body, manager=MANAGER, force=plan.force)
            self._remember(plan.wanted, plan.mark, written)
            result.written += 1

        await self._caught(plan.wanted, result, write)

    def _mark(self, item: DesiredObject, live: JsonObject | None, newest: Mark) -> Mark:
        """The commit in which the document last changed: a known or live mark stays while the document is the same."""
        known = self._known.get(item.id)
        if known is not None:
            return known.mark if known.digest == item.digest else newest
        noted = (live or {}).get("metadata", {}).get("annotations") or {}
        commit = noted.get(names.ANNOTATION_SYNC_COMMIT)
        if not commit or not covers(live, item.body):
            return newest
        return Mark(str(commit), noted.get(names.ANNOTATION_SYNC_AUTHORS))

    def _remember(self, item: DesiredObject, mark: Mark, live: JsonObject) -> None:
        meta = live["metadata"]
        self._known[item.id] = Applied(item.digest, mark, meta["uid"], int(meta.get("generation") or 0))
