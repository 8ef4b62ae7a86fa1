"""What controllers need from the outside, as Protocols. Adapters implement them; component tests use in-memory ones.

Must not import an adapter or a third-party client. All methods raise only errors of `perennial.domain.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from perennial.api.kinds import Kind
from perennial.domain.authors import Author
from perennial.domain.decision import EventNote, JsonObject
from perennial.domain.sync.repository import GitChange, GitFile, GitHistory, GitReference, GitRemote


@dataclass(frozen=True, slots=True)
class PatchTarget:
    """Which object a merge patch may touch; `uid` and `resource_version` are preconditions when given."""

    kind: Kind
    namespace: str
    name: str
    uid: str | None = None
    resource_version: str | None = None


class ObjectStore(Protocol):
    """The Kubernetes API, dicts in and out. 404 is None/False, never an error, in get and delete."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject | None:
        """A live read (quorum); None when it does not exist."""

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[JsonObject]:
        """A live list; `labels` is a label selector; namespace None means every watched namespace."""

    async def create(self, obj: Mapping[str, Any], *, manager: str, dry_run: bool = False) -> JsonObject:
        """POST. Conflict(reason="AlreadyExists") when the name exists; Invalid, Forbidden as the server says."""

    async def apply(
        self, obj: Mapping[str, Any], *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> JsonObject:
        """Server-side apply (creates when absent). Conflict on a field or resourceVersion conflict.

        metadata.uid and metadata.resourceVersion inside `obj` are preconditions. subresource: "" or "status".
        """

    async def patch(
        self, target: PatchTarget, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> JsonObject | None:
        """JSON merge patch (removes keys set to None); None when the object is gone."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None, grace_seconds: int | None = None
    ) -> bool:
        """Background delete with a UID precondition; False when it was gone or another UID has the name."""

    async def log(
        self, namespace: str, pod: str, container: str, *, tail_lines: int | None = None, limit_bytes: int = 1 << 20
    ) -> str | None:
        """A container's log text; None when pod, container or log are gone."""

    def acting_as(self, namespace: str, account: str) -> "ObjectStore":
        """The same API with the rights of that ServiceAccount (impersonation)."""


class EventSink(Protocol):
    """Events (events.k8s.io) on objects: repeats aggregated, dropped rather than blocking a pass."""

    def emit(self, obj: Mapping[str, Any], note: EventNote) -> None:
        """Queue one event on `obj` (apiVersion, kind and metadata are read)."""


class Clock(Protocol):
    """Wall-clock time, in UTC."""

    def now(self) -> datetime:
        """The time now, timezone-aware UTC."""


@dataclass(frozen=True, slots=True)
class MetricSample:
    """The answer of a metrics provider to one query; `value` None means the query gave no data."""

    value: float | None
    detail: str = ""


class MetricsSource(Protocol):
    """Named Prometheus sources of the operator's settings."""

    async def query(self, source: str, query: str, *, at: datetime | None = None) -> MetricSample:
        """One number. Unavailable when the provider fails, Stalled when the source is not configured."""


@dataclass(frozen=True, slots=True)
class RouterReport:
    """What one ready router pod says; `status` and `counts` are the bodies of its two pages (see docs)."""

    pod: str
    pod_uid: str
    status: Mapping[str, Any]
    counts: Mapping[str, Any]


class RouterReports(Protocol):
    """The routers of a namespace, asked over HTTP."""

    async def collect(
        self,
        namespace: str,
        pods: Sequence[tuple[str, str, str]],
        token: str,
        *,
        want: Literal["status", "all"],
        deployment: str | None = None,
    ) -> list[RouterReport]:
        """Ask the given router pods (name, uid, ip) in parallel; a router that does not answer is left out.

        deployment: only what concerns this ModelDeployment; a namespace may have a thousand.
        """


class GitRepository(Protocol):
    """Repositories without a work tree. Unavailable when the other side does not answer, Stalled when it refuses."""

    async def head(self, remote: GitRemote, ref: GitReference) -> str:
        """The commit that the ref names now (one request). Stalled: RefNotFound, EmptyRepository."""

    async def files(self, remote: GitRemote, commit: str, path: str) -> tuple[GitFile, ...]:
        """All files of a commit below `path`, fetched when they are not here. Stalled PathNotFound."""

    async def read(self, remote: GitRemote, commit: str, path: str, blobs: Sequence[str]) -> dict[str, bytes | None]:
        """Contents of blobs that `files` named for the same commit and path; None for one above 1 MiB."""

    async def history(self, remote: GitRemote, head: str, since: str) -> GitHistory:
        """Trailers of the commits between `since` (exclusive) and `head`."""

    async def authors(self, remote: GitRemote, head: str, since: str | None) -> tuple[Author, ...]:
        """Authors of the commits between `since` (exclusive) and `head`; of `head` alone when that is none of them, or
        `since` is not in the branch's history."""

    async def commit(self, remote: GitRemote, path: str, change: GitChange) -> str:
        """Make a commit locally (`path`: as given to `files` for the parent). The same change gives the same id."""

    async def push(self, remote: GitRemote, path: str, branch: str, commit: str, parent: str) -> None:
        """Move the branch from `parent` to `commit`. Conflict BranchMoved when it is not at `parent` any more."""
