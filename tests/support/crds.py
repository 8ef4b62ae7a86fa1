"""Checks objects against our CRDs without an API server: what a component writes must be what a cluster would store.

Types, limits, enums, patterns, required and unknown fields are checked; CEL rules are not (tests/api does that).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from perennial.api.crdgen import custom_resource_definition
from perennial.api.v1alpha1 import RESOURCES

_PYTHON_TYPES = {"string": str, "integer": int, "boolean": bool, "object": Mapping, "array": list | tuple}


@cache
def _schema(kind: str) -> dict[str, Any]:
    resource = next(resource for resource in RESOURCES if resource.__name__ == kind)
    return custom_resource_definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def problems(whole: Mapping[str, Any]) -> list[str]:
    """What the API server would refuse in spec and status of an object of ours; empty when nothing is wrong."""
    properties = _schema(whole["kind"])["properties"]
    return [
        problem
        for part in ("spec", "status")
        if part in whole
        for problem in _problems(whole[part], properties[part], part)
    ]


def _problems(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or not re.fullmatch(schema["pattern"], str(value)):
            yield f"{path}: {value!r} is no quantity"
        return
    expected = _PYTHON_TYPES[schema["type"]]
    if not isinstance(value, expected) or (schema["type"] == "integer" and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    yield from (f"{path}: {words}" for words in _limits(value, schema))
    if schema["type"] == "array":
        for index, entry in enumerate(value):
            yield from _problems(entry, schema["items"], f"{path}[{index}]")
    elif "additionalProperties" in schema:
        for key, entry in value.items():
            yield from _problems(entry, schema["additionalProperties"], f"{path}.{key}")
    elif schema["type"] == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield from (f"{path}.{name} is required" for name in schema.get("required", ()) if name not in value)
        for key, entry in value.items():
            if key not in schema.get("properties", {}):
                yield f"{path}.{key} is not in the schema"
            else:
                yield from _problems(entry, schema["properties"][key], f"{path}.{key}")


def _limits(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{value!r} does not match {schema['pattern']}"
    size = value if schema["type"] == "integer" else len(value) if schema["type"] != "boolean" else 0
    lows = [schema[key] for key in ("minimum", "minLength", "minItems") if key in schema]
    highs = [schema[key] for key in ("maximum", "maxLength", "maxItems", "maxProperties") if key in schema]
    if any(size < low for low in lows):
        yield f"{value!r} is below {lows}"
    if any(size > high for high in highs):
        yield f"{str(value)[:80]!r} is beyond {highs}"
