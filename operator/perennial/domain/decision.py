"""What every `decide` function returns. Pure data; must not import I/O of any sort."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

JsonObject = dict[str, Any]
ActionT_co = TypeVar("ActionT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class EventNote:
    """An event to be written on the reconciled object; `message` is the sentence its condition carries too."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True)
class Decision(Generic[ActionT_co]):
    """The outcome of one pass.

    status: the whole status as it must be after this pass (compared with the recorded one; equal means no write).
    actions: what to carry out now; every irreversible one was already recorded as an intent in the status read.
    requeue_after: seconds until the next pass is needed though nothing changes; None: only when something changes.
    """

    status: Mapping[str, Any]
    actions: tuple[ActionT_co, ...] = ()
    requeue_after: float | None = None
    events: tuple[EventNote, ...] = field(default=())
