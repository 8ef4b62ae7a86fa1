"""Which cluster to use: the order of choice, in one place.

1. the kubeconfig named by PERENNIAL_KUBECONFIG (never the user's current context by accident);
2. Docker reachable: a kind cluster;
3. Linux as root: a local cluster built from published Go modules.
"""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import lifecycle, state
from localcluster.binaries import cache_root
from localcluster.errors import ClusterError
from localcluster.shell import run, say, succeeds

VARIABLE = "PERENNIAL_KUBECONFIG"


@dataclass(frozen=True)
class Cluster:
    """A cluster to use. `how` is explicit, kind or local; `started` tells that this call made it."""

    kubeconfig: Path
    how: str
    name: str
    started: bool

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "kubeconfig": str(self.kubeconfig)}


def ensure(name: str, *, gpus: int = 2, fake_nodes: int = 0) -> Cluster:
    """Finds or makes the cluster to use by the order of choice; ClusterError says what to install when none can be."""
    explicit = os.environ.get(VARIABLE)
    if explicit:
        path = Path(explicit)
        if not path.is_file():
            raise ClusterError(f"{VARIABLE} names {explicit}, which is no file; correct it or unset it")
        known = state.by_kubeconfig(path)
        return Cluster(path, "explicit", known.name if known else "", started=False)
    if docker_reachable():
        if shutil.which("kind"):
            return _kind(name, gpus)
        say("Docker is reachable but kind was not found; trying a local cluster")
    if reason := lifecycle.supported():
        raise ClusterError(
            f"no cluster to use: {VARIABLE} is not set, Docker with kind is not available, and a local cluster cannot "
            f"run here ({reason}); install Docker and kind, or run as root on Linux, or name a kubeconfig"
        )
    known = state.load(name)
    started = known is None or not lifecycle.healthy(known)
    made = lifecycle.up(name, gpus=gpus, fake_nodes=fake_nodes)
    return Cluster(made.layout.kubeconfig, "local", name, started)


def docker_reachable() -> bool:
    """Whether a Docker daemon answers."""
    return succeeds(["docker", "info"], timeout=10)


def kind_name(name: str) -> str:
    """Name of the kind cluster that plays the cluster `name`."""
    return f"perennial-{name}"


def kind_clusters() -> list[str]:
    """Names of the kind clusters that this driver made, as the driver knows them."""
    if not shutil.which("kind") or not docker_reachable():
        return []
    return [line.removeprefix("perennial-") for line in run(["kind", "get", "clusters"]).split() if
            line.startswith("perennial-")]  # fmt: skip


def kind_kubeconfig(name: str) -> Path:
    """Where the kubeconfig of a kind cluster is kept."""
    return cache_root() / "kind" / f"{name}.kubeconfig"


def _kind(name: str, gpus: int) -> Cluster:
    path = kind_kubeconfig(name)
    started = name not in kind_clusters()
    path.parent.mkdir(parents=True, exist_ok=True)
    if started:
        say(f"making kind cluster {kind_name(name)}")
        run(["kind", "create", "cluster", "--name", kind_name(name), "--kubeconfig", path, "--wait", "120s"])
    else:
        run(["kind", "export", "kubeconfig", "--name", kind_name(name), "--kubeconfig", path])
    if gpus:
        node = f"{kind_name(name)}-control-plane"
        patch = f'[{{"op":"add","path":"/status/capacity/nvidia.com~1gpu","value":"{gpus}"}}]'
        run(["docker", "exec", node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "patch", "node", node,
             "--subresource=status", "--type=json", "-p", patch])  # fmt: skip
    return Cluster(path, "kind", name, started)


def remove_kind(name: str) -> bool:
    """Deletes the kind cluster of this name; False if there is none."""
    if name not in kind_clusters():
        return False
    run(["kind", "delete", "cluster", "--name", kind_name(name)])
    kind_kubeconfig(name).unlink(missing_ok=True)
    return True
