"""The cluster of the tests that need one: found or made by the order of choice (localcluster.choose), one per run."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from examples.rain.demo.stage import OPERATOR_PODS, SYSTEM, Stage, Timeline, build_images, install
from localcluster.using import Running, using
from tests.cluster import metrics
from tests.support import gateway
from tests.support.shared import shared_cluster

READY = ("rollout", "status", "deployment/perennial-operator", "--timeout=180s")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Running]:
    """A running cluster; what this run made is stopped at its end unless PERENNIAL_KEEP_CLUSTER is set."""
    with using(shared_cluster()) as running:
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


@pytest.fixture(scope="session")
def gateway_class(cluster: Running) -> str:
    """The name of a GatewayClass with a controller behind it; Envoy Gateway is installed where the driver can do it."""
    found = gateway.gateway_class(cluster)
    if found is None:
        pytest.skip("this cluster has no accepted GatewayClass, and the driver did not make it to install one")
    return found


@pytest.fixture(scope="session")
def installed(cluster: Running) -> Stage:
    """The operator installed as a user installs it, with the images of the short loop loaded.

    The stage's store is None: each test opens its own in its own event loop.
    """
    timeline = Timeline()
    tags = build_images(cluster, timeline, ("perennial", "git", "s3", "trivial"))
    stage = Stage(cluster, None, timeline, SYSTEM, tags)  # type: ignore[arg-type]
    install(stage, metrics.SOURCES)
    cluster.kubectl("-n", SYSTEM, *READY, timeout=200)
    return stage


@pytest.fixture
def quiet_operator(installed: Stage) -> Iterator[None]:
    """Fails the test when the operator logged a traceback meanwhile, or is not ready afterwards.

    Whatever people do wrong is told in a sentence, and nothing keeps the operator from its other work.
    """
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    yield
    installed.cluster.kubectl("-n", SYSTEM, *READY, timeout=200)
    log = installed.kubectl("-n", SYSTEM, "logs", "--selector", OPERATOR_PODS, "--tail=-1", f"--since-time={started}")
    at = log.find("Traceback")
    assert at < 0, log[max(0, at - 500) : at + 3000]
