"""Lints the generated CRDs: everything is bounded, described and structural."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from perennial.api.crdgen import custom_resource_definition
from perennial.api.v1alpha1 import RESOURCES

CRDS = {resource.__name__: custom_resource_definition(resource) for resource in RESOURCES}
STRUCTURAL_KEYS = {
    *("type", "format", "description", "default", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("minItems", "maxItems", "maxProperties", "items", "properties", "additionalProperties", "required", "anyOf"),
}

Node = dict[str, Any]


def root(kind: str) -> Node:
    return CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def everything() -> list[tuple[str, Node]]:
    return [
        entry
        for kind in CRDS
        for part in ("spec", "status")
        for entry in nodes(root(kind)["properties"][part], f"{kind}.{part}")
    ]


def offenders(bad: Any) -> list[str]:
    return [path for path, node in everything() if bad(node)]


def test_every_string_has_a_greatest_length():
    assert not offenders(lambda n: n.get("type") == "string" and "maxLength" not in n and "enum" not in n)


def test_every_number_has_a_range():
    assert not offenders(lambda n: n.get("type") == "integer" and not {"minimum", "maximum"} <= n.keys())


def test_no_field_is_a_floating_point_number():
    assert not offenders(lambda n: n.get("type") == "number")


def test_every_list_has_a_greatest_size_and_a_list_type():
    assert not offenders(lambda n: n.get("type") == "array" and not {"maxItems", "x-kubernetes-list-type"} <= n.keys())


def test_the_keys_of_a_list_map_are_required_fields_of_its_entries():
    for path, node in everything():
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], f"{path}: {key}"


def test_every_map_has_a_greatest_size():
    assert not offenders(lambda n: "additionalProperties" in n and "maxProperties" not in n)


def test_quantities_are_bounded():
    assert not offenders(lambda n: n.get("x-kubernetes-int-or-string") and not {"maxLength", "pattern"} <= n.keys())


def test_every_field_is_described():
    missing = [
        f"{path}.{name}"
        for path, node in everything()
        for name, child in node.get("properties", {}).items()
        if not child.get("description", "").strip().endswith((".", "unset.", "`."))
    ]
    assert not missing


def test_only_words_of_a_structural_schema_are_used():
    for path, node in everything():
        unknown = {key for key in node if key not in STRUCTURAL_KEYS and not key.startswith("x-kubernetes-")}
        assert not unknown, f"{path}: {unknown}"


def test_no_reference_leaves_the_namespace():
    assert not [path for path, _ in everything() if re.search(r"\.namespace(s|Ref)?$", path)]


def test_no_field_is_nullable():
    assert not offenders(lambda n: "nullable" in n)


def test_durations_are_integers_with_their_unit_in_the_name():
    for path, node in everything():
        if path.endswith("Seconds") and "properties" not in node:  # gpuSeconds of a run has two parts
            assert node["type"] == "integer", path
        assert not re.search(r"(?i)(interval|timeout|duration|period)$", path) or path.endswith("analysis.interval")


def test_status_starts_unobserved_and_has_no_other_default():
    for kind in CRDS:
        status = root(kind)["properties"]["status"]
        assert status["default"] == {"observedGeneration": -1}
        assert not [path for path, node in nodes(status, "") if path and "default" in node]


def test_a_model_version_has_no_defaults_so_that_git_applies_what_training_made():
    spec = root("ModelVersion")["properties"]["spec"]
    assert not [path for path, node in nodes(spec, "spec") if "default" in node]


def test_no_default_is_an_empty_list_or_an_empty_string():
    assert not offenders(lambda n: n.get("default") in ([], ""))


def test_conditions_are_a_map_by_type():
    for kind in CRDS:
        conditions = root(kind)["properties"]["status"]["properties"]["conditions"]
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize("kind", CRDS)
def test_each_crd_is_smaller_than_100_kilobytes(kind: str):
    assert len(json.dumps(CRDS[kind])) < 100_000


def test_rules_say_what_is_allowed_in_words():
    rules = [rule for _, node in everything() for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 30
    for rule in rules:
        assert re.search(r"\b(must|may not|needs?|may be|instead)\b", rule["message"]), rule["message"]
        assert not re.search(r"[<>]=?|!=|==", rule["message"]), rule["message"]


def test_names_short_names_and_categories():
    seen = {kind: (crd["spec"]["names"]["plural"], crd["spec"]["names"]["shortNames"][0]) for kind, crd in CRDS.items()}
    assert seen == {
        "GitSync": ("gitsyncs", "gsync"),
        "TrainingJob": ("trainingjobs", "tjob"),
        "ModelVersion": ("modelversions", "mver"),
        "ModelDeployment": ("modeldeployments", "mdep"),
        "DriftPolicy": ("driftpolicies", "drift"),
    }
    for crd in CRDS.values():
        assert crd["spec"]["names"]["categories"] == ["perennial"]
        assert crd["spec"]["scope"] == "Namespaced"


@pytest.mark.parametrize(
    ("kind", "normal", "wide"),
    [
        ("GitSync", "READY REVISION OBJECTS STATUS AGE", ""),
        ("TrainingJob", "STATUS ATTEMPT METRIC VERSION TRIGGER AGE", ""),
        ("ModelVersion", "MODEL GATE METRICS SERVING FINISHED", ""),
        ("ModelDeployment", "READY STABLE CANARY WEIGHT STEP STATUS AGE", "URL DIGEST COMMIT"),
        ("DriftPolicy", "TARGET STATE EFFECT THRESHOLD SAMPLES LAST-RETRAIN AGE", ""),
    ],
)
def test_printed_columns(kind: str, normal: str, wide: str):
    columns = CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert " ".join(c["name"].upper() for c in columns if not c.get("priority")) == normal
    assert " ".join(c["name"].upper() for c in columns if c.get("priority")) == wide


def test_every_printed_column_points_at_a_field_that_exists():
    for kind, crd in CRDS.items():
        paths = {re.sub(r"\[\]|\{\}", "", path.partition(".")[2]) for path, _ in everything() if path.startswith(kind)}
        for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]:
            path = re.sub(r"\[.*?\]", "", column["jsonPath"]).lstrip(".")
            assert path in paths or path == "metadata.creationTimestamp", f"{kind}: {column['jsonPath']}"


def test_only_a_model_deployment_can_be_scaled():
    scaled = {kind for kind, crd in CRDS.items() if "scale" in crd["spec"]["versions"][0]["subresources"]}
    assert scaled == {"ModelDeployment"}


def test_flux_substitutes_nothing_in_the_crds():
    for crd in CRDS.values():
        assert crd["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/substitute"] == "disabled"
