"""Writes the reference page of the API from the CustomResourceDefinitions: every field, default, limit and rule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_INTRODUCTION = """\
<!-- Generated from operator/perennial/api/v1alpha1 by `make generate`. Do not edit. -->
# API reference: `perennial.dev/v1alpha1`

Decimals are strings (`"0.02"`), durations are integers with their unit in the name, quantities are Kubernetes
quantities (`500m`, `2Gi`). Every reference is to an object of the same namespace. A field with a default is filled in
by the API server. Fields marked `object, free` are parts of a pod and are checked by Kubernetes when the pod is made.
*required* holds where the object around the field is given.
"""


def reference_page(definitions: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown; `definitions` in the order of its sections."""
    parts = [_INTRODUCTION, _contents(definitions)]
    parts.extend(_section(definition) for definition in definitions)
    return "\n".join(parts)


def _contents(definitions: Sequence[Mapping[str, Any]]) -> str:
    rows = ["| Kind | Short name | |", "|---|---|---|"]
    for definition in definitions:
        names = definition["spec"]["names"]
        purpose = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"]
        rows.append(f"| [{names['kind']}](#{names['singular']}) | `{names['shortNames'][0]}` | {purpose} |")
    return "\n".join([*rows, ""])


def _section(definition: Mapping[str, Any]) -> str:
    names = definition["spec"]["names"]
    version = definition["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    lines = [f"## {names['kind']}", "", schema["description"], "", "Printed columns:", ""]
    lines.append("| Column | Shows | From |")
    lines.append("|---|---|---|")
    for column in version["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        lines.append(
            f"| {column['name'].upper()}{wide} | {_cell(column.get('description', ''))} | `{column['jsonPath']}` |"
        )
    for part in ("spec", "status"):
        lines.extend(
            ["", f"### {names['kind']}: {part}", "", "| Field | Type | Default | Limits | |", "|---|---|---|---|---|"]
        )
        lines.extend(_row(*field) for field in _fields(schema["properties"][part], part))
    rules = list(_rules(schema, ""))
    lines.extend(["", f"### {names['kind']}: rules", ""])
    lines.extend(f"- {f'`{path}`: ' if path else ''}{message}" for path, message in rules)
    lines.append("")
    return "\n".join(lines)


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, child, name in required
        yield from _fields(_element(child), here + _suffix(child))


def _element(schema: Schema) -> Schema:
    """What a list or a map holds; the schema itself for anything else."""
    if "items" in schema:
        return _element(schema["items"])
    if "additionalProperties" in schema:
        return _element(schema["additionalProperties"])
    return schema


def _suffix(schema: Schema) -> str:
    return "[]" if "items" in schema else ""


def _row(path: str, schema: Schema, required: bool) -> str:
    default = "*required*" if required else _default(schema)
    return (
        f"| `{path.partition('.')[2]}` | {_type(schema)} | {_cell(default)} | {_cell(_limits(schema))} "
        f"| {_cell(schema.get('description', ''))} |"
    )


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    fields = schema.get("properties", {})
    from_fields = {name: child["default"] for name, child in fields.items() if "default" in child}
    if fields and schema["default"] == from_fields:
        return "the fields' defaults"
    return f"`{_literal(schema['default'])}`"


def _type(schema: Schema) -> str:
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "object, free"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _limits(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    parts = [_range(schema, "minimum", "maximum", ""), _range(schema, "minLength", "maxLength", " characters")]
    parts.append(_range(schema, "minItems", "maxItems", " entries"))
    parts.append(_range(schema, "minProperties", "maxProperties", " entries"))
    if "pattern" in schema and not schema.get("x-kubernetes-int-or-string"):
        parts.append(f"`{schema['pattern']}`")
    inner = schema.get("items") or schema.get("additionalProperties")
    if inner and "properties" not in inner and (limits := _limits(inner)):
        parts.append(f"each: {limits}")
    return "; ".join(part for part in parts if part)


def _range(schema: Schema, low: str, high: str, unit: str) -> str:
    if low in schema and high in schema:
        return f"{schema[low]} to {schema[high]}{unit}"
    if high in schema:
        return f"at most {schema[high]}{unit}"
    return f"at least {schema[low]}{unit}" if low in schema else ""


def _rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}".lstrip("."))
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from _rules(schema[inner], path + ("[]" if inner == "items" else ""))


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_literal(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(entry) for entry in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
