"""Changing documents in place: one scalar, or the records of a ModelVersion, and not one other byte that can be kept.

A scalar is spliced into the text, so comments, order, quoting and indentation stay as they are. Records are lists and
are edited by ruamel.yaml, in their own document only. Every result is parsed again and compared with what was meant; an
edit that would change anything else is refused. Must not decide what to change.
"""

import copy
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from ruamel.yaml import YAML

from perennial.domain.sync.documents import Document, needs_quotes, parse_file

VERSION_FIELD = ("spec", "model", "version")
_SEPARATOR = re.compile(r"(?m)^---(?=[ \t\r\n]|\Z)[^\n]*(?:\n|\Z)")
_WIDE = 1 << 20


class CannotEdit(Exception):
    """The document cannot be edited as meant; the text says why in one sentence."""


def field_of(content: Mapping[str, Any], field: Sequence[str] = VERSION_FIELD) -> Any:
    """The value at a path of keys, None when it is absent."""
    value: Any = content
    for key in field:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def without(content: Mapping[str, Any], field: Sequence[str] = VERSION_FIELD) -> dict[str, Any]:
    """A copy without the value at a path of keys."""
    result = copy.deepcopy(dict(content))
    parent: Any = result
    for key in field[:-1]:
        parent = parent.get(key) if isinstance(parent, dict) else None
    if isinstance(parent, dict):
        parent.pop(field[-1], None)
    return result


def set_version(data: bytes, document: Document, value: str) -> bytes:
    """The file with the document's spec.model.version set; the key is inserted after model.name when it is absent."""
    text = _text(data)
    root = _root(text, document)
    model = _child(_child(root, "spec", document), "model", document)
    node = _find(model, VERSION_FIELD[-1])
    if node is None:
        edited = _inserted(text, model, value, document)
    else:
        edited = _replaced(text, node, value, document)
    meant = copy.deepcopy(document.content)
    meant["spec"]["model"]["version"] = value
    return _checked(data, edited, document, meant)


def edit_records(data: bytes, document: Document, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with `change` applied to the document's spec; comments and order of the rest stay."""
    meant = copy.deepcopy(document.content)
    change(meant["spec"])
    if meant == document.content:
        return data
    text = _text(data)
    start, end = _span(text, document.line)
    segment = text[start:end]
    engine = YAML(typ="rt")
    engine.preserve_quotes = True
    engine.width = _WIDE
    offset = _dash_offset(segment)
    engine.indent(mapping=_indent(segment), sequence=2 + offset, offset=offset)
    loaded = engine.load(segment)
    change(loaded["spec"])
    out = io.StringIO()
    engine.dump(loaded, out)
    edited = text[:start] + out.getvalue() + text[end:]
    return _checked(data, edited, document, meant)


def render_document(content: Mapping[str, Any]) -> bytes:
    """A new file with one document: keys in the given order, short lists on one line, strings quoted where needed."""
    text: str = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=_WIDE, allow_unicode=True)
    return text.encode()


# -- scalars ---------------------------------------------------------------------------------------------------------
def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _root(text: str, document: Document) -> yaml.Node:
    for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
        if node is not None and node.start_mark.line + 1 == document.line:
            return node
    raise CannotEdit(f"{document.place}: the document is not where it was read")


def _find(node: yaml.Node, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _child(node: yaml.Node, key: str, document: Document) -> yaml.MappingNode:
    found = _find(node, key)
    if not isinstance(found, yaml.MappingNode):
        raise CannotEdit(f"{document.place}: the document has no mapping {key}, so the version cannot be set in it")
    return found


def _scalar(value: str, style: str | None) -> str:
    if style == '"':
        return f'"{value}"'
    return f"'{value}'" if style == "'" or needs_quotes(value) else value


def _replaced(text: str, node: yaml.Node, value: str, document: Document) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
        raise CannotEdit(f"{document.place}: spec.model.version is not a plain or quoted scalar: write it on one line")
    scalar = _scalar(value, node.style)
    return text[:start] + (f" {scalar}" if start == end else scalar) + text[end:]


def _inserted(text: str, model: yaml.MappingNode, value: str, document: Document) -> str:
    pair = next(((key, val) for key, val in model.value if key.value == "name"), None)
    if pair is None:
        raise CannotEdit(f"{document.place}: spec.model has no name to put the version after")
    key, name = pair
    entry = f"version: {_scalar(value, None)}"
    end = name.end_mark.index
    if model.flow_style:
        return f"{text[:end]}, {entry}{text[end:]}"
    line_end = text.find("\n", end)
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = " " * key.start_mark.column
    if line_end < 0:
        return f"{text}{newline}{indent}{entry}{newline}"
    return f"{text[: line_end + 1]}{indent}{entry}{newline}{text[line_end + 1 :]}"


# -- records ---------------------------------------------------------------------------------------------------------
def _span(text: str, line: int) -> tuple[int, int]:
    """Where the document that begins in `line` starts and ends, without its separators."""
    offset = 0
    for _ in range(line - 1):
        offset = text.index("\n", offset) + 1
    start, end = 0, len(text)
    for separator in _SEPARATOR.finditer(text):
        if separator.end() <= offset:
            start = separator.end()
        elif separator.start() >= offset:
            end = separator.start()
            break
    return start, end


def _dash_offset(segment: str) -> int:
    """How far the dashes of block lists are indented below their key in this document."""
    found = re.search(r"(?m)^( *)[^\s#-][^\n]*:[ \t]*\n( *)- ", segment)
    return len(found[2]) - len(found[1]) if found else 0


def _indent(segment: str) -> int:
    """How far mappings are indented in this document."""
    found = re.search(r"(?m)^[^\s#-][^\n]*:[ \t]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( +)[^\s#-]", segment)
    return len(found[1]) if found else 2


def _checked(before: bytes, text: str, document: Document, meant: Mapping[str, Any]) -> bytes:
    """The edited bytes, if they mean exactly what was meant and every other document is as it was."""
    after = text.encode()
    old, new = parse_file(document.path, before), parse_file(document.path, after)
    wanted = [meant if doc.line == document.line else doc.content for doc in old.documents]
    if new.error is not None or [doc.content for doc in new.documents] != wanted:
        raise CannotEdit(f"{document.place}: the document cannot be edited without changing more than is meant")
    return after


class _Dumper(yaml.SafeDumper):
    """Block style; lists of scalars in flow style; no aliases; quotes wherever readers could disagree."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if needs_quotes(text) else None)


def _represent_list(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.SequenceNode:
    flow = not any(isinstance(item, (list, dict)) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(list, _represent_list)
