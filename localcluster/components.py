"""The processes of a cluster: their command lines, starting and stopping them, and the faults tests put on them."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from localcluster import host, processes
from localcluster.binaries import binary
from localcluster.errors import ClusterError
from localcluster.state import State

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALIASES = {
    "apiserver": "kube-apiserver",
    "controller-manager": "kube-controller-manager",
    "kcm": "kube-controller-manager",
    "scheduler": "kube-scheduler",
    "proxy": "kube-proxy",
    "dns": "coredns",
}
WATCHERS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""Clients of the API server whose watch back-off makes recovery slow after a long outage of it."""


def _etcd(state: State) -> list[str]:
    return ["--data-dir", str(state.layout.etcd)]


def _containerd(state: State) -> list[str]:
    return ["--config", f"{state.layout.config}/containerd.toml"]


def _apiserver(state: State) -> list[str]:
    at, pki, config = state.addresses, state.layout.pki, state.layout.config
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--advertise-address={at.node_ip}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--service-cluster-ip-range={at.service_cidr}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--audit-policy-file={config}/audit.json",
        f"--audit-log-path={state.layout.logs}/audit.log",
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=1",
        "--shutdown-watch-termination-grace-period=1s",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]


def _controller_manager(state: State) -> list[str]:
    at, pki = state.addresses, state.layout.pki
    return [
        f"--kubeconfig={state.layout.config}/kube-controller-manager.kubeconfig",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-account-private-key-file={pki}/service-account.key",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        f"--cluster-cidr={at.pod_cidr}",
        "--allocate-node-cidrs=false",
        f"--service-cluster-ip-range={at.service_cidr}",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--bind-address=127.0.0.1",
        "--authorization-always-allow-paths=/healthz,/metrics",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--node-monitor-grace-period=20s",
        f"--flex-volume-plugin-dir={state.layout.kubelet}/volume-plugins",
    ]


def _scheduler(state: State) -> list[str]:
    return [
        f"--kubeconfig={state.layout.config}/kube-scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def _kubelet(state: State) -> list[str]:
    return [
        f"--config={state.layout.config}/kubelet.json",
        f"--kubeconfig={state.layout.config}/kubelet.kubeconfig",
        f"--hostname-override={state.addresses.node_name}",
        f"--node-ip={state.addresses.node_ip}",
        f"--root-dir={state.layout.kubelet}",
    ]


def _proxy(state: State) -> list[str]:
    return [f"--config={state.layout.config}/kube-proxy.json"]


def _coredns(state: State) -> list[str]:
    return ["-conf", f"{state.layout.config}/Corefile"]


def _kwok(state: State) -> list[str]:
    return [
        f"--kubeconfig={state.layout.config}/kwok.kubeconfig",
        f"--config={state.layout.config}/kwok.yaml",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--node-ip={state.addresses.node_ip}",
        "--node-lease-duration-seconds=40",
        "--server-address=127.0.0.1:10247",
    ]


ARGUMENTS: dict[str, Callable[[State], list[str]]] = {
    "etcd": _etcd,
    "containerd": _containerd,
    "kube-apiserver": _apiserver,
    "kube-controller-manager": _controller_manager,
    "kube-scheduler": _scheduler,
    "kube-proxy": _proxy,
    "kubelet": _kubelet,
    "coredns": _coredns,
    "kwok": _kwok,
}


def wanted(state: State) -> list[str]:
    """The components this cluster has, in the order of their start."""
    absent = set() if state.node else {"containerd", "kube-proxy", "kubelet", "coredns"}
    if not state.fake_nodes:
        absent.add("kwok")
    return [name for name in ARGUMENTS if name not in absent]


def resolve(state: State, name: str) -> str:
    """The full name of a component of this cluster; ClusterError when it has none such."""
    full = ALIASES.get(name, name)
    if full not in wanted(state):
        raise ClusterError(f"cluster {state.name!r} has no component {name!r}; it has {', '.join(wanted(state))}")
    return full


def program(name: str) -> Path:
    """The executable of a component."""
    return Path("/usr/bin/containerd") if name == "containerd" else binary(name)


def log_file(state: State, name: str) -> Path:
    """Where a component writes its messages."""
    return state.layout.logs / f"{name}.log"


def running(state: State, name: str) -> processes.Process | None:
    """The live process of a component, or None."""
    process = processes.read(state.layout.pids / name)
    return process if process is not None and process.alive() else None


def start(state: State, name: str) -> None:
    """Starts a component in the cluster's network; does nothing if it runs (two CoreDNS on one address would both
    stay up and answer in turns)."""
    if running(state, name) is not None:
        return
    command = [*host.inside_network(state.addresses), str(program(name)), *ARGUMENTS[name](state)]
    environment = {"PATH": PATH, "HOME": str(state.layout.root), processes.MARK: state.name}
    with log_file(state, name).open("ab") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            cwd=state.layout.root,
        )  # fmt: skip
    process = processes.find(child.pid)
    if process is None:
        raise ClusterError(f"{name} ended at once: {last_words(state, name)}")
    processes.record(state.layout.pids / name, process)
    child.returncode = 0  # it outlives us on purpose; without this Python warns about a child that is still running


def last_words(state: State, name: str) -> str:
    """The end of a component's log, for error messages."""
    path = log_file(state, name)
    return path.read_text(errors="replace")[-600:].strip() if path.exists() else "it wrote nothing"


def fault(state: State, action: str, name: str) -> None:
    """Stops (SIGTERM), kills (SIGKILL), pauses or resumes one component."""
    name = resolve(state, name)
    process = running(state, name)
    if process is None:
        raise ClusterError(f"{name} of cluster {state.name!r} is not running; start it with `fault start {name}`")
    if action == "stop":
        stop(state, name)
    elif action == "kill":
        process.send(signal.SIGKILL)
        processes.wait_dead([process], 5.0)
    else:
        process.send({"pause": signal.SIGSTOP, "resume": signal.SIGCONT}[action])


def stop(state: State, *names: str) -> None:
    """Stops components that run."""
    processes.terminate([process for name in names if (process := running(state, name))], grace=15.0)
