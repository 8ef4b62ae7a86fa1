"""Talking to a cluster's containerd: images in, and what its shims leave on the host."""

from pathlib import Path

from localcluster import state
from localcluster.errors import ClusterError
from localcluster.shell import run
from localcluster.state import State


def load(name: str, path: Path) -> None:
    """Imports a docker-archive into the containerd of a running cluster, unless this very file was imported before."""
    with state.lock(f"cluster-{name}"):
        import_archive(state.require(name), path)


def import_archive(known: State, path: Path) -> None:
    """`load` for the holder of the cluster's lock."""
    if not path.is_file():
        raise ClusterError(f"there is no image archive {path}")
    if not known.node:
        raise ClusterError(f"cluster {known.name!r} has no node to load images into (it was made with --no-node)")
    stat = path.stat()
    identity = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    key = str(path.resolve())
    if known.images.get(key) == identity:
        return
    run(["ctr", "--address", known.layout.socket, "-n", "k8s.io", "images", "import", path], timeout=600)
    known.images[key] = identity
    known.save()


def shim_sockets(known: State) -> list[Path]:
    """Sockets in /run/containerd/s that this cluster's shims listen on."""
    tasks = known.layout.containerd / "state" / "io.containerd.runtime.v2.task"
    found = []
    for address in tasks.glob("*/*/address"):
        text = address.read_text().strip()
        if text.startswith("unix:///run/containerd/s/"):
            found.append(Path(text.removeprefix("unix://")))
    return found
