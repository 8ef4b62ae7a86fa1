"""A real S3 server (versitygw) for tests, storing in a folder: on loopback, or on an address of the test's own."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

ACCESS, SECRET, BUCKET = "tester", "not-a-secret", "models"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: its address, and the folder that holds its buckets."""

    url: str
    folder: Path
    access: str = ACCESS
    secret: str = SECRET
    bucket: str = BUCKET

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it, as a store's Secret would hold them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
        }


@contextmanager
def s3_server(
    binary: Path, folder: Path, host: str = "127.0.0.1", port: int = 0, access: str = ACCESS, secret: str = SECRET
) -> Iterator[S3Server]:
    """Start the server with one bucket; it is stopped at the end. What an earlier one stored in the folder is there."""
    data, log = folder / "data", folder / "versitygw.log"
    (data / BUCKET).mkdir(parents=True, exist_ok=True)
    at = f"{host}:{port or free_port()}"
    url = f"http://{at}"
    arguments = [str(binary), "--port", at, "--quiet", "--health", "/health", "posix", str(data)]
    environment = {**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
    with log.open("wb") as stream:
        process = subprocess.Popen(arguments, env=environment, stdout=stream, stderr=stream)
    try:
        _wait_until_it_answers(f"{url}/health", process, log)
        yield S3Server(url, data, access, secret)
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except urllib.error.HTTPError:
            return  # it answered
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")
