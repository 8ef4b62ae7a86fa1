"""What a cluster puts on the host outside its directory: network namespace, veth pair, cgroups, mounts; made and
removed here. Removing what is not there is not an error, so that it works after any interruption."""

import os
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
    """Removes the namespace and with it the veth pair, the bridge and all rules."""
    if network_namespace(at).exists():
        run(["ip", "netns", "delete", at.namespace])
    if succeeds(["ip", "link", "show", at.host_veth]):
        run(["ip", "link", "delete", at.host_veth])


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


def raise_inotify_limit(memory: Path) -> None:
    """Lifts the host's limit of inotify instances if it is too low for a kubelet, and notes the old value."""
    old = int(INOTIFY.read_text())
    if old < INOTIFY_NEEDED:
        memory.write_text(str(old))
        INOTIFY.write_text(str(INOTIFY_NEEDED))


def restore_inotify_limit(memory: Path) -> None:
    """Sets the limit back to what was noted, if anything was."""
    if memory.exists():
        INOTIFY.write_text(memory.read_text())
        memory.unlink()
