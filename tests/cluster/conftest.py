"""The cluster of the tests that need one: found or made by the order of choice (localcluster.choose), one per run."""

import secrets
from collections.abc import Iterator

import pytest

from localcluster.using import Running, using


@pytest.fixture(scope="session")
def cluster() -> Iterator[Running]:
    """A running cluster; what this run made is stopped at its end unless PERENNIAL_KEEP_CLUSTER is set."""
    with using("test") as running:
        yield running


@pytest.fixture
def namespace(cluster: Running) -> Iterator[str]:
    """A namespace of the test's own; deleted with all in it, without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")
