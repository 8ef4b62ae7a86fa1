"""status <-> Recorded: what earlier passes wrote, read back exactly. Must not judge.

`status_of_recorded(recorded_from_status(s))` holds the same facts as `s`; fields that people read only (conditions,
analysis, eta) are added in status.py.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from perennial.domain.authors import Author
from perennial.domain.decision import JsonObject
from perennial.domain.rollout.approval import Approval, Said
from perennial.domain.rollout.evidence import evidence_from_status, evidence_to_status
from perennial.domain.rollout.smoke import smoke_from_status, smoke_to_status
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import Promoted, Recorded, Rejection, RevisionRef, Rollout
from perennial.domain.times import parse_time, rfc3339


def recorded_from_status(status: Mapping[str, Any]) -> Recorded:
    """The facts in a ModelDeployment's status."""
    rollout = status.get("rollout")
    expired = status.get("expired")
    return Recorded(
        stable=_read_ref(status.get("stable")),
        chosen_version=status.get("chosenVersion"),
        traffic=tuple((t["revision"], int(t["weight"])) for t in status.get("traffic", [])),
        traffic_version=int(status.get("trafficVersion", 0)),
        rollout=_read_rollout(rollout) if rollout else None,
        rejected=tuple(_read_rejection(r) for r in status.get("rejected", [])),
        expired=_read_rejection(expired) if expired else None,
        history=tuple(
            Promoted(
                h["revision"],
                h.get("version"),
                h.get("digest"),
                h["promotedTime"],
                h.get("commit"),
                h.get("approvedBy"),
            )
            for h in status.get("history", [])
        ),
        commands=tuple(status.get("commands", [])),
        routed="gateway" in status,
    )


def status_of_recorded(recorded: Recorded) -> JsonObject:
    """The facts as status fields; empty ones are left out."""
    status: JsonObject = {"trafficVersion": recorded.traffic_version}
    if recorded.chosen_version:
        status["chosenVersion"] = recorded.chosen_version
    if recorded.traffic:
        status["traffic"] = [{"revision": r, "weight": w} for r, w in recorded.traffic]
    if recorded.rollout:
        status["rollout"] = _rollout_status(recorded.rollout)
    if recorded.rejected:
        status["rejected"] = [_rejection_status(r) for r in recorded.rejected]
    if recorded.expired:
        status["expired"] = _rejection_status(recorded.expired)
    if recorded.history:
        status["history"] = [
            _present(
                revision=h.revision,
                version=h.version,
                digest=h.digest,
                promotedTime=h.promoted,
                commit=h.commit,
                approvedBy=h.approved_by,
            )
            for h in recorded.history
        ]
    if recorded.commands:
        status["commands"] = list(recorded.commands)
    return status


def _read_ref(ref: Mapping[str, Any] | None) -> RevisionRef | None:
    return RevisionRef(ref["revision"], ref.get("version"), ref.get("digest")) if ref else None


def _read_rejection(entry: Mapping[str, Any]) -> Rejection:
    return Rejection(
        revision=entry["revision"],
        version=entry.get("version"),
        reason=entry["reason"],
        message=entry.get("message", ""),
        time=entry["time"],
        recorded=bool(entry.get("recorded", False)),
    )


def _rejection_status(entry: Rejection) -> JsonObject:
    return _present(
        revision=entry.revision,
        version=entry.version,
        reason=entry.reason,
        message=entry.message or None,
        time=entry.time,
        recorded=entry.recorded or None,
    )


def _read_rollout(status: Mapping[str, Any]) -> Rollout:
    return Rollout(
        id=status["id"],
        state=State(status["state"]),
        target=RevisionRef(status["targetRevision"], status.get("version"), status.get("digest")),
        weight=int(status["weight"]),
        started=parse_time(status["startedTime"]),
        state_since=parse_time(status["stateTime"]),
        step_started=parse_time(status["stepStartedTime"]),
        stable_replicas=int(status.get("stableReplicas", 1)),
        commit=status.get("commit"),
        verified=_read_time(status.get("weightVerifiedTime")),
        short_since=_read_time(status.get("shortTime")),
        approved_weight=status.get("approvedStep"),
        approvals=tuple(
            Approval(a["by"], Said(a["said"]), int(a["weight"]), a["time"]) for a in status.get("approvals", ())
        ),
        checking_since=_read_time(status.get("signatureTime")),
        difference=status.get("signatureDifference"),
        authors=tuple(Author(a["name"], a["email"]) for a in status.get("authors", ())),
        refusal=status.get("refusal"),
        replacing=bool(status.get("replacing", False)),
        reason=status.get("reason"),
        message=status.get("message"),
        evidence=evidence_from_status(status.get("evidence")),
        smoke=smoke_from_status(status.get("smoke")),
    )


def _rollout_status(rollout: Rollout) -> JsonObject:
    evidence = evidence_to_status(rollout.evidence)
    return _present(
        id=rollout.id,
        state=str(rollout.state),
        targetRevision=rollout.target.revision,
        version=rollout.target.version,
        digest=rollout.target.digest,
        weight=rollout.weight,
        startedTime=rfc3339(rollout.started, micro=True),
        stateTime=rfc3339(rollout.state_since, micro=True),
        stepStartedTime=rfc3339(rollout.step_started, micro=True),
        stableReplicas=rollout.stable_replicas,
        commit=rollout.commit,
        weightVerified=rollout.verified is not None,
        weightVerifiedTime=_time_text(rollout.verified),
        shortTime=_time_text(rollout.short_since),
        approvedStep=rollout.approved_weight,
        approvals=[{"by": a.by, "said": str(a.said), "weight": a.weight, "time": a.time} for a in rollout.approvals]
        or None,
        signatureTime=_time_text(rollout.checking_since),
        signatureDifference=rollout.difference,
        authors=[{"name": a.name, "email": a.email} for a in rollout.authors] or None,
        refusal=rollout.refusal,
        replacing=rollout.replacing,
        reason=rollout.reason,
        message=rollout.message,
        evidence=evidence if evidence["cursors"] or evidence["tallies"] else None,
        smoke=smoke_to_status(rollout.smoke),
    )


def _read_time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


def _time_text(moment: datetime | None) -> str | None:
    return rfc3339(moment, micro=True) if moment else None


def _present(**fields: Any) -> JsonObject:
    return {key: value for key, value in fields.items() if value is not None}
