"""Writing decisions back: what is pending becomes commits, one a pass, each exactly once.

A change is recorded in status first, with the head that it started from; a later pass carries it out. A commit with its
trailer since that head means that it was done before a crash. Must not decide what is wanted (domain.sync.outbox does).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from perennial.api import kinds
from perennial.controllers.git_source import Parsed, Snapshot, Source
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote, JsonObject
from perennial.domain.errors import Conflict, PerennialError, Stalled, Transient
from perennial.domain.sync import message, outbox
from perennial.domain.sync.documents import Document
from perennial.domain.sync.edit import CannotEdit, field_of
from perennial.domain.sync.outbox import Change, DeploymentView, Outbox, OutboxWorld, VersionView
from perennial.domain.sync.plan import Head, Plan, find, needed_files, plan, to_archive
from perennial.domain.sync.prune import versions_in_use
from perennial.domain.sync.records import is_readable
from perennial.domain.sync.repository import GitChange, GitReference, GitRemote
from perennial.domain.sync.spec import SyncSpec
from perennial.domain.times import rfc3339
from perennial.ports import Clock, GitRepository, ObjectStore
from perennial.runtime.cache import Cache

TRIES = 10
FIRST_WAIT = 0.1
LONGEST_WAIT = 2.0
MAX_BACKOFF_SECONDS = 300.0
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class WriteMemory:
    """What the write-back of one GitSync learnt. trouble: reason, sentence, whether it may pass by itself.

    not_before: after a failure, when to try again; until then the trouble stands.
    """

    remote: GitRemote | None = None
    failures: int = 0
    not_before: datetime | None = None
    trouble: tuple[str, str, bool] | None = None
    bases: dict[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)


@dataclass(slots=True)
class WriteStep:
    """What a pass did: the new status.writeBack, events, and the commit that it pushed."""

    status: JsonObject | None = None
    notes: list[EventNote] = field(default_factory=list)
    pushed: str | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    outcomes: Mapping[str, tuple[str, str]]
    commit: str | None
    pushed: bool = False


class WriteBack:
    """Derives, records and carries out; one for all GitSyncs, so that writers of one branch take turns."""

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        clock: Clock,
        source: Source,
        git: GitRepository,
        *,
        jitter: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._source = source
        self._git = git
        self._jitter = jitter
        self._sleep = sleep
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def step(
        self, spec: SyncSpec, snapshot: Snapshot, memory: WriteMemory, recorded: Mapping[str, Any], twice: Sequence[str]
    ) -> WriteStep:
        """Carry out the oldest pending commit, record what is newly wanted. twice: names that another sync finds."""
        before: Mapping[str, Any] = recorded.get("writeBack") or {}
        pending = list(before.get("pending") or ())
        history = list(before.get("history") or ())
        step = WriteStep()
        now = self._clock.now()
        if memory.not_before is not None and now < memory.not_before:
            return step
        try:
            memory.trouble = None
            found = await self._derive(spec, snapshot, memory, history, twice)
            if found.refused:
                memory.trouble = ("CannotWriteBack", "; ".join(found.refused), False)
            known = {entry["id"] for entry in pending}
            new = [change for change in found.changes if change.id not in known]
            room = outbox.MAX_PENDING - len(pending)
            pending += [outbox.as_pending(change, snapshot.commit, rfc3339(now)) for change in new[: max(room, 0)]]
            group = [entry for entry in outbox.group_of(pending) if entry["id"] in known]
            if group:
                derived = {change.id: change for change in found.changes}
                ended = await self._carry_out(spec, snapshot, memory, group, derived)
                pending, history = self._settle(pending, history, group, ended, now, step)
                if ended.pushed:
                    step.pushed = ended.commit
            memory.failures, memory.not_before = 0, None
        except (PerennialError, CannotEdit) as failure:
            pending = self._failed(spec, memory, pending, failure, now)
        if pending or history:
            last = step.pushed or before.get("lastCommit")
            step.status = {"pending": pending, "history": history[: outbox.MAX_HISTORY]}
            step.status |= {"lastCommit": last} if last else {}
        return step

    # -- what is wanted --------------------------------------------------------------------------------------------
    async def _derive(
        self,
        spec: SyncSpec,
        snapshot: Snapshot,
        memory: WriteMemory,
        history: Sequence[Mapping[str, Any]],
        twice: Sequence[str],
    ) -> Outbox:
        if twice:
            words = f"ModelDeployment {', '.join(twice)} is found by another GitSync that writes back too"
            return Outbox(refused=(f"{words}: let only one of them have the document in its path",))
        always = spec.write_back.branch != spec.ref[1]
        ended = {e["id"] for e in history if always or e["kind"] in ("Revert", "Reject")}
        world = OutboxWorld(
            scope=(spec.namespace, spec.name, spec.path),
            deployments=self._deployments(spec, snapshot),
            versions=self._versions(spec, snapshot),
            ended=frozenset(ended),
        )
        views = []
        for view in world.deployments:
            if outbox.unresolved_failures(world, view):
                views.append(await self._with_base(spec, memory, view))
            else:
                views.append(view)
        return outbox.derive(OutboxWorld(world.scope, views, world.versions, world.ended))

    def _deployments(self, spec: SyncSpec, snapshot: Snapshot) -> list[DeploymentView]:
        named: dict[str, list[Document]] = {}
        for document in snapshot.documents:
            if document.content.get("kind") == kinds.MODEL_DEPLOYMENT.kind:
                named.setdefault(str(field_of(document.content, ("metadata", "name"))), []).append(document)
        views = []
        for name, documents in named.items():
            found = find(documents, kinds.MODEL_DEPLOYMENT, name)
            live = self._cache.get(kinds.MODEL_DEPLOYMENT, spec.namespace, name)
            if found is not None and live is not None:
                views.append(DeploymentView(name, found.content, live))
        return views

    def _versions(self, spec: SyncSpec, snapshot: Snapshot) -> dict[str, VersionView]:
        documents = {
            document.content["metadata"]["name"]: document.content["spec"]
            for document in snapshot.documents
            if document.content.get("kind") == kinds.MODEL_VERSION.kind
            and isinstance(field_of(document.content, ("metadata", "name")), str)
            and is_readable(document.content.get("spec"))
        }
        live = {obj["metadata"]["name"]: obj["spec"] for obj in self._cache.list(kinds.MODEL_VERSION, spec.namespace)}
        return {name: VersionView(name, documents.get(name), live.get(name)) for name in {*documents, *live}}

    async def _with_base(self, spec: SyncSpec, memory: WriteMemory, view: DeploymentView) -> DeploymentView:
        """The view with the document that what serves now was promoted from."""
        history = field_of(view.live, ("status", "history")) or ()
        commit = history[0].get("commit") if history else None
        if not commit:
            return view
        key = (commit, view.name)
        if key not in memory.bases:
            remote = await self._remote(spec, memory)
            try:
                old = await self._source.snapshot(remote, spec, commit, {})
            except Stalled:
                memory.bases[key] = None
            else:
                document = find(old.documents, kinds.MODEL_DEPLOYMENT, view.name)
                memory.bases[key] = document.content if document is not None else None
        return DeploymentView(view.name, view.document, view.live, memory.bases[key], commit)

    # -- carrying out ----------------------------------------------------------------------------------------------
    async def _carry_out(
        self,
        spec: SyncSpec,
        snapshot: Snapshot,
        memory: WriteMemory,
        group: Sequence[Mapping[str, Any]],
        derived: Mapping[str, Change],
    ) -> _Ended:
        remote = await self._remote(spec, memory)
        changes = [change for entry in group if (change := outbox.from_pending(entry, derived)) is not None]
        turn = self._turns.setdefault((spec.url, spec.write_back.branch), asyncio.Lock())
        known: Parsed = snapshot.parsed
        async with turn:
            for attempt in range(TRIES):
                head = await self._git.head(remote, GitReference("branch", spec.write_back.branch))
                done = await self._done_before(remote, head, group)
                if done is not None:
                    return _Ended({e["id"]: ("Written", "found in the repository") for e in group}, done)
                if not changes:
                    return _Ended({e["id"]: ("Superseded", "no longer needed") for e in group}, None)
                at_head = await self._source.snapshot(remote, spec, head, known)
                known = at_head.parsed
                with contextlib.suppress(Conflict):
                    return await self._commit(spec, remote, at_head, changes)
                await self._sleep(self._jitter() * min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT))
        raise Transient("BranchBusy", f"the branch {spec.write_back.branch} moved at each of {TRIES} tries to push")

    async def _done_before(self, remote: GitRemote, head: str, group: Sequence[Mapping[str, Any]]) -> str | None:
        """The commit since the recorded head that carries a trailer of the group (they share one commit)."""
        wanted = {entry["id"] for entry in group}
        since = group[0]["head"]
        if since == head:
            return None
        history = await self._git.history(remote, head, since)
        for commit, trailers in history.trailers:
            if any(key == message.TRAILER and value in wanted for key, value in trailers):
                return commit
        return None

    async def _commit(self, spec: SyncSpec, remote: GitRemote, head: Snapshot, changes: Sequence[Change]) -> _Ended:
        """Edit, commit and push on this head. Conflict when the branch moved."""
        archive = self._archive(spec, head.documents, changes)
        paths = needed_files(changes, head.documents, archive)
        blobs = await self._git.read(remote, head.commit, spec.path, [head.files[path] for path in sorted(paths)])
        contents = {path: data for path in paths if (data := blobs[head.files[path]]) is not None}
        live = await self._live_versions(spec, head.documents, changes)
        names = frozenset((*head.files, *head.archived))
        planned = plan(changes, Head(spec.path, head.documents, contents, names), live, archive)
        if not planned.files:
            return _Ended(planned.outcomes, None)
        self._allowed(spec, planned)
        facts = self._facts(spec, head.documents, live, changes[0].version)
        change = GitChange(
            parent=head.commit,
            files=planned.files,
            message=message.render(changes, planned.outcomes, facts),
            author_name=spec.write_back.author_name,
            author_email=spec.write_back.author_email,
            time=self._clock.now(),
        )
        commit = await self._git.commit(remote, spec.path, change)
        await self._git.push(remote, spec.path, spec.write_back.branch, commit, head.commit)
        return _Ended(planned.outcomes, commit, pushed=True)

    def _allowed(self, spec: SyncSpec, planned: Plan) -> None:
        roots = spec.write_back.paths or (spec.path,)
        for path in planned.files:
            if not any(root == "." or path == root or path.startswith(f"{root}/") for root in roots):
                raise Stalled(
                    "PathNotAllowed",
                    f"{path} may not be written: spec.writeBack.paths allows {', '.join(roots)}; add it there",
                )

    async def _live_versions(
        self, spec: SyncSpec, documents: Sequence[Document], changes: Sequence[Change]
    ) -> dict[str, JsonObject]:
        """Whole ModelVersions (with their baselines, which the cache lacks) that the repository does not have."""
        acting = self._store.acting_as(spec.namespace, spec.acting_account)
        found = {}
        for name in {change.version for change in changes}:
            if find(documents, kinds.MODEL_VERSION, name) is None:
                obj = await acting.get(kinds.MODEL_VERSION, spec.namespace, name)
                if obj is not None:
                    found[name] = obj
        return found

    def _facts(
        self, spec: SyncSpec, documents: Sequence[Document], live: Mapping[str, JsonObject], version: str
    ) -> Mapping[str, Any]:
        document = find(documents, kinds.MODEL_VERSION, version)
        if document is not None:
            return document.content.get("spec") or {}
        return live[version]["spec"] if version in live else {}

    def _archive(self, spec: SyncSpec, documents: Sequence[Document], changes: Sequence[Change]) -> tuple[str, ...]:
        """Versions whose files make room for the one that an Update adds."""
        first = changes[0]
        deployment = self._cache.get(kinds.MODEL_DEPLOYMENT, spec.namespace, first.deployment)
        if first.kind != "Update" or deployment is None:
            return ()
        limit = int(field_of(deployment, ("spec", "rollout", "revisionHistoryLimit")) or 5)
        model = field_of(deployment, ("spec", "model", "name"))
        adds = find(documents, kinds.MODEL_VERSION, first.version) is None
        kept = {first.version, *versions_in_use(self._cache.list(kinds.MODEL_DEPLOYMENT, spec.namespace))}
        kept |= {str(name) for d in documents if (name := field_of(d.content)) is not None}
        kept |= self._results(spec, documents)
        return to_archive(documents, spec.path, str(model), max(limit - int(adds), 0), kept)

    def _results(self, spec: SyncSpec, documents: Sequence[Document]) -> set[str]:
        """Versions that are the result of a TrainingJob in Git: without them a rebuilt cluster would train again."""
        results = set()
        for job in self._cache.list(kinds.TRAINING_JOB, spec.namespace):
            if find(documents, kinds.TRAINING_JOB, job["metadata"]["name"]) is None:
                continue
            run = field_of(job, ("status", "run", "id"))
            results |= {field_of(job, ("status", "lastVersion")), f"{field_of(job, ('spec', 'model'))}-r{run}"}
        return {name for name in results if name}

    # -- how it ended ----------------------------------------------------------------------------------------------
    def _settle(
        self,
        pending: list[dict[str, Any]],
        history: list[dict[str, Any]],
        group: Sequence[Mapping[str, Any]],
        ended: _Ended,
        now: datetime,
        step: WriteStep,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        ids = {entry["id"] for entry in group}
        for entry in group:
            outcome, words = ended.outcomes.get(entry["id"], ("Superseded", "no longer needed"))
            history = [outbox.ended_entry(entry, outcome, ended.commit, rfc3339(now), words), *history]  # type: ignore[arg-type]
            kind = "Normal" if outcome == "Written" else "Warning"
            where = f" (commit {ended.commit[:12]})" if ended.commit else ""
            step.notes.append(EventNote("WrittenBack" if outcome == "Written" else outcome, f"{words}{where}", kind))  # type: ignore[arg-type]
        return [entry for entry in pending if entry["id"] not in ids], history

    def _failed(
        self,
        spec: SyncSpec,
        memory: WriteMemory,
        pending: list[dict[str, Any]],
        failure: PerennialError | CannotEdit,
        now: datetime,
    ) -> list[dict[str, Any]]:
        """Remember why and wait; the pending entries stay, the oldest with the reason."""
        memory.failures += 1
        memory.remote = None
        wait = min(max(spec.period_seconds, 5) * 2.0 ** min(memory.failures - 1, 10), MAX_BACKOFF_SECONDS)
        memory.not_before = now + timedelta(seconds=wait * (0.95 + 0.1 * self._jitter()))
        passing = isinstance(failure, Transient)
        reason = failure.reason if isinstance(failure, PerennialError) else "CannotWriteBack"
        memory.trouble = (reason, f"a decision could not be written to Git: {failure}", passing)
        return [
            {**entry, "message": bounded(str(failure))} if number == 0 else entry
            for number, entry in enumerate(pending)
        ]

    async def _remote(self, spec: SyncSpec, memory: WriteMemory) -> GitRemote:
        if memory.remote is None:
            memory.remote = await self._source.remote(self._store, spec, spec.write_back.secret or spec.secret)
        return memory.remote
