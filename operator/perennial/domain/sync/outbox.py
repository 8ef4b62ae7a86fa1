"""What must be written to Git: derived anew in each pass from documents, versions and deployments; ids never change.

Update: a newer accepted version is proposed. Served: a promotion is recorded. Revert and Reject: the version of a
failed canary goes back and is remembered. Must not read or write anything; what Git has already is not derived again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from perennial.domain.conditions import bounded
from perennial.domain.sync.edit import field_of, without
from perennial.domain.sync.records import entries, finished, is_accepted, open_served

Kind = Literal["Update", "Served", "Revert", "Reject"]
FIELD = "spec.model.version"
MAX_PENDING = 64
MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to write.

    moment: the time that its record carries ("": when it was recorded as pending). revision, word: what was rejected
    and why, in one word. approved_by: who let what serves go on.
    """

    id: str
    kind: Kind
    deployment: str
    version: str
    reason: str
    moment: str
    from_version: str | None = None
    to_version: str | None = None
    revision: str | None = None
    word: str | None = None
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A ModelDeployment as Git has it (`document`) and as it lives. `base`: the document that stable was promoted from;
    None when its commit cannot be read."""

    name: str
    document: Mapping[str, Any]
    live: Mapping[str, Any]
    base: Mapping[str, Any] | None = None
    base_commit: str | None = None


@dataclass(frozen=True, slots=True)
class VersionView:
    """A ModelVersion: its document's spec when Git has one, and the live spec (without baseline) when it is there."""

    name: str
    document: Mapping[str, Any] | None = None
    live: Mapping[str, Any] | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its spec for facts that never change."""
        return self.live or self.document or {}

    @property
    def records(self) -> Mapping[str, Any]:
        """Its spec for records: Git's word when it has one."""
        return self.document if self.document is not None else self.live or {}


@dataclass(frozen=True, slots=True)
class Outbox:
    """What to write, and the sentences of what cannot be written."""

    changes: tuple[Change, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutboxWorld:
    """Everything that derivation looks at. `ended`: ids of changes that ended and are not derived from records."""

    scope: tuple[str, str, str]
    deployments: Sequence[DeploymentView]
    versions: Mapping[str, VersionView]
    ended: frozenset[str] = field(default_factory=frozenset)


def change_id(scope: tuple[str, str, str], *parts: str) -> str:
    """16 hex digits from the GitSync (namespace, name, path) and what the change is about."""
    return hashlib.sha256("\n".join((*scope, *parts)).encode()).hexdigest()[:16]


def derive(world: OutboxWorld) -> Outbox:
    """All changes that Git lacks, in the order in which they happened: failures, promotions, proposals."""
    changes: list[Change] = []
    refused: list[str] = []
    by_model: dict[str, list[VersionView]] = {}
    for view in world.versions.values():
        by_model.setdefault(str(view.facts.get("model")), []).append(view)
    for deployment in world.deployments:
        failures, words = _failures(world, deployment)
        changes += failures
        refused += words
        changes += _served(world, deployment)
        if not failures and not words:
            model = str(field_of(deployment.live, ("spec", "model", "name")))
            changes += _updates(world, deployment, by_model.get(model, ()))
    return Outbox(tuple(change for change in changes if change.id not in world.ended), tuple(refused))


def unresolved_failures(world: OutboxWorld, deployment: DeploymentView) -> list[Mapping[str, Any]]:
    """Rejected revisions whose version Git does not know to be bad and that were not written before."""
    if _policy(deployment) != "Git":
        return []
    stable = field_of(deployment.live, ("status", "stable", "version"))
    found = []
    for entry in field_of(deployment.live, ("status", "rejected")) or ():
        version = entry.get("version")
        view = world.versions.get(version)
        if not version or view is None or version == stable or stable is None:
            continue
        known = entries(view.records, "rejections", deployment.name)
        done = any(item.get("revision") == entry["revision"] or item.get("time") == entry["time"] for item in known)
        if not done and _reject_id(world, deployment, entry) not in world.ended:
            found.append(entry)
    return found


def _reject_id(world: OutboxWorld, deployment: DeploymentView, entry: Mapping[str, Any]) -> str:
    return change_id(world.scope, "Reject", deployment.name, entry["revision"], entry["time"])


def _failures(world: OutboxWorld, deployment: DeploymentView) -> tuple[list[Change], list[str]]:
    changes: list[Change] = []
    refused: list[str] = []
    stable = field_of(deployment.live, ("status", "stable", "version"))
    for entry in unresolved_failures(world, deployment):
        version, revision = entry["version"], entry["revision"]
        named = field_of(deployment.document)
        only_version = deployment.base is not None and without(deployment.document) == without(deployment.base)
        if not only_version:
            if named == version:
                refused.append(_cannot_revert(deployment, version))
            continue
        reason = entry.get("message") or entry["reason"]
        if named == version:
            revert = change_id(world.scope, "Revert", deployment.name, revision, entry["time"])
            changes.append(
                Change(revert, "Revert", deployment.name, version, reason, entry["time"], version, stable, revision)
            )
        identity, word = _reject_id(world, deployment, entry), entry["reason"]
        name, moment = deployment.name, entry["time"]
        changes.append(Change(identity, "Reject", name, version, reason, moment, revision=revision, word=word))
    return changes, refused


def _cannot_revert(deployment: DeploymentView, version: str) -> str:
    why = (
        "more than model.version changed since what serves was promoted"
        if deployment.base is not None
        else "the commit that what serves was promoted from cannot be read"
    )
    commit = field_of(deployment.live, ("metadata", "annotations", "perennial.dev/commit")) or "COMMIT"
    return (
        f"ModelDeployment {deployment.name}: the canary of {version} failed, but the change is not taken back, because "
        f"{why}: run git revert {commit[:12]} and push, or name another version"
    )


def _served(world: OutboxWorld, deployment: DeploymentView) -> list[Change]:
    version = field_of(deployment.live, ("status", "stable", "version"))
    history = field_of(deployment.live, ("status", "history")) or ()
    view = world.versions.get(version or "")
    if view is None or not history or history[0].get("version") != version or _in_progress(deployment):
        return []
    if _policy(deployment) == "Direct" or open_served(view.records, deployment.name) is not None:
        return []
    moment = history[0]["promotedTime"]
    if any(entry.get("fromTime") == moment for entry in entries(view.records, "served", deployment.name)):
        return []
    reason = f"{version} was promoted to stable of {deployment.name}"
    identity = change_id(world.scope, "Served", deployment.name, version, moment)
    by = history[0].get("approvedBy")
    return [Change(identity, "Served", deployment.name, version, reason, moment, approved_by=by)]


def _updates(world: OutboxWorld, deployment: DeploymentView, versions: Iterable[VersionView]) -> list[Change]:
    """At most one proposal: the newest accepted version, once, and never one older than the one named."""
    named = field_of(deployment.document)
    settled = named == field_of(deployment.live) and not _in_progress(deployment) and _is_current(deployment)
    if _policy(deployment) != "Git" or not settled or field_of(deployment.live, ("spec", "suspend")):
        return []
    newest = newest_accepted(versions, deployment)
    if newest is None or newest.name == named or entries(newest.records, "proposed", deployment.name):
        return []
    current = world.versions.get(named or "")
    if named and (current is None or finished(newest.facts) <= finished(current.facts)):
        return []  # a name that nobody knows yet may be of something newer: it is a person's word, and it stands
    reason = f"{newest.name} is the newest version of {newest.facts.get('model')} that passed its gate"
    identity = change_id(world.scope, "Update", deployment.name, newest.name)
    return [Change(identity, "Update", deployment.name, newest.name, reason, "", named, newest.name)]


def newest_accepted(versions: Iterable[VersionView], deployment: DeploymentView) -> VersionView | None:
    """Of the versions of its model the accepted one with the highest finishedTime and no rejection here."""
    failed = {entry.get("version") for entry in field_of(deployment.live, ("status", "rejected")) or ()}
    fitting = [
        view
        for view in versions
        if view.live is not None
        and is_accepted(view.facts)
        and not view.records.get("retired")
        and not entries(view.records, "rejections", deployment.name)
        and view.name not in failed
    ]
    return max(fitting, key=lambda view: (finished(view.facts), view.name), default=None)


def _policy(deployment: DeploymentView) -> str:
    return str(field_of(deployment.live, ("spec", "model", "updatePolicy")) or "Manual")


def _in_progress(deployment: DeploymentView) -> bool:
    return field_of(deployment.live, ("status", "rollout")) is not None


def _is_current(deployment: DeploymentView) -> bool:
    """Whether its controller has seen the spec that lives now: before that, no rollout only means not yet."""
    observed = field_of(deployment.live, ("status", "observedGeneration"))
    return bool(observed == field_of(deployment.live, ("metadata", "generation")))


# -- status.writeBack ------------------------------------------------------------------------------------------------
def as_pending(change: Change, head: str, now: str) -> dict[str, Any]:
    """The entry of status.writeBack.pending: enough to carry the change out after a restart."""
    entry: dict[str, str | None] = {
        "id": change.id,
        "kind": change.kind,
        "object": f"ModelDeployment/{change.deployment}",
        "version": change.version,
        "reason": bounded(change.reason),
        "head": head,
        "time": now,
    }
    if change.kind in ("Update", "Revert"):
        entry |= {"field": FIELD, "from": change.from_version, "to": change.to_version}
    return {key: value for key, value in entry.items() if value is not None}


def ended_entry(
    pending: Mapping[str, Any],
    outcome: Literal["Written", "Superseded", "Rejected"],
    commit: str | None,
    time: str,
    message: str,
) -> dict[str, Any]:
    """The entry of status.writeBack.history."""
    entry: dict[str, Any] = {key: pending[key] for key in ("id", "kind", "object")}
    entry |= {"outcome": outcome, "commit": commit, "time": time, "message": bounded(message)}
    return {key: value for key, value in entry.items() if value is not None}


def from_pending(pending: Mapping[str, Any], derived: Mapping[str, Change]) -> Change | None:
    """The change that a pending entry is about. None when it is no longer wanted: a record that Git has by now.

    A field is edited as it was recorded, whatever has become of the reason since: the comparison with `from` decides.
    """
    known = derived.get(pending["id"])
    if pending["kind"] not in ("Update", "Revert"):
        return known
    return Change(
        id=pending["id"],
        kind=pending["kind"],
        deployment=pending["object"].partition("/")[2],
        version=pending["version"],
        reason=pending.get("reason", ""),
        moment=pending["time"],
        from_version=pending.get("from"),
        to_version=pending.get("to"),
    )


def group_of(pending: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries that belong into the next commit: the oldest, and with a Revert or Reject the other of the two."""
    if not pending:
        return []
    first = pending[0]
    pair = ("Revert", "Reject")
    return [
        entry
        for entry in pending
        if entry is first
        or (
            first["kind"] in pair
            and entry["kind"] in pair
            and entry["kind"] != first["kind"]
            and (entry["object"], entry["version"]) == (first["object"], first["version"])
        )
    ]
