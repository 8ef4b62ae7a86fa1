"""Wheels for images: downloaded or built outside of the image, once per set of pinned requirements."""

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from localcluster.binaries import cache_lock, cache_root, workspace
from localcluster.errors import ClusterError
from localcluster.shell import run, say

PYTHON = (3, 11)
"""The Python of the images; wheels are made for the Python that runs the driver, so it must be the same."""


def pinned(lock: Path) -> list[str]:
    """The requirement lines of a lock file, without comments; every one must name its version."""
    lines = [line.split("#")[0].strip() for line in lock.read_text().splitlines()]
    lines = [line for line in lines if line]
    if loose := [line for line in lines if "==" not in line]:
        raise ClusterError(f"{lock}: {loose[0]!r} names no version; write NAME==VERSION (uv pip compile does)")
    return lines


def directory(requirements: Sequence[str]) -> Path:
    """A directory with one wheel per pinned requirement, from the cache or filled now. Nothing is resolved: the
    requirements must be complete."""
    _check_python()
    key = hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:16]
    path = cache_root() / "wheels" / key
    if path.exists():
        return path
    with cache_lock("wheels"):
        if not path.exists():
            say(f"fetching {len(requirements)} wheels (once)")
            _fill(path, ["--no-deps", *requirements])
    return path


def of_project(root: Path, sources: Iterable[Path]) -> Path:
    """The wheel of a project of ours, keyed by the content of `sources` (files and directories below root)."""
    _check_python()
    path = cache_root() / "wheels" / f"{root.name}-{content_key(sources)}"
    if not path.exists():
        with cache_lock("wheels"):
            if not path.exists():
                _fill(path, ["--no-deps", str(root)])
    return next(path.glob("*.whl"))


def content_key(paths: Iterable[Path]) -> str:
    """A digest of names, modes and contents of files and directories; caches of Python are left out."""
    digest = hashlib.sha256()
    for top in paths:
        for path in sorted(files(top)):
            name = path.relative_to(top.parent)
            digest.update(f"{name}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def files(top: Path) -> list[Path]:
    """A file, or the files below a directory that belong into an image."""
    if top.is_file():
        return [top]
    if not top.is_dir():
        raise ClusterError(f"there is no file or directory {top}")
    return [p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def _fill(path: Path, arguments: Sequence[str]) -> None:
    with workspace(path.parent, "new") as temporary:
        run([*_pip(), "wheel", "--quiet", "--wheel-dir", temporary, *arguments], timeout=1800)
        os.replace(temporary, path)


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def _check_python() -> None:
    if sys.version_info[:2] != PYTHON:
        have, want = (".".join(map(str, v)) for v in (sys.version_info[:2], PYTHON))
        raise ClusterError(f"images are made from wheels for Python {want} but this is Python {have}; use python{want}")
