"""`up` and `down` of a local cluster."""

import contextlib
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from localcluster import archive, components, configs, containerd, host, packages, pki, processes, state
from localcluster.api import Api, Refused
from localcluster.binaries import binary, cache_root
from localcluster.errors import ClusterError
from localcluster.shell import say
from localcluster.state import State

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
VOLUMES = 100
"""Ready-made PersistentVolumes: there is no provisioner."""


def supported() -> str | None:
    """None where a local cluster can run, else the reason why not."""
    if platform.system() != "Linux":
        return f"this is {platform.system()}, not Linux"
    return None if os.geteuid() == 0 else "this needs root"


def up(name: str, *, gpus: int = 2, fake_nodes: int = 0, node: bool = True) -> State:
    """Makes and starts a cluster; returns at once when it already runs. Whatever interrupts it, nothing is left."""
    if reason := supported():
        raise ClusterError(f"a local cluster cannot run here: {reason}")
    with _signals_raise():
        packages.install(packages.CLUSTER)
        for needed in ("kubernetes", *(("coredns",) if node else ()), *(("kwok",) if fake_nodes else ())):
            binary(needed)
        return _up(name, gpus=gpus, fake_nodes=fake_nodes, node=node)


def _up(name: str, *, gpus: int, fake_nodes: int, node: bool) -> State:
    with state.lock(f"cluster-{name}"):
        known = state.load(name)
        if known is not None:
            if healthy(known):
                return known
            say(f"cluster {name!r} is there but not healthy; making it anew")
            _remove(known)
        try:
            new = state.create(name, gpus=gpus, fake_nodes=fake_nodes, node=node)
            _make(new)
        except BaseException as error:
            _ignore_signals()
            say(f"cleaning up cluster {name!r}")
            if (half := state.load(name)) is not None:
                if isinstance(error, ClusterError):
                    _keep_logs(half)
                _remove(half)
            state.forget_lock(f"cluster-{name}")
            raise
    return new


def down(name: str) -> bool:
    """Removes a cluster and everything it made; False if there is none of this name."""
    with state.lock(f"cluster-{name}"):
        known = state.load(name)
        if known is not None:
            _remove(known)
        state.forget_lock(f"cluster-{name}")
    return known is not None


def healthy(known: State) -> bool:
    """Whether all components run and the API server answers."""
    if not known.ready or not all(components.running(known, name) for name in components.wanted(known)):
        return False
    return Api(known).answers()


def _make(new: State) -> None:
    started = time.monotonic()
    layout = new.layout
    for directory in layout.directories():
        directory.mkdir(mode=0o755, exist_ok=True)
    pki.create(new)
    for path, text in configs.files(new).items():
        (layout.config / path).write_text(text)
    with state.lock("indices"):
        host.note_before(state.ROOT / ".host")
    host.create_network(new.addresses)
    host.create_cgroups(new.addresses)
    components.start(new, "etcd")
    if new.node:
        components.start(new, "containerd")
    components.start(new, "kube-apiserver")
    api = Api(new)
    _await(new, "the API server", 120, api.answers, "kube-apiserver", "etcd")
    for path, body in configs.coredns_rbac():
        _await(new, "the API server's roles", 30, lambda p=path, b=body: _created(api, p, b))  # type: ignore[misc]
    for name in ("kube-controller-manager", "kube-scheduler"):
        components.start(new, name)
    if new.node:
        _start_node(new, api)
    if new.fake_nodes:
        components.start(new, "kwok")
        for number in range(new.fake_nodes):
            api.create("/api/v1/nodes", configs.fake_node(number))
        names = [configs.fake_node(number)["metadata"]["name"] for number in range(new.fake_nodes)]
        _await(new, "the fake nodes", 60, lambda: all(node_ready(api, n) for n in names), "kwok")
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _await(new, "the default service account", 90, lambda: api.answers(account), "kube-controller-manager")
    new.ready = True
    new.save()
    say(f"cluster {new.name!r} is up after {time.monotonic() - started:.1f} s")


def _start_node(new: State, api: Api) -> None:
    _await(new, "containerd", 60, new.layout.socket.exists, "containerd")
    components.start(new, "kube-proxy")
    containerd.import_archive(new, archive.busybox(cache_root() / "images"))
    for name in ("kubelet", "coredns"):
        components.start(new, name)
    _await(new, "the node", 120, lambda: node_ready(api, new.addresses.node_name), "kubelet", "coredns", "kube-proxy")
    advertise_gpus(new, api)
    for body in [configs.storage_class(), *(configs.volume(new, number) for number in range(VOLUMES))]:
        directory = body.get("spec", {}).get("hostPath", {}).get("path")
        if directory:
            Path(directory).mkdir(exist_ok=True)
            Path(directory).chmod(0o777)  # pods run as users we do not know
        api.create(configs.collection(body), body)


def advertise_gpus(known: State, api: Api, seconds: float = 60.0) -> None:
    """Puts nvidia.com/gpu on the node's capacity and waits until pods can ask for it. No device is needed for that.

    A kubelet that starts sets resources it does not know to zero, so this is repeated after each start of it.
    """
    node = f"/api/v1/nodes/{known.addresses.node_name}"
    patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(known.gpus)}]

    def advertised() -> bool:
        status = api.request("GET", node)["status"]
        if status["capacity"].get("nvidia.com/gpu") != str(known.gpus):
            api.request("PATCH", f"{node}/status", patch, content="application/json-patch+json")
        return bool(status["allocatable"].get("nvidia.com/gpu") == str(known.gpus))

    if known.gpus:
        patch.append({"op": "add", "path": "/status/allocatable/nvidia.com~1gpu", "value": str(known.gpus)})
        _await(known, "the GPUs on the node", seconds, advertised, "kubelet")


def await_api(known: State) -> None:
    """Waits until the API server answers."""
    _await(known, "the API server", 120, Api(known).answers, "kube-apiserver")


STARTING = "starting"


def start_kubelet(known: State) -> None:
    """Starts the kubelet and, when the API server answers, waits until the node is registered anew with its GPUs.

    The version in the node's status is overwritten first: the kubelet puts it right with its first report, which
    comes after it has set unknown resources to zero. So what is advertised then stays.
    """
    api, at = Api(known), known.addresses
    node = f"/api/v1/nodes/{at.node_name}"
    reachable = api.answers(node)
    if reachable and components.running(known, "kubelet") is None:
        patch = [{"op": "replace", "path": "/status/nodeInfo/kubeletVersion", "value": STARTING}]
        api.request("PATCH", f"{node}/status", patch, content="application/json-patch+json")
    components.start(known, "kubelet")
    if not reachable:
        say("the API server does not answer; the node's GPUs are advertised when it is started")
        return

    def registered() -> bool:
        return bool(api.request("GET", node)["status"]["nodeInfo"]["kubeletVersion"] != STARTING)

    _await(known, "the kubelet", 90, registered, "kubelet")
    _await(known, "the node", 90, lambda: node_ready(api, at.node_name), "kubelet")
    advertise_gpus(known, api)


def start_component(known: State, name: str, *, restart_clients: bool = False) -> None:
    """Starts one component again after a fault and waits until it serves, where that can be seen.

    The API server's clients back off while it is away, the kubelet longest; `restart_clients` saves that wait.
    """
    if name == "kubelet":
        start_kubelet(known)
        return
    components.start(known, name)
    if name != "kube-apiserver":
        return
    await_api(known)
    if restart_clients:
        components.stop(known, *components.WATCHERS)
        for client in components.WATCHERS:
            if client != "kubelet" and client in components.wanted(known):
                components.start(known, client)
        if known.node:
            start_kubelet(known)
    elif known.node and components.running(known, "kubelet"):
        advertise_gpus(known, Api(known))


def node_ready(api: Api, name: str) -> bool:
    """Whether the node exists and its Ready condition is True."""
    try:
        conditions = api.request("GET", f"/api/v1/nodes/{name}")["status"].get("conditions", [])
    except Refused as error:
        if error.code in (403, 404):  # 403: for a moment after its start the API server does not know its roles
            return False
        raise
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _created(api: Api, path: str, body: dict[str, object]) -> bool:
    try:
        api.create(path, body)
    except (Refused, OSError):
        return False
    return True


def _await(new: State, what: str, seconds: float, condition: Callable[[], bool], *needs: str) -> None:
    """Waits for a condition; ClusterError when the time is over or a component it needs has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        for name in needs:
            if components.running(new, name) is None:
                raise ClusterError(f"{name} ended while {what} was awaited: {components.last_words(new, name)}")
        if time.monotonic() > deadline:
            words = components.last_words(new, needs[0]) if needs else ""
            raise ClusterError(f"{what} did not become ready within {seconds:.0f} s. {words}")
        time.sleep(0.1)


def _keep_logs(half: State) -> None:
    """Saves the logs of a cluster that did not come up."""
    target = state.ROOT / ".failed" / half.name
    shutil.rmtree(target, ignore_errors=True)
    if half.layout.logs.exists():
        shutil.copytree(half.layout.logs, target)
        say(f"its logs are kept in {target}")


def _remove(known: State) -> None:
    """Removes all of a cluster, in an order in which nothing makes anew what was removed."""
    at, layout = known.addresses, known.layout
    network = host.network_namespace(at)
    for group in (("kubelet", "kube-proxy", "coredns", "kwok"), ("kube-controller-manager", "kube-scheduler")):
        processes.terminate([p for name in group if (p := components.running(known, name))], grace=3.0)
    shims = containerd.shim_sockets(known)
    deadline = time.monotonic() + 20
    while left := processes.belonging(known.name, network, host.cgroups(at)):
        for process in left:
            process.send(signal.SIGKILL)
        processes.wait_dead(left, 2.0)
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {sorted(p.pid for p in left)} of cluster {known.name!r} cannot be ended")
    for socket in shims:
        socket.unlink(missing_ok=True)
    host.remove_network(at)
    host.unmount_below(layout.root)
    host.remove_cgroups(at)
    host.remove_pod_log_links(layout.pod_logs)
    host.remove_cni_results(at)
    with state.lock("indices"):
        shutil.rmtree(layout.root)
        if not state.names():
            host.restore_before(state.ROOT / ".host")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """While active, SIGTERM and SIGHUP end the program the way SIGINT does: by an exception, so that it cleans up.
    Handlers belong to the main thread; in others nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _raise_exit) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _ignore_signals() -> None:
    """Nothing may interrupt the cleaning up; `_signals_raise` puts the handlers back."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
