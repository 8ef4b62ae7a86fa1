"""What our routes and full observation cost, next to a bare Envoy, on the same upstream.

Three Envoys with one worker each stand before one upstream (another Envoy that answers by itself, so that the upstream
is not what is measured): `bare` has one static route, no filter of ours and no access log; `routes` is what a router
runs when no DriftPolicy asks for observation; `observed` reads every request and every answer, with an agent of its
own. A round runs all three one after the other, so that noise of the machine hits them alike; figures are medians of
rounds. Latency is taken with one connection, throughput with eight; the agent's CPU time is that of its process while
eight connections load it, over the requests that it counted. Needs wrk.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.support import say, write
from perennial.router.apply import write_bytes, write_file
from perennial.router.envoy import READY_PATH, Layout, render_bootstrap, render_clusters, render_routes
from perennial.router.main import envoy_command
from perennial.router.model import Deployment, Endpoint, Share, Snapshot, WindowSpec

TOKEN = "bench"
FEATURES = 20
REVISION = "aaaaaaaa"
ANSWER = '{"model_name":"m","outputs":[{"name":"p","shape":[1],"datatype":"FP64","data":[0.5]}]}'
VALUES = [round(0.37 * i - 3, 4) for i in range(FEATURES)]
REQUEST = json.dumps({"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP64", "data": VALUES}]})
WRK_SCRIPT = f"""
wrk.method = "POST"
wrk.headers["Host"] = "m"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{REQUEST}'
function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
  io.write(string.format("RESULT %d %d %f %d\\n", summary.requests, summary.duration, latency:percentile(50), bad))
end
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answering_listener(port: int) -> dict[str, Any]:
    """The upstream: an Envoy that answers every request itself."""
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": ANSWER}},
        "response_headers_to_add": [{"header": {"key": "content-type", "value": "application/json"}}],
    }
    return listener(port, answer)


def listener(port: int, route: dict[str, Any]) -> dict[str, Any]:
    """The plainest HTTP listener with one route."""
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    kind = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": "plain", "address": address, "filter_chains": [{"filters": filters}]}


def bare_bootstrap(port: int, upstream: int) -> dict[str, Any]:
    """An Envoy that forwards and does nothing else."""
    host = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}}}
    cluster = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [host]}]},
    }
    forward = listener(port, {"match": {"prefix": "/"}, "route": {"cluster": "up"}})
    return {"static_resources": {"listeners": [forward], "clusters": [cluster]}}


def snapshot(upstream: int, *, observed: bool) -> Snapshot:
    """One deployment whose only revision is the upstream; observed by a baseline of 20 features with ten bins each."""
    edges = [str(round(-2 + 0.5 * i, 2)) for i in range(9)]
    bins = {"kind": "Numeric", "edges": edges, "low": "-4", "high": "6", "counts": [1] * 10}
    baseline = {"features": [{"name": f"f{i}", **bins} for i in range(FEATURES)], "prediction": bins}
    deployment = Deployment(
        "m",
        1,
        (Share(REVISION, 100),),
        REVISION,
        {REVISION: "v1"},
        windows=(WindowSpec(86400, 0),) if observed else (),
    )
    endpoints = {deployment.cluster(REVISION): (Endpoint("127.0.0.1", upstream),)}
    return Snapshot("bench", (deployment,), endpoints, {"v1": baseline})


class Setup:
    """The processes of one arm."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory

    def start(self, name: str, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the benchmark."""
        log = self._stack.enter_context(self._directory.joinpath(f"{name}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environ})
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def plain(self, name: str, port: int, bootstrap: dict[str, Any]) -> None:
        """An Envoy with a static configuration."""
        directory = str(self._directory / name)
        write_file(f"{directory}/bootstrap.json", bootstrap)
        environ = {"PERENNIAL_ROUTER_DIR": directory, "PERENNIAL_ENVOY_CONCURRENCY": "1"}
        self.start(name, envoy_command(environ, time.time()), environ)
        wait_for(f"http://127.0.0.1:{port}/v2/models/m/ready")

    def router(self, name: str, upstream: int, *, observed: bool) -> tuple[int, int, int]:
        """Our Envoy and agent, started from recorded state as after a restart: (port, agent's pid, agent's port)."""
        port, admin, agent_port = free_ports(3)
        layout = Layout(str(self._directory / name), "127.0.0.1", port, admin)
        state = snapshot(upstream, observed=observed)
        write_file(layout.bootstrap, render_bootstrap(layout))
        write_file(layout.clusters, render_clusters(state.clusters()))
        write_bytes(layout.routes, render_routes(state, state.clusters()).content)
        write_file(layout.state, state)
        environ = {
            "PERENNIAL_ROUTER_DIR": layout.directory,
            "PERENNIAL_ROUTER_HOST": "127.0.0.1",
            "PERENNIAL_ROUTER_PORT": str(port),
            "PERENNIAL_ENVOY_ADMIN_PORT": str(admin),
            "PERENNIAL_AGENT_PORT": str(agent_port),
            "PERENNIAL_ENVOY_CONCURRENCY": "1",
            "PERENNIAL_NAMESPACE": "bench",
            "PERENNIAL_ROUTER_TOKEN": TOKEN,
            "POD_NAME": name,
            "POD_UID": name,
        }
        agent = self.start(f"{name}-agent", [sys.executable, "-m", "perennial.app.entry", "router"], environ)
        wait_for(f"http://127.0.0.1:{agent_port}/readyz")
        self.start(name, envoy_command(environ, time.time()), environ)
        wait_for(f"http://127.0.0.1:{port}{READY_PATH}")
        return port, agent.pid, agent_port


def wait_for(url: str) -> None:
    """Until the page answers 200, at most 30 s."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not answer") from error
            time.sleep(0.05)


def load(script: Path, port: int, connections: int, seconds: int) -> tuple[float, float]:
    """(requests a second, p50 in milliseconds); SystemExit when a request failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v2/models/m/infer"], capture_output=True, text=True, check=True
    ).stdout
    words = next(line for line in output.splitlines() if line.startswith("RESULT")).split()
    requests, micros, p50, bad = int(words[1]), int(words[2]), float(words[3]), int(words[4])
    if bad:
        raise SystemExit(f"{bad} requests failed; the numbers would mean nothing")
    return requests / micros * 1e6, p50 / 1000


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def counted(agent_port: int) -> tuple[int, int]:
    """(requests binned, log entries dropped) as the agent says."""
    page = urllib.request.Request(
        f"http://127.0.0.1:{agent_port}/v1/counts", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(page, timeout=5) as response:
        deployment = json.load(response)["deployments"]["m"]
    return sum(window["requests"] for window in deployment["windows"]), deployment["dropped"]


def agent_cost(script: Path, port: int, pid: int, agent_port: int, seconds: int) -> dict[str, float]:
    """One loaded run of the observed arm: throughput, and the agent's CPU microseconds for each request it binned."""
    before, (seen, dropped) = cpu_seconds(pid), counted(agent_port)
    rate, _ = load(script, port, 8, seconds)
    time.sleep(0.5)  # the access log is flushed every 0.1 s
    now_seen, now_dropped = counted(agent_port)
    spent = cpu_seconds(pid) - before
    return {
        "rate": rate,
        "agent_us": spent / max(1, now_seen - seen) * 1e6,
        "binned": now_seen - seen,
        "dropped": now_dropped - dropped,
    }


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    """All rounds, raw."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        script = directory / "post.lua"
        script.write_text(WRK_SCRIPT)
        setup = Setup(stack, directory)
        upstream, bare = free_ports(2)
        setup.plain("upstream", upstream, {"static_resources": {"listeners": [answering_listener(upstream)]}})
        setup.plain("bare", bare, bare_bootstrap(bare, upstream))
        routes, _, _ = setup.router("routes", upstream, observed=False)
        observed, pid, agent_port = setup.router("observed", upstream, observed=True)
        ports = {"bare": bare, "routes": routes, "observed": observed}
        for port in ports.values():
            load(script, port, 8, 1)  # warm
        runs: dict[str, Any] = {name: {"p50_ms": [], "rate": []} for name in ports}
        runs["agent"] = []
        for number in range(rounds):
            for name, port in ports.items():
                runs[name]["p50_ms"].append(load(script, port, 1, seconds)[1])
                if name == "observed":
                    cost = agent_cost(script, port, pid, agent_port, seconds)
                    runs["agent"].append(cost)
                    runs[name]["rate"].append(cost["rate"])
                else:
                    runs[name]["rate"].append(load(script, port, 8, seconds)[0])
            rates = ", ".join(f"{name} {runs[name]['rate'][-1]:.0f}/s" for name in ports)
            say(f"round {number + 1} of {rounds}: {rates}")
        return runs


def figures(runs: dict[str, Any]) -> dict[str, float]:
    """The numbers that are compared with the aims; differences and ratios are taken within a round."""

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 4)

    def added(arm: str) -> float:
        return median([one - base for one, base in zip(runs[arm]["p50_ms"], runs["bare"]["p50_ms"], strict=True)])

    def ratio(arm: str) -> float:
        return median([one / base for one, base in zip(runs[arm]["rate"], runs["bare"]["rate"], strict=True)])

    return {
        "p50_added_ms": added("observed"),
        "throughput_ratio": ratio("observed"),
        "agent_us_per_request": median([run["agent_us"] for run in runs["agent"]]),
        "p50_added_ms_routes_only": added("routes"),
        "throughput_ratio_routes_only": ratio("routes"),
        "p50_bare_ms": median(runs["bare"]["p50_ms"]),
        "requests_per_second_observed": median(runs["observed"]["rate"]),
        "log_entries_dropped": sum(run["dropped"] for run in runs["agent"]),
    }


def main() -> int:
    """Measures and writes build/bench/router.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("benchmarks/router.py needs wrk (Debian: apt-get install wrk)", file=sys.stderr)
        return 2
    runs = measure(options.rounds, options.seconds)
    how = (
        f"{options.rounds} rounds; in each, wrk for {options.seconds} s on one connection (p50) and on eight (rate) "
        f"against a bare Envoy, our routes, and our routes with every request observed ({FEATURES} features), one "
        f"worker each, before one upstream; {os.cpu_count()} CPUs, load {os.getloadavg()[1]:.1f}; medians of rounds."
    )
    write("router", figures(runs), runs, how)
    return 0


if __name__ == "__main__":
    sys.exit(main())
