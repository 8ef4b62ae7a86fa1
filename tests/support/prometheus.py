"""A real Prometheus on loopback for tests, from its Debian package: unpacked into the cache, never installed.

Nothing of it runs or is left when a test has ended.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from localcluster.binaries import cache_lock, cache_root, workspace

PACKAGE = "prometheus"


def program() -> Path | str:
    """The binary, or in words why it cannot be had here."""
    installed = shutil.which(PACKAGE)
    if installed is not None:
        return Path(installed)
    folder = cache_root() / "packages" / PACKAGE
    path = folder / "usr" / "bin" / PACKAGE
    with cache_lock(f"package-{PACKAGE}"):
        if path.exists():
            return path
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            return f"there is no {PACKAGE} on the PATH, and no apt-get and dpkg-deb to get its Debian package with"
        with workspace(folder.parent, PACKAGE) as made:
            said = _download(made)
            package = next(made.glob("*.deb"), None)
            if package is None:
                return f"the Debian package {PACKAGE} cannot be downloaded: {said}"
            subprocess.run(["dpkg-deb", "-x", package, made / "whole"], check=True, timeout=120)
            (made / "whole").rename(folder)
    return path


def _download(folder: Path) -> str:
    """Fetch the package; with another look at the lists of packages where this user may do that. What apt said last."""
    said = ""
    for command in (["apt-get", "download", PACKAGE], ["apt-get", "update", "-q"], ["apt-get", "download", PACKAGE]):
        if command[1] == "update" and (os.geteuid() != 0 or list(folder.glob("*.deb"))):
            break
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        said = (done.stderr or done.stdout).strip().splitlines()[-1] if (done.stderr or done.stdout).strip() else ""
    return said


@dataclass
class Prometheus:
    """One server with its configuration and data in a folder."""

    path: Path
    folder: Path
    port: int
    process: "asyncio.subprocess.Process | None" = None

    @property
    def url(self) -> str:
        """Where to ask."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start and wait until it answers."""
        log = (self.folder / "log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            self.path,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            stdout=log,
            stderr=log,
        )
        log.close()
        async with aiohttp.ClientSession() as web:
            while True:
                assert self.process.returncode is None, (self.folder / "log").read_text()[-2000:]
                try:
                    async with web.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.process = None


@asynccontextmanager
async def running(path: Path, folder: Path, port: int, target: str) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes `target` (host:port) five times a second."""
    scrape = {"job_name": "model", "static_configs": [{"targets": [target]}]}
    times = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": times, "scrape_configs": [scrape]}))
    server = Prometheus(path, folder, port)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
