"""A real API server with our CRDs, and a namespace for each test that keeps objects."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster.using import using
from perennial.api.crdgen import ROOT
from perennial.api.kinds import CRD, NAMESPACE
from tests.api.server import APPLY, ApiServer, path_of
from tests.support.shared import shared_cluster


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """The API server of the cluster that all tests of this run share, with the CRDs of this tree established."""
    with using(shared_cluster()) as running:
        server = ApiServer(Path(running.kubeconfig))
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            _establish(server, path)
        yield server


def _establish(server: ApiServer, path: Path) -> None:
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = definition["metadata"]["name"]
    # As kubectl, so that a person's `kubectl apply --server-side` of the CRDs afterwards meets no other manager.
    server.request("PATCH", path_of(CRD, "", name), definition, content=APPLY, fieldManager="kubectl", force="true")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        conditions = server.request("GET", path_of(CRD, "", name)).get("status", {}).get("conditions") or ()
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return
        time.sleep(0.1)
    raise AssertionError(f"the API server did not establish {name} within 30 s")


@pytest.fixture(scope="module")
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A namespace of this module's own."""
    name = f"api-{uuid.uuid4().hex[:8]}"
    api_server.request("POST", path_of(NAMESPACE, ""), {"metadata": {"name": name}})
    yield name
    api_server.request("DELETE", path_of(NAMESPACE, "", name))
