"""The cluster does what the other tests rely on; the driver removes all that it made."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import components, host, lifecycle, processes, state
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.state import State
from localcluster.using import Running

ROOT = Path(__file__).parents[2]
needs_local = pytest.mark.skipif(
    lifecycle.supported() is not None, reason=f"no local cluster can run here: {lifecycle.supported()}"
)

WEB = """
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  containers:
  - name: web
    image: {image}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo started; echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
    readinessProbe: {{httpGet: {{path: /index.html, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: writer}}
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 65532}}
  containers:
  - name: writer
    image: {image}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo kept > /data/file && cat /data/file"]
    volumeMounts: [{{name: data, mountPath: /data}}]
    resources: {{limits: {{nvidia.com/gpu: 1}}}}
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"""


@pytest.fixture
def web(cluster: Running, namespace: str) -> str:
    """The namespace of a Service with one ready pod behind it."""
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=WEB.format(image=cluster.load_busybox()))
    cluster.kubectl("wait", "-n", namespace, "pod/web", "--for=condition=Ready", "--timeout=60s")
    return namespace


def test_every_node_is_ready_and_gpus_are_allocatable(cluster: Running) -> None:
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    ready = [c["status"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready"]
    assert ready == ["True"] * len(nodes) and nodes
    assert sum(int(n["status"]["allocatable"].get("nvidia.com/gpu", 0)) for n in nodes) >= 1


def test_logs_and_exec_of_a_pod_work(cluster: Running, web: str) -> None:
    assert cluster.kubectl("logs", "-n", web, "web") == "started\n"
    assert cluster.kubectl("exec", "-n", web, "web", "--", "cat", "/tmp/index.html") == "hello\n"


def test_a_service_has_a_name_and_leads_to_its_pod(cluster: Running, web: str) -> None:
    address = cluster.kubectl("get", "-n", web, "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    # By hairpin: the pod reaches itself through its Service. The node's rules follow the API within moments.
    answers = f"until wget -qO- http://{address}/; do sleep 0.1; done; nslookup web.{web}.svc.cluster.local"
    answer = cluster.kubectl("exec", "-n", web, "web", "--", "sh", "-c", answers, timeout=30)
    assert answer.startswith("hello\n")
    assert f"Address: {address}\n" in answer


def test_a_pod_gets_a_gpu_and_a_volume_it_may_write(cluster: Running, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=CLAIM.format(image=cluster.load_busybox()))
    cluster.kubectl("wait", "-n", namespace, "pod/writer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert cluster.kubectl("logs", "-n", namespace, "writer") == "kept\n"


@pytest.fixture(scope="module")
def own() -> Iterator[State]:
    """A cluster for tests of faults, with two fake nodes; gone afterwards."""
    name = f"own-{os.getpid()}"
    try:
        yield lifecycle.up(name, gpus=1, fake_nodes=2)
    finally:
        lifecycle.down(name)


def leftovers(known: State) -> dict[str, list[str]]:
    """What of a cluster is on the machine, by kind of thing; empty after `down`."""
    at = known.addresses
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    found = {
        "processes": [
            f"{p.pid} {Path(f'/proc/{p.pid}/comm').read_text().strip()}"
            for p in processes.belonging(known.name, host.network_namespace(at), host.cgroups(at))
        ],
        "cgroups": [str(path) for path in host.cgroups(at)],
        "mounts": [str(path) for path in host.mounts_below(known.layout.root)],
        "network": [at.namespace] if host.network_namespace(at).exists() else [],
        "links": [at.host_veth] if f"{at.host_veth}@" in links else [],
        "files": [str(known.layout.root)] if known.layout.root.exists() else [],
        "notes": [path.name for path in host.CNI_RESULTS.glob(f"{at.node_name}-*")],
    }
    return {kind: things for kind, things in found.items() if things}


@needs_local
def test_down_leaves_nothing_of_a_cluster_that_ran_pods() -> None:
    known = lifecycle.up(f"down-{os.getpid()}", gpus=0)
    try:
        api, at = Api(known), known.addresses
        container = {"name": "c", "image": "registry.local/busybox:1"}
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "nodeName": at.node_name}}
        api.create("/api/v1/namespaces/default/pods", pod)
        wait_until(lambda: api.request("GET", "/api/v1/namespaces/default/pods/p")["status"]["phase"] == "Running")
        before = leftovers(known)
        assert set(before) == {"processes", "cgroups", "mounts", "network", "links", "files", "notes"}
        assert any("containerd-shim" in p for p in before["processes"])
    finally:
        assert lifecycle.down(known.name)
    assert leftovers(known) == {}
    assert not lifecycle.down(known.name), "a second `down` finds nothing to do"


@needs_local
def test_up_again_gives_the_same_cluster(own: State) -> None:
    assert lifecycle.up(own.name) == own


@needs_local
def test_two_clusters_at_once_have_different_addresses(own: State) -> None:
    other = lifecycle.up(f"two-{os.getpid()}", node=False)
    try:
        assert other.addresses.server != own.addresses.server
        assert Api(other).request("GET", "/api/v1/nodes")["items"] == []
        assert Api(own).answers()
    finally:
        lifecycle.down(other.name)


@needs_local
def test_fake_nodes_are_ready_beside_the_real_one(own: State) -> None:
    nodes = Api(own).request("GET", "/api/v1/nodes")["items"]
    assert sorted(n["metadata"]["name"] for n in nodes) == ["fake-0", "fake-1", own.addresses.node_name]


@needs_local
@pytest.mark.parametrize("after", ["etcd", "kube-apiserver", "kubelet"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing_after_down(after: str, number: signal.Signals) -> None:
    name = f"cut-{os.getpid()}"
    command = [sys.executable, "-m", "localcluster", "up", "--name", name]
    try:
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as up:
            wait_until(lambda: (state.ROOT / name / "pids" / after).exists() or up.poll() is not None)
            known = state.require(name)
            up.send_signal(number)
            up.wait(60)
        if number == signal.SIGTERM:
            assert state.load(name) is None, "an interrupted `up` cleans up by itself"
        else:
            assert lifecycle.down(name)
        assert leftovers(known) == {}
    finally:
        lifecycle.down(name)  # when the test itself is interrupted


@needs_local
def test_a_killed_apiserver_and_a_restarted_kubelet_come_back_with_their_gpus(own: State) -> None:
    driver(own, "fault", "kill", "kube-apiserver")
    assert not Api(own).answers()
    driver(own, "fault", "start", "kube-apiserver")
    assert Api(own).answers()
    driver(own, "fault", "stop", "kubelet")
    assert components.running(own, "kubelet") is None
    driver(own, "fault", "start", "kubelet")
    node = Api(own).request("GET", f"/api/v1/nodes/{own.addresses.node_name}")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"


@needs_local
def test_a_paused_component_resumes(own: State) -> None:
    driver(own, "fault", "pause", "kube-scheduler")
    process = components.running(own, "kube-scheduler")
    assert process is not None and process.stopped()
    driver(own, "fault", "resume", "scheduler")
    assert not process.stopped()


@needs_local
def test_a_fault_on_an_unknown_component_names_the_known_ones(own: State) -> None:
    with pytest.raises(ClusterError, match="it has etcd, containerd, kube-apiserver"):
        components.fault(own, "stop", "dockerd")


def driver(known: State, *arguments: str) -> None:
    """Runs the driver's command line on a cluster."""
    command = [sys.executable, "-m", "localcluster", *arguments, "--name", known.name]
    subprocess.run(command, cwd=ROOT, check=True, timeout=180)


def wait_until(condition: object, seconds: float = 60.0) -> None:
    """Waits for a condition to hold."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.02)
