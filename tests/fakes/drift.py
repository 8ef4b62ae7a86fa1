"""A deployment, its drift policies and their surroundings as plain values, for tests of the drift decisions.

`settle` applies decisions until they ask for nothing more, as the controller would, without any API.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from perennial.api.v1alpha1.drift_policy import DriftPolicyStatus
from perennial.domain.decision import EventNote
from perennial.domain.drift.baseline import Baseline, FeatureBaseline, build_baseline
from perennial.domain.drift.decide import decide
from perennial.domain.drift.examine import instant
from perennial.domain.drift.spec import parse_spec
from perennial.domain.drift.windows import PREDICTION_KEY, Book, Pull, Slice, Tally, merged
from perennial.domain.drift.world import Champion, CreateProbe, CreateTrainingJob, DeleteProbe, Probe, World
from perennial.runtime.status import plain

TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "rain-train", "uid": "uid-template"},
    "spec": {
        "model": "rain",
        "datasets": [
            {"name": "train", "uri": "s3://rain/train/", "use": "Train"},
            {"name": "newest", "uri": "s3://rain/eval/", "use": "Evaluate"},
        ],
    },
}


@lru_cache
def column(rows: int, seed: int, shift: float = 0.0) -> tuple[float, ...]:
    """Normal values, reproducible."""
    source = random.Random(seed)
    return tuple(source.gauss(shift, 1) for _ in range(rows))


@lru_cache
def baseline_of(seed: int, shift: float = 0.0) -> Baseline:
    """A reference of 2,000 rows with two features and a prediction."""
    return build_baseline(
        {"a": column(2_000, seed, shift), "b": column(2_000, seed + 1)}, prediction=column(2_000, seed + 2, shift)
    )


def digest(text: str) -> str:
    """A digest that is recognisable in a failing test."""
    return "sha256:" + (text.encode().hex() + "0" * 64)[:64]


def tally(reference: FeatureBaseline, values: Sequence[float | None]) -> Tally:
    """The counts of a numeric column, as a router makes them."""
    counts = [0] * reference.bins
    present = [value for value in values if value is not None]
    for value in present:
        counts[bisect_right(reference.edges, value)] += 1
    return Tally(
        tuple(counts),
        nulls=len(values) - len(present),
        zeros=sum(value == 0 for value in present),
        below=sum(value < reference.low for value in present),
        above=sum(value > reference.high for value in present),
    )


def tallies(
    baseline: Baseline, columns: Mapping[str, Sequence[float | None]], prediction: Sequence[float] | None = None
) -> dict[str, Tally]:
    """The counts of a table's columns."""
    found = {f.name: tally(f, columns[f.name]) for f in baseline.features if f.name in columns}
    if prediction is not None and baseline.prediction is not None:
        found[PREDICTION_KEY] = tally(baseline.prediction, prediction)
    return found


def check_schema(status: Mapping[str, Any]) -> None:
    """AssertionError when the API would refuse or prune something of this status."""
    kept = DriftPolicyStatus.model_validate(plain(status)).to_dict()
    lost = _lost(plain(status), kept, "status")
    assert not lost, f"the API does not keep {lost}"


def _lost(wanted: Any, kept: Any, path: str) -> list[str]:
    if isinstance(wanted, dict) and isinstance(kept, dict):
        return [p for key, value in wanted.items() for p in _lost(value, kept.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(kept, list) and len(wanted) == len(kept):
        return [p for a, b in zip(wanted, kept, strict=True) for p in _lost(a, b, f"{path}[]")]
    return [] if wanted == kept else [path]


class Sim:
    """See the module. `seconds` is every policy's window; `now` (epoch) moves only when told to."""

    def __init__(self, specs: Mapping[str, Mapping[str, Any]], *, seconds: int, start: int, champion: Champion) -> None:
        self.seconds, self.now, self.champion = seconds, float(start), champion
        self.policies: dict[str, dict[str, Any]] = {}
        for name, spec in specs.items():
            self.policies[name] = {
                "metadata": {
                    "name": name,
                    "uid": f"uid-{name}",
                    "generation": 1,
                    "creationTimestamp": instant(start),
                    "annotations": {},
                },
                "spec": {
                    "deploymentRef": {"name": "rain"},
                    "window": {"seconds": seconds},
                    "source": {"observations": {}},
                    **spec,
                },
                "status": {},
            }
        self.deployment: dict[str, Any] = {"metadata": {"name": "rain"}, "status": {}}
        self.template: dict[str, Any] | None = TEMPLATE
        self.books = {name: Book() for name in self.policies}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.probes: dict[str, dict[int, Probe]] = {name: {} for name in self.policies}
        self.probed: list[tuple[str, int]] = []
        self.data = digest("first")
        self.silent: tuple[str, ...] = ()
        self.events: list[tuple[str, EventNote]] = []
        self.on_job: Callable[[str, dict[str, Any]], None] = lambda name, job: None

    def status(self, name: str) -> dict[str, Any]:
        """A policy's status."""
        return self.policies[name]["status"]

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """One condition of a policy."""
        return next(c for c in self.status(name)["conditions"] if c["type"] == type_)

    def reasons(self, name: str) -> list[str]:
        """The reasons of a policy's events so far."""
        return [note.reason for own, note in self.events if own == name]

    def observe(self, start: int, rows: Mapping[str, Tally], count: int, *, source: str = "pod/1/1") -> None:
        """A router process counted `count` rows, one a request, in the window that starts at `start`."""
        assert self.champion.baseline is not None
        part = Slice(
            start=start,
            seconds=self.seconds,
            source=source,
            revision=self.champion.revision,
            baseline=self.champion.baseline.digest,
            requests=count,
            rows=count,
            final=True,
            seen=float(start + self.seconds),
            tallies=rows,
        )
        self.books = {name: merged(book, [part]) for name, book in self.books.items()}

    def world(self, name: str) -> World:
        """What a pass over that policy sees."""
        policy = self.policies[name]
        active = policy["status"].get("activeTrigger") or {}
        history = self.deployment["status"].get("history") or [{}]
        return World(
            policy=policy,
            spec=parse_spec(policy["spec"]),
            siblings=tuple(other for own, other in self.policies.items() if own != name),
            deployment=self.deployment,
            champion=self.champion,
            book=self.books[name],
            pull=Pull(self.now, self.silent),
            template=self.template,
            job=self.jobs.get(str(active.get("trainingJob"))),
            result=self.versions.get(str(active.get("resultVersion"))),
            serving=self.versions.get(str(history[0].get("version"))),
            probes=tuple(self.probes[name].values()),
        )

    def settle(self) -> None:
        """Pass over all policies until nothing changes."""
        for _ in range(50):
            changed = [self.step(name) for name in self.policies]
            if not any(changed):
                return
        raise AssertionError("the decisions do not come to rest")

    def step(self, name: str) -> bool:
        """One pass; True when it changed something."""
        decided = decide(self.world(name), datetime.fromtimestamp(self.now, UTC))
        decision = decided.decision
        check_schema(decision.status)
        about = {condition["observedGeneration"] for condition in decision.status["conditions"]}
        assert about == {self.policies[name]["metadata"]["generation"]}, "conditions of another generation"
        changed = dict(decision.status) != self.status(name)
        for action in decision.actions:
            changed = self._act(name, action) or changed
        self.policies[name]["status"] = dict(decision.status)
        self.events += [(name, note) for note in decision.events]
        return changed

    def _act(self, name: str, action: Any) -> bool:
        if isinstance(action, CreateTrainingJob):
            made = str(action.trigger["trainingJob"])
            assert made not in self.jobs, "a second TrainingJob for one trigger"
            self.jobs[made] = {
                "metadata": {"name": made, "uid": f"uid-{made}", "creationTimestamp": instant(self.now)},
                "spec": TEMPLATE["spec"],
                "status": {},
            }
            self.on_job(name, self.jobs[made])
        elif isinstance(action, CreateProbe):
            self.probed.append((name, action.number))
            probe = Probe(f"{name}-probe-{action.number}", "uid", action.number, True, {"train": self.data})
            self.probes[name][action.number] = probe
        elif isinstance(action, DeleteProbe):
            self.probes[name] = {n: p for n, p in self.probes[name].items() if p.name != action.name}
        return True

    def finish(self, job: str, *, version: str = "", failed: str = "") -> None:
        """The run of a TrainingJob ends: with an accepted version, or with a reason of failure."""
        state: dict[str, Any] = {"type": "Succeeded", "status": "False", "reason": failed, "message": "why it failed"}
        status: dict[str, Any] = {"run": {"datasets": [{"name": "train", "digest": self.data}]}}
        if version:
            state = {"type": "Succeeded", "status": "True", "reason": "Succeeded"}
            status = {**status, "lastVersion": version}
            status["run"]["finishedTime"] = instant(self.now)
            self.versions[version] = {
                "metadata": {"name": version},
                "spec": {"lineage": {"finishedTime": instant(self.now)}},
            }
        self.jobs[job]["status"] = {**status, "conditions": [state]}

    def promote(self, version: str, revision: str, baseline: Baseline) -> None:
        """The version becomes stable now."""
        datasets = {"train": self.data}
        self.champion = Champion(revision, version, self.now, baseline, "", datasets)
        entry = {"revision": revision, "version": version, "promotedTime": instant(self.now)}
        before = self.deployment["status"].get("history") or []
        self.deployment["status"] = {"stable": entry, "history": [entry, *before]}

    def forget(self, name: str) -> None:
        """The ConfigMap is gone."""
        self.books[name] = replace(self.books[name], slices=())
