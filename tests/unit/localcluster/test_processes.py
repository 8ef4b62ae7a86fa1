"""Processes are known by id and start time."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import processes
from localcluster.processes import Process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys, time; print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={processes.MARK: "unit-test"}
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def found(child: subprocess.Popen[bytes]) -> Process:
    process = processes.find(child.pid)
    assert process is not None
    return process


def test_a_reused_id_is_another_process(child: subprocess.Popen[bytes]) -> None:
    earlier = Process(child.pid, found(child).started - 1)
    assert not earlier.alive()
    earlier.send(signal.SIGKILL)
    assert found(child).alive()


def test_a_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    process = found(child)
    child.kill()
    assert processes.wait_dead([process], 10) == set()
    assert processes.find(child.pid) is None  # not waited for yet: a zombie


def test_terminate_ends_a_paused_process(child: subprocess.Popen[bytes]) -> None:
    process = found(child)
    process.send(signal.SIGSTOP)
    processes.terminate([process])
    assert child.wait(10) == -signal.SIGTERM


def test_a_process_is_found_by_the_mark_in_its_environment(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert processes.belonging("unit-test", tmp_path / "no-network", []) == {found(child)}
    assert processes.belonging("unit", tmp_path / "no-network", []) == set()


def test_cgroups_may_be_removed_while_processes_are_looked_for(
    child: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = [tmp_path / "kubepods" / name for name in ("a", "b")]
    for pod in pods:
        pod.mkdir(parents=True)
        (pod / "cgroup.procs").write_text(f"{child.pid}\n")
    real = processes.find

    def find(pid: int) -> Process | None:
        for pod in pods:  # the container runtime removes both as soon as one is read
            shutil.rmtree(pod, ignore_errors=True)
        return real(pid)

    monkeypatch.setattr(processes.os, "listdir", lambda _: [])
    monkeypatch.setattr(processes, "find", find)
    assert processes.belonging("other", tmp_path / "no-network", [tmp_path / "kubepods"]) == {found(child)}


def test_a_record_survives_and_a_missing_one_is_none(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    processes.record(tmp_path / "pid", found(child))
    assert processes.read(tmp_path / "pid") == found(child)
    assert processes.read(tmp_path / "none") is None
