"""GitSync: a repository, ref and path is the truth for a namespace; where and how to write back."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from perennial.api.kinds import GIT_SYNC
from perennial.api.v1alpha1.base import ATOMIC_LIST, SET_LIST, Column, Model, Resource, Rule, only_one
from perennial.api.v1alpha1.common import SecretRef, Status
from perennial.api.v1alpha1.types import (
    Commit,
    Count,
    GitRevision,
    Identifier,
    Label,
    ObjectName,
    Percent,
    Sentence,
    Timestamp,
)

MAX_INVENTORY = 5000

RefName = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./@+-]*$")]
RepositoryPath = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^(\.|[^\s/-][^\s]*)$")]


class GitRef(Model):
    """What to follow."""

    rules: ClassVar = (
        Rule(
            only_one("branch", "tag", "semver", "name", "commit"),
            "exactly one of branch, tag, semver, name and commit must be set",
        ),
    )

    branch: RefName | None = Field(default=None, description="A branch.")
    tag: RefName | None = Field(default=None, description="A tag.")
    semver: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="The newest tag in this range, e.g. `>=1.0.0 <2.0.0`."
    )
    name: Annotated[str, Field(max_length=250, pattern=r"^refs/[A-Za-z0-9_./@+-]+$")] | None = Field(
        default=None, description="A full ref name, e.g. refs/heads/main."
    )
    commit: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")] | None = Field(
        default=None, description="One commit, in full."
    )


class Verify(Model):
    """Apply signed commits only."""

    mode: Literal["HEAD"] = Field(default="HEAD", description="What must be signed.")
    secret_ref: SecretRef = Field(description="Secret with the public keys.")


class Webhook(Model):
    """Look at once when the forge calls."""

    secret_ref: SecretRef = Field(description="Secret with the HMAC key (`token`).")


class Author(Model):
    """Who write-back commits are by."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^<>\n]+$")] = Field(
        default="Perennial", description="Name."
    )
    email: Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^<>\s]+@[^<>\s]+$")] = Field(
        default="perennial@perennial.dev", description="E-mail address."
    )


class WriteBack(Model):
    """Whether and how decisions become commits."""

    method: Literal["None", "Commit", "PullRequest"] = Field(
        default="None", description="None, or a commit on the branch. PullRequest: not in this version."
    )
    branch: RefName | None = Field(default=None, description="Branch to write to; ref.branch when unset.")
    secret_ref: SecretRef | None = Field(
        default=None, description="Credentials for writing; those for reading when unset."
    )
    author: Author = Field(default=Author(), description="Who the commits are by.")
    signing_secret_ref: SecretRef | None = Field(
        default=None, description="Secret with the key that signs commits. Not in this version."
    )
    paths: Annotated[tuple[RepositoryPath, ...], Field(max_length=64, json_schema_extra=SET_LIST)] = Field(
        default=(), description="Paths that may be written; everything below `path` when empty."
    )


class GitSyncSpec(Model):
    """What to apply from where, and what to write back."""

    rules: ClassVar = (
        Rule(
            "!self.url.matches('^(https?://[^/]*@|[a-z]+://[^/@]*:[^/@]*@)')",
            "url may not contain credentials: put them into the Secret that secretRef names",
            field_path=".url",
        ),
        Rule(
            "!self.follow || self.writeBack.method == 'None'",
            "a following GitSync writes nothing back: writeBack.method must be None with follow",
        ),
        Rule(
            "self.writeBack.method == 'None' || has(self.ref.branch)",
            "write-back needs ref.branch: a tag or a commit cannot move",
        ),
        Rule("!self.path.split('/').exists(part, part == '..')", "path may not contain '..'", field_path=".path"),
    )

    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^((https?|ssh|git)://[^\s]+|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9_.-]+:[^\s]+)$",
        ),
    ] = Field(description="The repository: https or ssh; http and git only when the operator's settings allow them.")
    ref: GitRef = Field(default=GitRef(branch="main"), description="What to follow.")
    path: RepositoryPath = Field(default=".", description="Folder in the repository, without a leading `/`.")
    ignore: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Files below `path` that are left out, in gitignore's syntax."
    )
    period_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60, description="How often to look for a new commit."
    )
    heal_seconds: Annotated[int, Field(ge=1, le=604800)] = Field(
        default=600, description="How often to compare every object with the cluster."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=60, description="Longest time of one Git operation."
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Credentials: username and password, or bearerToken, or identity and known_hosts (and password); "
        "ca.crt.",
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="Account to apply as; perennial-sync when unset."
    )
    apply: bool = Field(default=True, description="False behind Argo CD or Flux: only find documents and write back.")
    follow: bool = Field(
        default=False,
        description="True on a second cluster of one path: TrainingJobs and DriftPolicies are applied suspended, and "
        "nothing is written back.",
    )
    prune: bool = Field(description="Whether objects that left the repository are deleted.")
    max_prune_percent: Percent = Field(
        default=50, description="Most objects that one sync may delete, counted from 10 objects up."
    )
    verify: Verify | None = Field(default=None, description="Apply signed commits only. Not in this version.")
    webhook: Webhook | None = Field(default=None, description="Look at once when the forge calls. Not in this version.")
    write_back: WriteBack = Field(default=WriteBack(), description="Whether and how decisions become commits.")
    suspend: bool = Field(default=False, description="Apply nothing and write nothing.")


class InventoryEntry(Model):
    """One object that came from the repository."""

    api_version: Annotated[str, Field(max_length=128)] = Field(description="Its apiVersion.")
    kind: Label = Field(description="Its kind.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Its name.")


class SyncError(Model):
    """One thing that is wrong in the repository or with one object of it."""

    path: Annotated[str, Field(max_length=1024)] | None = Field(default=None, description="The file.")
    line: Count | None = Field(default=None, description="The line in it.")
    message: Sentence = Field(description="What is wrong and what is allowed.")


class PendingChange(Model):
    """One change that is to be written to Git."""

    id: Identifier = Field(description="Identifies the change; the commit carries it as Perennial-Change.")
    kind: Literal["Update", "Served", "Revert", "Reject", "Propose"] = Field(description="What is to be written.")
    object: Annotated[str, Field(max_length=320)] = Field(description="The document, as Kind/name.")
    field: Annotated[str, Field(max_length=256)] | None = Field(default=None, description="The field in it.")
    from_value: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, alias="from", description="What it must hold now."
    )
    to_value: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, alias="to", description="What it will hold."
    )
    version: Label | None = Field(default=None, description="The ModelVersion that it is about.")
    reason: Sentence | None = Field(default=None, description="Why.")
    head: Commit | None = Field(default=None, description="The commit that it started from.")
    time: Timestamp | None = Field(default=None, description="When it was recorded.")
    message: Sentence | None = Field(default=None, description="What keeps it waiting.")


class WrittenChange(Model):
    """One change that ended: written, superseded or rejected."""

    id: Identifier = Field(description="Identifies the change.")
    kind: Label = Field(description="What was to be written.")
    object: Annotated[str, Field(max_length=320)] = Field(description="The document, as Kind/name.")
    outcome: Literal["Written", "Superseded", "Rejected"] = Field(description="How it ended.")
    commit: Commit | None = Field(default=None, description="The commit.")
    time: Timestamp | None = Field(default=None, description="When.")
    message: Sentence | None = Field(default=None, description="What happened, in one sentence.")


class WriteBackStatus(Model):
    """What is to be written to Git, and what was written last."""

    pending: Annotated[tuple[PendingChange, ...], Field(max_length=64, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="What is to be written."
    )
    last_commit: Commit | None = Field(default=None, description="The last commit that was written.")
    history: Annotated[tuple[WrittenChange, ...], Field(max_length=20, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Changes that ended, newest first."
    )


class SyncRecord(Model):
    """One revision that was applied."""

    revision: GitRevision = Field(description="The revision.")
    time: Timestamp = Field(description="When.")
    objects: Count = Field(default=0, description="Objects in it.")
    message: Sentence | None = Field(default=None, description="What happened, in one sentence.")


class GitSyncStatus(Status):
    """What was applied, and what is to be written back."""

    last_applied_revision: GitRevision | None = Field(
        default=None, description="The last revision that was wholly applied, e.g. `main@sha1:...`."
    )
    last_attempted_revision: GitRevision | None = Field(default=None, description="The last revision that was tried.")
    last_sync_time: Timestamp | None = Field(default=None, description="When the applied revision last changed.")
    last_handled_sync_request: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="The value of perennial.dev/sync-requested that was last honoured."
    )
    objects: Count = Field(default=0, description="Objects in the inventory.")
    inventory: Annotated[tuple[InventoryEntry, ...], Field(max_length=MAX_INVENTORY, json_schema_extra=ATOMIC_LIST)] = (
        Field(default=(), description="Objects that came from the repository.")
    )
    errors: Annotated[tuple[SyncError, ...], Field(max_length=20, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="What is wrong; at most 20."
    )
    errors_truncated: bool = Field(default=False, description="Whether there are more errors.")
    write_back: WriteBackStatus | None = Field(default=None, description="What is to be written to Git.")
    history: Annotated[tuple[SyncRecord, ...], Field(max_length=10, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(), description="Revisions that were applied, newest first."
    )


class GitSync(Resource):
    """This repository, ref and path is the truth for this namespace; decisions are written back to it."""

    resource_kind: ClassVar = GIT_SYNC
    short_name: ClassVar = "gsync"
    columns: ClassVar = (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="The revision is applied."),
        Column("Revision", ".status.lastAppliedRevision", description="The last revision that was wholly applied."),
        Column("Objects", ".status.objects", type="integer", description="Objects that came from the repository."),
        Column("Status", '.status.conditions[?(@.type=="Ready")].reason', description="What is going on."),
        Column("Age", ".metadata.creationTimestamp", type="date"),
    )

    spec: GitSyncSpec = Field(description="What to apply from where, and what to write back.")
    status: GitSyncStatus = Field(
        default=GitSyncStatus(), description="What was applied, and what is to be written back."
    )
