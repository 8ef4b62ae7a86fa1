"""Finding and ending processes. A process is known by its id and its start time, so that a reused id is never hit."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARK = "PERENNIAL_LOCALCLUSTER"
"""Environment variable that every component carries, with the cluster's name."""


@dataclass(frozen=True)
class Process:
    """One life of a process; `started` is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return find(self.pid) == self

    def stopped(self) -> bool:
        """Whether it is paused by SIGSTOP."""
        return self.alive() and _stat(self.pid)[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Sends a signal if it still runs."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return  # it ended in between, which is what a signal's sender wants or does not mind


def find(pid: int) -> Process | None:
    """The live process with this id, or None."""
    try:
        status, started = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if status in "ZX" else Process(pid, started)


def _stat(pid: int) -> tuple[str, int]:
    # The command's name stands in parentheses and may hold spaces; fields are counted after the last one.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[19])


def read(path: Path) -> Process | None:
    """The process recorded in a file by `record`, or None when there is no such file."""
    try:
        pid, started = path.read_text().split()
    except FileNotFoundError:
        return None
    return Process(int(pid), int(started))


def record(path: Path, process: Process) -> None:
    """Writes a process down, atomically."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{process.pid} {process.started}\n")
    os.replace(temporary, path)


def belonging(name: str, network: Path, cgroups: Iterable[Path]) -> set[Process]:
    """Every live process of a cluster: marked by its environment, inside its network namespace or in its cgroups."""
    found: set[Process] = set()
    inode = network.stat().st_ino if network.exists() else None
    mark = f"{MARK}={name}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        process = find(int(entry))
        if process and (_in_network(entry, inode) or _marked(entry, mark)):
            found.add(process)
    for root in cgroups:
        for directory, _, _ in os.walk(root):  # unlike glob, it minds no directory that is removed while we look
            found.update(p for pid in _lines(Path(directory) / "cgroup.procs") if (p := find(int(pid))))
    return found


def _in_network(pid: str, inode: int | None) -> bool:
    try:
        return inode is not None and os.stat(f"/proc/{pid}/ns/net").st_ino == inode
    except OSError:
        return False  # the process ended while we looked


def _marked(pid: str, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # the process ended while we looked


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []  # the cgroup was removed while we looked


def wait_dead(processes: Iterable[Process], seconds: float) -> set[Process]:
    """Waits until all have ended or the time is over; returns those still alive."""
    left = set(processes)
    deadline = time.monotonic() + seconds
    while left := {p for p in left if p.alive()}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def terminate(processes: Iterable[Process], grace: float = 5.0) -> None:
    """Ends processes: SIGTERM, and SIGKILL for those that are still there after `grace` seconds."""
    targets = set(processes)
    for process in targets:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a paused one would never see the first
    for process in wait_dead(targets, grace):
        process.send(signal.SIGKILL)
    wait_dead(targets, grace)
