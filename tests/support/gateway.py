"""A real implementation of the Gateway API for cluster tests, with the published CRDs.

Into a cluster of the driver's own, Envoy Gateway is installed from its published module, with the Envoy of our router
as its proxy; in others, a class that is accepted there is used as it is. Must know nothing of the operator.
"""

import json
import os
from pathlib import Path
from string import Template

import yaml

from localcluster import project, state
from localcluster.binaries import binary, cache_lock, module_folder
from localcluster.shell import run
from localcluster.using import Running

CLASS = "envoy-gateway"
SYSTEM = "envoy-gateway-system"
GROUP = "gateway.networking.k8s.io"
MANIFEST = Path(__file__).parent / "envoygateway" / "controller.yaml"


def crds() -> Path:
    """The folder with the Gateway API's published CRDs (standard channel), at the version that Envoy Gateway needs."""
    return module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"


def install_crds(cluster: Running) -> None:
    """Apply the CRDs and wait until the API server serves them."""
    folder = crds()
    cluster.kubectl("apply", "--server-side", "-f", folder)
    kinds = [path.stem.removeprefix(f"{GROUP}_") for path in folder.glob("*.yaml") if "_vap_" not in path.stem]
    names = [f"crd/{plural}.{GROUP}" for plural in sorted(kinds)]
    cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")


def gateway_class(cluster: Running) -> str | None:
    """A GatewayClass that a controller has accepted: Envoy Gateway's, installed now, where the driver can load images;
    elsewhere one that is there. None where there is neither."""
    if cluster.how == "explicit" and state.by_kubeconfig(cluster.kubeconfig) is None:
        return _accepted(cluster)
    with cache_lock(f"gateway-{cluster.name}"):
        _install(cluster)
    return CLASS


def gateway(cluster: Running, namespace: str, class_name: str, name: str = "gateway") -> str:
    """Make a Gateway for HTTP on port 80 for the routes of its own namespace and wait until it is programmed.

    Returns the address (IP or host name) at which pods reach it.
    """
    manifest = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {
            "gatewayClassName": class_name,
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    cluster.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(manifest))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Programmed", f"gateway/{name}", "--timeout=120s",
                    timeout=130)  # fmt: skip
    return cluster.kubectl("-n", namespace, "get", f"gateway/{name}", "-o", "jsonpath={.status.addresses[0].value}")


def _accepted(cluster: Running) -> str | None:
    """The first class that is accepted, by name."""
    if not cluster.kubectl("get", f"crd/gatewayclasses.{GROUP}", "--ignore-not-found", "-o", "name"):
        return None
    classes = json.loads(cluster.kubectl("get", f"gatewayclasses.{GROUP}", "-o", "json"))["items"]
    names = [
        found["metadata"]["name"]
        for found in classes
        for condition in found.get("status", {}).get("conditions", ())
        if condition["type"] == "Accepted" and condition["status"] == "True"
    ]
    return min(names, default=None)


def _install(cluster: Running) -> None:
    """Envoy Gateway: CRDs, certificates of its control plane, controller, class. Its own CRDs are not needed."""
    image = project.gateway()
    cluster.load(image)
    install_crds(cluster)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(namespace))
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "ENVOY_GATEWAY_NAMESPACE": SYSTEM}
    run([binary("envoy-gateway"), "certgen", "--disable-topology-injector"], env=environment, timeout=60)
    manifests = Template(MANIFEST.read_text()).substitute(IMAGE=image.tag)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{CLASS}", "--timeout=120s", timeout=130)
    cluster.kubectl("wait", "--for=condition=Accepted", f"gatewayclass/{CLASS}", "--timeout=60s", timeout=70)
