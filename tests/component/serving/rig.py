"""A whole little cluster with one ModelDeployment, for the component tests of serving."""

import json
from typing import Any

from pydantic import ValidationError

from perennial.api import kinds
from perennial.api.v1alpha1.model_deployment import ModelDeploymentStatus
from perennial.controllers.model_deployment import DeploymentSettings, ModelDeploymentController
from perennial.domain.decision import JsonObject
from perennial.ports import MetricsSource
from perennial.render.router import RouterSettings
from perennial.render.training_containers import StepImage
from perennial.runtime.status import plain
from tests.fakes.clock import FakeClock
from tests.fakes.serving import ServingCluster
from tests.fakes.world import World

V1, V2, V3 = "rain-r0000001", "rain-r0000002", "rain-r0000003"
RUNTIMES = {"sklearn": {"formats": ["sklearn"], "image": "perennial-sklearn:1", "port": 8080}}
GATE = {"passed": True, "checks": [{"metric": "log_loss", "rule": "at most 0.5", "outcome": "Passed"}]}


def version(name: str, number: int | None = None, **spec: Any) -> JsonObject:
    number = int(name[-1]) if number is None else number
    body = {
        "model": "rain",
        "artifact": {"uri": f"s3://m/rain/{name}/", "digest": "sha256:" + f"{number:x}" * 64, "format": "sklearn"},
        "gate": GATE,
        "lineage": {"finishedTime": f"2026-11-2{number}T00:00:00Z"},
    }
    body.update(spec)
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelVersion", "metadata": meta, "spec": body}


def deployment(named: str | None = V1, **spec: Any) -> JsonObject:
    model: dict[str, Any] = {"name": "rain", "updatePolicy": "Manual"}
    if named is not None:
        model["version"] = named
    model |= spec.pop("model", {})
    analysis = {"maxErrorRate": "0.05", **spec.pop("analysis", {})}
    rollout = {"steps": [{"weight": 5}, {"weight": 50}], "analysis": analysis, **spec.pop("rollout", {})}
    meta: dict[str, Any] = {
        "name": "rain",
        "namespace": "default",
        "annotations": {"perennial.dev/commit": "c0ffee1", **spec.pop("annotations", {})},
        "labels": spec.pop("labels", {}),
    }
    body = {"model": model, "replicas": 1, "traffic": {"timeoutSeconds": 60}, "rollout": rollout, **spec}
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelDeployment", "metadata": meta, "spec": body}


def lost_fields(wanted: Any, kept: Any, path: str) -> list[str]:
    if isinstance(wanted, dict) and isinstance(kept, dict):
        return [p for key, value in wanted.items() for p in lost_fields(value, kept.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(kept, list) and len(wanted) == len(kept):
        return [p for a, b in zip(wanted, kept, strict=True) for p in lost_fields(a, b, f"{path}[]")]
    return [] if wanted == kept else [path]


class Rig:
    """The world, its cluster, and the one ModelDeployment `rain`."""

    def __init__(self, *, metrics: MetricsSource | None = None, clock: FakeClock | None = None) -> None:
        self.world = World(clock)
        self.cluster = ServingCluster(self.world)
        self.routers = self.cluster.routers
        self.runtimes: dict[str, Any] = dict(RUNTIMES)
        self.unknown: list[str] = []
        self.world.store.on_event.append(self._check_schema)
        self.world.add(
            lambda w: ModelDeploymentController(
                w.store,
                w.cache,
                w.events,
                w.clock,
                DeploymentSettings(StepImage("perennial:1"), self.runtimes),
                self.routers,
                RouterSettings("perennial:1"),
                metrics,
            )
        )

    def _check_schema(self, type_: str, obj: JsonObject) -> None:
        """Remember what the API would refuse or prune of a status."""
        if obj["kind"] == "ModelDeployment" and type_ != "DELETED":
            status = plain(obj.get("status") or {})
            try:
                self.unknown += lost_fields(status, ModelDeploymentStatus.model_validate(status).to_dict(), "status")
            except ValidationError as error:
                self.unknown.append(str(error))

    @property
    def status(self) -> dict[str, Any]:
        assert not self.unknown, f"the API does not keep {self.unknown[:3]}"
        status: dict[str, Any] = self.world.obj(kinds.MODEL_DEPLOYMENT, "rain")["status"]
        return status

    @property
    def state(self) -> str:
        return str((self.status.get("rollout") or {}).get("state", "Rest"))

    def condition(self, type_: str) -> tuple[str, str]:
        found = [c for c in self.status.get("conditions", []) if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def words(self, type_: str = "Ready") -> str:
        return next(str(c["message"]) for c in self.status["conditions"] if c["type"] == type_)

    def stable(self) -> str | None:
        found: str | None = (self.status.get("stable") or {}).get("version")
        return found

    def replicas(self) -> dict[str, int]:
        """Replicas by version name."""
        return {
            obj["metadata"]["annotations"]["perennial.dev/version"]: obj["spec"]["replicas"]
            for obj in self.world.store.all(kinds.DEPLOYMENT)
            if "perennial.dev/version" in (obj["metadata"].get("annotations") or {})
        }

    async def serve_first(self, **spec: Any) -> "Rig":
        """V1 serves everything; V2 and V3 exist."""
        for name in (V1, V2, V3):
            await self.world.person(version(name))
        await self.world.person(deployment(V1, **spec))
        await self.cluster.settle()
        await self.cluster.run_until(lambda: self.stable() == V1 and self.state == "Rest")
        return self

    async def name(self, version_: str | None, **spec: Any) -> None:
        await self.world.person(deployment(version_, **spec))
        await self.cluster.settle()

    async def order(self, verb: str, id_: str = "c1", revision: str | None = None, **spec: Any) -> None:
        """A person's command; `spec` as in `name`, so that nothing else changes."""
        mine = revision or str(self.status["rollout"]["targetRevision"])
        command = json.dumps({"verb": verb, "revision": mine, "id": id_, "by": "ann"})
        obj = self.world.obj(kinds.MODEL_DEPLOYMENT, "rain")
        named = obj["spec"]["model"].get("version")
        await self.name(named, annotations={"perennial.dev/command": command}, **spec)
