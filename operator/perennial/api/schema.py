"""Turns a pydantic model into a structural schema, as the API server wants it in a CustomResourceDefinition.

Pydantic writes JSON Schema with references, titles and null branches; a structural schema has none of them. What cannot
be written structurally (a union, a free-form value) is an error here, not a surprise at install time.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.names import NAME_PATTERN, RESERVED_NAMES
from perennial.api.v1alpha1.base import Model, Resource

Schema = dict[str, Any]

_RULES = "x-kubernetes-validations"
_COPIED = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
)
_PLAIN_TYPES = ("string", "integer", "boolean", "number")


class SchemaError(Exception):
    """A model uses something that a structural schema cannot say."""


def structural(model: type[Model]) -> Schema:
    """The structural schema of `model`, with every field inlined and named as manifests name it."""
    written = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(written, written.get("$defs", {}), model.__name__)


def resource_schema(resource: type[Resource]) -> Schema:
    """The `openAPIV3Schema` of a kind: spec, status with its default, and the rule for names."""
    schema = structural(resource)
    properties = schema["properties"]
    root: Schema = {
        "description": schema["description"],
        "type": "object",
        "required": ["spec"],
        _RULES: name_rules(resource.max_name_length),
        "properties": {
            "apiVersion": {"type": "string", "maxLength": 64},
            "kind": {"type": "string", "maxLength": 64},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": properties["spec"],
            # Before the operator has looked, kstatus must not call the object healthy.
            "status": {**_without_defaults(properties["status"]), "default": {"observedGeneration": -1}},
        },
    }
    return root


def _without_defaults(schema: Any) -> Any:
    """Status has no defaults below its root: a status that is read back must equal the one that was written."""
    if isinstance(schema, list):
        return [_without_defaults(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _without_defaults(child) for name, child in value.items()}
        if key == "properties"
        else _without_defaults(value)
        for key, value in schema.items()
        if key != "default"
    }


def name_rules(longest: int) -> list[dict[str, str]]:
    """CEL on metadata.name: every child's name then fits in 63 characters unshortened and cannot collide."""
    return [
        {
            "rule": f"self.metadata.name.matches('{NAME_PATTERN}') && self.metadata.name.size() <= {longest}",
            "message": f"metadata.name must have at most {longest} lower-case letters, digits and '-', "
            "start with a letter and end with a letter or a digit",
        },
        {
            "rule": f"!self.metadata.name.matches('{RESERVED_NAMES}')",
            "message": "metadata.name may not start with 'perennial-', contain '-rev-' or '-run-', or end with '-rev' "
            "or '-run': those names belong to the operator's own objects",
        },
    ]


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    node = _without_null(_resolved(node, definitions), definitions, path)
    if node.get("x-kubernetes-int-or-string"):
        return {
            **_copied(node),
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        }
    if "const" in node:
        node = {**node, "enum": [node["const"]]}
    kind = node.get("type")
    schema = _copied(node)
    if kind == "object":
        schema.update(_object(node, definitions, path))
    elif kind == "array":
        schema["items"] = _convert(node["items"], definitions, f"{path}[]")
    elif kind not in _PLAIN_TYPES:
        raise SchemaError(f"{path}: a structural schema needs one type, not {kind or sorted(node)}")
    if schema.get("default") in _EMPTY:
        del schema["default"]
    if "default" in schema:
        schema["default"] = _plain(schema["default"])
    return schema


def _object(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    values = node.get("additionalProperties")
    if isinstance(values, Mapping):
        return {"additionalProperties": _convert(values, definitions, f"{path}{{}}")}
    properties = {
        name: _convert(child, definitions, f"{path}.{name}") for name, child in node.get("properties", {}).items()
    }
    result: Schema = {"properties": properties} if properties else {}
    if node.get("required"):
        result["required"] = list(node["required"])
    return result


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`node` with its reference replaced by what it names; words at the reference win, rules of both are kept."""
    if "$ref" not in node:
        return dict(node)
    target = _resolved(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    rules = [*target.get(_RULES, ()), *node.get(_RULES, ())]
    merged = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return {**merged, _RULES: rules} if rules else merged


def _without_null(node: dict[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """An optional field is one that may be absent; null is not a value in our API."""
    if "default" in node and node["default"] is None:
        node = {key: value for key, value in node.items() if key != "default"}
    if "anyOf" not in node:
        return node
    branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
    if len(branches) != 1:
        raise SchemaError(f"{path}: a structural schema cannot hold a union")
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    branch = _resolved(branches[0], definitions)
    rules = [*branch.get(_RULES, ()), *rest.get(_RULES, ())]
    merged = {**branch, **rest}
    return {**merged, _RULES: rules} if rules else merged


def _copied(node: Mapping[str, Any]) -> Schema:
    schema = {key: node[key] for key in _COPIED if key in node}
    schema.update({key: value for key, value in node.items() if key.startswith("x-kubernetes-")})
    if "description" in schema:
        schema["description"] = " ".join(str(schema["description"]).split())
    return schema


def _plain(default: Any) -> Any:
    """`default` in full, without unset fields. Nested defaults are repeated, because the API server checks the rules
    of an object against its default before it fills in the defaults of the fields."""
    if isinstance(default, Mapping):
        return {name: _plain(value) for name, value in default.items() if value is not None and value not in _EMPTY}
    if isinstance(default, list | tuple):
        return [_plain(value) for value in default]
    return default


_EMPTY: tuple[Any, ...] = ((), [], "")
"""Defaults that are left out: absent says the same."""
