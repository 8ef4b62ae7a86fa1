"""manifests/ builds, is accepted as it is, and its roles hold what they should and no more."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from localcluster.binaries import binary
from localcluster.shell import run
from perennial.api.crdgen import ROOT
from perennial.api.kinds import ROLE, ROLE_BINDING, find
from perennial.app.own_image import CONTAINER
from tests.api.server import APPLY, ApiServer, path_of

FOLDERS = ("manifests", "manifests/namespaced", "manifests/access", "crds")
RIGHTS = {"ServiceAccount", "Role", "RoleBinding"}
Json = dict[str, Any]


def built(folder: str) -> list[Json]:
    """What `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(run([binary("kubectl"), "kustomize", ROOT / folder])))


def rules_of(objects: list[Json], kind: str, name: str) -> list[Json]:
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))["rules"]


def sent(api_server: ApiServer, whole: Json, namespace: str, **query: str) -> None:
    kind = find(whole["apiVersion"], whole["kind"])
    assert kind is not None, f"{whole['kind']} is unknown to the package"
    moved = {**whole, "metadata": {**whole["metadata"]}}
    if kind.namespaced:
        moved["metadata"]["namespace"] = namespace
    if "subjects" in moved:
        moved["subjects"] = [{**subject, "namespace": namespace} for subject in whole["subjects"]]
    path = path_of(kind, namespace, moved["metadata"]["name"])
    query |= {"fieldManager": "kubectl", "force": "true", "fieldValidation": "Strict"}
    api_server.request("PATCH", path, moved, content=APPLY, **query)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_accepted(api_server: ApiServer, namespace: str, folder: str):
    for whole in built(folder):
        sent(api_server, whole, namespace, dryRun="All")


def test_the_namespaced_install_holds_nothing_outside_its_namespace():
    for whole in built("manifests/namespaced"):
        kind = find(whole["apiVersion"], whole["kind"])
        assert kind is not None
        assert kind.namespaced, whole["kind"]
        assert whole["metadata"]["namespace"] == "models"
        assert {subject["namespace"] for subject in whole.get("subjects", ())} <= {"models"}


def test_only_the_namespaced_install_says_that_roles_are_namespaced():
    said = {}
    for folder in ("manifests", "manifests/namespaced"):
        deployment = next(whole for whole in built(folder) if whole["kind"] == "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        said[folder] = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert container["name"] == CONTAINER  # whose image routers and steps run from
        assert "PERENNIAL_IMAGE" not in said[folder]
    assert "PERENNIAL_NAMESPACED_ROLES" not in said["manifests"]
    assert said["manifests/namespaced"]["PERENNIAL_NAMESPACED_ROLES"] == "true"


def test_both_installs_hold_the_same_rules_but_for_where_the_bound_roles_live():
    whole, narrow = built("manifests"), built("manifests/namespaced")
    for name in ("perennial-operator", "perennial-sync", "perennial-router"):
        expected = [
            {**rule, "resources": ["roles"]} if rule["resources"] == ["clusterroles"] else rule
            for rule in rules_of(whole, "ClusterRole", name)
        ]
        assert rules_of(narrow, "Role", name) == expected


def test_no_role_holds_what_the_design_forbids():
    for whole in (*built("manifests"), *built("manifests/namespaced")):
        for rule in whole.get("rules", ()) if "Role" in whole["kind"] else ():
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert "escalate" not in rule["verbs"]
            assert not {"nodes", "pods/exec", "customresourcedefinitions"} & set(rule["resources"])
            if "secrets" in rule["resources"]:
                assert not {"list", "watch"} & set(rule["verbs"])
            if "bind" in rule["verbs"]:
                assert rule["resourceNames"] == ["perennial-sync", "perennial-router"]


@pytest.fixture(scope="module")
def installed(api_server: ApiServer, namespace: str) -> Iterator[str]:
    """A namespace with the accounts and roles of the namespaced install, and the accounts that the operator makes."""
    for whole in built("manifests/namespaced"):
        if whole["kind"] in RIGHTS:
            sent(api_server, whole, namespace)
    for name in ("perennial-sync", "perennial-router"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        binding = {
            "apiVersion": ROLE_BINDING.api_version,
            "kind": ROLE_BINDING.kind,
            "metadata": {"name": name},
            "roleRef": {"apiGroup": ROLE.group, "kind": ROLE.kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        }
        sent(api_server, account, namespace)
        sent(api_server, binding, namespace)
    yield namespace


ALLOWED = [
    ("operator", "watch perennial.dev/trainingjobs"),
    ("operator", "patch perennial.dev/modeldeployments/status"),
    ("operator", "create perennial.dev/modelversions"),
    ("operator", "create batch/jobs"),
    ("operator", "patch apps/deployments"),
    ("operator", "get /pods"),  # its own too, for the image
    ("operator", "delete /pods"),
    ("operator", "get /pods/log"),
    ("operator", "create /secrets"),
    ("operator", "get /secrets perennial-router"),
    ("operator", "patch rbac.authorization.k8s.io/rolebindings perennial-router"),
    ("operator", "patch policy/poddisruptionbudgets perennial-router"),
    ("operator", "delete /configmaps perennial-router"),
    ("operator", "create policy/poddisruptionbudgets"),
    ("operator", "get apps/replicasets"),
    ("operator", "impersonate /serviceaccounts perennial-sync"),
    ("operator", "bind rbac.authorization.k8s.io/roles perennial-router"),
    ("operator", "patch gateway.networking.k8s.io/httproutes"),
    ("operator", "get gateway.networking.k8s.io/gateways"),
    ("operator", "create events.k8s.io/events"),
    ("operator", "patch coordination.k8s.io/leases perennial-operator"),
    ("sync", "patch perennial.dev/modeldeployments"),
    ("sync", "delete /configmaps"),
    ("sync", "get /secrets git"),
    ("router", "watch discovery.k8s.io/endpointslices"),
    ("router", "get perennial.dev/modelversions"),
]
REFUSED = [
    ("operator", "patch perennial.dev/modeldeployments"),  # Git and people own specs
    ("operator", "patch perennial.dev/trainingjobs"),
    ("operator", "get /secrets git"),
    ("operator", "list /secrets"),
    ("operator", "patch /secrets git"),
    ("operator", "patch rbac.authorization.k8s.io/rolebindings admins"),
    ("operator", "patch networking.k8s.io/networkpolicies deny-all"),
    ("operator", "watch /secrets"),
    ("operator", "create /pods/exec"),
    ("operator", "bind rbac.authorization.k8s.io/roles perennial-operator"),
    ("operator", "create rbac.authorization.k8s.io/roles"),
    ("operator", "impersonate /users admin"),
    ("operator", "get /nodes"),
    ("operator", "patch gateway.networking.k8s.io/gateways"),
    ("operator", "list gateway.networking.k8s.io/httproutes"),
    ("sync", "list /secrets"),
    ("sync", "create /secrets"),
    ("sync", "create apps/deployments"),
    ("sync", "create batch/jobs"),
    ("sync", "create /serviceaccounts"),
    ("sync", "patch perennial.dev/modeldeployments/status"),
    ("router", "patch perennial.dev/modeldeployments"),
    ("router", "get /secrets perennial-router"),
    ("router", "list /pods"),
]


def may(api_server: ApiServer, namespace: str, account: str, sentence: str) -> bool:
    """Whether an account may do `verb group/resource[/subresource] [name]` in a namespace, as the API server judges."""
    verb, what, *name = sentence.split()
    group, resource, *subresource = what.split("/")
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "version": "*"}
    asked |= {"name": name[0]} if name else {}
    asked |= {"subresource": subresource[0]} if subresource else {}
    user = f"system:serviceaccount:{account}"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    answer = api_server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(("account", "sentence"), ALLOWED)
def test_the_roles_allow_what_the_code_does(api_server: ApiServer, installed: str, account: str, sentence: str):
    assert may(api_server, installed, f"{installed}:perennial-{account}", sentence)


@pytest.mark.parametrize(("account", "sentence"), REFUSED)
def test_the_roles_refuse_the_rest(api_server: ApiServer, installed: str, account: str, sentence: str):
    assert not may(api_server, installed, f"{installed}:perennial-{account}", sentence)


@pytest.mark.parametrize(("account", "sentence"), ALLOWED)
def test_nothing_is_allowed_in_another_namespace(api_server: ApiServer, installed: str, account: str, sentence: str):
    assert not may(api_server, "default", f"{installed}:perennial-{account}", sentence)
