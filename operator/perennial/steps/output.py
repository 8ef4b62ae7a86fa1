"""What a step says: lines in its log, and at its end one message of at most 1,000 bytes for the kubelet.

The kubelet keeps 12 KiB for all containers of a pod together, so a longer message could be cut without a word.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.domain.conditions import MAX_MESSAGE_BYTES, bounded
from perennial.domain.training.record import digest_of
from perennial.steps.errors import StepError

TERMINATION_LOG = "/dev/termination-log"


class Output:
    """The log (standard output) and the termination message of one step."""

    def __init__(self, termination_log: Path) -> None:
        self._termination_log = termination_log

    def say(self, text: str) -> None:
        """One line in the log, for people. Never starts with a brace: those lines are records."""
        sys.stdout.write(text.replace("\n", " ").lstrip("{") + "\n")
        sys.stdout.flush()

    def record(self, line: str, summary: Mapping[str, Any]) -> None:
        """A JSON record as one log line, and the summary with its digest as the termination message."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        message = json.dumps({**summary, "record": digest_of(line)}, sort_keys=True)
        if len(message.encode()) > MAX_MESSAGE_BYTES:
            raise StepError(f"the summary has {len(message.encode())} bytes; at most {MAX_MESSAGE_BYTES} are kept")
        self._write(message)

    def fail(self, message: str) -> None:
        """The one sentence of a failure, in the log and as the termination message."""
        text = bounded(" ".join(message.split()))
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self._write(text)

    def _write(self, message: str) -> None:
        self._termination_log.write_text(message)
