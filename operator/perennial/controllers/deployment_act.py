"""Carries out the actions of a ModelDeployment's decision. Every one is idempotent and touches only what is ours."""

from collections.abc import Iterable, Mapping
from typing import Any

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.controllers.deployment_gateway import GatewayRoutes, ports_of
from perennial.controllers.router_fleet import RouterFleet
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, Forbidden, NameTaken, Stalled
from perennial.domain.owners import is_controlled_by
from perennial.domain.rollout.plan import (
    Action,
    ApplyRoute,
    CreateRevision,
    DeleteRevision,
    DeleteRoute,
    DeleteRouter,
    DeleteSmoke,
    MarkDrain,
    RunSmoke,
    ScaleRevision,
    SetAutoscaler,
)
from perennial.domain.rollout.world import World
from perennial.ports import ObjectStore, PatchTarget
from perennial.render.router import client_service
from perennial.render.serving import (
    autoscaler,
    revision_budget,
    revision_deployment,
    revision_name,
    revision_service,
)
from perennial.render.smoke import smoke_job
from perennial.render.training_containers import StepImage
from perennial.runtime.cache import Cache


class DeploymentActor:
    """The only writer of a ModelDeployment's children."""

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        fleet: RouterFleet,
        routes: GatewayRoutes,
        step: StepImage,
        manager: str,
    ) -> None:
        self._store = store
        self._cache = cache
        self._fleet = fleet
        self._routes = routes
        self._step = step
        self._manager = manager
        self._unscaled: dict[tuple[str, str], str] = {}
        """The uids of deployments that are known to have no autoscaler, so that nothing is asked at rest."""

    def forget(self, namespace: str, name: str) -> None:
        """The deployment is gone."""
        self._unscaled.pop((namespace, name), None)

    async def act(self, deployment: JsonObject, world: World, actions: Iterable[Action]) -> None:
        """What every ModelDeployment has, then the actions in order.

        Stalled at the end when the server refuses one: that keeps none of the others from being done.
        """
        await self._fleet.ensure(deployment)
        await self._ensure_client_service(deployment)
        refused: Stalled | None = None
        for action in actions:
            try:
                await self._carry_out(deployment, world, action)
            except Stalled as error:
                refused = refused or error
        if refused is not None:
            raise refused

    async def _carry_out(self, deployment: JsonObject, world: World, action: Action) -> None:
        namespace = world.namespace
        match action:
            case CreateRevision(target, replicas):
                made = revision_deployment(deployment, target, replicas, self._step)
                await self._dry_run_pod(made)
                headless = await self._post(deployment, kinds.SERVICE, revision_service(deployment, target))
                await self._post(headless, kinds.PDB, revision_budget(headless))
                await self._post(deployment, kinds.DEPLOYMENT, made)
            case ScaleRevision(revision, uid, replicas):
                body: JsonObject = {"spec": {"replicas": replicas}}
                if replicas == 0:
                    body["metadata"] = {"annotations": {names.ANNOTATION_SCALE_DOWN_AT: None}}
                await self._patch(world, revision, uid, body)
            case MarkDrain(revision, uid, at):
                await self._patch(world, revision, uid, _annotated(names.ANNOTATION_SCALE_DOWN_AT, at))
            case DeleteRevision(revision, uid):
                name = revision_name(world.name, revision)
                service = self._cache.get(kinds.SERVICE, namespace, name)
                if service is not None:
                    await self._store.delete(kinds.SERVICE, namespace, name, uid=service["metadata"]["uid"])
                await self._store.delete(kinds.DEPLOYMENT, namespace, name, uid=uid)
            case DeleteRouter(pod, uid):
                await self._store.delete(kinds.POD, namespace, pod, uid=uid)
            case RunSmoke(target, name, requests, seconds):
                await self._post(
                    deployment, kinds.JOB, smoke_job(deployment, target, name, requests, seconds, self._step)
                )
            case DeleteSmoke(name, uid):
                await self._store.delete(kinds.JOB, namespace, name, uid=uid)
            case SetAutoscaler(revision, min_replicas):
                await self._set_autoscaler(deployment, world, revision, min_replicas)
            case ApplyRoute(weights):
                assert world.spec.gateway is not None
                await self._routes.apply(deployment, world.spec.gateway, weights, ports_of(world.revisions))
            case DeleteRoute(uid):
                await self._routes.delete(deployment, uid)

    async def _patch(self, world: World, revision: str, uid: str, body: Mapping[str, Any]) -> None:
        name = revision_name(world.name, revision)
        made = await self._store.patch(
            PatchTarget(kinds.DEPLOYMENT, world.namespace, name, uid=uid), body, manager=self._manager
        )
        if made is not None:
            self._cache.upsert(made)

    async def _ensure_client_service(self, deployment: JsonObject) -> None:
        meta = deployment["metadata"]
        wanted = client_service(deployment)
        found = self._cache.get(kinds.SERVICE, meta["namespace"], meta["name"])
        if found is None:
            await self._post(deployment, kinds.SERVICE, wanted)
        elif is_controlled_by(found, deployment) and found["spec"].get("selector") != wanted["spec"]["selector"]:
            self._cache.upsert(await self._apply(wanted, found))

    async def _set_autoscaler(
        self, deployment: JsonObject, world: World, revision: str | None, min_replicas: int
    ) -> None:
        key, uid = (world.namespace, world.name), str(deployment["metadata"]["uid"])
        if revision is None or world.spec.scaling is None:
            if self._unscaled.get(key) == uid:
                return
            found = await self._store.get(kinds.HPA, *key)
            if found is not None and is_controlled_by(found, deployment):
                await self._store.delete(kinds.HPA, *key, uid=found["metadata"]["uid"])
            self._unscaled[key] = uid
            return
        self._unscaled.pop(key, None)
        found = await self._store.get(kinds.HPA, *key)
        wanted = autoscaler(deployment, world.spec.scaling, revision, min_replicas)
        if found is None:
            await self._post(deployment, kinds.HPA, wanted)
        elif not is_controlled_by(found, deployment):
            raise _taken(wanted)
        elif any(found["spec"].get(key) != value for key, value in wanted["spec"].items()):
            await self._apply(wanted, found)

    async def _apply(self, wanted: JsonObject, found: Mapping[str, Any]) -> JsonObject:
        body = {**wanted, "metadata": {**wanted["metadata"], "uid": found["metadata"]["uid"]}}
        return await self._store.apply(body, manager=self._manager, force=True)

    async def _dry_run_pod(self, made: Mapping[str, Any]) -> None:
        """Pod Security, LimitRanges and free-form fields are checked on pods, not on Deployments."""
        template = made["spec"]["template"]
        meta = {**template["metadata"], "name": made["metadata"]["name"], "namespace": made["metadata"]["namespace"]}
        pod = {"apiVersion": kinds.POD.api_version, "kind": kinds.POD.kind, "metadata": meta, "spec": template["spec"]}
        try:
            await self._store.create(pod, manager=self._manager, dry_run=True)
        except Conflict:
            return  # only the name was taken; the pod was checked
        except Forbidden as error:
            if "exceeded quota" not in error.message:
                raise  # a full quota is a matter of time: the pods wait for it

    async def _post(self, owner: JsonObject, kind: Kind, obj: JsonObject) -> JsonObject:
        """Create a child; one that exists is fine when it is its owner's, by UID."""
        try:
            made = await self._store.create(obj, manager=self._manager)
        except Conflict as error:
            if error.reason != "AlreadyExists":
                raise
            found = await self._store.get(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
            if found is None:
                raise
            if not is_controlled_by(found, owner):
                raise _taken(obj) from error
            made = found
        self._cache.upsert(made)
        return made


def _taken(obj: Mapping[str, Any]) -> NameTaken:
    return NameTaken(
        "NameTaken", f"{obj['kind']} {obj['metadata']['name']} exists and is not ours: rename or remove it."
    )


def _annotated(key: str, value: str | None) -> JsonObject:
    return {"metadata": {"annotations": {key: value}}}
