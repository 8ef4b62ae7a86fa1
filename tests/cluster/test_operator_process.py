"""The operator as a process against a real API server: it watches, writes, stops, restarts and hands over."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster.using import Running
from perennial.api.crdgen import ROOT

DIGEST = "sha256:" + "0" * 64
SYSTEM = "perennial-system"


class Process:
    """One operator out of the cluster, watching one namespace; its log is kept."""

    def __init__(self, cluster: Running, namespace: str, folder: Path, name: str) -> None:
        self.log = folder / f"{name}.log"
        config = folder / f"{name}.yaml"
        config.write_text(
            json.dumps(
                {
                    "image": "perennial:latest",
                    "namespaces": [namespace],
                    "lease": {"namespace": namespace},
                    "http": {"host": "127.0.0.1", "port": 0},
                    "git": {"cacheDirectory": str(folder / f"{name}-git")},
                }
            )
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PERENNIAL_")}
        with self.log.open("w") as stream:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "perennial", "operator", "--config", str(config)],
                env={**environ, "KUBECONFIG": str(cluster.kubeconfig)},
                stdout=stream,
                stderr=stream,
            )

    def said(self, words: str) -> bool:
        return words in self.log.read_text()

    def page(self, path: str) -> tuple[int, str]:
        port = re.search(r"pages answer on port (\d+)", self.log.read_text())
        assert port is not None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port.group(1)}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def running(self) -> "Process":
        until(lambda: self.said('"message":"running;'), 60, self.log)
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(timeout=30)


def until(condition: Callable[[], Any], seconds: float, log: Path | None = None) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    tail = log.read_text()[-3000:] if log is not None else ""
    raise AssertionError(f"not within {seconds} s; log: {tail}")


@pytest.fixture(scope="module", autouse=True)
def alone(cluster: Running) -> Iterator[None]:
    """An operator that other tests installed would write first: it rests meanwhile."""
    label = "--selector=app.kubernetes.io/name=perennial,app.kubernetes.io/component=operator"
    if not cluster.kubectl("get", "deployment", "--all-namespaces", label, "-o", "name").strip():
        yield
        return
    scale = ("-n", SYSTEM, "scale", "deployment/perennial-operator")
    cluster.kubectl(*scale, "--replicas=0")
    until(lambda: not cluster.kubectl("-n", SYSTEM, "get", "pods", label, "-o", "name").strip(), 60)
    yield
    cluster.kubectl(*scale, "--replicas=1")
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/perennial-operator", "--timeout=110s")


@pytest.fixture
def start(cluster: Running, namespace: str, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    made: list[Process] = []

    def one(name: str) -> Process:
        made.append(Process(cluster, namespace, tmp_path, name))
        return made[-1]

    yield one
    for process in made:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait(timeout=10)


def put_version(cluster: Running, namespace: str, name: str, folder: Path) -> None:
    body = {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": "rain", "artifact": {"uri": "s3://b/x", "digest": DIGEST, "format": "sklearn"}},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(body))
    cluster.kubectl("apply", "--server-side", "-f", str(path))


def ready(cluster: Running, namespace: str, name: str) -> bool:
    said = cluster.kubectl("-n", namespace, "get", "mver", name, "-o", "jsonpath={.status.conditions[*].status}")
    return "True" in str(said)


def state(cluster: Running, namespace: str) -> dict[str, str]:
    items = json.loads(cluster.kubectl("-n", namespace, "get", "mver", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def holder(cluster: Running, namespace: str) -> str:
    return str(
        cluster.kubectl("-n", namespace, "get", "lease", "perennial-operator", "-o", "jsonpath={.spec.holderIdentity}")
    )


def test_it_watches_writes_stops_and_a_restart_writes_nothing(
    cluster: Running, namespace: str, tmp_path: Path, start: Callable[[str], Process]
) -> None:
    put_version(cluster, namespace, "before", tmp_path)
    first = start("first").running()
    put_version(cluster, namespace, "after", tmp_path)
    until(lambda: ready(cluster, namespace, "before"), 20, first.log)
    until(lambda: ready(cluster, namespace, "after"), 20, first.log)
    assert first.page("/healthz")[0] == 200
    assert first.page("/readyz")[0] == 200
    assert 'perennial_reconcile_total{kind="ModelVersion",result="changed"} 2.0' in first.page("/metrics")[1]
    assert holder(cluster, namespace) != ""
    assert first.end() == 0
    assert holder(cluster, namespace) == ""

    before = state(cluster, namespace)
    second = start("second").running()
    until(lambda: 'kind="ModelVersion",result="done"} 2.0' in second.page("/metrics")[1], 20, second.log)
    assert state(cluster, namespace) == before
    assert 'verb="apply-status"' not in second.page("/metrics")[1]
    assert second.end() == 0
    for process in (first, second):
        assert not process.said("Traceback")
        assert not process.said('"level":"error"')


def test_a_killed_operator_is_replaced_by_the_one_that_stands_by(
    cluster: Running, namespace: str, tmp_path: Path, start: Callable[[str], Process]
) -> None:
    first = start("first").running()
    second = start("second")
    until(lambda: second.said("standby:"), 30, second.log)
    assert second.page("/readyz")[0] == 200
    held = holder(cluster, namespace)
    first.end(signal.SIGKILL)
    killed = time.monotonic()
    put_version(cluster, namespace, "orphan", tmp_path)
    second.running()
    assert time.monotonic() - killed < 30
    assert holder(cluster, namespace) not in ("", held)
    until(lambda: ready(cluster, namespace, "orphan"), 20, second.log)


def test_one_that_lost_its_lease_ends_and_writes_nothing(
    cluster: Running, namespace: str, tmp_path: Path, start: Callable[[str], Process]
) -> None:
    first = start("first").running()
    cluster.kubectl(
        "-n", namespace, "patch", "lease", "perennial-operator", "--type=merge",
        "-p", '{"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 600}}',
    )  # fmt: skip
    assert first.popen.wait(timeout=30) == 1
    assert first.said("somebody took it")
    assert not first.said("Traceback")
