"""Commands that people give by annotation: parsing, and which of them a rollout takes. Each is executed once.

A command names the revision it is meant for: one that was meant for another revision does nothing but say so. Its text
has one form only (`command_text`), by which the API server can tell who gave it: manifests/access/commands.yaml.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

COMMAND_ID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,62}[A-Za-z0-9])?")
"""What status.commands can hold."""

VERBS = ("approve", "promote", "abort", "retry", "skip")
MAX_REMEMBERED = 32
SOMEBODY = "somebody"
"""Who gave a command that does not say it."""
MAX_NAME = 256


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


def command_text(verb: str, revision: str, id_: str, by: str) -> str:
    """The annotation as the admission policy wants it: these keys in this order, without spaces and escapes."""
    command = {"by": by, "verb": verb, "revision": revision, "id": id_}
    return json.dumps(command, ensure_ascii=False, separators=(",", ":"))


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a command's text. None for what is none, or names a key twice: who reads what would differ."""
    try:
        pairs = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return None
    return pairs if isinstance(pairs, dict) else None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is named twice")
    return found


def read_command(text: str | None) -> Command | BadCommand | None:
    """The command in the annotation `perennial.dev/command`; None without one."""
    if not text:
        return None
    id_ = "bad-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    allowed = (
        "perennial.dev/command must be JSON such as "
        '{"by":"you","verb":"abort","revision":"1a2b3c4d","id":"unique"} with a verb of ' + ", ".join(VERBS)
    )
    raw = json_object(text)
    if raw is None:
        return BadCommand(id_, f"The command is no JSON object with distinct keys: {allowed}.")
    if not all(isinstance(raw.get(key), str) for key in ("verb", "revision", "id")):
        return BadCommand(id_, f"The command lacks verb, revision or id: {allowed}.")
    if not COMMAND_ID.fullmatch(raw["id"]):
        return BadCommand(id_, f"The command's id must be 1 to 64 letters, digits, -, _ or .: {allowed}.")
    if raw["verb"] not in VERBS:
        return BadCommand(id_, f'"{raw["verb"]}" is no verb: {allowed}.')
    return Command(raw["verb"], raw["revision"], raw["id"], str(raw.get("by") or SOMEBODY)[:MAX_NAME])


def remembered(executed: tuple[str, ...], command: Command | BadCommand) -> tuple[str, ...]:
    """The executed ids with this one first; the oldest fall off."""
    return (command.id, *(known for known in executed if known != command.id))[:MAX_REMEMBERED]
