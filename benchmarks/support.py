"""What benchmarks share: a cluster with our CRDs, the operator as a process of its own, results as files.

Must not measure anything itself.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from localcluster.using import Running

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "bench"
WRITES = ("create", "apply", "apply-status", "patch", "delete")
"""Verbs of perennial_api_requests_total that change something."""
OPERATOR_PODS = "app.kubernetes.io/component=operator"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([0-9.eE+-]+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class BenchmarkError(Exception):
    """A benchmark that cannot give its figures; the text says why."""


def say(text: str) -> None:
    """A progress line."""
    print(f"  {text}", flush=True)


def write(name: str, figures: Mapping[str, float], runs: Any, how: str) -> None:
    """Write build/bench/NAME.json and print the figures."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"figures": dict(figures), "runs": runs, "how": how}, indent=1) + "\n")
    print(f"{name}: {how}")
    for key, value in figures.items():
        print(f"  {key:32} {value:12.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below or at which `share` of the values lie, linear between neighbours; BenchmarkError without any."""
    if not values:
        raise BenchmarkError("there are no values to take a percentile of")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def wait(what: str, look: Callable[[], Any], seconds: float, every: float = 0.2) -> Any:
    """The first true answer of `look`; BenchmarkError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise BenchmarkError(f"waited {seconds:.0f} s for {what} in vain")
        time.sleep(every)


def apply_crds(cluster: Running) -> None:
    """Our CRDs, established."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", ROOT / "crds")
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", ROOT / "crds")


@contextmanager
def namespace(cluster: Running, prefix: str) -> Iterator[str]:
    """A namespace of this run; removed with all in it."""
    name = f"{prefix}-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--timeout=300s", timeout=330)


class Metrics:
    """One scrape of the operator's /metrics."""

    def __init__(self, text: str) -> None:
        self._samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match:
                self._samples.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))

    def total(self, name: str, **labels: str | tuple[str, ...]) -> float:
        """The sum over all samples whose labels match (a tuple: any of these)."""
        return sum(
            value
            for sample, found, value in self._samples
            if sample == name
            and all(found.get(key) in (want if isinstance(want, tuple) else (want,)) for key, want in labels.items())
        )

    @property
    def requests(self) -> float:
        """All requests to the API server but those of the watches."""
        return self.total("perennial_api_requests_total")

    @property
    def writes(self) -> float:
        """Requests that change something."""
        return self.total("perennial_api_requests_total", verb=WRITES)


class OperatorProcess:
    """`perennial operator` outside the cluster, as the user of the kubeconfig."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self._port = port

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def metrics(self) -> Metrics:
        """What it counted until now."""
        return Metrics(self._page("/metrics"))

    def running(self) -> bool:
        """Whether it holds its Lease and has filled its cache; BenchmarkError when it has ended."""
        if self._process.poll() is not None:
            raise BenchmarkError(f"the operator ended with status {self._process.returncode}; see its log")
        try:
            return self.metrics().total("perennial_leader") == 1 and bool(self._page("/readyz"))
        except (urllib.error.URLError, OSError):
            return False

    def cpu_seconds(self) -> float:
        """CPU time used until now, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident memory."""
        match = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(match[1]) / 1024 if match else 0.0

    def _page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text


class InstalledOperator:
    """The operator as a pod of the cluster, watching the namespace that it lives in."""

    def __init__(self, cluster: Running, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._pod = ""

    def metrics(self) -> Metrics:
        """What it counted until now, through the API server."""
        path = f"/api/v1/namespaces/{self._namespace}/pods/{self._found()}:8080/proxy/metrics"
        return Metrics(self._cluster.kubectl("get", "--raw", path))

    def cpu_seconds(self) -> float:
        """CPU time that its process used until now, user and system."""
        fields = self._read("/proc/1/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident memory of its process."""
        match = re.search(r"^VmRSS:\s+(\d+) kB", self._read("/proc/1/status"), re.MULTILINE)
        return int(match[1]) / 1024 if match else 0.0

    def restarts(self) -> int:
        """How often its container was started again."""
        path = "jsonpath={.items[0].status.containerStatuses[0].restartCount}"
        return int(self._cluster.kubectl("-n", self._namespace, "get", "pods", "-l", OPERATOR_PODS, "-o", path))

    def log(self) -> str:
        """Its log."""
        return self._cluster.kubectl("-n", self._namespace, "logs", "deployment/perennial-operator")

    def _found(self) -> str:
        if not self._pod:
            path = "jsonpath={.items[0].metadata.name}"
            self._pod = self._cluster.kubectl("-n", self._namespace, "get", "pods", "-l", OPERATOR_PODS, "-o", path)
        return self._pod

    def _read(self, path: str) -> str:
        command = ("exec", self._found(), "--", "python3", "-c", f"print(open({path!r}).read())")
        return self._cluster.kubectl("-n", self._namespace, *command)


@contextmanager
def installed(
    cluster: Running, watched: str, image: str, settings: Mapping[str, Any] | None = None
) -> Iterator[InstalledOperator]:
    """The operator installed from manifests/namespaced; its log is left in build/bench/operator.log."""
    folder = RESULTS / "install"
    folder.mkdir(parents=True, exist_ok=True)
    name, _, tag = image.rpartition(":")
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "perennial-config"},
        "data": {"config.yaml": yaml.safe_dump(dict(settings or {}))},
    }
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": watched,
        "resources": ["../../../manifests/namespaced"],
        "images": [{"name": "perennial", "newName": name, "newTag": tag}],
        "patches": [{"patch": yaml.safe_dump(config_map)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    cluster.kubectl("apply", "--server-side", "-k", folder)
    found = InstalledOperator(cluster, watched)
    try:
        cluster.kubectl(
            "-n", watched, "rollout", "status", "deployment/perennial-operator", "--timeout=180s", timeout=200
        )
        yield found
    finally:
        (RESULTS / "operator.log").write_text(found.log())


@contextmanager
def operator(
    cluster: Running, watched: str, settings: Mapping[str, Any] | None = None, *, through: Sequence[str] = ()
) -> Iterator[OperatorProcess]:
    """The operator, watching one namespace in which its Lease lies too; its log is build/bench/operator.log.

    through: words before the command, such as `nsenter --net=...`; only the network may differ from ours.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    config = RESULTS / "operator.yaml"
    chosen = {
        "image": "perennial:latest",
        "namespaces": [watched],
        "http": {"port": port, "host": "127.0.0.1"},
        "lease": {"namespace": watched},
        "git": {"cacheDirectory": str(RESULTS / "git")},
        **(settings or {}),
    }
    config.write_text(yaml.safe_dump(chosen))
    command = [*through, sys.executable, "-m", "perennial", "operator", "--config", config]
    with (RESULTS / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [*map(str, command), "--kubeconfig", str(cluster.kubeconfig)], stdout=log, stderr=log
        )
        try:
            found = OperatorProcess(process, port)
            wait("the operator", found.running, 60)
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
