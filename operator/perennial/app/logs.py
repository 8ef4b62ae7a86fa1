"""Logs: one JSON object a line, with what looks like a secret taken out. Must not know what is logged."""

import logging
import re
import sys
from typing import Any, TextIO

import orjson

from perennial.domain.times import rfc3339
from perennial.runtime.clock import SystemClock

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://)[^/\s:@'\"]*:?[^/\s@'\"]*@"), r"\1***@"),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"), r"\1***"),
    (
        re.compile(
            r"(?i)([\"']?(?:password|passwd|token|secret|api[_-]?key|access[_-]?key|authorization)[\"']?\s*[:=]\s*)"
            r"(?!(?:bearer|basic)\s)(\"[^\"]*\"|'[^']*'|[^\s,;&}\"']+)"
        ),
        r"\1***",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), "***"),
)

_CLOCK = SystemClock()


def redacted(text: str) -> str:
    """The text without URL credentials, Authorization values, and values named like secrets."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; error with a traceback where there is one; the record's `facts` dict beside."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": rfc3339(_CLOCK.now(), micro=True),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= {key: redacted(value) if isinstance(value, str) else value for key, value in facts.items()}
        if record.exc_info:
            line["error"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


def worth_telling(record: logging.LogRecord) -> bool:
    """False for kopf's line about each single try of a request: ten watches would repeat it for a whole outage."""
    return not (record.name.startswith("kopf.") and "will retry" in str(record.msg))


def set_up(level: str, stream: TextIO = sys.stderr) -> None:
    """Send everything as JSON lines to `stream`; kopf and HTTP libraries only from WARNING on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(worth_telling)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("kopf", "aiohttp", "asyncio", "kubernetes", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
