"""An `ObjectStore` that tells the cache and the queues of every own write, at once.

So a controller never reads from the cache a state older than its own last write, and the pass after a write need not
wait for the watch to echo it. Must not change what the store does otherwise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from perennial.api.kinds import Kind
from perennial.domain.decision import JsonObject
from perennial.ports import ObjectStore, PatchTarget

Written = Callable[[JsonObject], None]


class TrackedStore:
    """Forwards everything to `inner`; `written` gets the server's answer to each real (not dry-run) write.

    `guard` is called before each write and raises when this process may not write (it lost its Lease).
    """

    def __init__(self, inner: ObjectStore, written: Written, guard: Callable[[], None] = lambda: None) -> None:
        self._inner = inner
        self._written = written
        self._guard = guard

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject | None:
        """See ObjectStore."""
        return await self._inner.get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[JsonObject]:
        """See ObjectStore."""
        return await self._inner.list(kind, namespace, labels=labels)

    async def create(self, obj: Mapping[str, Any], *, manager: str, dry_run: bool = False) -> JsonObject:
        """See ObjectStore."""
        self._guard()
        made = await self._inner.create(obj, manager=manager, dry_run=dry_run)
        if not dry_run:
            self._written(made)
        return made

    async def apply(
        self, obj: Mapping[str, Any], *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> JsonObject:
        """See ObjectStore."""
        self._guard()
        made = await self._inner.apply(obj, manager=manager, force=force, dry_run=dry_run, subresource=subresource)
        if not dry_run:
            self._written(made)
        return made

    async def patch(
        self, target: PatchTarget, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> JsonObject | None:
        """See ObjectStore."""
        self._guard()
        made = await self._inner.patch(target, body, manager=manager, subresource=subresource)
        if made is not None:
            self._written(made)
        return made

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None, grace_seconds: int | None = None
    ) -> bool:
        """See ObjectStore. The cache learns of it from the watch only: the object may live on with a finalizer."""
        self._guard()
        return await self._inner.delete(kind, namespace, name, uid=uid, grace_seconds=grace_seconds)

    async def log(
        self, namespace: str, pod: str, container: str, *, tail_lines: int | None = None, limit_bytes: int = 1 << 20
    ) -> str | None:
        """See ObjectStore."""
        return await self._inner.log(namespace, pod, container, tail_lines=tail_lines, limit_bytes=limit_bytes)

    def acting_as(self, namespace: str, account: str) -> "TrackedStore":
        """See ObjectStore."""
        return TrackedStore(self._inner.acting_as(namespace, account), self._written, self._guard)
