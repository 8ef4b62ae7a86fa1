"""Binaries built from published Go modules, each once, kept in the user's cache.

Every binary has its own folder here with go.mod and go.sum; the cache key is those files, our sources and the version
of Go. A build is resumable (Go keeps what is compiled), two builders at once wait for each other, and a binary appears
only when it is whole.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.shell import run, say, tail

HERE = Path(__file__).parent
KUBERNETES_VERSION = "1.37.2"
KUBERNETES_DATE = "2026-10-27T12:01:04Z"
KUBERNETES_COMPONENTS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip
PROGRESS_SECONDS = 15.0


@dataclass(frozen=True)
class Source:
    """How one binary is built: the folder with its go.mod, the package, and what names it is called by."""

    folder: str
    package: str = "."
    tags: str = ""
    stamps: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def _kubernetes_stamps() -> tuple[str, ...]:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "published-module",
        "gitTreeState": "clean",
        "buildDate": KUBERNETES_DATE,
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{name}={value}" for package in packages for name, value in values.items())


SOURCES = {
    "kubernetes": Source("kubernetes", tags="providerless", stamps=_kubernetes_stamps(), names=KUBERNETES_COMPONENTS),
    "coredns": Source("coredns"),
    "kwok": Source("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "versitygw": Source("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
    "envoy-gateway": Source("envoygateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
}


def cache_root() -> Path:
    """The project's part of the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perennial"


@contextlib.contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """Holds one of the cache's locks; it is freed by the kernel when its holder dies."""
    path = cache_root() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory in `parent`, removed at the end; leftovers of interrupted makers with the same prefix go first.
    The caller holds the lock that keeps other makers out."""
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f".{prefix}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f".{prefix}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def binary(name: str) -> Path:
    """Path of a binary, built first if it is not in the cache. `name` is a key of SOURCES or, for Kubernetes, one of
    its components."""
    source_name = "kubernetes" if name in KUBERNETES_COMPONENTS else name
    if source_name not in SOURCES:
        known = ", ".join([*SOURCES, *KUBERNETES_COMPONENTS])
        raise ClusterError(f"there is no binary {name!r}; known are {known}")
    source = SOURCES[source_name]
    directory = cache_root() / "binaries" / f"{source_name}-{_key(source)}"
    path = directory / name
    if not path.exists():
        with cache_lock(f"build-{source_name}"):
            if not path.exists():
                _build(source_name, source, directory)
    return path


def module_folder(name: str, module: str) -> Path:
    """Where the published files of a module are that the binary `name` (a key of SOURCES) is built from; read-only."""
    folder = HERE / SOURCES[name].folder
    _go_version(folder)  # says what is missing where there is no Go
    told = run(["go", "mod", "download", "-json", module], cwd=folder, env=_environment(), timeout=600)
    return Path(json.loads(told)["Dir"])


def ldflags(source: Source) -> str:
    """The linker flags: no symbol tables, and the version stamps."""
    return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in source.stamps)])


def _key(source: Source) -> str:
    digest = hashlib.sha256()
    folder = HERE / source.folder
    for path in [folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*.go"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for text in (source.package, source.tags, ldflags(source), _go_version(folder)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def _go_version(folder: Path) -> str:
    if shutil.which("go") is None:
        raise ClusterError("Go was not found; install Go 1.26 or newer (https://go.dev/dl) to build the local cluster")
    return run(["go", "env", "GOVERSION"], cwd=folder, env=_environment()).strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""}


def _build(name: str, source: Source, directory: Path) -> None:
    folder = HERE / source.folder
    say(f"building {name} from published modules (once; it is kept in {directory})")
    total = len(run(["go", "list", "-deps", *_tags(source), source.package], cwd=folder, env=_environment()).split())
    with workspace(directory.parent, name) as temporary:
        started = time.monotonic()
        _compile(name, source, folder, temporary / name, total)
        for alias in source.names:
            (temporary / alias).symlink_to(name)
        if directory.exists():  # an earlier version of this folder without the wanted name
            shutil.rmtree(directory)
        os.replace(temporary, directory)
        say(f"built {name} in {time.monotonic() - started:.0f} s")


def _tags(source: Source) -> list[str]:
    return ["-tags", source.tags] if source.tags else []


def _compile(name: str, source: Source, folder: Path, output: Path, total: int) -> None:
    command = ["go", "build", "-v", "-p", str(max(1, os.cpu_count() or 1)), "-trimpath", "-buildvcs=false"]
    command += [*_tags(source), "-ldflags", ldflags(source), "-o", str(output), source.package]
    with subprocess.Popen(command, cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
        reader.start()
        started = time.monotonic()
        try:
            while reader.is_alive():
                reader.join(PROGRESS_SECONDS)
                if reader.is_alive():
                    _progress(name, len(lines), total, time.monotonic() - started)
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
    if status != 0:
        messages = [line for line in lines if " " in line] or lines  # -v prints bare package names between them
        raise ClusterError(f"building {name} failed: {tail(''.join(messages))}")


def _progress(name: str, compiled: int, total: int, seconds: float) -> None:
    minutes, rest = divmod(int(seconds), 60)
    say(f"  building {name}: {minutes}:{rest:02d}, {compiled} packages compiled (at most {total})")
