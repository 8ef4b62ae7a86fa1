"""The step from pydantic's JSON Schema to a structural schema."""

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from perennial.api.schema import SchemaError, name_rules, structural
from perennial.api.v1alpha1.base import ATOMIC_LIST, Model, Rule, at_most_one, only_one
from perennial.api.v1alpha1.types import FreeObject, Quantity


class Inner(Model):
    """Words of the class."""

    rules: ClassVar = (Rule("self.size > 0", "size must be greater than 0"),)

    size: int = Field(default=3, description="Its size.")
    note: str | None = Field(default=None, description="A note.")


class Outer(Model):
    """The outer object."""

    inner: Inner = Field(default=Inner(), description="Words of the field.")
    changed: Inner = Field(default=Inner(size=5), description="Not the default.")
    maybe: Inner | None = Field(
        default=None, description="Optional.", json_schema_extra={"x-kubernetes-validations": [{"rule": "true"}]}
    )
    many: Annotated[tuple[Inner, ...], Field(max_length=2, json_schema_extra=ATOMIC_LIST)] = Field(
        default=(Inner(size=1),), description="A list."
    )
    needed_name: str = Field(description="Required.")
    memory: Quantity | None = Field(default=None, description="A quantity.")
    affinity: FreeObject | None = Field(default=None, description="Anything.")


SCHEMA = structural(Outer)
FIELDS = SCHEMA["properties"]


def test_fields_have_camel_case_names_and_only_those_without_default_are_required():
    assert list(FIELDS) == ["inner", "changed", "maybe", "many", "neededName", "memory", "affinity"]
    assert SCHEMA["required"] == ["neededName"]


def test_references_are_inlined_and_the_fields_own_words_win():
    assert FIELDS["inner"]["description"] == "Words of the field."
    assert FIELDS["inner"]["properties"]["size"] == {"type": "integer", "description": "Its size.", "default": 3}


def test_a_default_object_is_written_in_full_because_the_server_checks_its_rules_before_filling_in_fields():
    assert FIELDS["inner"]["default"] == {"size": 3}
    assert FIELDS["changed"]["default"] == {"size": 5}
    assert FIELDS["many"]["default"] == [{"size": 1}]


def test_an_optional_field_has_no_null_branch_and_no_default():
    assert FIELDS["maybe"]["type"] == "object"
    assert "default" not in FIELDS["maybe"]
    assert "nullable" not in FIELDS["maybe"]


def test_rules_of_the_class_and_of_the_field_are_both_kept():
    assert [rule["rule"] for rule in FIELDS["maybe"]["x-kubernetes-validations"]] == ["self.size > 0", "true"]


def test_a_quantity_is_an_integer_or_a_string():
    assert FIELDS["memory"]["x-kubernetes-int-or-string"] is True
    assert "type" not in FIELDS["memory"]


def test_quantities_are_read_as_strings():
    assert Outer(needed_name="x", memory=2).memory == "2"


def test_a_free_object_keeps_what_it_holds():
    assert FIELDS["affinity"] == {
        "type": "object",
        "description": "Anything.",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_a_union_is_refused():
    class Union(Model):
        """Two types in one field."""

        value: int | str = Field(description="Either.")

    with pytest.raises(SchemaError, match=r"Union\.value: .* union"):
        structural(Union)


def test_one_of_rules():
    assert only_one("a", "b") == "[has(self.a), has(self.b)].filter(set, set).size() == 1"
    assert at_most_one("a", "b") == "[has(self.a), has(self.b)].filter(set, set).size() <= 1"


def test_the_name_rule_knows_its_length():
    assert "size() <= 30" in name_rules(30)[0]["rule"]
