"""Every CEL rule of the CRDs is tried on a real API server, by tests/api."""

from perennial.api.crdgen import custom_resource_definition
from perennial.api.v1alpha1 import RESOURCES
from tests.api.cases import CASES
from tests.unit.api.test_crds import nodes


def rules_of_specs() -> set[tuple[str, str]]:
    found = set()
    for resource in RESOURCES:
        version = custom_resource_definition(resource)["spec"]["versions"][0]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        for _, node in nodes(spec, "spec"):
            found |= {(resource.__name__, rule["message"]) for rule in node.get("x-kubernetes-validations", ())}
    return found


def test_every_rule_has_an_accepted_and_a_refused_object():
    assert rules_of_specs() == {(case.kind, case.message) for case in CASES}


def test_cases_have_names_of_their_own():
    assert len({case.id for case in CASES}) == len(CASES)
