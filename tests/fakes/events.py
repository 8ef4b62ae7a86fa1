"""An event sink that remembers what it was given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.domain.decision import EventNote


@dataclass(slots=True)
class RecordingEvents:
    """Implements ports.EventSink; `notes` holds (kind, namespace, name, note) in order."""

    notes: list[tuple[str, str, str, EventNote]] = field(default_factory=list)

    def emit(self, obj: Mapping[str, Any], note: EventNote) -> None:
        """Remember one event."""
        meta = obj["metadata"]
        self.notes.append((obj["kind"], meta.get("namespace", ""), meta["name"], note))

    def reasons(self, kind: str | None = None) -> list[str]:
        """The reasons so far, in order, of one kind or all."""
        return [note.reason for own, _, _, note in self.notes if kind in (None, own)]

    def messages(self, reason: str) -> list[str]:
        """The messages of one reason, in order."""
        return [note.message for _, _, _, note in self.notes if note.reason == reason]
