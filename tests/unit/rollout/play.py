"""A toy cluster for rollout decisions: applies statuses and actions to frozen worlds, with no API server and no clock.

Pods become available at once unless `stuck`; routers confirm status.traffic at once unless `deaf`, and unless `silent`
they tell the `inputs` of revisions (of one not in it: that its server does not tell). A smoke Job has answered after
a second, as `replay` says. Failures follow `error_rates`, or
`rates` where they change in time; with `rng` requests and failures are random.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from perennial.domain.authors import Author
from perennial.domain.conditions import bounded
from perennial.domain.decision import EventNote
from perennial.domain.rollout.commands import Command
from perennial.domain.rollout.decide import decide, is_new_intent
from perennial.domain.rollout.evidence import Reading
from perennial.domain.rollout.failures import Arm
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
from perennial.domain.rollout.predictions import Pair, Predictions
from perennial.domain.rollout.recorded import recorded_from_status
from perennial.domain.rollout.signature import Signature
from perennial.domain.rollout.smoke import Answers, JobSeen
from perennial.domain.rollout.spec import DeploymentSpec, read_spec
from perennial.domain.rollout.world import (
    Artifact,
    Recorded,
    RevisionSeen,
    RouterSeen,
    Target,
    Untargeted,
    World,
)
from perennial.domain.times import parse_time
from perennial.router.assemble import read_deployment
from perennial.router.model import cluster_name, copy_name, effective_copies
from tests.fakes.copies import copied
from tests.unit.rollout.toy_gateway import ToyGateway

T0 = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
PER_SECOND = 100
COPIES = "/copies"
"""Marks the counts of a revision that come from copies of requests."""


def all_good(action: RunSmoke) -> JobSeen:
    """The end of a smoke Job whose requests were all answered."""
    answers = Answers(sent=action.requests, good=action.requests)
    return JobSeen(action.name, f"uid-{action.name}", started=True, over=True, answers=answers)


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def target(revision: str, **changes: Any) -> Target:
    made = Target(
        revision, f"rain-{revision}", Artifact("s3://m/", digest(revision[0]), "sklearn"), revision, {"image": "i"}
    )
    return replace(made, **changes)


def spec_of(**rollout: Any) -> dict[str, Any]:
    analysis = {"maxErrorRate": "0.05", **rollout.pop("analysis", {})}
    steps = rollout.pop("steps", [{"weight": 5}, {"weight": 25}, {"weight": 50}])
    replicas = rollout.pop("replicas", 1)
    suspend = rollout.pop("suspend", False)
    gateway = {"traffic": {"gateway": rollout.pop("gateway")}} if "gateway" in rollout else {}
    return {
        "model": {"name": "rain"},
        "replicas": replicas,
        "suspend": suspend,
        "rollout": {"steps": steps, "analysis": analysis, **rollout},
        **gateway,
    }


@dataclass
class Play:
    """The toy cluster; `tick` lets a second pass and settles."""

    spec: dict[str, Any] = field(default_factory=spec_of)
    target: Target | Untargeted = field(default_factory=lambda: target("aaaaaaaa"))
    now: datetime = T0
    status: dict[str, Any] = field(default_factory=dict)
    revisions: dict[str, RevisionSeen] = field(default_factory=dict)
    routers: list[str] = field(default_factory=lambda: ["r1", "r2"])
    deaf: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    error_rates: dict[str, float] = field(default_factory=dict)
    slow_rates: dict[str, float] = field(default_factory=dict)
    rates: Callable[["Play", str], float] | None = None
    per_second: float = PER_SECOND
    rng: np.random.Generator | None = None
    command: Command | None = None
    commit: str | None = "abc1234"
    authors: tuple[Author, ...] = ()
    applied: dict[str, tuple[int, dict[str, int]]] = field(default_factory=dict)
    counts: dict[str, dict[str, Arm]] = field(default_factory=dict)
    events: list[EventNote] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    generation: int = 0
    asked: Any = None
    moves: set[tuple[str, str]] = field(default_factory=set)
    inputs: dict[str, Signature | None] = field(default_factory=dict)
    silent: bool = False
    forgotten: bool = False
    predicts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    edge: ToyGateway | None = None
    replay: Callable[[RunSmoke], JobSeen] = all_good
    jobs: dict[str, RunSmoke] = field(default_factory=dict)
    jobs_seen: dict[str, JobSeen] = field(default_factory=dict)

    _read: tuple[Any, Recorded] | None = None

    @property
    def recorded(self) -> Recorded:
        """What the status says; read once for each status, which is replaced and never edited."""
        if self._read is None or self._read[0] is not self.status:
            self._read = self.status, recorded_from_status(self.status)
        return self._read[1]

    _asks: tuple[Any, DeploymentSpec] | None = None

    @property
    def asks(self) -> DeploymentSpec:
        """What the spec says; read again when something in it was edited."""
        if self._asks is None or self._asks[0] != self.spec:
            self._asks = copied(self.spec), read_spec(self.spec)
        return self._asks[1]

    @property
    def state(self) -> str:
        return str(self.status["rollout"]["state"]) if "rollout" in self.status else "Rest"

    def condition(self, type_: str) -> tuple[str, str]:
        for condition in self.status["conditions"]:
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        return "", ""

    def reasons(self) -> list[str]:
        return [note.reason for note in self.events]

    def world(self) -> World:
        """What a pass sees; a spec or a target that changed is a new generation."""
        asked = (copied(self.spec), self.target)
        self.generation += asked != self.asked
        self.asked = asked
        return World(
            name="rain",
            namespace="ns",
            uid="u1",
            generation=self.generation,
            spec=self.asks,
            recorded=self.recorded,
            target=self.target,
            revisions=dict(self.revisions),
            routers=tuple(self._router(pod) for pod in self.routers),
            commit=self.commit,
            authors=self.authors,
            command=self.command,
            gateway=self.edge.seen(self.spec, self.status) if self.edge is not None else None,
            smoke_jobs=tuple(self.jobs_seen.values()),
            stable_again=self._stable_again(),
            **self.more,
        )

    def _stable_again(self) -> Target | None:
        stable = self.recorded.stable
        gone = stable is not None and stable.revision not in self.revisions and not self.forgotten
        return target(stable.revision) if stable is not None and gone else None

    def step(self) -> bool:
        """One pass; whether it changed anything."""
        self._routers_apply()
        world = self.world()
        decision = decide(world, self.now, conditions=self.status.get("conditions", ()))
        before = self.status
        self.status = dict(decision.status)
        self.events += decision.events
        self._check_told(before, decision.events)
        self._check_ready(world)
        if self.status.get("rollout") is not None:
            self.weights.append(self.status["canary"]["weight"])
        if is_new_intent(world, self.status):
            return True
        for action in decision.actions:
            self._apply(action)
        lasting = [action for action in decision.actions if not isinstance(action, SetAutoscaler)]  # compared when done
        changed = bool(self.status != before or lasting)
        assert changed or decision.requeue_after != 0, "a pass that changes nothing asks for the next one at once"
        return changed

    def settle(self, limit: int = 60) -> None:
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError(f"does not settle: {self.state}, {self.actions[-3:]}")

    def tick(self, seconds: int = 1, *, every: float = 1.0) -> None:
        """Let time pass, with traffic, a settled pass each second."""
        for _ in range(seconds):
            self.now += timedelta(seconds=every)
            self._serve(every)
            self.jobs_seen = {name: self.replay(made) for name, made in self.jobs.items()}
            self.settle()

    def run(self, seconds: int, until: str = "Rest") -> int:
        """Seconds until the state is reached; fails when it is not."""
        for second in range(seconds):
            if self.state == until:
                return second
            self.tick()
        raise AssertionError(f"{until} is not reached in {seconds} s: {self.state}: {self.words()}")

    def words(self) -> str:
        return next(str(c["message"]) for c in self.status["conditions"] if c["type"] == "Ready")

    def begin(self, revision: str = "bbbbbbbb", **changes: Any) -> "Play":
        """With a first version promoted, name another one."""
        self.settle()
        assert self.state == "Rest"
        assert self.recorded.stable is not None
        self.target = target(revision, **changes)
        self.events.clear()
        self.weights.clear()
        return self

    def _check_told(self, before: dict[str, Any], events: tuple[EventNote, ...]) -> None:
        """Every move is told once, as an event with the sentence of a condition."""
        said = {condition["message"] for condition in self.status["conditions"]}
        aside = ("CommandIgnored", "ApprovalRefused", "NotGated")
        told = [n for n in events if n.reason not in aside and "ordered a retry" not in n.message]
        assert all(bounded(note.message) in said for note in told if self.condition("Ready")[1] != "PodsNotReady")
        was, now = str(before.get("rollout", {}).get("state", "Rest")), self.state
        if was != now:
            self.moves.add((was, now))
            assert (was, now) == ("Withdrawing", "Rest") or len(told) == 1, f"{was} to {now} is told by {told}"

    def _check_ready(self, world: World) -> None:
        """Ready is true only for what is asked for now, and only while it serves everything."""
        assert {c["observedGeneration"] for c in self.status["conditions"]} == {world.generation}
        assert self.status["observedGeneration"] == world.generation
        if self.condition("Ready")[0] != "True":
            return
        recorded = self.recorded
        assert recorded.rollout is None
        if isinstance(world.target, Untargeted):
            assert world.target.reason == "NoVersionYet"
            return
        assert recorded.stable is not None and recorded.stable.revision == world.target.revision
        assert world.revisions[world.target.revision].ready > 0
        assert recorded.weight_of(world.target.revision) == 100
        assert "Reconciling" not in {c["type"] for c in self.status["conditions"]}

    def _serve(self, seconds: float) -> None:
        """Requests by the weights that routers apply, failures and slow ones by the revisions' rates."""
        copies = self._copied()
        for pod in self.routers:
            _, weights = self.applied.get(pod, (0, {}))
            counts = self.counts.setdefault(pod, {})
            for name, weight in {**weights, **copies}.items():
                wanted = self.per_second * seconds / len(self.routers) * weight / 100
                revision = name.removesuffix(COPIES)
                requests = round(wanted) if self.rng is None else int(self.rng.poisson(wanted))
                rate = self.rates(self, revision) if self.rates is not None else self.error_rates.get(revision, 0.0)
                failed, slow = self._some(requests, rate), self._some(requests, self.slow_rates.get(revision, 0.0))
                arm = Arm(requests, failed, logged=requests, slow=slow)
                counts[name] = counts.get(name, Arm()) + arm

    def _copied(self) -> dict[str, int]:
        """Percent of the requests that a canary without weight gets copies of: what a router makes of the object."""
        if not self.asks.analysis.copy_percent:
            return {}
        routed = read_deployment({"metadata": {"name": "rain"}, "spec": self.spec, "status": self.status})
        ready = [revision for revision, seen in self.revisions.items() if seen.ready > 0]
        revision = effective_copies(routed, {name("rain", r) for r in ready for name in (cluster_name, copy_name)})
        return {revision + COPIES: routed.copy_percent} if revision is not None else {}

    def _some(self, requests: int, share: float) -> int:
        return round(requests * share) if self.rng is None else int(self.rng.binomial(requests, share))

    def _routers_apply(self) -> None:
        weights = {t["revision"]: t["weight"] for t in self.status.get("traffic", []) if t["weight"]}
        for pod in self.routers:
            if pod not in self.deaf:
                self.applied[pod] = (self.status.get("trafficVersion", 0), weights)

    def _router(self, pod: str) -> RouterSeen:
        version, weights = self.applied.get(pod, (-1, {}))
        recorded = self.recorded
        inputs = {} if self.silent else {revision: self.inputs.get(revision) for revision in self.revisions}
        seen = RouterSeen(pod, f"uid-{pod}", True, version, True, weights, inputs=inputs)
        counts = self.counts.get(pod, {})
        rollout, stable = recorded.rollout, recorded.stable
        if rollout is None:
            return seen
        reading = Reading(
            seen.uid,
            ("1.0", "2.0"),
            version,
            seen.serves(recorded),
            counts.get(
                rollout.target.revision + ("" if recorded.weight_of(rollout.target.revision) else COPIES), Arm()
            ),
            counts.get(stable.revision, Arm()) if stable else Arm(),
        )
        if stable and self.predicts:
            arms = [self._predicted(revision, counts) for revision in (rollout.target.revision, stable.revision)]
            reading = replace(reading, predictions=Pair(*arms))
        return replace(seen, reading=reading)

    def _predicted(self, revision: str, counts: dict[str, Arm]) -> Predictions:
        """Every answer's prediction, spread over bins by the revision's shares (percent)."""
        rows = counts.get(revision, Arm()).requests
        spread = tuple(rows * share // 100 for share in self.predicts[revision])
        return Predictions("d", sum(spread), other=sum(spread), counts=spread)

    def _apply(self, action: Action) -> None:
        self.actions.append(action)
        match action:
            case CreateRevision(made, replicas):
                self.revisions[made.revision] = self._seen(made, replicas)
            case ScaleRevision(revision, _, replicas):
                seen = self.revisions[revision]
                ready = 0 if revision in self.stuck else replicas
                drain = None if replicas == 0 else seen.drain_until
                self.revisions[revision] = replace(
                    seen, replicas=replicas, available=ready, ready=ready, drain_until=drain
                )
            case MarkDrain(revision, _, at):
                self.revisions[revision] = replace(self.revisions[revision], drain_until=parse_time(at) if at else None)
            case DeleteRevision(revision, _):
                del self.revisions[revision]
            case RunSmoke():
                assert action.name not in self.jobs
                self.jobs[action.name] = action
                self.jobs_seen[action.name] = JobSeen(action.name, f"uid-{action.name}")
            case DeleteSmoke(name, _):
                del self.jobs[name], self.jobs_seen[name]
            case DeleteRouter(pod, _):
                self.routers.remove(pod)
            case ApplyRoute(weights):
                assert self.edge is not None
                self.edge.apply(self.spec, weights)
            case DeleteRoute(_):
                assert self.edge is not None
                self.edge.route = None

    def _seen(self, made: Target, replicas: int) -> RevisionSeen:
        ready = 0 if made.revision in self.stuck else replicas
        return RevisionSeen(
            revision=made.revision, uid=f"uid-{made.revision}", replicas=replicas, available=ready, ready=ready,
            version=made.version, digest=made.artifact.digest, fingerprint=made.fingerprint, recipe="1",
            entry=made.entry, created=self.now.isoformat(),
        )  # fmt: skip

    def recover(self, revision: str) -> None:
        """The pods of a stuck revision become available."""
        self.stuck.discard(revision)
        seen = self.revisions[revision]
        self.revisions[revision] = replace(seen, available=seen.replicas, ready=seen.replicas)

    def lose(self, revision: str) -> None:
        """All pods of a revision stop being ready."""
        self.stuck.add(revision)
        self.revisions[revision] = replace(self.revisions[revision], available=0, ready=0)

    def order(self, verb: str, revision: str = "bbbbbbbb", id_: str = "c1") -> None:
        """A person's command, carried out."""
        self.command = Command(verb, revision, id_, "ann")
        self.settle()


def started(kind: type[Play] = Play, **spec: object) -> Play:
    """A canary beside stable at its first weight, being analysed."""
    play = kind(spec=spec_of(**spec)).begin()
    play.settle()
    assert play.state == "Analysing"
    return play
