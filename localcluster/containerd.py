"""Talking to a cluster's containerd: images in, and what its shims leave on the host."""

import hashlib
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.shell import run
from localcluster.state import State


def load(state: State, path: Path) -> None:
    """Imports a docker-archive into the cluster's containerd, unless this very file was imported before."""
    if not path.is_file():
        raise ClusterError(f"there is no image archive {path}")
    if not state.node:
        raise ClusterError(f"cluster {state.name!r} has no node to load images into (it was made with --no-node)")
    stat = path.stat()
    identity = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
    key = str(path.resolve())
    if state.images.get(key) == identity:
        return
    run(["ctr", "--address", state.layout.socket, "-n", "k8s.io", "images", "import", path], timeout=600)
    state.images[key] = identity
    state.save()


def shim_sockets(state: State) -> list[Path]:
    """Sockets in /run/containerd/s that this cluster's shims listen on."""
    tasks = state.layout.containerd / "state" / "io.containerd.runtime.v2.task"
    found = []
    for address in tasks.glob("*/*/address"):
        text = address.read_text().strip()
        if text.startswith("unix:///run/containerd/s/"):
            found.append(Path(text.removeprefix("unix://")))
    return found
