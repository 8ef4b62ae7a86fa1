"""Reading a GitSync's repository: credentials, head, and the documents of a commit. Must not write anywhere."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from perennial.api import kinds
from perennial.domain.authors import Author
from perennial.domain.errors import Forbidden, Stalled
from perennial.domain.sync.documents import Document, ParsedFile, SourceError, parse_file, too_large
from perennial.domain.sync.repository import GitReference, GitRemote
from perennial.domain.sync.selection import select
from perennial.domain.sync.spec import SyncSpec
from perennial.ports import GitRepository, ObjectStore

Parsed = Mapping[tuple[str, str], ParsedFile]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manifests of one commit. `files` is path -> blob; `parsed` is kept so that the next commit reuses it."""

    commit: str
    documents: tuple[Document, ...]
    errors: tuple[SourceError, ...]
    files: Mapping[str, str]
    archived: frozenset[str]
    parsed: Parsed = field(repr=False, default_factory=dict)


class Source:
    """Reads repositories on behalf of GitSyncs."""

    def __init__(self, git: GitRepository) -> None:
        self._git = git

    async def remote(self, store: ObjectStore, spec: SyncSpec, secret: str | None) -> GitRemote:
        """The repository with what opens it; the Secret is read with the rights of the GitSync's account."""
        if secret is None:
            return GitRemote(spec.url, {}, spec.timeout_seconds)
        acting = store.acting_as(spec.namespace, spec.acting_account)
        try:
            found = await acting.get(kinds.SECRET, spec.namespace, secret)
        except Forbidden as refused:
            raise Stalled(
                "SecretForbidden", f"account {spec.acting_account} may not read Secret {secret}: {refused.message}"
            ) from refused
        if found is None:
            raise Stalled("SecretNotFound", f"Secret {secret} does not exist in {spec.namespace}: create it")
        data = {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        data.update({key: value.encode() for key, value in (found.get("stringData") or {}).items()})
        return GitRemote(spec.url, data, spec.timeout_seconds)

    async def head(self, remote: GitRemote, spec: SyncSpec) -> str:
        """The commit that spec.ref names now."""
        kind, value = spec.ref
        return await self._git.head(remote, GitReference(kind, value))  # type: ignore[arg-type]

    async def authors(self, remote: GitRemote, commit: str, since: str | None) -> tuple[Author, ...]:
        """Who wrote the commits after `since` up to `commit`."""
        return await self._git.authors(remote, commit, since)

    async def snapshot(self, remote: GitRemote, spec: SyncSpec, commit: str, known: Parsed) -> Snapshot:
        """The documents of a commit; files whose blob was parsed before are not read again."""
        tree = await self._git.files(remote, commit, spec.path)
        chosen = select(tree, spec.path, spec.ignore)
        new = [file.blob for file in chosen.files if (file.path, file.blob) not in known]
        contents = await self._git.read(remote, commit, spec.path, new)
        parsed = await asyncio.to_thread(
            lambda: {
                (file.path, file.blob): known.get((file.path, file.blob)) or _parse(file.path, contents[file.blob])
                for file in chosen.files
            }
        )
        documents = tuple(document for result in parsed.values() for document in result.documents)
        errors = tuple(result.error for result in parsed.values() if result.error is not None)
        return Snapshot(
            commit=commit,
            documents=documents,
            errors=chosen.errors + errors,
            files={file.path: file.blob for file in chosen.files},
            archived=frozenset(file.path for file in chosen.archived),
            parsed=parsed,
        )


def _parse(path: str, data: bytes | None) -> ParsedFile:
    return ParsedFile(error=too_large(path)) if data is None else parse_file(path, data)
