"""The record of who let a rollout go on. Must not judge; ask.py does."""

from dataclasses import dataclass
from enum import StrEnum

MAX_APPROVALS = 64
MAX_NAMES = 256


class Said(StrEnum):
    """What a person let pass: a step's approval, changed inputs, or by order whatever was left."""

    STEP = "Step"
    SIGNATURE = "Signature"
    PROMOTE = "Promote"
    SKIP = "Skip"


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's word. by: the user name in the command; weight: the canary's share at that time."""

    by: str
    said: Said
    weight: int
    time: str


def names_of(approvals: tuple[Approval, ...]) -> str | None:
    """Everybody who let the rollout go on, for a record; None when nobody had to."""
    names = ", ".join(dict.fromkeys(approval.by for approval in approvals))
    return names[:MAX_NAMES] or None
