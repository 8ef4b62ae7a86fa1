"""Reads the demo's objects several times a second and tells what changed: the timeline and the plots come from here."""

import asyncio
import time
from typing import Any

from examples.rain.demo.stage import Stage
from perennial.api import kinds
from perennial.domain.errors import PerennialError
from perennial.domain.times import parse_time

EVERY = 1.0
CLOSELY = 0.2
TOLD = (kinds.GIT_SYNC, kinds.TRAINING_JOB, kinds.DRIFT_POLICY)
NOISY = frozenset(("Progressing", "MetricsAvailable"))


class Watcher:
    """weights: (time, canary weight) for the plot; windows: policy -> window end -> what the policy said of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._said: dict[tuple[str, str, str], str] = {}
        self._commit = ""
        self._watched: str | None = None
        self._first_failure: float | None = None
        self._zero: float | None = None
        self._target: str | None = None
        self.weights: list[tuple[float, float]] = []
        self.windows: dict[str, dict[int, dict[str, Any]]] = {}

    async def run(self) -> None:
        """Until cancelled. An API server that does not answer is waited for."""
        due = 0.0
        while True:
            try:
                await self._look(kinds.MODEL_DEPLOYMENT)
                if time.time() >= due:
                    due = time.time() + EVERY
                    for kind in TOLD:
                        await self._look(kind)
            except PerennialError as error:
                self._stage.timeline.wait(f"the API server does not answer: {error.message}")
                await asyncio.sleep(1.0)
            await asyncio.sleep(CLOSELY if self._watched else EVERY)

    async def _look(self, kind: kinds.Kind) -> None:
        for obj in await self._stage.store.list(kind, self._stage.namespace):
            self._conditions(obj)
            if kind == kinds.MODEL_DEPLOYMENT:
                self._traffic(obj)
            elif kind == kinds.DRIFT_POLICY:
                self._window(obj)
            elif kind == kinds.GIT_SYNC:
                self._commits(obj)

    def _conditions(self, obj: dict[str, Any]) -> None:
        name = f"{obj['kind']} {obj['metadata']['name']}"
        for condition in obj.get("status", {}).get("conditions", ()):
            if condition["type"] in NOISY or condition["status"] == "Unknown":
                continue  # an empty window between two years is no news
            key = (obj["kind"], obj["metadata"]["name"], condition["type"])
            word = f"{condition['status']} {condition['reason']}"
            if self._said.get(key) == word:
                continue
            self._said[key] = word
            if condition.get("message") and condition["type"] != "Reconciling":
                self._stage.timeline.tell(f"{name}: {condition['type']}={word}: {condition['message']}")

    def _traffic(self, obj: dict[str, Any]) -> None:
        now = time.time()
        status = obj.get("status", {})
        stable = status.get("stable", {}).get("revision")
        rollout = status.get("rollout") or {}
        weight = float(sum(t["weight"] for t in status.get("traffic", ()) if t["revision"] != stable))
        if not self.weights or self.weights[-1][1] != weight:
            self.weights.append((now, weight))
            if stable:
                self._stage.timeline.tell(f"ModelDeployment {obj['metadata']['name']}: the canary gets {weight:.0f} %")
        if self._watched is None:
            return
        if rollout.get("version") == self._watched:
            self._target = rollout["targetRevision"]
            if self._first_failure is None and rollout.get("analysis", {}).get("failures", 0) > 0:
                self._first_failure = now
        if self._target and self._zero is None and weight == 0 and self._gone(status):
            self._zero = now

    def _gone(self, status: dict[str, Any]) -> bool:
        """Whether the watched canary's weight 0 is verified at the routers: recorded, or its rollout is over."""
        rollout = status.get("rollout")
        rejected = any(r["revision"] == self._target for r in status.get("rejected", ()))
        return rejected and (not rollout or bool(rollout.get("weightVerified")))

    def _window(self, obj: dict[str, Any]) -> None:
        status = obj.get("status", {})
        window = status.get("window", {})
        if not window.get("endTime"):
            return
        end = int(parse_time(window["endTime"]).timestamp())
        self.windows.setdefault(obj["metadata"]["name"], {})[end] = {
            "effect": float(status.get("effect") or 0),
            "threshold": float(status.get("threshold") or 0),
            "state": status.get("state", "Unknown"),
            "samples": window.get("samples", 0),
            "drifted": [d["feature"] for d in status.get("drifted", ())],
        }

    def _commits(self, obj: dict[str, Any]) -> None:
        commit = obj.get("status", {}).get("writeBack", {}).get("lastCommit", "")
        if commit and commit != self._commit:
            self._commit = commit
            self._stage.timeline.tell(f"GitSync {obj['metadata']['name']}: Perennial wrote commit {commit[:12]}")

    def watch_abort(self, version: str) -> None:
        """From now on note when this version's canary first fails and when its weight is 0 everywhere."""
        self._watched = version

    async def abort_verified(self) -> bool | None:
        """True once weight 0 is verified."""
        return True if self._zero is not None else None

    def abort_seconds(self) -> float | None:
        """From the first counted failure to weight 0 verified."""
        if self._first_failure is None or self._zero is None:
            return None
        return round(self._zero - self._first_failure, 2)
