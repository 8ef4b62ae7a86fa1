"""Commands that people give by annotation: parsing, and which of them a rollout takes. Each is executed once.

A command names the revision it is meant for: one that was meant for another revision does nothing but say so.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMMAND_ID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,62}[A-Za-z0-9])?")
"""What status.commands can hold."""

VERBS = ("promote", "abort", "retry", "skip")
MAX_REMEMBERED = 32


@dataclass(frozen=True, slots=True)
class Command:
    """One order: `verb` on `revision` by a person; `id` makes it unique."""

    verb: str
    revision: str
    id: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class BadCommand:
    """An annotation that is no command; the message says what is allowed. `id` is made of the text: said once."""

    id: str
    message: str


def read_command(text: str | None) -> Command | BadCommand | None:
    """The command in the annotation `perennial.dev/command`; None without one."""
    if not text:
        return None
    id_ = "bad-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    allowed = (
        "perennial.dev/command must be JSON such as "
        '{"verb": "abort", "revision": "1a2b3c4d", "id": "unique", "by": "you"} with a verb of ' + ", ".join(VERBS)
    )
    try:
        raw: Any = json.loads(text)
    except ValueError:
        return BadCommand(id_, f"The command is not JSON: {allowed}.")
    if not isinstance(raw, Mapping) or not all(isinstance(raw.get(key), str) for key in ("verb", "revision", "id")):
        return BadCommand(id_, f"The command lacks verb, revision or id: {allowed}.")
    if not COMMAND_ID.fullmatch(raw["id"]):
        return BadCommand(id_, f"The command's id must be 1 to 64 letters, digits, -, _ or .: {allowed}.")
    if raw["verb"] not in VERBS:
        return BadCommand(id_, f'"{raw["verb"]}" is no verb: {allowed}.')
    return Command(raw["verb"], raw["revision"], raw["id"], str(raw.get("by") or "somebody"))


def remembered(executed: tuple[str, ...], command: Command | BadCommand) -> tuple[str, ...]:
    """The executed ids with this one first; the oldest fall off."""
    return (command.id, *(known for known in executed if known != command.id))[:MAX_REMEMBERED]
