"""The router on a real API server: its objects are accepted, and its follower reads what is there."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from localcluster.using import using
from perennial.api.kinds import ENDPOINT_SLICE, MODEL_DEPLOYMENT, MODEL_VERSION, find
from perennial.render.router import RouterSettings, client_service, router_anchor, router_objects
from perennial.router.follow import Follower, NamespaceReader
from perennial.router.model import Endpoint, Share, Snapshot
from tests.api.server import APPLY, ApiServer, path_of
from tests.support.shared import shared_cluster

DIGEST = "sha256:" + "a" * 64
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "rain-rev-aaaaaaaa-x",
        "labels": {
            "kubernetes.io/service-name": "rain-rev-aaaaaaaa",
            "app.kubernetes.io/managed-by": "perennial",
        },
    },
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
}


def deployment(name: str = "rain") -> dict[str, Any]:
    spec = {"model": {"name": "rain"}, "artifact": {"uri": "s3://b/m/", "digest": DIGEST, "format": "sklearn"}}
    metadata = {"name": name}
    return {"apiVersion": "perennial.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("namespaced", [False, True])
def test_every_object_is_accepted(api_server: ApiServer, namespace: str, namespaced: bool) -> None:
    owner = deployment()
    owner["metadata"].update(namespace=namespace, uid="0a1b2c3d-0000-4000-8000-000000000000")
    settings = RouterSettings("registry/perennial:1", namespaced=namespaced, image_pull_secrets=("pull",))
    anchor = router_anchor(namespace, [owner])
    placed = {**anchor, "metadata": {**anchor["metadata"], "uid": owner["metadata"]["uid"]}}
    for obj in [anchor, *router_objects(namespace, settings, placed), client_service(owner)]:
        kind = find(obj["apiVersion"], obj["kind"])
        assert kind is not None
        path = path_of(kind, namespace, obj["metadata"]["name"])
        query = {"fieldManager": "test", "dryRun": "All", "fieldValidation": "Strict"}
        accepted = api_server.request("PATCH", path, obj, content=APPLY, **query)
        assert accepted["metadata"]["ownerReferences"][0]["name"] in ("rain", "perennial-router")


async def test_follows_what_the_api_server_has_and_what_changes(api_server: ApiServer, namespace: str) -> None:
    api_server.request("POST", path_of(ENDPOINT_SLICE, namespace), SLICE)
    api_server.request("POST", path_of(MODEL_DEPLOYMENT, namespace), deployment())
    snapshots: asyncio.Queue[Snapshot] = asyncio.Queue()
    with using(shared_cluster()) as cluster:
        reader = NamespaceReader(namespace, str(cluster.kubeconfig))
    running = asyncio.create_task(Follower(namespace, reader, snapshots.put_nowait).run())
    try:
        first = await asyncio.wait_for(snapshots.get(), 15)
        assert first.endpoints == {"rain-rev-aaaaaaaa": (Endpoint("10.1.2.3", 8080),)}
        assert [(d.name, d.traffic) for d in first.deployments] == [("rain", ())]
        status = {
            "status": {
                "stable": {"revision": "aaaaaaaa", "version": "rain-v1"},
                "traffic": [{"revision": "aaaaaaaa", "weight": 100}],
                "trafficVersion": 1,
            }
        }
        merge = "application/merge-patch+json"
        api_server.request("PATCH", path_of(MODEL_DEPLOYMENT, namespace, "rain", "status"), status, content=merge)
        second = await asyncio.wait_for(snapshots.get(), 15)
        assert second.deployments[0].traffic == (Share("aaaaaaaa", 100),)
        assert second.deployments[0].stable == "aaaaaaaa" and second.deployments[0].traffic_version == 1
        assert await reader.get(MODEL_VERSION, "nothing") is None
        api_server.request("DELETE", path_of(MODEL_DEPLOYMENT, namespace, "rain"))
        third = await asyncio.wait_for(snapshots.get(), 15)
        assert third.deployments == ()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await reader.close()
