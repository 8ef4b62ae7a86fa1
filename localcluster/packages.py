"""Programs that come from Debian packages; installed when missing."""

import os
import shutil
from pathlib import Path

from localcluster.binaries import cache_lock
from localcluster.errors import ClusterError
from localcluster.shell import run, say

CLUSTER = {
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "openssl": "openssl",
    "/bin/busybox": "busybox-static",
}
IMAGES = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}


def missing(programs: dict[str, str]) -> list[str]:
    """Packages of the programs that are not installed."""
    return sorted(package for program, package in programs.items() if not _present(program))


def install(programs: dict[str, str]) -> None:
    """Installs what is missing with apt; ClusterError on systems without it."""
    if not missing(programs):
        return
    with cache_lock("packages"):
        _install(programs)


def _install(programs: dict[str, str]) -> None:
    packages = missing(programs)
    if not packages:
        return  # another process installed them while we waited
    if shutil.which("apt-get") is None:
        raise ClusterError(
            f"these programs are needed and apt-get is not here to install them: {', '.join(packages)}; "
            "install them with your system's package manager, or start Docker or name a cluster by PERENNIAL_KUBECONFIG"
        )
    say(f"installing Debian packages: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], env=environment, timeout=600)
    run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], env=environment, timeout=1200)
    if still := missing(programs):
        raise ClusterError(f"after installing {', '.join(packages)} these are still missing: {', '.join(still)}")


def _present(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
