"""What people may tell a policy: accept-data. A command is bound to a window and carried out once."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from perennial.api.names import ANNOTATION_COMMAND
from perennial.domain import reasons
from perennial.domain.decision import EventNote
from perennial.domain.drift.examine import instant
from perennial.domain.drift.standing import Standing
from perennial.domain.drift.world import JsonMapping
from perennial.domain.rollout.commands import COMMAND_ID, SOMEBODY, json_object
from perennial.domain.times import parse_time

KEPT_COMMANDS = 32
_NO_COMMAND = (
    "perennial.dev/command is no command: it must be JSON such as "
    '{"by":"you","verb":"accept-data","revision":"2026-11-25T10:00:00Z","id":"unique"} with an id of 1 to 64 '
    "letters, digits, -, _ or ., and the end of the window as revision."
)


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The standing after a command, and the event that records who gave it."""

    standing: Standing
    event: EventNote


def accepted(policy: JsonMapping, standing: Standing) -> Obeyed | None:
    """The effect of the command in the policy's annotation; None when there is none or it was carried out before."""
    raw = (policy["metadata"].get("annotations") or {}).get(ANNOTATION_COMMAND)
    if not raw:
        return None
    command = _command(raw)
    identity = str(command["id"]) if command else "bad-" + hashlib.sha256(raw.encode()).hexdigest()[:12]
    if identity in standing.commands:
        return None
    done = replace(standing, commands=(*standing.commands, identity)[-KEPT_COMMANDS:])
    if command is None:
        return Obeyed(done, EventNote(reasons.COMMAND_IGNORED, _NO_COMMAND, "Warning"))
    who, window = str(command.get("by") or SOMEBODY), str(command.get("revision") or "")
    refusal = _refusal(str(command.get("verb")), window, standing)
    if refusal:
        return Obeyed(
            done, EventNote(reasons.COMMAND_IGNORED, f"The command of {who} was not carried out: {refusal}.", "Warning")
        )
    words = f"{who} accepted the data of the window that ended at {window} as it is; it holds retraining no longer."
    return Obeyed(replace(done, data_accepted=True), EventNote(reasons.DATA_ACCEPTED, words))


def _command(raw: str) -> dict[str, Any] | None:
    """The command in an annotation; None for a text that is none, or whose id the status could not hold."""
    command = json_object(raw)
    return command if command is not None and COMMAND_ID.fullmatch(str(command.get("id") or "")) else None


def _refusal(verb: str, window: str, standing: Standing) -> str:
    """Why the command cannot be carried out; "" when it can."""
    if verb != "accept-data":
        return f"a DriftPolicy knows only accept-data, not {verb}"
    if standing.broken_windows == 0:
        return "no data is held back"
    try:
        asked = parse_time(window).timestamp()
    except ValueError:
        return f"{window!r} is no window's end"
    if standing.window_end is None or asked > standing.window_end:
        return f"no window ended at {window}; the last one ended at {instant(standing.window_end or 0)}"
    return ""
