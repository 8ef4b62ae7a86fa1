"""What is said to and heard from a Git repository, as plain values. Must not know how git is run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class GitRemote:
    """A repository and what opens it. `secret` holds the keys of the Secret; it is never printed."""

    url: str
    secret: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class GitReference:
    """What to follow in a repository."""

    kind: Literal["branch", "tag", "semver", "name", "commit"]
    value: str


@dataclass(frozen=True, slots=True)
class GitFile:
    """One entry of a tree below the asked path; `path` counts from the repository's root, `mode` as git writes it."""

    path: str
    blob: str
    mode: str


@dataclass(frozen=True, slots=True)
class GitHistory:
    """Trailers (key, value) of the commits after one commit, newest first; reached: False when that one is not in the
    branch's history (it was rewritten): then these are the trailers of all of it, as far as it was read."""

    trailers: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    reached: bool


@dataclass(frozen=True, slots=True)
class GitChange:
    """A commit to be made: new contents by path (None removes the file) on top of `parent`."""

    parent: str
    files: Mapping[str, bytes | None]
    message: str
    author_name: str
    author_email: str
    time: datetime
