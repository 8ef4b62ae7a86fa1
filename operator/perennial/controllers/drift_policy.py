"""DriftPolicy: observe -> decide -> act -> report. What drift is and what follows is decided in domain/drift.

Policies of one deployment share its guards, so their passes never overlap: each runs under the deployment's lock and
sees what the others have written (own writes are in the cache when a pass ends).
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perennial.api.kinds import (
    CONFIG_MAP,
    DRIFT_POLICY,
    JOB,
    MODEL_DEPLOYMENT,
    MODEL_VERSION,
    POD,
    TRAINING_JOB,
    Kind,
)
from perennial.api.names import COMPONENT_ROUTER, FIELD_MANAGER_PREFIX, LABEL_COMPONENT
from perennial.controllers.drift_observe import LEAVING_PERIOD, DriftObserver, Round, pull_period, siblings_of
from perennial.domain.decision import JsonObject
from perennial.domain.drift import windows
from perennial.domain.drift.decide import DriftDecision, decide, refused
from perennial.domain.drift.spec import PolicySpec, parse_spec
from perennial.domain.drift.state import KEY, decode, encode
from perennial.domain.drift.windows import Book, forgotten, merged, same_counts, slices_of, with_score
from perennial.domain.drift.world import (
    Action,
    CreateProbe,
    CreateTrainingJob,
    DeleteProbe,
    World,
)
from perennial.domain.errors import Conflict, NameTaken, Stalled, Transient
from perennial.domain.owners import is_controlled_by
from perennial.domain.times import parse_time
from perennial.ports import Clock, EventSink, MetricsSource, ObjectStore, RouterReports
from perennial.render.drift import book_config_map, book_name, probe_job, retraining_job
from perennial.render.training_containers import StepImage
from perennial.runtime import metrics
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """step: the image of the probes."""

    step: StepImage


@dataclass(slots=True)
class Kept:
    """A policy's book, and as it is in its ConfigMap; config_map None: there is none yet."""

    uid: str
    book: Book
    written: Book
    config_map: JsonObject | None


class DriftPolicyController:
    """Counts windows, finds drift, and starts one TrainingJob for each trigger."""

    kind: Kind = DRIFT_POLICY
    name = "drift-policy"

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        events: EventSink,
        clock: Clock,
        settings: DriftSettings,
        routers: RouterReports,
        metrics_source: MetricsSource | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._events = events
        self._clock = clock
        self._settings = settings
        self._manager = FIELD_MANAGER_PREFIX + self.name
        self._observer = DriftObserver(store, cache, clock, routers, metrics_source)
        self._kept: dict[Key, Kept] = {}
        self._locks: dict[Key, asyncio.Lock] = {}

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """Policies of a deployment that changed, of a template that changed, of a version they wait for, and the
        siblings of a policy that changed (they share guards); all of a namespace when a router there is being
        stopped, for its last counts. Children are found by owner."""
        kind, meta = obj["kind"], obj["metadata"]
        if kind == POD.kind and meta.get("deletionTimestamp"):
            leaving = (meta.get("labels") or {}).get(LABEL_COMPONENT) == COMPONENT_ROUTER
            policies = cache.list(DRIFT_POLICY, meta["namespace"]) if leaving else []
            return [Key(meta["namespace"], policy["metadata"]["name"]) for policy in policies]
        if kind not in (MODEL_DEPLOYMENT.kind, TRAINING_JOB.kind, MODEL_VERSION.kind, DRIFT_POLICY.kind):
            return []
        namespace, name = meta["namespace"], meta["name"]
        if kind == DRIFT_POLICY.kind:
            return [Key(namespace, other["metadata"]["name"]) for other in siblings_of(obj, cache)]
        found = []
        for policy in cache.list(DRIFT_POLICY, namespace):
            spec, active = policy["spec"], (policy.get("status") or {}).get("activeTrigger") or {}
            refers = {
                MODEL_DEPLOYMENT.kind: spec["deploymentRef"]["name"],
                TRAINING_JOB.kind: ((spec.get("retrain") or {}).get("trainingJobRef") or {}).get("name"),
                MODEL_VERSION.kind: active.get("resultVersion"),
            }
            if refers[kind] == name:
                found.append(Key(namespace, policy["metadata"]["name"]))
        return found

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one policy, alone among the policies of its deployment."""
        policy = self._cache.get(DRIFT_POLICY, key.namespace, key.name)
        if policy is None:
            self._kept.pop(key, None)
            for family in (metrics.DRIFT_EFFECT, metrics.RETRAINS_TOTAL):
                family.remove_by_labels({"namespace": key.namespace, "name": key.name})
            return DONE
        deployment = Key(key.namespace, parse_spec(policy["spec"]).deployment)
        async with self._locks.setdefault(deployment, asyncio.Lock()):
            policy = self._cache.get(DRIFT_POLICY, key.namespace, key.name)
            return DONE if policy is None else await self._pass(policy)

    async def _pass(self, policy: JsonObject) -> Outcome:
        spec = parse_spec(policy["spec"])
        told = await self._observer.round_of(policy, spec)
        kept = await self._load(policy)
        book = kept.book if told is None else self._taken_in(policy, spec, kept.book, told)
        world = await self._observer.observe(policy, spec, book, None if told is None else told.pull)
        decided = decide(world, self._clock.now())
        for result in decided.results:
            if result.rows or result.verdicts:  # an idle window is no news worth a write
                book = with_score(book, result.score())
        await self._keep(policy, kept, book)  # before the status that rests on it: a restart must judge alike
        acted = False
        try:
            for action in decided.decision.actions:
                acted = await self._act(world, action) or acted
        except Stalled as error:  # the server or a stranger's object refuses a child; windows go on meanwhile
            decided = refused(decided, world, error, self._clock.now())
        again = None if told is None else LEAVING_PERIOD if told.leaving else pull_period(spec.window.seconds)
        return await self._report(world, decided, acted=acted, again=again)

    def _taken_in(self, policy: JsonObject, spec: PolicySpec, book: Book, told: Round) -> Book:
        """The book with what the routers told, without windows that were examined two windows ago."""
        slices = [
            part
            for report in told.reports
            for part in slices_of(report.counts, spec.deployment, spec.window, told.pull.time)
        ]
        end = ((policy.get("status") or {}).get("window") or {}).get("endTime")
        newest = spec.window.start_of(told.pull.time)
        oldest = newest - (windows.KEPT_BY_ROUTERS + 1) * spec.window.seconds
        if end:
            oldest = max(oldest, int(parse_time(end).timestamp()) - spec.window.seconds)
        return forgotten(merged(book, slices), oldest)

    async def _load(self, policy: JsonObject) -> Kept:
        meta = policy["metadata"]
        key = Key(meta["namespace"], meta["name"])
        if key not in self._kept or self._kept[key].uid != meta["uid"]:
            found = await self._store.get(CONFIG_MAP, meta["namespace"], book_name(meta["name"]))
            if found is not None and not is_controlled_by(found, policy):
                words = f"ConfigMap {book_name(meta['name'])} exists and is not ours; rename or remove it"
                raise NameTaken("NameTaken", words)
            encoded = ((found or {}).get("binaryData") or {}).get(KEY) or ""
            book = decode(encoded) if encoded else Book()
            self._kept[key] = Kept(meta["uid"], book, book, found)
        return self._kept[key]

    async def _keep(self, policy: JsonObject, kept: Kept, book: Book) -> None:
        """Write the book when it changed; what this process believes of it is dropped when somebody else wrote."""
        kept.book = book
        if same_counts(book, kept.written):
            return
        wanted = book_config_map(policy, encode(book))
        try:
            if kept.config_map is None:
                made = await self._store.create(wanted, manager=self._manager)
            else:
                meta = kept.config_map["metadata"]
                wanted["metadata"] |= {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
                made = await self._store.apply(wanted, manager=self._manager, force=True)
        except Conflict:
            self._kept.pop(Key(policy["metadata"]["namespace"], policy["metadata"]["name"]), None)
            raise
        kept.written, kept.config_map = book, made

    async def _act(self, world: World, action: Action) -> bool:
        """Carry out one action; True when it may have changed something."""
        namespace = world.policy["metadata"]["namespace"]
        if isinstance(action, CreateTrainingJob):
            await self._create_training_job(world, action)
        elif isinstance(action, CreateProbe):
            if world.template is None:
                return False
            await self._post(world, JOB, probe_job(world.policy, world.template, action.number, self._settings.step))
        else:
            kind = JOB if isinstance(action, DeleteProbe) else TRAINING_JOB
            return await self._store.delete(kind, namespace, action.name, uid=action.uid)
        return True

    async def _create_training_job(self, world: World, action: CreateTrainingJob) -> None:
        """The one irreversible act: only with a trigger that a live read of the policy still holds."""
        meta = world.policy["metadata"]
        live = await self._store.get(DRIFT_POLICY, meta["namespace"], meta["name"])
        recorded = ((live or {}).get("status") or {}).get("activeTrigger") or {}
        same = live is not None and live["metadata"]["uid"] == meta["uid"]
        if not same or recorded.get("trainingJob") != action.trigger["trainingJob"]:
            raise Transient("TriggerMoved", "the policy's trigger has changed since it was read")
        name = world.spec.retrain.training_job if world.spec.retrain is not None else ""
        template = await self._store.get(TRAINING_JOB, meta["namespace"], name)
        if template is None:
            return  # the next pass says so
        await self._post(world, TRAINING_JOB, retraining_job(world.policy, template, action.trigger))
        metrics.RETRAINS_TOTAL.labels(meta["namespace"], meta["name"]).inc()
        log.info("DriftPolicy %s: trigger %s started %s", meta["name"], action.trigger["id"], recorded["trainingJob"])

    async def _post(self, world: World, kind: Kind, obj: dict[str, Any]) -> None:
        """Create a child; one that exists is fine when it is ours, by UID."""
        meta = obj["metadata"]
        try:
            made = await self._store.create(obj, manager=self._manager)
        except Conflict as error:
            found = await self._store.get(kind, meta["namespace"], meta["name"])
            if found is None:
                raise
            if not is_controlled_by(found, world.policy):
                words = f"{kind.kind} {meta['name']} exists and is not ours; rename or remove it"
                raise NameTaken("NameTaken", words) from error
            made = found
        self._cache.upsert(made)

    async def _report(self, world: World, decided: DriftDecision, *, acted: bool, again: float | None) -> Outcome:
        policy, decision = world.policy, decided.decision
        wrote = await write_status(self._store, self._cache, dict(policy), decision.status, manager=self._manager)
        for note in decision.events:
            self._events.emit(policy, note)
        if decision.status.get("effect") is not None:
            labels = (policy["metadata"]["namespace"], policy["metadata"]["name"])
            metrics.DRIFT_EFFECT.labels(*labels).set(float(decision.status["effect"]))
        waits = [seconds for seconds in (decision.requeue_after, again) if seconds is not None]
        return Outcome(min(waits, default=None), changed=wrote or acted)
