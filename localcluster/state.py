"""What is known of the clusters of this machine: one directory per cluster, found again by its name.

A cluster's state is written before anything of it is made, and everything it makes is derived from the state (names,
addresses) or lies below its directory. So `down` can clean up after any interruption.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from localcluster.addresses import Addresses, check_name, free_index
from localcluster.errors import ClusterError

ROOT = Path("/var/tmp/perennial-localcluster")
"""One fixed place, not the user's cache: indices must be unique on the machine."""


@dataclass
class State:
    """One cluster as recorded on disk."""

    name: str
    index: int
    gpus: int = 0
    fake_nodes: int = 0
    node: bool = True
    ready: bool = False
    images: dict[str, str] = field(default_factory=dict)
    """Path of an imported image archive -> which file it was (size, time, inode)."""

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.name, self.index)

    @property
    def layout(self) -> "Layout":
        return Layout(ROOT / self.name)

    def save(self) -> None:
        """Writes the state so that a reader sees the old or the new one, never half of it."""
        self.layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.layout.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(temporary, self.layout.state_file)


@dataclass(frozen=True)
class Layout:
    """Paths of one cluster, all below its directory."""

    root: Path

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for people and tests."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def cni(self) -> Path:
        return self.root / "config" / "cni"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pod-logs"

    @property
    def containerd(self) -> Path:
        return self.root / "containerd"

    @property
    def socket(self) -> Path:
        return self.root / "containerd" / "containerd.sock"

    @property
    def volumes(self) -> Path:
        """Directories behind the ready-made PersistentVolumes."""
        return self.root / "volumes"

    def directories(self) -> list[Path]:
        return [
            self.pki, self.config, self.cni, self.logs, self.pids, self.etcd, self.kubelet, self.pod_logs,
            self.containerd, self.volumes,
        ]  # fmt: skip


def load(name: str) -> State | None:
    """The recorded cluster of this name, or None."""
    path = ROOT / check_name(name) / "state.json"
    try:
        return State(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{path} cannot be read ({error}); remove the directory {path.parent} by hand") from error


def require(name: str) -> State:
    """The recorded cluster of this name; ClusterError when there is none."""
    state = load(name)
    if state is None:
        raise ClusterError(f"there is no cluster {name!r}; make it with `python -m localcluster up --name {name}`")
    return state


def names() -> list[str]:
    """Names of all recorded clusters."""
    return sorted(path.parent.name for path in ROOT.glob("*/state.json"))


def by_kubeconfig(path: Path) -> State | None:
    """The local cluster whose kubeconfig this is, or None when the file belongs to another cluster."""
    path = path.resolve()
    return load(path.parent.name) if path.parent.parent == ROOT and path.name == "kubeconfig" else None


def create(name: str, *, gpus: int, fake_nodes: int, node: bool) -> State:
    """Records a new cluster under the lowest free index."""
    _own_root()
    with lock("indices"):
        taken = {state.index for other in names() if (state := load(other)) is not None}
        state = State(name=name, index=free_index(taken), gpus=gpus, fake_nodes=fake_nodes, node=node)
        state.save()
    return state


@contextlib.contextmanager
def lock(what: str) -> Iterator[None]:
    """Holds a machine-wide lock; it is freed by the kernel when its holder dies."""
    _own_root()
    path = ROOT / ".locks" / what
    path.parent.mkdir(exist_ok=True)
    while True:
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _same_file(path, handle.fileno()):
                continue  # its last holder removed the file while we waited
            yield
            return


def forget_lock(what: str) -> None:
    """Removes the file of a lock; to be called by its holder only."""
    (ROOT / ".locks" / what).unlink(missing_ok=True)


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _own_root() -> None:
    """Makes the directory of all clusters, refusing one that somebody else put there (/var/tmp is open to all)."""
    ROOT.mkdir(mode=0o700, exist_ok=True)
    if ROOT.stat().st_uid != os.geteuid() or ROOT.is_symlink():
        raise ClusterError(f"{ROOT} belongs to another user; remove it and try again")
