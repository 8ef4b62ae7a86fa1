"""A real Prometheus on the cluster for tests of rollouts that metrics decide: it scrapes a test's model servers.

The installed operator knows it as the source `main`, also while none runs.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.rain.demo.stage import Stage
from localcluster import images
from localcluster.images import Image
from perennial.api import kinds
from tests.support import prometheus

NAMESPACE = "perennial-metrics"
SOURCES = {"main": {"url": f"http://prometheus.{NAMESPACE}.svc:9090"}}
SCRAPED = "scraped"
"""The headless Service of a test's model servers."""
_HOME = Path(prometheus.__file__).parent / "prometheus_image"


def errors() -> dict[str, Any]:
    """The check `errors`: at most 10 % of the answers of the canary's pods in 5 s are 500."""
    of = 'model_answers_total{pod=~"$(name)-rev-$(canary)-.*"'
    query = f'sum(rate({of},code="500"}}[5s])) / sum(rate({of}}}[5s]))'
    return {"name": "errors", "prometheus": {"source": "main", "query": query}, "max": "0.1"}


@asynccontextmanager
async def watching(stage: Stage, deployment: str) -> AsyncIterator[None]:
    """Prometheus scrapes the servers of a ModelDeployment each second. Skips where its package is not to be had."""
    path = prometheus.program()
    if isinstance(path, str):
        pytest.skip(path)
    stage.apply(_scraped(deployment))
    stage.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(_objects(_load(stage, path), stage)))
    try:
        stage.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=60s")
        yield
    finally:
        stage.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def _load(stage: Stage, path: Path) -> str:
    """The image's tag, once the cluster has it."""
    context = {"prometheus": path}
    key = images.content_key(Image("perennial-prometheus", _HOME / "Dockerfile", context))
    image = Image(f"registry.local/perennial-prometheus:{key}", _HOME / "Dockerfile", context)
    stage.cluster.load(image)
    return image.tag


def _scraped(deployment: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SCRAPED},
        "spec": {
            "clusterIP": "None",
            "selector": {"perennial.dev/deployment": deployment, "perennial.dev/component": "server"},
            "ports": [{"port": 8080}],
        },
    }


def _objects(image: str, stage: Stage) -> list[dict[str, Any]]:
    """Namespace, settings, server and Service."""
    names = {"names": [f"{SCRAPED}.{stage.namespace}.svc.cluster.local"], "type": "A", "port": 8080}
    scrape = {"job_name": "models", "dns_sd_configs": [{**names, "refresh_interval": "1s"}]}
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    labels = {"app": "prometheus"}
    container = {
        "name": "prometheus",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 65532}}
    meta = {"name": "prometheus", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"prometheus.yml": yaml.safe_dump(settings)},
        },
        {
            "apiVersion": kinds.DEPLOYMENT.api_version,
            "kind": kinds.DEPLOYMENT.kind,
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 9090}]},
        },
    ]
