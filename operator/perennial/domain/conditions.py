"""Conditions by the kstatus rules: Ready always, Reconciling and Stalled only while true.

Must not read a clock: callers pass `now` as an RFC 3339 string. A condition's lastTransitionTime moves only when its
status flips, so that an unchanged world yields an equal status and no write.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MAX_MESSAGE_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition to be true of the object; `reason` is CamelCase, `message` one sentence."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def bounded(message: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    """The message cut to `limit` bytes of UTF-8 without splitting a character."""
    raw = message.encode()
    if len(raw) <= limit:
        return message
    return raw[: limit - 3].decode(errors="ignore") + "..."


def merged(
    recorded: Sequence[Mapping[str, Any]], wanted: Iterable[Condition], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """The `status.conditions` list for `wanted`, sorted by type, keeping transition times of unchanged statuses."""
    before = {c.get("type"): c for c in recorded}
    result = []
    for condition in sorted(wanted, key=lambda c: c.type):
        old = before.get(condition.type)
        same = old is not None and old.get("status") == condition.status
        result.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": bounded(condition.message),
                "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else now,
                "observedGeneration": generation,
            }
        )
    return result


def find(conditions: Iterable[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.get("type") == type_), None)


def is_true(conditions: Iterable[Mapping[str, Any]], type_: str) -> bool:
    """Whether the condition is present with status True."""
    condition = find(conditions, type_)
    return condition is not None and condition.get("status") == "True"
