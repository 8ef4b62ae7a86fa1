"""Every CEL rule accepts what it should and refuses what it should, with its own sentence and nothing else."""

import uuid
from typing import Any

import pytest

from perennial.api.kinds import find
from tests.api.cases import CASES, Case, Patch, spec_object
from tests.api.server import ApiServer, Refused, path_of
from tests.unit.api.samples import MINIMAL, minimal

RESERVED = (
    "metadata.name may not start with 'perennial-', contain '-rev-' or '-run-', or end with '-rev' or '-run': those "
    "names belong to the operator's own objects"
)


def dry_run(server: ApiServer, namespace: str, whole: dict[str, Any]) -> dict[str, Any]:
    """What the API server would store; nothing is stored."""
    kind = find(whole["apiVersion"], whole["kind"])
    assert kind is not None
    return server.request("POST", path_of(kind, namespace), whole, dryRun="All", fieldValidation="Strict")


class Updates:
    """Tries updates of one stored object."""

    def __init__(self, server: ApiServer, namespace: str, case: Case) -> None:
        self._server, self._case = server, case
        kind = find("perennial.dev/v1alpha1", case.kind)
        assert kind is not None and case.old is not None
        self._name = f"x{uuid.uuid4().hex[:8]}"
        self._path = path_of(kind, namespace, self._name)
        self._stored = server.request(
            "POST", path_of(kind, namespace), spec_object(case.kind, case.old, self._name), fieldValidation="Strict"
        )

    def replace(self, patch: Patch) -> None:
        """Puts an object with `patch` in the place of the stored one, as a dry run."""
        whole = spec_object(self._case.kind, patch, self._name)
        whole["metadata"] = {"name": self._name, "resourceVersion": self._stored["metadata"]["resourceVersion"]}
        self._server.request("PUT", self._path, whole, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("case", [case for case in CASES if case.old is None], ids=lambda case: case.id)
def test_a_rule_accepts_and_refuses(api_server: ApiServer, namespace: str, case: Case):
    dry_run(api_server, namespace, spec_object(case.kind, case.good))
    with pytest.raises(Refused) as refused:
        dry_run(api_server, namespace, spec_object(case.kind, case.bad))
    assert refused.value.code == 422
    assert [cause.endswith(case.message) for cause in refused.value.causes] == [True], refused.value.causes


@pytest.mark.parametrize("case", [case for case in CASES if case.old is not None], ids=lambda case: case.id)
def test_a_rule_about_changes_accepts_and_refuses(api_server: ApiServer, namespace: str, case: Case):
    updates = Updates(api_server, namespace, case)
    updates.replace(case.good)
    with pytest.raises(Refused) as refused:
        updates.replace(case.bad)
    assert refused.value.code == 422
    assert [cause.endswith(case.message) for cause in refused.value.causes] == [True], refused.value.causes


@pytest.mark.parametrize("kind", MINIMAL)
def test_names_of_the_operators_own_objects_are_refused(api_server: ApiServer, namespace: str, kind: str):
    for name in ("r", "rain-runner", "revenue", "my-perennial-model", "a0"):
        dry_run(api_server, namespace, minimal(kind, name))
    for name in ("perennial-rain", "rain-rev-1", "rain-run-1", "rain-rev", "rain-run"):
        with pytest.raises(Refused) as refused:
            dry_run(api_server, namespace, minimal(kind, name))
        assert [cause.endswith(RESERVED) for cause in refused.value.causes] == [True], refused.value.causes


@pytest.mark.parametrize("kind", MINIMAL)
def test_names_that_children_could_not_carry_are_refused(api_server: ApiServer, namespace: str, kind: str):
    longest = 30 if kind == "DriftPolicy" else 40
    message = (
        f"metadata.name must have at most {longest} lower-case letters, digits and '-', start with a letter and end "
        "with a letter or a digit"
    )
    dry_run(api_server, namespace, minimal(kind, "a" * longest))
    for name in ("a" * (longest + 1), "0rain", "rain.v1"):
        with pytest.raises(Refused) as refused:
            dry_run(api_server, namespace, minimal(kind, name))
        assert [cause.endswith(message) for cause in refused.value.causes] == [True], refused.value.causes


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("ModelVersion", {"rejections": [{"deployment": "rain", "reason": "CanaryFailed"}]}),
        ("ModelVersion", {"proposed": [{"deployment": "rain"}]}),
        ("ModelVersion", {"retired": {"reason": "Its data was withdrawn."}}),
    ],
    ids=["rejections", "proposed", "retired"],
)
def test_records_may_be_added_and_removed(api_server: ApiServer, namespace: str, kind: str, patch: Patch):
    Updates(api_server, namespace, Case(kind, "", {}, {}, old={})).replace(patch)
    Updates(api_server, namespace, Case(kind, "", {}, {}, old=patch)).replace({})


def test_an_open_served_entry_may_be_closed(api_server: ApiServer, namespace: str):
    entry = {"deployment": "rain", "fromTime": "2026-11-01T10:00:00Z"}
    updates = Updates(api_server, namespace, Case("ModelVersion", "", {}, {}, old={"served": [entry]}))
    updates.replace({"served": [{**entry, "toTime": "2026-11-02T10:00:00Z", "requests": 7, "failures": 0}]})
