"""What of a ModelDeployment is worth telling beside the events that a rollout's steps emit. Pure.

A rollout tells its own steps; this tells what stands in the way of one, or of what serves, whenever that changes, and
how a rollout ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from perennial.domain import reasons
from perennial.domain.conditions import find, is_true
from perennial.domain.decision import EventNote
from perennial.domain.rollout.state import State

_CHOICES = frozenset({reasons.SUSPENDED, reasons.VERSION_CHOSEN})
"""No trouble: somebody wants it so."""
_PASSING = reasons.GATEWAY_PENDING
"""No news: over with one of the next passes."""


def outcome_of(recorded: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    """How the rollout of the `recorded` status ended, at the one write of `status` that ends it: Promoted, or why it is
    withdrawn. None at every other write."""
    before, after = recorded.get("rollout"), status.get("rollout")
    if before is None or before["state"] == State.WITHDRAWING:
        return None
    if after is None:
        return reasons.PROMOTED
    return str(after["reason"]) if after["state"] == State.WITHDRAWING else None


def trouble_news(recorded: Sequence[Mapping[str, Any]], status: Mapping[str, Any]) -> EventNote | None:
    """The event for a Ready=False of `status` that the `recorded` conditions did not say; None when it is no news."""
    ready = find(status.get("conditions") or (), "Ready") or {}
    going = "rollout" in status and not is_true(status.get("conditions") or (), "Stalled")
    scales = ready.get("reason") == reasons.PODS_NOT_READY and is_true(status.get("conditions") or (), "Available")
    if ready.get("status") != "False" or going or scales or ready.get("reason") == _PASSING:
        return None
    before = find(recorded, "Ready") or {}
    reason, message = str(ready["reason"]), str(ready.get("message") or "")
    if (before.get("status"), before.get("reason"), before.get("message")) == ("False", reason, message):
        return None
    if any(entry.get("message") and entry["message"] in message for entry in status.get("rejected") or ()):
        return None  # told when it was rejected
    return EventNote(reason, message, "Normal" if reason in _CHOICES else "Warning")
