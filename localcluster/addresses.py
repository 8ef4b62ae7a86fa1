"""Addresses and names of a cluster, all derived from its name and its index; pure.

Cluster I lives in 10.243.I.0/30 (one veth pair: the host's end and the node), 10.244.I.0/24 (pods) and
10.(96+I).0.0/16 (Services), so clusters with different indices never meet.
"""

import re
from dataclasses import dataclass

from localcluster.errors import ClusterError

MAX_CLUSTERS = 100
"""Indices 0..99: above, the Service range 10.(96+I) would run into 10.243."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")


def check_name(name: str) -> str:
    """Returns the name if it can name a cluster, else raises ClusterError."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"cluster name {name!r} is not allowed: use 1 to 20 lower-case letters, digits and '-', "
            "beginning and ending with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class Addresses:
    """Where the parts of the cluster with this index are found."""

    name: str
    index: int

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 0 <= self.index < MAX_CLUSTERS:
            raise ClusterError(f"cluster index {self.index} is not in 0..{MAX_CLUSTERS - 1}")

    @property
    def host_ip(self) -> str:
        return f"10.243.{self.index}.1"

    @property
    def node_ip(self) -> str:
        """Address of the node and of the API server, reachable from the host."""
        return f"10.243.{self.index}.2"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def dns_ip(self) -> str:
        """Address of the pod bridge, where CoreDNS listens."""
        return f"10.244.{self.index}.1"

    @property
    def service_cidr(self) -> str:
        return f"10.{96 + self.index}.0.0/16"

    @property
    def api_service_ip(self) -> str:
        return f"10.{96 + self.index}.0.1"

    @property
    def server(self) -> str:
        return f"https://{self.node_ip}:6443"

    @property
    def namespace(self) -> str:
        """Name of the network namespace."""
        return f"perennial-{self.name}"

    @property
    def host_veth(self) -> str:
        return f"perennial{self.index}"

    @property
    def node_veth(self) -> str:
        return f"node{self.index}"

    @property
    def node_name(self) -> str:
        return f"perennial-{self.name}"

    @property
    def cgroup(self) -> str:
        """Cgroup below each hierarchy's root that holds all pods of this cluster."""
        return f"perennial-{self.name}"


def free_index(taken: set[int]) -> int:
    """The lowest index that no other cluster has."""
    for index in range(MAX_CLUSTERS):
        if index not in taken:
            return index
    raise ClusterError(f"all {MAX_CLUSTERS} places for local clusters are taken; remove some with `down --name NAME`")
