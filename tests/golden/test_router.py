"""The router's objects and Envoy's files, byte for byte: a changed line changes how models are reached."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.json_format import MessageToDict

from perennial.api.kinds import find
from perennial.render import router as rendered
from perennial.render.router import RouterSettings, client_service, router_anchor, router_objects
from perennial.router import agent, envoy
from perennial.router.envoy import Layout, render_bootstrap, render_clusters, render_routes
from perennial.router.model import Deployment, Share, Snapshot, WindowSpec
from perennial.router.packed import Packed
from tests.support.golden import as_yaml, check

SETTINGS = RouterSettings("registry/perennial:0.1.0")


def as_json(routes: Packed) -> dict[str, Any]:
    """What Envoy reads from binary protobuf, for people."""
    answer = DiscoveryResponse.FromString(routes.content)
    assert answer.version_info == routes.version
    return MessageToDict(answer, preserving_proto_field_name=True)


def owner(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", "labels": {"theirs": "stays"}}
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata}


def test_the_objects_of_a_namespace() -> None:
    anchor = router_anchor("team", [owner("rain"), owner("fog")])
    anchor["metadata"]["uid"] = "uid-anchor"
    check("router/objects.yaml", as_yaml([anchor, *router_objects("team", SETTINGS, anchor)]))


def test_the_service_for_clients() -> None:
    service = client_service(owner("rain"))
    check("router/service.yaml", as_yaml([service]))
    assert "theirs" not in service["metadata"]["labels"]


def test_the_order_of_the_owners_does_not_matter() -> None:
    forth = router_anchor("team", [owner("rain"), owner("fog")])
    back = router_anchor("team", [owner("fog"), owner("rain")])
    assert forth == back


def test_a_namespaced_operator_binds_the_role_that_the_installation_brought() -> None:
    objects = {obj["kind"]: obj for obj in router_objects("team", RouterSettings("i", namespaced=True))}
    assert "Role" not in objects  # it has no right to make one
    assert objects["RoleBinding"]["roleRef"]["kind"] == "Role"
    assert objects["RoleBinding"]["roleRef"]["name"] == "perennial-router"


def test_every_object_is_of_a_kind_that_the_operator_knows() -> None:
    for obj in [*router_objects("team", RouterSettings("i", namespaced=True)), client_service(owner("rain"))]:
        assert find(obj["apiVersion"], obj["kind"]) is not None


def test_manifests_and_processes_agree_on_ports_paths_and_files() -> None:
    assert rendered.READY_PATH == envoy.READY_PATH
    assert Layout().port == rendered.ENVOY_PORT
    assert Layout().directory == rendered._SHARED
    for marker in (agent.TERMINATING, agent.DRAINED):
        assert f"{Layout().directory}/{marker}" in rendered._DRAIN_HOOK
    # Requests, the last read and the hook must all fit into the grace period.
    needed = agent._DRAIN_AT_MOST_SECONDS + agent._FINAL_READ_SECONDS + agent._HOOK_SECONDS
    assert needed < rendered._GRACE_SECONDS


def test_the_routes_of_a_canary_that_takes_grpc_on_another_port_and_a_stable_that_does_not() -> None:
    shares = (Share("aaaaaaaa", 75), Share("bbbbbbbb", 25))
    rain = Deployment("rain", 3, shares, "aaaaaaaa", canary="bbbbbbbb", grpc_revisions=("bbbbbbbb",))
    copied = replace(
        rain, name="snow", traffic=(Share("aaaaaaaa", 100), Share("bbbbbbbb", 0)), canary=None, copies_to="bbbbbbbb"
    )
    snapshot = Snapshot("team", (rain, replace(copied, copy_percent=20)))
    routes = as_json(render_routes(snapshot, snapshot.clusters()))
    hosts = routes["resources"][0]["virtual_hosts"]
    check("router/two-ports.yaml", as_yaml([where(route) for host in hosts for route in host["routes"]]))


def where(route: dict[str, Any]) -> dict[str, Any]:
    """Of a route: what it matches, and the clusters that it sends requests and copies to."""
    action = route.get("route", {})
    arms = {arm["name"]: arm["weight"] for arm in action.get("weighted_clusters", {}).get("clusters", ())}
    copies = [
        {"cluster": policy["cluster"], "to": policy["request_headers_mutations"][0]["append"]["header"]["value"]}
        for policy in action.get("request_mirror_policies", ())
    ]
    return {"match": route["match"], "arms": arms, **({"copies": copies} if copies else {})}


def test_a_port_for_grpc_costs_a_route_and_a_revision_without_one_nothing() -> None:
    def size(own_grpc: tuple[str, ...]) -> int:
        rain = Deployment("rain", 3, (Share("aaaaaaaa", 100),), "aaaaaaaa", grpc_revisions=own_grpc)
        return len(
            render_routes(Snapshot("team", (rain,)), {*rain.clusters_of("aaaaaaaa", "rain-rev-aaaaaaaa")}).content
        )

    assert size(()) == size(("cccccccc",)) < size(("aaaaaaaa",)) < 1.3 * size(())


@pytest.mark.parametrize("name", ["bootstrap", "routes", "clusters"])
def test_envoys_files(name: str) -> None:
    rain = Deployment(
        "rain", 3, (Share("aaaaaaaa", 75), Share("bbbbbbbb", 25)), "aaaaaaaa", windows=(WindowSpec(60, 0),), retries=2
    )
    empty = Deployment("fog")
    snapshot = Snapshot("team", (empty, rain))
    made = {
        "bootstrap": render_bootstrap(Layout()),
        "routes": as_json(render_routes(snapshot, snapshot.clusters())),
        "clusters": render_clusters(snapshot.clusters()),
    }[name]
    check(
        f"router/{name}.json",
        orjson.dumps(orjson.loads(orjson.dumps(made)), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
        + "\n",
    )
