"""Strict YAML: the text of one file to JSON-like documents, or to errors that name path and line.

Strict means that every reader of the file sees the same thing: no anchors, aliases, merge keys or tags, no duplicate
keys, only scalars that JSON knows (YAML 1.1 words such as `no` or `012` are refused, because tools disagree on them),
bounded size and depth. Must not read files or know what a document is for.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from perennial.domain.conditions import bounded

MAX_FILE_BYTES = 1 << 20
MAX_REVISION_BYTES = 10 << 20
MAX_DEPTH = 50
MAX_ERROR_BYTES = 500
MAX_PATH_BYTES = 1024
MAX_DIGITS = 20

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_AMBIGUOUS = re.compile(
    r"(yes|no|on|off|y|n|Null|NULL|True|TRUE|False|FALSE"
    r"|[-+]?0[0-9_]+|[-+]?0[xob][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|\+[0-9][0-9.]*|[-+]?[0-9]+\.|[-+]?\.[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|[-+]?[1-9][0-9]*(:[0-5]?[0-9])+(\.[0-9]*)?)\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SourceError:
    """Something wrong in the repository: `line` counts from 1, 0 means the whole file or directory."""

    path: str
    line: int
    message: str

    @property
    def place(self) -> str:
        """`path:line`, or the path alone."""
        return f"{self.path}:{self.line}" if self.line else self.path

    def as_status(self) -> dict[str, Any]:
        """The entry of `status.errors`."""
        path = bounded(self.path, MAX_PATH_BYTES)
        return {"path": path, "line": self.line, "message": bounded(self.message, MAX_ERROR_BYTES)}


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: where it starts, and its JSON-like content (a mapping; empty documents are left out)."""

    path: str
    line: int
    content: dict[str, Any]

    @property
    def place(self) -> str:
        """`path:line`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """All documents of one file, or the one error that made it unreadable (then there are no documents)."""

    documents: tuple[Document, ...] = ()
    error: SourceError | None = None


class _Refused(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def parse_file(path: str, data: bytes) -> ParsedFile:
    """The documents of a file's bytes. The first error ends the file: half a file must not be taken for the whole."""
    if len(data) > MAX_FILE_BYTES:
        return ParsedFile(error=too_large(path, len(data)))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        return ParsedFile(error=SourceError(path, line, "the file is not UTF-8 text: save it as UTF-8"))
    try:
        return ParsedFile(documents=tuple(_documents(path, text)))
    except _Refused as refused:
        return ParsedFile(error=SourceError(path, refused.line, refused.message))
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        what = " ".join(part for part in (failure.context, failure.problem) if part)
        return ParsedFile(error=SourceError(path, mark.line + 1 if mark else 1, f"not valid YAML: {what}"))
    except yaml.YAMLError as failure:
        line = text.count("\n", 0, getattr(failure, "position", 0) or 0) + 1
        return ParsedFile(error=SourceError(path, line, f"not valid YAML: {getattr(failure, 'reason', failure)}"))


def too_large(path: str, size: int | None = None) -> SourceError:
    """The error of a file above MAX_FILE_BYTES; `size` in bytes when it is known."""
    known = f"{size} bytes" if size is not None else "larger than 1 MiB"
    return SourceError(path, 0, f"the file is {known}; at most {MAX_FILE_BYTES} are read: split it or ignore it")


def needs_quotes(text: str) -> bool:
    """Whether a string written without quotes would be read as something else, or refused."""
    try:
        return not isinstance(_scalar(text, plain=True, line=0), str)
    except _Refused:
        return True


def _documents(path: str, text: str) -> Iterator[Document]:
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.CBaseLoader)
    for event in events:
        if not isinstance(event, yaml.DocumentStartEvent):
            continue
        first = next(events)
        content = _value(first, events, 1)
        if content is None:
            continue
        line = first.start_mark.line + 1
        if not isinstance(content, dict):
            raise _Refused(
                line, f"a document must be a mapping with apiVersion, kind and metadata, not {_name(content)}"
            )
        yield Document(path, line, content)


def _value(event: Any, events: Iterator[Any], depth: int) -> Any:
    """The value that begins with `event`; consumes the rest of it from `events`."""
    line = event.start_mark.line + 1
    if depth > MAX_DEPTH:
        raise _Refused(line, f"nested more than {MAX_DEPTH} deep")
    if isinstance(event, yaml.AliasEvent):
        raise _Refused(line, f"alias *{event.anchor}: aliases are not allowed; write the value out")
    if getattr(event, "anchor", None) is not None:
        raise _Refused(line, f"anchor &{event.anchor}: anchors are not allowed; write the value out where it is used")
    if getattr(event, "tag", None) is not None:
        raise _Refused(line, f"tag {event.tag}: tags are not allowed; quote a value that must be a string")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event.value, plain=event.implicit[0], line=line)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_value(item, events, depth + 1))
        return items
    return _mapping(events, depth)


def _mapping(events: Iterator[Any], depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    while not isinstance(key_event := next(events), yaml.MappingEndEvent):
        line = key_event.start_mark.line + 1
        key = _value(key_event, events, depth + 1)
        if not isinstance(key, str):
            raise _Refused(line, f"the key {key!r} is {_name(key)}, not a string: put it in quotes")
        if key == "<<" and key_event.implicit[0]:
            raise _Refused(line, "merge keys (<<) are not allowed; write the values out")
        if key in result:
            raise _Refused(line, f"the key {key!r} appears twice in one mapping: remove one of them")
        result[key] = _value(next(events), events, depth + 1)
    return result


def _scalar(text: str, *, plain: bool, line: int) -> Any:
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return _number(int(text) if len(text) <= MAX_DIGITS else math.inf, text, line)
    if _FLOAT.match(text):
        return _number(float(text), text, line)
    if _AMBIGUOUS.match(text):
        raise _Refused(
            line, f"{text} means different things to different YAML readers: quote it, or write true, false, a number"
        )
    return text


def _number(value: float, text: str, line: int) -> float:
    if abs(value) >= 2**63 or math.isinf(value):
        raise _Refused(line, f"the number {text[:MAX_DIGITS]} is too large for the API: quote it if it is a name")
    return value


def _name(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "null")
