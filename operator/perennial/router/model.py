"""What the router must do, as frozen data: which deployments there are, their weights, and who can answer.

Pure: `follow.py` makes a Snapshot from the API server, `envoy.py` renders it, `apply.py` brings it into Envoy.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.rollout.gateway import answering_shares

_GRPC = "-grpc"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One ready pod of a revision."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Share:
    """A revision (hash8) and its weight in status.traffic, 0 to 100."""

    revision: str
    weight: int


@dataclass(frozen=True, slots=True, order=True)
class WindowSpec:
    """How counters are cut for a DriftPolicy: windows of `seconds`, aligned to the epoch plus `offset`."""

    seconds: int
    offset: int

    def start_of(self, moment: float) -> int:
        """The epoch second at which the window that holds `moment` begins."""
        return int((moment - self.offset) // self.seconds) * self.seconds + self.offset


@dataclass(frozen=True, slots=True)
class Deployment:
    """One ModelDeployment, as far as the router is concerned. versions: revision -> name of its ModelVersion.

    served_names: revision -> the model's name at its servers, where that is not the deployment's.
    grpc_revisions: those whose servers take gRPC on a port of its own, sorted.
    canary: the revision that a request may ask for by header, beside stable; None: no request may choose, because
    spec.traffic.override is off, nothing is rolled out, or the canary is being withdrawn.
    copies_to: the canary that gets a copy of copy_percent of the requests while it has no weight; None: none does.
    predictions: whether a rollout compares the predictions of canary and stable.
    """

    name: str
    traffic_version: int = 0
    traffic: tuple[Share, ...] = ()
    stable: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: int = 60
    retries: int = 0
    sample_percent: int = 100
    max_body_bytes: int = 65536
    max_rows: int = 32
    latency_limit_ms: int | None = None
    windows: tuple[WindowSpec, ...] = ()
    served_names: Mapping[str, str] = field(default_factory=dict)
    grpc_revisions: tuple[str, ...] = ()
    canary: str | None = None
    sticky_header: str | None = None
    copies_to: str | None = None
    copy_percent: int = 0
    predictions: bool = False

    @property
    def compared(self) -> str | None:
        """The canary whose predictions are counted beside stable's; None when that is not asked for, or none has weight
        or gets copies: arms are compared on concurrent traffic only.
        """
        if not self.predictions:
            return None
        weighty = [share.revision for share in self.traffic if share.weight]
        return next((r for r in weighty if r != self.stable), self.copies_to) if self.stable in weighty else None

    def cluster(self, revision: str) -> str:
        """The name of the revision's Envoy cluster, which is also that of its Service."""
        return cluster_name(self.name, revision)

    def own_grpc(self, revisions: Iterable[str | None]) -> bool:
        """Whether one of these revisions takes gRPC on a port of its own."""
        return any(revision in self.grpc_revisions for revision in revisions)

    def clusters_of(self, revision: str, cluster: str) -> set[str]:
        """That cluster of a revision, and the one for gRPC beside it where the revision has such a port."""
        return {cluster, grpc_name(cluster)} if self.own_grpc([revision]) else {cluster}

    def arms_to_pick(self) -> dict[str, str]:
        """What a request may ask for by header, as header value -> revision; empty: no request may choose."""
        if self.canary is None or self.stable is None or self.canary == self.stable:
            return {}
        return {"canary": self.canary, "stable": self.stable}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole namespace. endpoints: cluster name -> ready endpoints, also of revisions without traffic.

    baselines: ModelVersion name -> spec.baseline as stored, None when the version has none.
    """

    namespace: str
    deployments: tuple[Deployment, ...] = ()
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def clusters(self) -> set[str]:
        """The clusters that status.traffic names, weight 0 included: a canary's cluster warms before its first step.
        And those of the revisions that requests may ask for, or that get copies.
        """
        return set().union(*(_clusters(deployment) for deployment in self.deployments))

    def endpoints_of(self, cluster: str) -> tuple[Endpoint, ...]:
        """The ready pods behind a cluster: of the revision itself, or of the one that is chosen or gets copies."""
        other = split_pick(cluster) or split_copy(cluster)
        if other is None:
            return self.endpoints.get(cluster, ())
        own = cluster_name(*other)
        return self.endpoints.get(grpc_name(own) if is_grpc(cluster) else own, ())

    def find(self, name: str) -> Deployment | None:
        """The deployment of that name."""
        return next((d for d in self.deployments if d.name == name), None)


def cluster_name(deployment: str, revision: str) -> str:
    """`<mdep>-rev-<hash8>`; deployment names never contain `-rev-`, so it can be taken apart again."""
    return f"{deployment}-rev-{revision}"


def split_cluster(cluster: str) -> tuple[str, str] | None:
    """(deployment, revision) of a cluster name; None for a cluster that is not a revision's."""
    deployment, separator, revision = cluster.removesuffix(_GRPC).partition("-rev-")
    return (deployment, revision) if separator else None


def grpc_name(cluster: str) -> str:
    """`<cluster>-grpc`: the same pods on their port for gRPC. The name can be taken apart like the other's."""
    return cluster + _GRPC


def is_grpc(cluster: str) -> bool:
    """Whether that is the cluster of a port for gRPC."""
    return cluster.endswith(_GRPC)


def pick_name(deployment: str, revision: str) -> str:
    """`<mdep>-pick-<hash8>`: the cluster for requests that ask for the revision by header. It has the revision's pods,
    but statistics of its own: chosen requests are not random ones, so no verdict may rest on them.
    """
    return f"{deployment}-pick-{revision}"


def split_pick(cluster: str) -> tuple[str, str] | None:
    """(deployment, revision) of the name of a cluster for chosen requests; None for any other cluster."""
    return _split_last(cluster, "-pick-")


def copy_name(deployment: str, revision: str) -> str:
    """`<mdep>-copy-<hash8>`: the cluster for copies of requests, whose answers nobody gets."""
    return f"{deployment}-copy-{revision}"


def split_copy(cluster: str) -> tuple[str, str] | None:
    """(deployment, revision) of the name of a cluster for copies; None for any other cluster."""
    return _split_last(cluster, "-copy-")


def _clusters(deployment: Deployment) -> set[str]:
    name = deployment.name
    revisions = [(share.revision, deployment.cluster(share.revision)) for share in deployment.traffic]
    revisions += [(revision, pick_name(name, revision)) for revision in deployment.arms_to_pick().values()]
    if deployment.copies_to:
        revisions.append((deployment.copies_to, copy_name(name, deployment.copies_to)))
    return set().union(*(deployment.clusters_of(revision, cluster) for revision, cluster in revisions))


def _split_last(cluster: str, word: str) -> tuple[str, str] | None:
    if split_cluster(cluster) is not None:
        return None
    deployment, separator, revision = cluster.removesuffix(_GRPC).rpartition(word)
    return (deployment, revision) if separator and "-" not in revision else None


def snapshot_from_json(raw: Mapping[str, Any]) -> Snapshot:
    """A Snapshot from its JSON, as orjson writes it. KeyError or TypeError when the file is of another shape."""
    deployments = tuple(
        Deployment(
            **{
                **item,
                "traffic": tuple(Share(**share) for share in item["traffic"]),
                "windows": tuple(WindowSpec(**window) for window in item["windows"]),
                "grpc_revisions": tuple(item["grpc_revisions"]),
            }
        )
        for item in raw["deployments"]
    )
    endpoints = {name: tuple(Endpoint(**e) for e in items) for name, items in raw["endpoints"].items()}
    return Snapshot(raw["namespace"], deployments, endpoints, raw["baselines"])


def effective_weights(deployment: Deployment, ready: Set[str]) -> dict[str, int]:
    """Weights that send nothing to a revision that cannot answer; `ready` holds cluster names.

    The share of an unready revision goes to stable; when stable cannot answer either, to the ready revision with the
    largest share (StableLost). With nobody ready the wanted weights stay: Envoy then says 503 by itself.
    Empty when status.traffic is.
    """
    wanted = {share.revision: share.weight for share in deployment.traffic}
    answering = [r for r in wanted if deployment.clusters_of(r, deployment.cluster(r)) <= ready]
    return answering_shares(wanted, answering, deployment.stable)


def effective_picks(deployment: Deployment, ready: Set[str]) -> dict[str, str]:
    """What requests may ask for now, as header value -> revision: only what can answer. `ready` holds cluster names."""
    asked = deployment.arms_to_pick()
    return {w: r for w, r in asked.items() if deployment.clusters_of(r, pick_name(deployment.name, r)) <= ready}


def effective_copies(deployment: Deployment, ready: Set[str]) -> str | None:
    """The revision that gets copies now; None when none does, it cannot answer, or it stands in for stable and
    gets the requests themselves. `ready` holds cluster names.
    """
    revision = deployment.copies_to
    if revision is None or not deployment.clusters_of(revision, copy_name(deployment.name, revision)) <= ready:
        return None
    return None if effective_weights(deployment, ready).get(revision) else revision
