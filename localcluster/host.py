"""What a cluster puts on the host outside its directory: network namespace, veth pair, cgroups, mounts; made and
removed here. Removing what is not there is not an error, so that it works after any interruption."""

import json
import os
import shutil
import time
from pathlib import Path

from localcluster.addresses import Addresses
from localcluster.errors import ClusterError
from localcluster.shell import run, succeeds

CGROUPS = Path("/sys/fs/cgroup")
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_NEEDED = 8192


def network_namespace(at: Addresses) -> Path:
    """The file that holds the cluster's network namespace."""
    return Path("/run/netns") / at.namespace


def create_network(at: Addresses) -> None:
    """Makes the namespace, its one link to the host and the pod bridge. There is no default route: nothing leaves.

    The route for the Service range is needed by processes of the node itself: routing comes before the NAT of
    outgoing packets. The bridge exists before the first pod, so that CoreDNS can bind to it at once.
    """
    run(["ip", "netns", "add", at.namespace])
    run(["ip", "link", "add", at.host_veth, "type", "veth", "peer", "name", at.node_veth, "netns", at.namespace])
    run(["ip", "address", "add", f"{at.host_ip}/30", "dev", at.host_veth])
    run(["ip", "link", "set", at.host_veth, "up"])
    inside = [
        "link set lo up",
        f"address add {at.node_ip}/30 dev {at.node_veth}",
        f"link set {at.node_veth} up",
        "link add cni0 type bridge",
        f"address add {at.dns_ip}/24 dev cni0",
        "link set cni0 up",
        f"route add {at.service_cidr} dev {at.node_veth} src {at.node_ip}",
    ]
    run(["ip", "-n", at.namespace, "-batch", "-"], stdin="\n".join(inside) + "\n")
    for setting in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables", "net.ipv4.conf.all.route_localnet"):
        run([*inside_network(at), "sysctl", "-q", "-w", f"{setting}=1"])


def inside_network(at: Addresses) -> list[str]:
    """Prefix of a command that is to run in the cluster's network. nsenter executes the command in its own place, so
    its process id is the command's; `ip netns exec` would hide the cgroup mounts."""
    return ["nsenter", f"--net={network_namespace(at)}"]


def remove_network(at: Addresses) -> None:
    """Removes the veth pair, and the namespace and with it the bridge and all rules."""
    # The pair first: with the namespace it would go too, but a moment later, while we look for it.
    if succeeds(["ip", "link", "show", at.host_veth]):
        run(["ip", "link", "delete", at.host_veth])
    if network_namespace(at).exists():
        run(["ip", "netns", "delete", at.namespace])


def hierarchies() -> list[Path]:
    """Roots of the cgroup hierarchies: one for version 2, several for version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted({path.resolve() for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()})


def cgroups(at: Addresses) -> list[Path]:
    """The cluster's cgroups that exist."""
    return [path for root in hierarchies() if (path := root / at.cgroup).is_dir()]


def create_cgroups(at: Addresses) -> None:
    """Makes the cluster's cgroup in every hierarchy."""
    for root in hierarchies():
        path = root / at.cgroup
        path.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            source = root / name
            if root.name == "cpuset" and source.exists():
                (path / name).write_text(source.read_text())
        if root == CGROUPS:
            controllers = (path / "cgroup.controllers").read_text().split()
            (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def remove_cgroups(at: Addresses) -> None:
    """Removes the cluster's cgroups, deepest first; their processes must have been ended."""
    for root in cgroups(at):
        for path, _, _ in os.walk(root, topdown=False):
            _remove_cgroup(Path(path))


def _remove_cgroup(path: Path) -> None:
    deadline = time.monotonic() + 5
    while True:  # the kernel frees a cgroup a moment after its last process ended
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"cgroup {path} cannot be removed: {error}") from error
            time.sleep(0.02)


def mounts_below(directory: Path) -> list[Path]:
    """Mount points in a directory, innermost first."""
    prefix = f"{directory}/"
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    decoded = [p.encode().decode("unicode_escape") for p in points]
    return [Path(p) for p in sorted(decoded, reverse=True) if p.startswith(prefix)]


def unmount_below(directory: Path) -> None:
    """Unmounts everything in a directory."""
    for _ in range(5):  # a mount can lie on another one
        points = mounts_below(directory)
        if not points:
            return
        for point in points:
            succeeds(["umount", "--lazy", point])
    raise ClusterError(f"{len(points)} mounts below {directory} cannot be removed; `umount --lazy` them by hand")


POD_LOG_LINKS = Path("/var/log/containers")
CNI_RESULTS = Path("/var/lib/cni/results")
NAMED_NETWORKS = Path("/run/netns")
FIXED = (
    Path("/var/lib/kubelet"), POD_LOG_LINKS, Path("/var/lib/cni"), Path("/usr/libexec/kubernetes"),
    Path("/run/containerd"),
)  # fmt: skip
"""Directories that the components make whatever they are told."""


def note_before(memory: Path) -> None:
    """Notes how the host was before the first cluster, and lifts its limit of inotify instances if it is too low for a
    kubelet. Later calls, with a cluster already there, change nothing."""
    if memory.exists():
        return
    old = int(INOTIFY.read_text())
    absent = [str(path) for path in FIXED if not path.exists()]
    temporary = memory.with_suffix(".tmp")
    temporary.write_text(json.dumps({"inotify": old, "absent": absent, "netns": NAMED_NETWORKS.is_mount()}))
    os.replace(temporary, memory)
    if old < INOTIFY_NEEDED:
        INOTIFY.write_text(str(INOTIFY_NEEDED))


def restore_before(memory: Path) -> None:
    """Brings the host back to what was noted; called when the last cluster is gone."""
    if not memory.exists():
        return
    noted = json.loads(memory.read_text())
    INOTIFY.write_text(str(noted["inotify"]))
    for path in noted["absent"]:
        shutil.rmtree(path, ignore_errors=True)
    if not noted["netns"] and NAMED_NETWORKS.is_mount() and not any(NAMED_NETWORKS.iterdir()):
        run(["umount", NAMED_NETWORKS])
    memory.unlink()


def remove_pod_log_links(pod_logs: Path) -> None:
    """Removes the links to pod logs that the kubelet put into a fixed directory."""
    for link in POD_LOG_LINKS.iterdir() if POD_LOG_LINKS.is_dir() else ():
        if link.is_symlink() and os.readlink(link).startswith(f"{pod_logs}/"):
            link.unlink(missing_ok=True)


def remove_cni_results(at: Addresses) -> None:
    """Removes what the CNI library noted about this cluster's pods in a fixed directory."""
    prefix, suffix = f"{at.node_name}-", "-eth0"
    for result in CNI_RESULTS.glob(f"{prefix}*{suffix}"):
        sandbox = result.name.removeprefix(prefix).removesuffix(suffix)
        result.unlink(missing_ok=True)
        (CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
