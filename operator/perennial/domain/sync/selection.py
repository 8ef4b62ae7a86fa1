"""Which files of a tree are manifests of a GitSync, and which entries are refused. Pure: names and modes only."""

from collections.abc import Iterable
from dataclasses import dataclass

import pathspec

from perennial.domain.sync.documents import SourceError
from perennial.domain.sync.repository import GitFile

VERSIONS = "versions"
ARCHIVE = f"{VERSIONS}/archive"
_SUFFIXES = (".yaml", ".yml")
_REFUSED_MODES = {"120000": "a symbolic link", "160000": "a submodule"}


@dataclass(frozen=True, slots=True)
class Selection:
    """The manifests to read (with every archived record apart), and what was refused."""

    files: tuple[GitFile, ...]
    archived: tuple[GitFile, ...]
    errors: tuple[SourceError, ...]


def select(tree: Iterable[GitFile], path: str, ignore: str) -> Selection:
    """Choose among the entries below `path`; `ignore` has gitignore's syntax, relative to `path`."""
    patterns = pathspec.GitIgnoreSpec.from_lines(ignore.splitlines())
    prefix = "" if path == "." else f"{path}/"
    files: list[GitFile] = []
    archived: list[GitFile] = []
    errors: list[SourceError] = []
    for file in tree:
        below = file.path.removeprefix(prefix)
        if ignore and patterns.match_file(below):
            continue
        if not _is_text(file.path):
            if file.mode in _REFUSED_MODES or below.endswith(_SUFFIXES):
                message = "its name is not UTF-8: rename it, or leave its folder out with spec.ignore"
                errors.append(SourceError(_shown(file.path), 0, message))
        elif file.mode in _REFUSED_MODES:
            what = _REFUSED_MODES[file.mode]
            message = f"it is {what}, which is never followed: commit the file itself, or name it in spec.ignore"
            errors.append(SourceError(file.path, 0, message))
        elif below.endswith(_SUFFIXES):
            (archived if below.startswith(f"{ARCHIVE}/") else files).append(file)
    return Selection(tuple(files), tuple(archived), tuple(errors))


def _is_text(name: str) -> bool:
    """Whether a name was UTF-8 in Git; what was not stands in it as lone surrogates, which no API can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="replace")


def below(path: str, name: str) -> str:
    """The repository path of `name` below a GitSync's path."""
    return name if path == "." else f"{path}/{name}"
