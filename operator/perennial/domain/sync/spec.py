"""A GitSync's spec and annotations as frozen values. Defaults repeat the schema's, for objects made before them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from perennial.api import names
from perennial.domain.sync.manifest import Scope

MAX_REQUEST = 256
Method = Literal["None", "Commit", "PullRequest"]


@dataclass(frozen=True, slots=True)
class WriteBackSpec:
    """Whether and where decisions become commits."""

    method: Method = "None"
    branch: str = ""
    secret: str | None = None
    signing_secret: str | None = None
    author_name: str = "Perennial"
    author_email: str = "perennial@perennial.dev"
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncSpec:
    """What one GitSync wants. Seconds are seconds; `ref` is (kind, value)."""

    namespace: str
    name: str
    uid: str
    generation: int
    url: str
    ref: tuple[str, str] = ("branch", "main")
    path: str = "."
    ignore: str = ""
    period_seconds: int = 60
    heal_seconds: int = 600
    timeout_seconds: int = 60
    secret: str | None = None
    account: str | None = None
    apply: bool = True
    follow: bool = False
    prune: bool = False
    max_prune_percent: int = 50
    verify: bool = False
    webhook: bool = False
    suspend: bool = False
    request: str | None = None
    write_back: WriteBackSpec = field(default_factory=WriteBackSpec)

    @property
    def scope(self) -> Scope:
        """What its documents may do."""
        return Scope(self.namespace, self.name, named_account=self.account is not None, follow=self.follow)

    @property
    def acting_account(self) -> str:
        """The ServiceAccount that everything is read and applied as."""
        return self.account or names.ACCOUNT_SYNC

    @property
    def writes(self) -> bool:
        """Whether decisions are written to Git."""
        return self.write_back.method != "None" and not self.follow

    def revision(self, commit: str) -> str:
        """How status names a commit: `main@sha1:...`."""
        return f"{self.ref[1]}@sha1:{commit}" if self.ref[0] != "commit" else f"sha1:{commit}"


def read_spec(obj: Mapping[str, Any]) -> SyncSpec:
    """The SyncSpec of a GitSync object."""
    meta, spec = obj["metadata"], obj["spec"]
    ref = {key: value for key, value in (spec.get("ref") or {}).items() if value is not None} or {"branch": "main"}
    kind, value = next(iter(ref.items()))
    return SyncSpec(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation") or 0),
        url=spec["url"],
        ref=(kind, value),
        path=spec.get("path", ".").rstrip("/") or ".",
        ignore=spec.get("ignore") or "",
        period_seconds=spec.get("periodSeconds", 60),
        heal_seconds=spec.get("healSeconds", 600),
        timeout_seconds=spec.get("timeoutSeconds", 60),
        secret=(spec.get("secretRef") or {}).get("name"),
        account=spec.get("serviceAccountName"),
        apply=spec.get("apply", True),
        follow=spec.get("follow", False),
        prune=spec.get("prune", False),
        max_prune_percent=spec.get("maxPrunePercent", 50),
        verify=spec.get("verify") is not None,
        webhook=spec.get("webhook") is not None,
        suspend=spec.get("suspend", False),
        request=_request(meta.get("annotations") or {}),
        write_back=_write_back(spec.get("writeBack") or {}, value if kind == "branch" else ""),
    )


def _request(annotations: Mapping[str, str]) -> str | None:
    """What asks for a look, as far as status can echo it."""
    asked = annotations.get(names.ANNOTATION_SYNC_REQUESTED)
    return None if asked is None else asked[:MAX_REQUEST]


def _write_back(spec: Mapping[str, Any], branch: str) -> WriteBackSpec:
    author = spec.get("author") or {}
    return WriteBackSpec(
        method=spec.get("method", "None"),
        branch=spec.get("branch") or branch,
        secret=(spec.get("secretRef") or {}).get("name"),
        signing_secret=(spec.get("signingSecretRef") or {}).get("name"),
        author_name=author.get("name", "Perennial"),
        author_email=author.get("email", "perennial@perennial.dev"),
        paths=tuple(spec.get("paths") or ()),
    )


def not_supported(spec: SyncSpec) -> str | None:
    """One sentence when the spec asks for something that this version does not do; it is refused, never left out."""
    if spec.verify:
        return "verify is not supported by this version: remove spec.verify"
    if spec.webhook:
        return (
            "webhook is not supported by this version: remove spec.webhook; a shorter spec.periodSeconds or the "
            "annotation perennial.dev/sync-requested makes it look sooner"
        )
    if spec.write_back.signing_secret is not None:
        return "signed commits are not supported by this version: remove spec.writeBack.signingSecretRef"
    if spec.write_back.method == "PullRequest":
        return "writeBack.method PullRequest is not supported by this version: use Commit or None"
    return None
