"""A GitRepository that counts what is asked of it, for the metrics. Must not change what is asked or answered."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from perennial.domain.authors import Author
from perennial.domain.errors import PerennialError
from perennial.domain.sync.repository import GitChange, GitFile, GitHistory, GitReference, GitRemote
from perennial.ports import GitRepository
from perennial.runtime.metrics import GIT_OPERATIONS_TOTAL

ResultT = TypeVar("ResultT")


async def _counted(verb: str, work: Awaitable[ResultT]) -> ResultT:
    try:
        result = await work
    except PerennialError as failure:
        GIT_OPERATIONS_TOTAL.labels(verb, failure.reason).inc()
        raise
    GIT_OPERATIONS_TOTAL.labels(verb, "ok").inc()
    return result


class CountedRepository:
    """Implements `ports.GitRepository` around another one."""

    def __init__(self, inner: GitRepository) -> None:
        self._inner = inner

    async def head(self, remote: GitRemote, ref: GitReference) -> str:
        """See GitRepository."""
        return await _counted("head", self._inner.head(remote, ref))

    async def files(self, remote: GitRemote, commit: str, path: str) -> tuple[GitFile, ...]:
        """See GitRepository."""
        return await _counted("files", self._inner.files(remote, commit, path))

    async def read(self, remote: GitRemote, commit: str, path: str, blobs: Sequence[str]) -> dict[str, bytes | None]:
        """See GitRepository."""
        return await _counted("read", self._inner.read(remote, commit, path, blobs))

    async def history(self, remote: GitRemote, head: str, since: str) -> GitHistory:
        """See GitRepository."""
        return await _counted("history", self._inner.history(remote, head, since))

    async def authors(self, remote: GitRemote, head: str, since: str | None) -> tuple[Author, ...]:
        """See GitRepository."""
        return await _counted("authors", self._inner.authors(remote, head, since))

    async def commit(self, remote: GitRemote, path: str, change: GitChange) -> str:
        """See GitRepository."""
        return await _counted("commit", self._inner.commit(remote, path, change))

    async def push(self, remote: GitRemote, path: str, branch: str, commit: str, parent: str) -> None:
        """See GitRepository."""
        await _counted("push", self._inner.push(remote, path, branch, commit, parent))
