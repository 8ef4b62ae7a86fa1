"""Who gives a command is known: the shipped admission policy on a real API server, and every way to cheat it."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from perennial.api import kinds, names
from perennial.api.crdgen import ROOT
from perennial.api.kinds import DRIFT_POLICY, MODEL_DEPLOYMENT, POLICY, POLICY_BINDING, Kind
from perennial.domain.rollout.commands import Command, command_text, read_command
from tests.api.server import ApiServer, Refused, path_of
from tests.unit.api.samples import minimal

MERGE = "application/merge-patch+json"
BOT = "system:serviceaccount:models:ci"
USERS = ("ada", BOT, "jürgen@example.org", "a.b", 'eve","by":"ada', "mallory\\", "bob")
"""Those who may approve. A name is whatever an identity provider says."""
Json = dict[str, Any]


@pytest.fixture(scope="module")
def place(api_server: ApiServer, namespace: str) -> Iterator[str]:
    """The namespace with the policy in force for it alone, and with people: USERS may approve, carl may only patch."""
    name = f"commands-{uuid.uuid4().hex[:8]}"
    shipped = list(yaml.safe_load_all((ROOT / "manifests/access/commands.yaml").read_text(encoding="utf-8")))
    policy, binding = shipped
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = name
    only_here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding["spec"]["matchResources"] = {"namespaceSelector": only_here}
    api_server.request("POST", path_of(POLICY, ""), policy, fieldValidation="Strict")
    api_server.request("POST", path_of(POLICY_BINDING, ""), binding, fieldValidation="Strict")
    roles = yaml.safe_load_all((ROOT / "manifests/access/clusterroles.yaml").read_text(encoding="utf-8"))
    rights = {role["metadata"]["name"]: role["rules"] for role in roles}
    _grant(api_server, namespace, "approve", rights["perennial-approve"], USERS)
    _grant(api_server, namespace, "edit", [*rights["perennial-view"], *rights["perennial-edit"]], (*USERS, "carl"))
    for kind in (MODEL_DEPLOYMENT, DRIFT_POLICY):
        api_server.request("POST", path_of(kind, namespace), minimal(kind.kind))
    _await_policy(api_server, namespace)
    yield namespace
    api_server.request("DELETE", path_of(POLICY_BINDING, "", name))
    api_server.request("DELETE", path_of(POLICY, "", name))


def _grant(api_server: ApiServer, namespace: str, name: str, rules: list[Json], users: tuple[str, ...]) -> None:
    api_server.request("POST", path_of(kinds.ROLE, namespace), {"metadata": {"name": name}, "rules": rules})
    group = kinds.ROLE.group
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user} for user in users],
    }
    api_server.request("POST", path_of(kinds.ROLE_BINDING, namespace), binding)


def _await_policy(api_server: ApiServer, namespace: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            give(api_server, namespace, text("ada"), user="carl", dryRun="All")
        except Refused:
            return
        time.sleep(0.2)
    raise AssertionError("the policy was not in force after 30 s")


def text(by: str, verb: str = "promote", revision: str = "1a2b3c4d", id_: str = "c-1") -> str:
    return command_text(verb, revision, id_, by)


def give(
    api_server: ApiServer,
    namespace: str,
    command: str | None,
    *,
    user: str,
    kind: Kind = MODEL_DEPLOYMENT,
    **query: str,
) -> Json:
    body = {"metadata": {"annotations": {names.ANNOTATION_COMMAND: command}}}
    return api_server.request("PATCH", path_of(kind, namespace, "rain"), body, content=MERGE, user=user, **query)


def refusal(api_server: ApiServer, namespace: str, command: str, user: str, kind: Kind = MODEL_DEPLOYMENT) -> str:
    with pytest.raises(Refused) as refused:
        give(api_server, namespace, command, user=user, kind=kind)
    return str(refused.value)


@pytest.mark.parametrize("user", ["ada", BOT, "jürgen@example.org", "a.b"])
def test_a_command_in_ones_own_name_is_admitted(api_server: ApiServer, place: str, user: str):
    written = give(api_server, place, text(user, id_=uuid.uuid4().hex[:12]), user=user)
    command = read_command(written["metadata"]["annotations"][names.ANNOTATION_COMMAND])
    assert isinstance(command, Command)
    assert command.by == user


def test_a_policys_command_is_checked_alike(api_server: ApiServer, place: str):
    command = text("ada", "accept-data", "2026-11-25T10:00:00Z")
    give(api_server, place, command, user="ada", kind=DRIFT_POLICY)
    assert "bob sets it" in refusal(api_server, place, command.replace("c-1", "c-2"), "bob", DRIFT_POLICY)
    own = text("carl", "accept-data", "2026-11-25T10:00:00Z")
    assert "verb approve on driftpolicies.perennial.dev" in refusal(api_server, place, own, "carl", DRIFT_POLICY)


def test_somebody_elses_name_is_refused_and_what_to_do_is_said(api_server: ApiServer, place: str):
    said = refusal(api_server, place, text("bob", id_="x1"), "ada")
    assert 'must begin with {"by":"ada","verb":"' in said
    assert "use kubectl perennial approve" in said


def test_without_the_verb_approve_a_command_is_refused_and_what_to_do_is_said(api_server: ApiServer, place: str):
    said = refusal(api_server, place, text("carl", id_="x2"), "carl")
    assert f"carl may not give commands to modeldeployments {place}/rain: ask an administrator for the verb" in said


CHEATS = {
    "a second by": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x","by":"bob"}',
    "a second by within": '{"by":"ada","verb":"promote","by":"bob","revision":"1a2b3c4d","id":"x"}',
    "a second verb": '{"by":"ada","verb":"abort","revision":"1a2b3c4d","id":"x","verb":"promote"}',
    "an escaped key": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x","\\u0062y":"bob"}',
    "an escaped value": '{"by":"ada","verb":"promote","revision":"1a2b3c4d\\u0022","id":"x"}',
    "spaces": '{"by": "ada", "verb": "promote", "revision": "1a2b3c4d", "id": "x"}',
    "a leading space": ' {"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x"}',
    "a line after it": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x"}\n',
    "a second object": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x"}{"by":"bob"}',
    "another key": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":"x","note":"y"}',
    "another order": '{"verb":"promote","revision":"1a2b3c4d","id":"x","by":"ada"}',
    "a longer name": '{"by":"ada2","verb":"promote","revision":"1a2b3c4d","id":"x"}',
    "another case": '{"by":"Ada","verb":"promote","revision":"1a2b3c4d","id":"x"}',
    "a look-alike": '{"by":"аda","verb":"promote","revision":"1a2b3c4d","id":"x"}',  # its first letter is Cyrillic
    "a combining mark": '{"by":"ada\u0301","verb":"promote","revision":"1a2b3c4d","id":"x"}',
    "no id": '{"by":"ada","verb":"promote","revision":"1a2b3c4d","id":""}',
    "another type": '{"by":"ada","verb":"promote","revision":1,"id":"x"}',
    "no JSON": "promote",
    "nothing": "",
}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda name: name.replace(" ", "-"))
def test_no_other_text_is_admitted(api_server: ApiServer, place: str, cheat: str):
    said = refusal(api_server, place, CHEATS[cheat], "ada")
    assert "use kubectl perennial approve" in said


@pytest.mark.parametrize("user", ['eve","by":"ada', "mallory\\"])
def test_a_user_whose_name_would_change_the_text_gives_no_commands(api_server: ApiServer, place: str, user: str):
    plain = f'{{"by":"{user}","verb":"promote","revision":"1a2b3c4d","id":"x"}}'
    for command in (plain, text(user)):
        assert "give the command as another user" in refusal(api_server, place, command, user)


def test_a_dot_in_a_user_name_stands_for_itself(api_server: ApiServer, place: str):
    assert "a.b sets it" in refusal(api_server, place, text("aXb"), "a.b")


def test_removing_a_command_and_leaving_it_alone_are_free(api_server: ApiServer, place: str):
    given = text("ada", id_="kept")
    give(api_server, place, given, user="ada")
    body = {"metadata": {"labels": {"team": "weather"}}}
    path = path_of(MODEL_DEPLOYMENT, place, "rain")
    kept = api_server.request("PATCH", path, body, content=MERGE, user="carl")
    assert kept["metadata"]["annotations"][names.ANNOTATION_COMMAND] == given
    gone = give(api_server, place, None, user="carl")
    assert names.ANNOTATION_COMMAND not in gone["metadata"].get("annotations", {})
    assert "carl sets it" in refusal(api_server, place, given, "carl")  # putting another's command back


def test_an_object_cannot_be_born_with_somebodys_command(api_server: ApiServer, place: str):
    whole = minimal(MODEL_DEPLOYMENT.kind, "born")
    for by, user, words in (("bob", "ada", "ada sets it"), ("carl", "carl", "verb approve")):
        whole["metadata"]["annotations"] = {names.ANNOTATION_COMMAND: text(by)}
        with pytest.raises(Refused, match=words):
            api_server.request("POST", path_of(MODEL_DEPLOYMENT, place), whole, user=user, dryRun="All")
    whole["metadata"]["annotations"] = {names.ANNOTATION_COMMAND: text("ada")}
    api_server.request("POST", path_of(MODEL_DEPLOYMENT, place), whole, user="ada", dryRun="All")


def test_the_verb_counts_for_the_named_object_only(api_server: ApiServer, place: str):
    api_server.request("POST", path_of(MODEL_DEPLOYMENT, place), minimal(MODEL_DEPLOYMENT.kind, "snow"))
    rule = {"apiGroups": ["perennial.dev"], "resources": ["modeldeployments"]}
    _grant(api_server, place, "patch-all", [{**rule, "verbs": ["get", "patch"]}], ("dora",))
    _grant(api_server, place, "approve-snow", [{**rule, "resourceNames": ["snow"], "verbs": ["approve"]}], ("dora",))
    body = {"metadata": {"annotations": {names.ANNOTATION_COMMAND: text("dora")}}}
    api_server.request("PATCH", path_of(MODEL_DEPLOYMENT, place, "snow"), body, content=MERGE, user="dora")
    assert "verb approve on modeldeployments" in refusal(api_server, place, text("dora"), "dora")


def test_the_status_page_is_no_way_around(api_server: ApiServer, place: str):
    body = {"metadata": {"annotations": {names.ANNOTATION_COMMAND: text("bob", id_="around")}}}
    path = path_of(MODEL_DEPLOYMENT, place, "rain", "status")
    try:
        after = api_server.request("PATCH", path, body, content=MERGE)
    except Refused:
        return
    assert "around" not in json.dumps(after["metadata"].get("annotations", {}))


def test_the_api_server_finds_nothing_wrong_with_the_expressions(api_server: ApiServer, place: str):
    policies = api_server.request("GET", path_of(POLICY, ""))["items"]
    mine = [policy for policy in policies if policy["metadata"]["name"].startswith("commands-")]
    warnings = [policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings", []) for policy in mine]
    assert [w for found in warnings for w in found] == []
