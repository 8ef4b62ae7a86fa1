"""The cluster below a ModelDeployment, played by hand: Deployments get available pods, routers follow status.traffic.

`FakeRouters` implements ports.RouterReports: it answers what real routers would, with `per_second` requests that flow
by the applied weights, deterministically, as the fake clock moves on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from perennial.api import kinds, names
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.smoke import Answers
from perennial.ports import RouterReport
from tests.fakes.world import World

NAMESPACE = "default"
STARTED = {"agent": 100.0, "envoy": 101.0}


class FakeRouters:
    """Two routers' worth of answers. deaf: pods that apply nothing more; silent: pods that do not answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.per_second = 100
        self.error_rates: dict[str, float] = {}  # by version name
        self.deaf: set[str] = set()
        self.silent: set[str] = set()
        self.started: dict[str, dict[str, float]] = {}
        self.tokens: list[str] = []
        self.collected = 0
        self.inputs: dict[str, Any] = {}
        self.seen_weights: list[dict[str, int]] = []
        self._applied: dict[str, dict[str, tuple[int, dict[str, int]]]] = {}
        self._counts: dict[str, dict[str, dict[str, list[float]]]] = {}
        self._at = world.clock.monotonic()
        self._statuses: dict[str, Mapping[str, Any]] = {}
        self._versions: dict[str, str] = {}
        world.store.on_event.append(self._on_event)

    async def collect(
        self,
        namespace: str,
        pods: Sequence[tuple[str, str, str]],
        token: str,
        *,
        want: Literal["status", "all"],
        deployment: str | None = None,
    ) -> list[RouterReport]:
        """See RouterReports."""
        self.collected += 1
        self.tokens.append(token)
        self.flow([pod for pod, _, _ in pods])
        for pod, _, _ in pods:
            if pod not in self.deaf:
                self._apply(pod)
        return [self._report(pod, uid, want, deployment) for pod, uid, _ in pods if pod not in self.silent]

    def flow(self, pods: Sequence[str]) -> None:
        """Requests since the last call, by the weights that were applied all the while."""
        seconds = self.world.clock.monotonic() - self._at
        self._at = self.world.clock.monotonic()
        for pod in pods:
            for deployment, (_, weights) in self._applied.get(pod, {}).items():
                counts = self._counts.setdefault(pod, {}).setdefault(deployment, {})
                for revision, weight in weights.items():
                    entry = counts.setdefault(revision, [0.0, 0.0])
                    requests = self.per_second * seconds / len(pods) * weight / 100
                    entry[0] += requests
                    entry[1] += requests * self.error_rates.get(self._versions.get(revision, ""), 0.0)

    def restart_envoy(self, pod: str) -> None:
        """Another Envoy process: its counters begin at 0."""
        self.started[pod] = {**STARTED, "envoy": self.started.get(pod, STARTED)["envoy"] + 1}
        self._counts.pop(pod, None)

    def _apply(self, pod: str) -> None:
        for name, status in self._statuses.items():
            weights = {t["revision"]: t["weight"] for t in status.get("traffic", [])}
            self._applied.setdefault(pod, {})[name] = (status.get("trafficVersion", 0), weights)
            if not self.seen_weights or self.seen_weights[-1] != weights:
                self.seen_weights.append(weights)

    def _on_event(self, type_: str, obj: JsonObject) -> None:
        meta = obj["metadata"]
        if obj["kind"] == kinds.MODEL_DEPLOYMENT.kind and type_ != "DELETED":
            self._statuses[meta["name"]] = obj.get("status") or {}
        revision = (meta.get("labels") or {}).get(names.LABEL_REVISION)
        if obj["kind"] == kinds.DEPLOYMENT.kind and revision:
            self._versions[revision] = meta["annotations"].get(names.ANNOTATION_VERSION, "")

    def _report(self, pod: str, uid: str, want: str, deployment: str | None) -> RouterReport:
        started = self.started.get(pod, STARTED)
        head = {"pod": pod, "podUid": uid, "started": started}
        applied = {
            name: {
                "trafficVersion": version,
                "weights": dict(weights),
                "confirmed": True,
                "inputs": {revision: self.inputs.get(revision) for revision in weights},
            }
            for name, (version, weights) in self._applied.get(pod, {}).items()
            if deployment in (None, name)
        }
        counts: dict[str, Any] = {}
        for name, revisions in self._counts.get(pod, {}).items():
            if deployment not in (None, name):
                continue
            counts[name] = {
                "revisions": {r: _counters(int(n), int(k)) for r, (n, k) in revisions.items()},
                "dropped": 0,
                "windows": [],
            }
        empty = {name: {"revisions": {}, "dropped": 0, "windows": []} for name in applied}
        pages = {**head, "deployments": {**empty, **counts}} if want == "all" else {}
        return RouterReport(pod, uid, {**head, "deployments": applied}, pages)


def _counters(requests: int, failed: int) -> dict[str, Any]:
    codes = {"200": requests - failed} | ({"500": failed} if failed else {})
    return {
        "requests": requests,
        "codes": codes,
        "grpc": {},
        "resets": 0,
        "active": 0,
        "latency": {"logged": requests, "overLimit": 0},
    }


def _labels(obj: JsonObject) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


class ServingCluster:
    """The Deployment controller, the scheduler and the kubelet.

    stuck: versions whose pods never become available; refused: why the API server refuses to make pods; answers: what
    canaries make of sample inputs, told as soon as a Job is there. places: the pods that there is room for, of all
    revisions together.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.routers = FakeRouters(world)
        self.stuck: set[str] = set()
        self.refused = ""
        self.places = 1000
        self.answers: Answers | None = None
        self.router_pods = 2
        self._pods: set[str] = set()
        world.store.on_event.append(self._on_event)

    async def settle(self) -> None:
        """Passes and the cluster's answers to them, until nothing is due."""
        for _ in range(50):
            ran = await self.world.settle()
            played = await self._play_routers()
            replayed = await self._play_smoke()
            if not ran and not played and not replayed:
                return
        raise AssertionError("the cluster does not come to rest")

    async def run_for(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass."""
        await self.settle()
        end = self.world.clock.monotonic() + seconds
        while self.world.clock.monotonic() < end:
            await self.world.run_for(min(step, end - self.world.clock.monotonic()))
            await self.settle()

    async def run_until(self, condition: Any, *, seconds: float = 600) -> float:
        """Let time pass until `condition()`; returns the seconds it took."""
        await self.settle()
        started = self.world.clock.monotonic()
        while not condition():
            assert self.world.clock.monotonic() - started < seconds, f"still not true after {seconds} s of fake time"
            await self.run_for(1)
        return self.world.clock.monotonic() - started

    def refresh(self) -> None:
        """Pods of every revision become available, or no longer."""
        for obj in self.world.store.all(kinds.DEPLOYMENT):
            self._on_event("MODIFIED", obj)

    def _on_event(self, type_: str, obj: JsonObject) -> None:
        if obj["kind"] == kinds.POD.kind and obj["metadata"]["name"].startswith(f"{names.ROUTER}-rs-"):
            (self._pods.discard if type_ == "DELETED" else self._pods.add)(obj["metadata"]["name"])
        if type_ == "DELETED" or obj["kind"] != kinds.DEPLOYMENT.kind:
            return
        meta, replicas = obj["metadata"], int(obj["spec"].get("replicas", 1))
        stuck = (meta.get("annotations") or {}).get(names.ANNOTATION_VERSION) in self.stuck
        ready = 0 if stuck else min(replicas, self._places_left(obj))
        status: Mapping[str, Any] = {
            "observedGeneration": meta["generation"],
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if self.refused:
            failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": self.refused}
            status = {**status, "conditions": [failure]}
        if obj.get("status") != status:
            self.world.store.put_status(kinds.DEPLOYMENT, meta["namespace"], meta["name"], status)
            self.refresh()  # a place that one gave up is another's

    def _places_left(self, mine: JsonObject) -> int:
        others = (obj for obj in self.world.store.all(kinds.DEPLOYMENT) if names.LABEL_REVISION in _labels(obj))
        taken = (obj.get("status") or {} for obj in others if obj["metadata"]["name"] != mine["metadata"]["name"])
        return max(0, self.places - sum(int(status.get("readyReplicas", 0)) for status in taken))

    async def _play_routers(self) -> bool:
        """The ReplicaSet and the pods of the routers' Deployment."""
        if len(self._pods) >= self.router_pods:
            return False
        fleet = await self.world.store.get(kinds.DEPLOYMENT, NAMESPACE, names.ROUTER)
        if fleet is None:
            return False
        replica_set = await self.world.store.get(kinds.REPLICA_SET, NAMESPACE, f"{names.ROUTER}-rs")
        if replica_set is None:
            replica_set = await self.world.store.create(
                _owned("apps/v1", "ReplicaSet", f"{names.ROUTER}-rs", fleet, {}), manager="kube"
            )
        labels = fleet["spec"]["template"]["metadata"]["labels"]
        name = next(n for i in range(99) if (n := f"{names.ROUTER}-rs-{i}") not in self._pods)
        pod = _owned("v1", "Pod", name, replica_set, labels)
        await self.world.store.create(pod, manager="kube")
        ready = [{"type": "Ready", "status": "True"}]
        self.world.store.put_status(kinds.POD, NAMESPACE, name, {"podIP": "10.0.0.1", "conditions": ready})
        return True

    async def _play_smoke(self) -> bool:
        """The Jobs that send sample inputs: each has ended once `answers` are known."""
        store = self.world.store
        jobs = [job for job in store.all(kinds.JOB) if not job.get("status")]
        if self.answers is None or not jobs:
            return False
        name, report = jobs[0]["metadata"]["name"], json.dumps(self.answers.to_json())
        labels = {**jobs[0]["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        await store.create(_owned("v1", "Pod", f"{name}-abcde", jobs[0], labels), manager="kube")
        ended = {"name": "smoke", "state": {"terminated": {"exitCode": 0, "message": report}}}
        store.put_status(kinds.POD, NAMESPACE, f"{name}-abcde", {"containerStatuses": [ended]})
        store.put_status(kinds.JOB, NAMESPACE, name, {"conditions": [{"type": "Complete", "status": "True"}]})
        return True

    async def remove_routers(self) -> None:
        """All router pods go and do not come back until `router_pods` is set again."""
        self.router_pods = 0
        for pod in sorted(self._pods):
            await self.world.store.delete(kinds.POD, NAMESPACE, pod, uid=None)


def _owned(api_version: str, kind: str, name: str, owner: JsonObject, labels: Mapping[str, str]) -> JsonObject:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    meta = {"name": name, "namespace": NAMESPACE, "labels": dict(labels), "ownerReferences": [reference]}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {}}
