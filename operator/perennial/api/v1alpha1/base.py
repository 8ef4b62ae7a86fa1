"""What every model of the API shares: camelCase aliases, frozen values, and where CEL rules are written.

Rules between fields are CEL, never pydantic validators: a validator would refuse here what the API server accepts.
Unknown fields are ignored, because the API server prunes them and an older operator must read newer objects.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from perennial.api.kinds import Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule. `message` says what is allowed; `field_path` names the field at fault when it is not the object."""

    cel: str
    message: str
    field_path: str = ""

    def as_schema(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        written = {"rule": self.cel, "message": self.message}
        if self.field_path:
            written["fieldPath"] = self.field_path
        return written


@dataclass(frozen=True, slots=True)
class Column:
    """One printed column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


class Model(BaseModel):
    """A frozen object of the API. Subclasses list their CEL rules in `rules`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        frozen=True,
        extra="ignore",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    atomic: ClassVar[bool] = False
    """True makes the object one value for server-side apply: whoever sets it owns all of it."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        written = handler(core_schema)
        resolved = handler.resolve_ref_schema(written)
        if cls.rules:
            resolved["x-kubernetes-validations"] = [rule.as_schema() for rule in cls.rules]
        if cls.atomic:
            resolved["x-kubernetes-map-type"] = "atomic"
        return written

    def to_dict(self) -> dict[str, Any]:
        """The object as a manifest writes it: camelCase, no unset optional fields, JSON types only."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(Model):
    """The parts of Kubernetes' metadata that Perennial reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Resource(Model):
    """A whole object of one of the five kinds."""

    resource_kind: ClassVar[Kind]
    short_name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    max_name_length: ClassVar[int] = 40
    scale_paths: ClassVar[dict[str, str] | None] = None

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


def with_rules(*rules: Rule) -> dict[str, Any]:
    """CEL rules on a field that is no model: a string, a list, a map."""
    return {"x-kubernetes-validations": [rule.as_schema() for rule in rules]}


def list_map(*keys: str) -> dict[str, Any]:
    """Marks a list as a map for server-side apply: entries with the same `keys` are the same entry."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC_LIST: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
SET_LIST: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC_MAP: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
FREE_OBJECT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def only_one(*fields: str) -> str:
    """CEL that holds when exactly one of `fields` is set."""
    return f"[{', '.join(f'has(self.{name})' for name in fields)}].filter(set, set).size() == 1"


def at_most_one(*fields: str) -> str:
    """CEL that holds when at most one of `fields` is set."""
    return f"[{', '.join(f'has(self.{name})' for name in fields)}].filter(set, set).size() <= 1"
