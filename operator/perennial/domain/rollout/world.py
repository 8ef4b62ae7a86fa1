"""The frozen inputs of a rollout decision: what is asked for, what status says, and what was seen now.

Must not judge and must not read a clock; the controller builds a World from the API server and the routers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from perennial.domain.authors import Author
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.approval import Approval
from perennial.domain.rollout.commands import BadCommand, Command
from perennial.domain.rollout.evidence import Evidence, Reading
from perennial.domain.rollout.gateway import Edge, GatewaySeen, Shares, edge, shares
from perennial.domain.rollout.metrics import MetricFinding
from perennial.domain.rollout.signature import Signature
from perennial.domain.rollout.smoke import JobSeen, Samples, Smoke
from perennial.domain.rollout.spec import DeploymentSpec
from perennial.domain.rollout.state import State


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model in the store."""

    uri: str
    digest: str
    format: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """A revision (or version) that failed; `recorded`: its ModelVersion in Git holds the rejection too."""

    revision: str
    version: str | None
    reason: str
    message: str
    time: str
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for, as a revision. `note`: what people should know (such as: it has no gate). samples: its sample
    inputs, where it has any."""

    revision: str
    version: str | None
    artifact: Artifact
    fingerprint: str
    entry: JsonObject
    refused: Rejection | None = None
    note: str | None = None
    samples: Samples | None = None

    @property
    def label(self) -> str:
        """How to call it in a sentence."""
        return self.version or f"artifact {self.artifact.digest[:19]}"


@dataclass(frozen=True, slots=True)
class Untargeted:
    """Nothing can be rolled out now. `stalled`: only a person or a commit changes that. `version`: what was named."""

    reason: str
    message: str
    stalled: bool = False
    version: str | None = None


@dataclass(frozen=True, slots=True)
class RevisionRef:
    """A revision that status names."""

    revision: str
    version: str | None
    digest: str | None

    @property
    def label(self) -> str:
        """How to call it in a sentence."""
        return self.version or f"revision {self.revision}"


@dataclass(frozen=True, slots=True)
class Promoted:
    """An entry of status.history."""

    revision: str
    version: str | None
    digest: str | None
    promoted: str
    commit: str | None
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """status.rollout: the rollout in progress. weight: what the current step aims at (100: the promotion).

    short_since: since when the canary lacks available pods; verified: when every ready router confirmed its weight.
    checking_since: when its pods were first there and the input signatures were asked for; difference: what differs in
    them, when a person must approve it; authors: who wrote the change, empty when nobody knows; refusal: why the last
    order to go on was not taken.
    """

    id: str
    state: State
    target: RevisionRef
    weight: int
    started: datetime
    state_since: datetime
    step_started: datetime
    stable_replicas: int
    commit: str | None = None
    verified: datetime | None = None
    short_since: datetime | None = None
    approved_weight: int | None = None
    approvals: tuple[Approval, ...] = ()
    checking_since: datetime | None = None
    difference: str | None = None
    authors: tuple[Author, ...] = ()
    refusal: str | None = None
    replacing: bool = False
    reason: str | None = None
    message: str | None = None
    evidence: Evidence = field(default_factory=Evidence)
    smoke: Smoke | None = None

    @property
    def smoking(self) -> bool:
        """Whether sample inputs are what the rollout waits for."""
        return self.smoke is not None and not self.smoke.over

    @property
    def copying(self) -> bool:
        """Whether the step without weight is in force, in which copies are counted."""
        return self.weight == 0 and self.verified is not None

    def counts_from(self, warmup_seconds: int) -> datetime:
        """When the warm-up of the live weight ends: requests before that are not counted."""
        return (self.verified or self.state_since) + timedelta(seconds=warmup_seconds)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What status says. traffic: (revision, weight) pairs. routed: there is, or was a moment ago, an HTTPRoute."""

    stable: RevisionRef | None = None
    chosen_version: str | None = None
    traffic: tuple[tuple[str, int], ...] = ()
    traffic_version: int = 0
    rollout: Rollout | None = None
    rejected: tuple[Rejection, ...] = ()
    expired: Rejection | None = None
    history: tuple[Promoted, ...] = ()
    commands: tuple[str, ...] = ()
    routed: bool = False

    def weight_of(self, revision: str) -> int:
        """The revision's weight in status.traffic."""
        return dict(self.traffic).get(revision, 0)


@dataclass(frozen=True, slots=True)
class RevisionSeen:
    """A revision's Deployment as seen now. available counts pods of the current template only.

    trouble: why pods are not available, in the words of scheduler, kubelet or container; unschedulable_since: since
    when the scheduler has found no room. drain_until: the absolute time after which it may be scaled to zero.
    """

    revision: str
    uid: str
    replicas: int
    available: int
    ready: int
    version: str | None
    digest: str | None
    fingerprint: str
    recipe: str
    entry: JsonObject
    created: str
    has_service: bool = True
    trouble: str | None = None
    unschedulable_since: datetime | None = None
    drain_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RouterSeen:
    """A ready router. answered: it told its state; confirmed: its Envoy itself reports what status.traffic of
    `traffic_version` asks for; weights: what its routes give (zero left out); created: when its pod was made; inputs:
    the input signatures of revisions that it has read (None: their server does not tell)."""

    pod: str
    uid: str
    answered: bool = False
    traffic_version: int = -1
    confirmed: bool = False
    weights: Mapping[str, int] = field(default_factory=dict)
    reading: Reading | None = None
    created: datetime | None = None
    inputs: Mapping[str, Signature | None] = field(default_factory=dict)

    def serves(self, recorded: Recorded) -> bool:
        """Whether it applies exactly the weights of status."""
        wanted = {revision: weight for revision, weight in recorded.traffic if weight > 0}
        return self.confirmed and self.traffic_version == recorded.traffic_version and dict(self.weights) == wanted

    def serves_nothing_to(self, revision: str, recorded: Recorded) -> bool:
        """Whether it has applied status and sends the revision nothing."""
        return self.confirmed and self.traffic_version == recorded.traffic_version and not self.weights.get(revision, 0)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something a person must set right beside any rollout, such as a policy without its GitSync."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class World:
    """Everything one decision looks at.

    routers: the ready ones. version_rejections: of each ModelVersion seen, its rejection for this deployment or None.
    choice: the version that updatePolicy Direct should choose now. authors: who wrote the change that Git brought;
    empty: not known. gateway: the HTTPRoute, when one is asked for or recorded. smoke_jobs: those that are there, of
    any rollout. stable_again: stable, when a child of it is gone that can be made again as it was.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    spec: DeploymentSpec
    recorded: Recorded
    target: Target | Untargeted
    revisions: Mapping[str, RevisionSeen]
    routers: tuple[RouterSeen, ...]
    commit: str | None = None
    authors: tuple[Author, ...] = ()
    choice: str | None = None
    command: Command | BadCommand | None = None
    metrics: tuple[MetricFinding, ...] = ()
    version_rejections: Mapping[str, Rejection | None] = field(default_factory=dict)
    trouble: Trouble | None = None
    gateway: GatewaySeen | None = None
    smoke_jobs: tuple[JobSeen, ...] = ()
    stable_again: Target | None = None

    @property
    def shares(self) -> Shares:
        """What the HTTPRoute must carry now; nothing when none is asked for."""
        recorded = self.recorded
        if self.spec.gateway is None:
            return Shares()
        ready = {revision: seen.ready > 0 for revision, seen in self.revisions.items()}
        return shares(recorded.traffic, ready, recorded.stable.revision if recorded.stable is not None else None)

    @property
    def edge(self) -> Edge:
        """How the HTTPRoute stands."""
        return edge(self.spec.gateway, self.gateway, self.shares)

    @property
    def stable_seen(self) -> RevisionSeen | None:
        """Stable's Deployment, if it exists."""
        stable = self.recorded.stable
        return self.revisions.get(stable.revision) if stable else None

    @property
    def stable_lost(self) -> bool:
        """Whether stable has no ready pod."""
        seen = self.stable_seen
        return seen is None or seen.ready == 0

    @property
    def base_replicas(self) -> int:
        """Replicas that serve all the traffic: the spec's, or with an autoscaler what stable has now."""
        if self.spec.scaling is None:
            return self.spec.replicas
        seen = self.stable_seen
        return max(self.spec.scaling.min_replicas, seen.replicas if seen else 0)

    @property
    def whole(self) -> int:
        """Pods that serve all the traffic of the rollout: stable's at its start, or now if those are more.

        What stable has while it gives up pods is no measure under an autoscaler: each pod less would ask for the next.
        """
        rollout, scaling = self.recorded.rollout, self.spec.scaling
        if rollout is None:
            return self.base_replicas
        now = scaling.min_replicas if scaling is not None and rollout.replacing else self.base_replicas
        return max(rollout.stable_replicas, now)

    @property
    def following(self) -> frozenset[str]:
        """The routers (uids) that follow status.traffic as far as anybody knows: they confirm it, or they tell nothing
        and nothing speaks against it. While stable is lost, or another router does not follow, they may have sent
        requests elsewhere too."""
        told = {router.uid for router in self.routers if router.serves(self.recorded)}
        if self.stable_lost or any(router.answered and router.uid not in told for router in self.routers):
            return frozenset(told)
        return frozenset(told | {router.uid for router in self.routers if not router.answered})

    @property
    def at_once(self) -> int:
        """Places that a canary without room takes from stable at once: one, or a twentieth of many."""
        return max(1, -(-self.whole // 20))

    @property
    def confirmed_by_all(self) -> bool:
        """Whether every ready router and Gateway does what status.traffic asks for. While stable has no ready pod
        routers cannot, but know it."""
        recorded = self.recorded
        known = [router.traffic_version == recorded.traffic_version for router in self.routers]
        serve = known if self.stable_lost else [router.serves(recorded) for router in self.routers]
        return bool(serve) and all(serve) and self.edge.waiting is None

    def worth(self, weight: int) -> int:
        """The pods that a weight is the share of: the most that give no more percent than it has, in whole numbers."""
        return -(-(weight + 1) * self.whole // 100) - 1

    def replicas_for(self, weight: int) -> int:
        """Canary pods for a weight: ceil(weight x the whole / 100), at least one.

        At weight 0 those that its copies need. A canary that takes stable's place leaves stable one pod, unless there
        is only one.
        """
        rollout = self.recorded.rollout
        weight = weight or self.spec.analysis.copy_percent
        wanted = max(1, -(-weight * self.whole // 100))
        if rollout is not None and rollout.replacing and self.whole > 1:
            return min(wanted, self.whole - 1)
        return wanted
