"""Digests of files and trees, as design "Data identity" defines them. Local files only; no network."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from perennial.steps.errors import DataProblem

CHUNK = 1 << 20
WORKERS = 8


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree. path: relative, with `/`; sha256: hex; size: bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Files with their common digest (`sha256:<hex>`). single: the digest is that of the one file's bytes."""

    files: tuple[File, ...]
    single: bool = False

    @property
    def digest(self) -> str:
        """Of a file: sha256 of its bytes; of a tree: see `tree_digest`."""
        if self.single:
            return f"sha256:{self.files[0].sha256}"
        return tree_digest((file.path, file.sha256) for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def tree_digest(entries: Iterable[tuple[str, str]]) -> str:
    """sha256 of the lines `<sha256>  <path>\\n`, sorted by the path's bytes, of (path, sha256 hex) pairs."""
    lines = sorted((path.encode(), sha256) for path, sha256 in entries)
    listing = b"".join(sha256.encode() + b"  " + path + b"\n" for path, sha256 in lines)
    return "sha256:" + hashlib.sha256(listing).hexdigest()


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def regular_files(root: Path, skip: Callable[[str], bool] = lambda path: False) -> list[str]:
    """Relative paths of the regular files below `root`, sorted; `skip` leaves paths out.

    DataProblem for a symbolic link or special file: a link could point at what its writer must not read, such as this
    container's own environment.
    """
    found = []
    for folder, folders, names in os.walk(root):
        for name in [*names, *folders]:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise DataProblem(
                    f"{relative} is a link or no regular file; only regular files can be read or published"
                )
            if not skip(relative):
                found.append(relative)
    return sorted(found)


def local_tree(root: Path, paths: Sequence[str] | None = None) -> Tree:
    """The Tree of a local file or folder (of the given relative paths only, when there are some)."""
    if root.is_file() and not root.is_symlink():
        return Tree((File(root.name, sha256_of(root), root.stat().st_size),), single=True)
    chosen = regular_files(root) if paths is None else list(paths)
    with ThreadPoolExecutor(WORKERS) as pool:
        sums = list(pool.map(lambda path: sha256_of(root / path), chosen))
    return Tree(
        tuple(File(path, sha256, (root / path).stat().st_size) for path, sha256 in zip(chosen, sums, strict=True))
    )
