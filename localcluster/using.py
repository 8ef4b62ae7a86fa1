"""Using a cluster for the length of a run: found or made at the beginning, stopped at the end by the last user if a
user made it. Several processes (pytest workers, a benchmark beside them) may use one cluster."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from localcluster import archive, choose, images, lifecycle, packages, state
from localcluster.binaries import binary, cache_root
from localcluster.images import Image
from localcluster.shell import run

KEEP = "PERENNIAL_KEEP_CLUSTER"


@dataclass(frozen=True)
class Running:
    """A running cluster: `kubeconfig` of its administrator, `how` it was found (explicit, kind, local), its `name`."""

    kubeconfig: Path
    how: str
    name: str

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Runs kubectl and returns its standard output; ClusterError with kubectl's message when it fails.

        A local cluster has its own kubectl of the same version; for others one that is installed is good enough.
        """
        installed = None if state.by_kubeconfig(self.kubeconfig) else which("kubectl")
        program = installed or binary("kubectl")
        return run([program, f"--kubeconfig={self.kubeconfig}", *arguments], stdin=stdin, timeout=timeout)

    def load(self, *built: Image) -> None:
        """Builds images as needed and loads them into the nodes."""
        images.load(self._cluster, *built)

    def load_archives(self, archives: Sequence[Path]) -> None:
        """Loads image archives (docker-archive) into the nodes."""
        for path in archives:
            images.load_archive(self._cluster, path)

    def load_busybox(self) -> str:
        """Loads the small test image and returns its tag."""
        packages.install({"/bin/busybox": "busybox-static"})
        self.load_archives([archive.busybox(cache_root() / "images")])
        return archive.BUSYBOX_IMAGE

    @property
    def _cluster(self) -> choose.Cluster:
        return choose.Cluster(self.kubeconfig, self.how, self.name, started=False)


@contextlib.contextmanager
def using(name: str, *, gpus: int = 2, fake_nodes: int = 0) -> Iterator[Running]:
    """The cluster to use by the order of choice; fake nodes only in a local one that this call makes.

    One that this or another user made is stopped when the last user leaves, unless PERENNIAL_KEEP_CLUSTER is set.
    """
    path = _users(name)
    with path.open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        cluster = choose.ensure(name, gpus=gpus, fake_nodes=fake_nodes)
        if cluster.started:
            users.write(f"{cluster.how}\n")
            users.flush()
        try:
            yield Running(cluster.kubeconfig, cluster.how, cluster.name)
        finally:
            _leave(users.fileno(), path, name)


def stop_abandoned(name: str, patience: float) -> None:
    """Stops a cluster whose users were killed, half made or whole.

    Users have `patience` seconds to leave by themselves; one that stays will stop the cluster when it leaves.
    """
    path = _users(name)
    deadline = time.monotonic() + patience
    with path.open("a+") as users:
        while not _alone(users.fileno()):
            if time.monotonic() > deadline:
                return
            time.sleep(0.2)
        half = state.load(name)
        if half is not None and not half.ready:
            lifecycle.down(name)
        _leave(users.fileno(), path, name)


def _users(name: str) -> Path:
    """The file that every user of a cluster holds locked, shared; it tells how the cluster was made, if a user did."""
    path = cache_root() / "locks" / f"users-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _alone(users: int) -> bool:
    """Whether nobody else uses the cluster; nobody can from then on until the file is closed."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leave(users: int, path: Path, name: str) -> None:
    if not _alone(users):
        return  # somebody else still uses it, and will stop it
    made = path.read_text().split()
    if made and not os.environ.get(KEEP):
        if "kind" in made:
            choose.remove_kind(name)
        else:
            lifecycle.down(name)
    os.truncate(path, 0)
