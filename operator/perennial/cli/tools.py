"""What the commands need from the outside, handed in by `app/entry.py`. Must not import an adapter."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from perennial.ports import ObjectStore


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster to talk to, and the namespace that commands use when none is given.

    who: the name by which the API server knows the caller.
    """

    store: ObjectStore
    namespace: str
    who: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: the options every command has."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """connect: opens a cluster. digest: (digest, bytes) of a file, directory or store URI."""

    connect: Callable[[Target], AbstractAsyncContextManager[Connection]]
    digest: Callable[[str], tuple[str, int]]
