"""A namespace with a served model, its routers and a training template, around the DriftPolicy controller.

Routers are a fake `RouterReports` that counts what `send` gives it; training and rollouts are played by the test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from perennial.api import kinds
from perennial.api.kinds import Kind
from perennial.controllers.drift_policy import DriftPolicyController, DriftSettings
from perennial.domain.decision import JsonObject
from perennial.domain.drift.baseline import Baseline
from perennial.domain.drift.windows import PREDICTION_KEY, Tally
from perennial.domain.times import rfc3339
from perennial.ports import MetricsSource, RouterReport
from perennial.render.ownership import owner_reference
from perennial.render.training_containers import StepImage
from tests.fakes.drift import baseline_of, check_schema, column, digest, tallies
from tests.fakes.world import World

WINDOW = 60
NAMESPACE = "default"
MODEL = "rain-r00000001"


@dataclass
class Routers:
    """Router pods that count. `silent` ones do not answer; a new `started` is a restarted process."""

    world: World
    pods: dict[str, float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    windows: dict[tuple[str, int, str], dict[str, Any]] = field(default_factory=dict)
    asked: int = 0
    names: set[str] = field(default_factory=set)

    async def collect(
        self,
        namespace: str,
        pods: Sequence[tuple[str, str, str]],
        token: str,
        *,
        want: Literal["status", "all"],
        deployment: str | None = None,
    ) -> list[RouterReport]:
        """See ports.RouterReports."""
        assert token == "secret"
        self.asked += 1
        self.names |= {name for name, _, _ in pods}
        return [
            RouterReport(name, uid, {}, self._counts(name, uid)) for name, uid, _ in pods if name not in self.silent
        ]

    def _counts(self, name: str, uid: str) -> Mapping[str, Any]:
        now = self.world.clock.now().timestamp()
        oldest = int(now // WINDOW) * WINDOW - 4 * WINDOW
        windows = [
            {**w, "final": now >= start + WINDOW + 1}
            for (pod, start, _), w in sorted(self.windows.items())
            if pod == name and start >= oldest
        ]
        started = {"agent": self.pods[name], "envoy": self.pods[name]}
        return {"podUid": uid, "started": started, "deployments": {"rain": {"windows": windows}}}

    def send(self, revision: str, baseline: Baseline, rows: Mapping[str, Tally], count: int, pod: str) -> None:
        """Count rows in the window that is open now."""
        start = int(self.world.clock.now().timestamp() // WINDOW) * WINDOW
        window = self.windows.setdefault(
            (pod, start, revision),
            {
                "start": start,
                "seconds": WINDOW,
                "revision": revision,
                "baseline": baseline.digest,
                "requests": 0,
                "rows": 0,
                "unparsed": 0,
                "streams": 0,
                "features": {},
                "prediction": None,
            },
        )
        window["requests"] += count
        window["rows"] += count
        for name, tally in rows.items():
            known = window["prediction"] if name == PREDICTION_KEY else window["features"].get(name)
            added = tally if known is None else _tally(known).plus(tally)
            raw = {key: getattr(added, key) for key in ("nulls", "zeros", "unseen", "below", "above")}
            raw["counts"] = list(added.counts)
            if name == PREDICTION_KEY:
                window["prediction"] = raw
            else:
                window["features"][name] = raw

    def restart(self, pod: str) -> None:
        """The process starts anew: its counts are gone."""
        self.pods[pod] += 1
        self.windows = {key: window for key, window in self.windows.items() if key[0] != pod}


def _tally(raw: Mapping[str, Any]) -> Tally:
    return Tally(tuple(raw["counts"]), raw["nulls"], raw["zeros"], raw["unseen"], raw["below"], raw["above"])


class Place:
    """See the module."""

    def __init__(self, metrics: MetricsSource | None = None) -> None:
        self.world = World()
        self.routers = Routers(self.world)
        self.baseline = baseline_of(1)
        self.revision = "rain-rev-00000001"
        self.data = digest("second")
        settings = DriftSettings(StepImage("perennial:test"))
        self.world.add(
            lambda w: DriftPolicyController(w.store, w.cache, w.events, w.clock, settings, self.routers, metrics)
        )

    async def set_up(self, *policies: JsonObject, routers: int = 1) -> None:
        """Apply everything; a model made of data `first` serves, newer data lies ready."""
        for number in range(routers):
            await self._router(f"perennial-router-{number}")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "perennial-router"}}
        await self._put({**secret, "data": {"token": "c2VjcmV0"}})
        await self.make_version(MODEL, self.baseline, digest("first"), "2026-11-24T00:00:00Z")
        await self._put(_object(kinds.MODEL_DEPLOYMENT, "rain", {"model": {"name": "rain"}}))
        await self.serve(MODEL, self.revision)
        datasets = [{"name": "train", "uri": "s3://rain/train/", "use": "Train"}]
        await self._put(_object(kinds.TRAINING_JOB, "rain-train", {"model": "rain", "datasets": datasets}))
        for policy in policies:
            await self.world.person(policy)
        await self.world.settle()

    async def _router(self, name: str) -> None:
        self.routers.pods[name] = 1.0
        owner = await self._fleet()
        labels = {"app.kubernetes.io/managed-by": "perennial", "perennial.dev/component": "router"}
        meta = {"name": name, "labels": labels, "ownerReferences": [owner]}
        await self._put({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}})
        status = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        await self.set_status(kinds.POD, name, status)

    async def _fleet(self) -> JsonObject:
        """A reference to the ReplicaSet of the routers' Deployment; both are made when they do not exist."""
        labels = {"app.kubernetes.io/managed-by": "perennial"}
        await self._put(_object(kinds.DEPLOYMENT, "perennial-router", {}, labels=labels))
        above = owner_reference(self.world.obj(kinds.DEPLOYMENT, "perennial-router"))
        await self._put(_object(kinds.REPLICA_SET, "perennial-router-x", {}, ownerReferences=[above]))
        return owner_reference(self.world.obj(kinds.REPLICA_SET, "perennial-router-x"))

    async def _put(self, obj: JsonObject) -> None:
        await self.world.person({**obj, "metadata": {"namespace": NAMESPACE, **obj["metadata"]}})

    async def set_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> None:
        """Another controller's status."""
        body = {**_object(kind, name, None), "status": dict(status)}
        await self.world.store.apply(body, manager="other", force=True, subresource="status")

    async def make_version(self, name: str, baseline: Baseline, data: str, finished: str) -> None:
        """A ModelVersion appears."""
        lineage = {"finishedTime": finished, "datasets": [{"name": "train", "digest": data}]}
        spec = {"model": "rain", "lineage": lineage, "baseline": baseline.to_json()}
        await self._put(_object(kinds.MODEL_VERSION, name, spec))

    async def serve(self, version: str, revision: str) -> None:
        """The version is promoted now."""
        self.revision = revision
        entry = {"revision": revision, "version": version}
        history = [{**entry, "promotedTime": rfc3339(self.world.clock.now())}]
        await self.set_status(kinds.MODEL_DEPLOYMENT, "rain", {"stable": entry, "history": history})

    async def window(self, *, shift: float = 0.0, rows: int = 600, seed: int = 100, nulls: int = 0) -> None:
        """Send rows early in the next window and let it close."""
        await self.next_window()
        self.send(shift=shift, rows=rows, seed=seed, nulls=nulls)
        await self.world.run_for(WINDOW + 3)

    async def next_window(self) -> None:
        """Let time pass until two seconds into the next window."""
        now = self.world.clock.now().timestamp()
        await self.world.run_for((int(now // WINDOW) + 1) * WINDOW + 2 - now)

    def send(
        self, *, shift: float = 0.0, rows: int = 600, seed: int = 100, nulls: int = 0, pod: str = "perennial-router-0"
    ) -> None:
        """Rows whose feature a and prediction are shifted; `nulls` of a's values are missing."""
        a: list[float | None] = [*column(rows - nulls, seed, shift), *[None] * nulls]
        counts = tallies(self.baseline, {"a": a, "b": column(rows, seed + 1)}, column(rows, seed + 2, shift))
        self.routers.send(self.revision, self.baseline, counts, rows, pod)

    def status(self, name: str = "rain-drift") -> JsonObject:
        """A policy's status."""
        status: JsonObject = self.world.obj(kinds.DRIFT_POLICY, name).get("status") or {}
        check_schema(status)
        return status

    def condition(self, type_: str, name: str = "rain-drift") -> JsonObject:
        """One condition of a policy."""
        return next((c for c in self.status(name).get("conditions", ()) if c["type"] == type_), {})

    def jobs(self) -> list[str]:
        """Names of the TrainingJobs that were made by policies, also of those deleted since."""
        return [name for kind, name in self.world.created() if kind == "TrainingJob" and name != "rain-train"]

    async def answer_probes(self, exit_code: int = 0, message: str = "") -> None:
        """Every running probe Job ends with the digest of the data as it is now."""
        for job in self.world.store.all(kinds.JOB):
            name = job["metadata"]["name"]
            if (job.get("status") or {}).get("conditions"):
                continue
            text = message or f'{{"datasets": [{{"digest": "{self.data}", "name": "train", "uri": "s3://x/"}}]}}'
            labels = {"app.kubernetes.io/managed-by": "perennial", "batch.kubernetes.io/job-name": name}
            await self._put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-x", "labels": labels}})
            ended = {"exitCode": exit_code, "message": text}
            await self.set_status(
                kinds.POD, f"{name}-x", {"containerStatuses": [{"name": "digest", "state": {"terminated": ended}}]}
            )
            kind = "Failed" if exit_code else "Complete"
            await self.set_status(kinds.JOB, name, {"conditions": [{"type": kind, "status": "True"}]})
        await self.world.settle()

    async def finish(self, job: str, *, version: str = "", failed: str = "") -> None:
        """The run of a TrainingJob ends with an accepted version or with a reason of failure."""
        now = rfc3339(self.world.clock.now())
        run = {"finishedTime": now, "datasets": [{"name": "train", "digest": self.data}], "gpuSeconds": {"held": 30}}
        if failed:
            state = {"type": "Succeeded", "status": "False", "reason": failed, "message": f"{job} failed"}
            await self.set_status(kinds.TRAINING_JOB, job, {"run": run, "conditions": [state]})
        else:
            await self.make_version(version, baseline_of(50, shift=2.0), self.data, now)
            state = {"type": "Succeeded", "status": "True", "reason": "Succeeded"}
            await self.set_status(kinds.TRAINING_JOB, job, {"run": run, "lastVersion": version, "conditions": [state]})
        await self.world.settle()


def _object(kind: Kind, name: str, spec: Mapping[str, Any] | None, **meta: Any) -> JsonObject:
    obj: JsonObject = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": NAMESPACE, **meta},
    }
    return obj if spec is None else {**obj, "spec": dict(spec)}


def policy(name: str = "rain-drift", **changes: Any) -> JsonObject:
    """A policy that retrains after one drifted window of 60 s; `changes` replace fields of its spec."""
    spec: dict[str, Any] = {
        "deploymentRef": {"name": "rain"},
        "window": {"seconds": WINDOW},
        "source": {"observations": {}},
        "rule": {"forWindows": 1},
        "action": "Retrain",
        "retrain": {"trainingJobRef": {"name": "rain-train"}, "cooldownSeconds": WINDOW},
    }
    return _object(kinds.DRIFT_POLICY, name, {**spec, **changes})
