"""TrainingJob: observe -> decide -> act -> report. What to do is decided in domain/training; here is only how."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.api.kinds import JOB, MODEL_VERSION, POD, SERVICE, TRAINING_JOB, Kind
from perennial.api.names import ANNOTATION_SYNC_COMMIT, FIELD_MANAGER_PREFIX, LABEL_MODEL
from perennial.controllers.training_observe import TrainingObserver
from perennial.domain.conditions import Condition
from perennial.domain.decision import Decision, EventNote, JsonObject
from perennial.domain.errors import Conflict, Forbidden, NameTaken, Stalled
from perennial.domain.owners import is_controlled_by
from perennial.domain.training.decide import SELF_HEALING_SECONDS, decide
from perennial.domain.training.finish import status
from perennial.domain.training.world import (
    Action,
    CreateAttempt,
    CreateReport,
    CreateVersion,
    DeleteJob,
    World,
)
from perennial.ports import Clock, EventSink, ObjectStore
from perennial.render.training import headless_service, report_job, training_job
from perennial.render.training_containers import Attempt, StepImage
from perennial.runtime import metrics
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """step: the image of the operator's own containers in training pods."""

    step: StepImage


class TrainingJobController:
    """Makes one Job per attempt and one ModelVersion per run."""

    kind: Kind = TRAINING_JOB
    name = "training-job"

    def __init__(
        self, store: ObjectStore, cache: Cache, events: EventSink, clock: Clock, settings: TrainingSettings
    ) -> None:
        self._store = store
        self._cache = cache
        self._events = events
        self._clock = clock
        self._settings = settings
        self._manager = FIELD_MANAGER_PREFIX + self.name
        self._observer = TrainingObserver(store, cache)

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """Jobs and pods are found by owner; nothing else wakes a TrainingJob."""
        return ()

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one TrainingJob."""
        job = self._cache.get(TRAINING_JOB, key.namespace, key.name)
        if job is None:
            return DONE
        world = await self._observer.observe(job, self._clock.now())
        decision = decide(world, self._clock.now())
        try:
            acted = False
            for action in decision.actions:
                await self._act(world, action)
                acted = True
        except Stalled as error:
            decision = self._refused(world, error)
        return await self._report(world, decision, acted=acted)

    async def _act(self, world: World, action: Action) -> None:
        namespace = world.job["metadata"]["namespace"]
        if isinstance(action, CreateAttempt):
            await self._create_attempt(world, action)
        elif isinstance(action, DeleteJob):
            await self._store.delete(JOB, namespace, action.name, uid=action.uid)
        elif isinstance(action, CreateReport):
            await self._post(world, report_job(Attempt(world.job, action.run), self._settings.step))
        else:
            await self._create_version(world, action)

    async def _create_attempt(self, world: World, action: CreateAttempt) -> None:
        attempt = Attempt(
            owner=world.job,
            run=action.run,
            champion=None if action.champion is None else _address(action.champion.uri, action.champion.digest),
            base=None if action.base is None else _address(action.base.uri, action.base.digest),
        )
        made = training_job(attempt, action.stage, self._settings.step)
        await self._dry_run_pod(made)
        if made["spec"]["completions"] > 1:
            await self._post(world, headless_service(attempt, action.stage))
        await self._post(world, made)
        log.info("TrainingJob %s: created Job %s", world.job["metadata"]["name"], made["metadata"]["name"])

    async def _dry_run_pod(self, job: Mapping[str, Any]) -> None:
        """Pod Security, LimitRanges and free-form fields are checked on pods, not on Jobs."""
        template = job["spec"]["template"]
        meta = {**template["metadata"], "name": job["metadata"]["name"], "namespace": job["metadata"]["namespace"]}
        pod = {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": meta, "spec": template["spec"]}
        try:
            await self._store.create(pod, manager=self._manager, dry_run=True)
        except Conflict:
            log.debug("a pod has the name of Job %s", meta["name"])  # only the name was taken; the pod was checked
        except Forbidden as error:
            if "exceeded quota" not in error.message:
                raise
            # A full quota is a matter of time: the Job is made and its FailedCreate events tell why it waits.
            log.info("the pods of Job %s wait for quota", meta["name"])

    async def _post(self, world: World, obj: Mapping[str, Any]) -> None:
        """Create a child; one that exists is fine when it is ours, by UID."""
        try:
            made = await self._store.create(obj, manager=self._manager)
        except Conflict as error:
            meta = obj["metadata"]
            kind = JOB if obj["kind"] == JOB.kind else SERVICE
            found = await self._store.get(kind, meta["namespace"], meta["name"])
            if found is None:
                raise
            if not is_controlled_by(found, world.job):
                raise NameTaken(
                    "NameTaken", f"{obj['kind']} {meta['name']} exists and is not ours; rename or remove it"
                ) from error
            made = found
        self._cache.upsert(made)

    async def _create_version(self, world: World, action: CreateVersion) -> None:
        meta: dict[str, Any] = {
            "name": action.name,
            "namespace": world.job["metadata"]["namespace"],
            "labels": {LABEL_MODEL: action.spec["model"]},
        }
        commit = (world.job["metadata"].get("annotations") or {}).get(ANNOTATION_SYNC_COMMIT)
        if commit:
            meta["annotations"] = {ANNOTATION_SYNC_COMMIT: commit}
        body = {
            "apiVersion": MODEL_VERSION.api_version,
            "kind": MODEL_VERSION.kind,
            "metadata": meta,
            "spec": dict(action.spec),
        }
        try:
            self._cache.upsert(await self._store.create(body, manager=self._manager))
        except Conflict as error:
            if error.reason != "AlreadyExists":
                raise
            log.info("ModelVersion %s exists already", action.name)  # the next pass reads whose it is

    def _refused(self, world: World, error: Stalled) -> Decision[Action]:
        """The server refuses a child: say its words on the object, and look again, because others may repair it."""
        run = world.recorded.get("run")
        text = f"the server refuses what the run needs: {error.message}"
        made = [Condition("Ready", "False", error.reason, text), Condition("Stalled", "True", error.reason, text)]
        ready: Mapping[str, Any] = next((c for c in world.recorded.get("conditions") or () if c["type"] == "Ready"), {})
        told = () if ready.get("message") == text else (EventNote(error.reason, text, "Warning"),)
        return Decision(status(world, run, made, self._clock.now()), events=told, requeue_after=SELF_HEALING_SECONDS)

    async def _report(self, world: World, decision: Decision[Action], *, acted: bool) -> Outcome:
        job = world.job
        wrote = await write_status(self._store, self._cache, job, decision.status, manager=self._manager)
        for note in decision.events:
            self._events.emit(job, note)
        if wrote:
            self._count(job, decision.status)
        return Outcome(decision.requeue_after, changed=wrote or acted)

    @staticmethod
    def _count(job: Mapping[str, Any], made: Mapping[str, Any]) -> None:
        """Count a run at the write that ends it."""
        before = {(e["id"], e.get("finishedTime")) for e in (job.get("status") or {}).get("history") or ()}
        for entry in made.get("history") or ():
            if (entry["id"], entry.get("finishedTime")) not in before:
                metrics.TRAINING_RUNS_TOTAL.labels(job["metadata"]["namespace"], entry["outcome"]).inc()


def _address(uri: str, digest: str) -> dict[str, str]:
    return {"uri": uri, "digest": digest}
