"""ModelDeployment: observe -> decide -> act -> report. What to do is decided in domain/rollout; here is only how."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perennial.api import kinds, names
from perennial.api.kinds import MODEL_DEPLOYMENT, Kind
from perennial.controllers.deployment_act import DeploymentActor
from perennial.controllers.deployment_gateway import GatewayRoutes
from perennial.controllers.deployment_observe import DeploymentObserver
from perennial.controllers.router_fleet import RouterFleet
from perennial.domain.conditions import Condition, merged
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Stalled
from perennial.domain.rollout.decide import decide, is_new_intent
from perennial.domain.rollout.news import outcome_of, trouble_news
from perennial.domain.rollout.world import World
from perennial.domain.times import rfc3339
from perennial.ports import Clock, EventSink, MetricsSource, ObjectStore, RouterReports
from perennial.render.router import RouterSettings
from perennial.render.training_containers import StepImage
from perennial.runtime import metrics
from perennial.runtime.cache import Cache
from perennial.runtime.outcome import DONE, Key, Outcome
from perennial.runtime.status import write_status

log = logging.getLogger(__name__)

REFUSED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """step: the image of the operator's own containers; runtimes: name -> {formats, image, command, args, env, port,
    probePath, pullPolicy}, the operator's runtime table."""

    step: StepImage
    runtimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class ModelDeploymentController:
    """Serves a version and rolls a new one out behind a metered canary."""

    kind: Kind = MODEL_DEPLOYMENT
    name = "model-deployment"

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        events: EventSink,
        clock: Clock,
        settings: DeploymentSettings,
        reports: RouterReports,
        routers: RouterSettings,
        sources: MetricsSource | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._events = events
        self._clock = clock
        self._manager = names.FIELD_MANAGER_PREFIX + self.name
        self._fleet = RouterFleet(store, cache, routers, self._manager)
        self._routes = GatewayRoutes(store, self._manager)
        self._observer = DeploymentObserver(cache, self._fleet, self._routes, reports, sources, settings.runtimes)
        self._actor = DeploymentActor(store, cache, self._fleet, self._routes, settings.step, self._manager)

    def keys_for(self, obj: JsonObject, cache: Cache) -> Iterable[Key]:
        """ModelVersions wake the deployments of their model, routers those in a rollout, GitSyncs those under Git."""
        namespace = obj["metadata"].get("namespace") or ""
        kind, labels = obj["kind"], obj["metadata"].get("labels") or {}
        if kind == kinds.MODEL_VERSION.kind:
            model = obj["spec"].get("model")
            return self._those(cache, namespace, lambda d: d["spec"]["model"].get("name") == model)
        if kind == kinds.GIT_SYNC.kind:
            return self._those(cache, namespace, lambda d: d["spec"]["model"].get("updatePolicy") == "Git")
        if labels.get(names.LABEL_COMPONENT) != names.COMPONENT_ROUTER:
            return ()
        if kind == kinds.POD.kind:
            return self._those(cache, namespace, lambda d: "rollout" in (d.get("status") or {}))
        return self._those(cache, namespace, lambda d: True)[:1]  # one of them heals the routers of all

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one ModelDeployment."""
        deployment = self._cache.get(MODEL_DEPLOYMENT, key.namespace, key.name)
        if deployment is None or deployment["metadata"].get("deletionTimestamp"):
            self._observer.forget(key.namespace, key.name)
            self._actor.forget(key.namespace, key.name)
            self._routes.forget(key.namespace, key.name)
            for family in (metrics.ROLLOUT_INFO, metrics.ROLLOUTS_TOTAL):
                family.remove_by_labels({"namespace": key.namespace, "name": key.name})
            return DONE
        now = self._clock.now()
        world = await self._observer.observe(deployment, now)
        recorded = (deployment.get("status") or {}).get("conditions") or ()
        decision = decide(world, now, conditions=recorded)
        status, requeue = dict(decision.status), decision.requeue_after
        if not is_new_intent(world, status):
            try:
                await self._actor.act(deployment, world, decision.actions)
            except Stalled as error:
                status["conditions"] = self._refused(world, status["conditions"], recorded, error)
                requeue = min(requeue if requeue is not None else REFUSED_SECONDS, REFUSED_SECONDS)
        if "rollout" in status or world.recorded.rollout is not None:
            weight = (status.get("canary") or {}).get("weight", 0)
            metrics.ROLLOUT_INFO.labels(key.namespace, key.name).set(weight)
        wrote = await write_status(self._store, self._cache, deployment, status, manager=self._manager)
        outcome = outcome_of(deployment.get("status") or {}, status) if wrote else None
        if outcome is not None:
            metrics.ROLLOUTS_TOTAL.labels(key.namespace, key.name, outcome).inc()
        news = trouble_news(recorded, status) if wrote else None
        for note in (*decision.events, *((news,) if news is not None else ())):
            self._events.emit(deployment, note)
            log.info("ModelDeployment %s/%s: %s: %s", key.namespace, key.name, note.reason, note.message)
        return Outcome(requeue, changed=wrote)

    def _refused(
        self,
        world: World,
        conditions: Iterable[Mapping[str, Any]],
        recorded: Sequence[Mapping[str, Any]],
        error: Stalled,
    ) -> list[JsonObject]:
        """The server refuses a child: its words on the object, beside what is otherwise true."""
        words = f"The server refuses what the rollout needs: {error.message}"
        mine = [Condition("Ready", "False", error.reason, words), Condition("Stalled", "True", error.reason, words)]
        others = [dict(c) for c in conditions if c["type"] not in ("Ready", "Stalled", "Reconciling")]
        now = rfc3339(self._clock.now())
        made = merged(recorded, mine, generation=world.generation, now=now)
        return sorted([*others, *made], key=lambda condition: str(condition["type"]))

    @staticmethod
    def _those(cache: Cache, namespace: str, wanted: Any) -> list[Key]:
        return [
            Key(namespace, deployment["metadata"]["name"])
            for deployment in cache.list(MODEL_DEPLOYMENT, namespace)
            if wanted(deployment)
        ]
