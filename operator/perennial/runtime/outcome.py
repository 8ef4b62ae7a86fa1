"""How a pass ended, for the queue. Must not carry domain facts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """The object that a pass is about."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """requeue_after: seconds until the next pass, None when only a change needs one. changed: something was written."""

    requeue_after: float | None = None
    changed: bool = False


DONE = Outcome()
