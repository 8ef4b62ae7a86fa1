"""A small Git server over smart HTTP: a thread per request around `git http-backend`. For the demo and the tests.

    python server.py --root DIR --port N [--host H] [--create NAME]... [--user U --password-file F]

Serves the bare repositories below DIR at http://HOST:PORT/NAME.git, for reading and pushing. Needs only Python and git.
Not for production: no TLS, one password for all.
"""

import argparse
import base64
import hmac
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

CHUNK = 1 << 16
CONFIG = {
    "http.receivepack": "true",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    "safe.directory": "*",
    "receive.advertisePushOptions": "false",
}


def git_environment() -> dict[str, str]:
    """An environment in which git knows CONFIG and nothing of the user's."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": str(len(CONFIG)),
    }
    for number, (key, value) in enumerate(CONFIG.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    return environment


def create_repository(root: Path, name: str, *, branch: str = "main") -> Path:
    """Make the bare repository NAME.git below root unless it exists; its path."""
    path = root / f"{name}.git"
    if not (path / "HEAD").exists():
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["git", "init", "--quiet", "--bare", f"--initial-branch={branch}", str(path)],
            check=True,
            env=git_environment(),
        )
    return path


class GitServer(ThreadingHTTPServer):
    """`requests` counts what was asked, by method and path, for tests; `refuse` makes every answer that status."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path, *, credentials: tuple[str, str] | None = None) -> None:
        super().__init__(address, _Handler)
        self.root = root
        self.requests: list[tuple[str, str]] = []
        self.refuse: int | None = None
        self.expected = None
        if credentials is not None:
            pair = f"{credentials[0]}:{credentials[1]}".encode()
            self.expected = f"Basic {base64.b64encode(pair).decode()}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def url(self, name: str) -> str:
        """Where the repository NAME is served on loopback."""
        return f"http://127.0.0.1:{self.port}/{name}.git"

    def start(self) -> threading.Thread:
        """Serve in a thread of its own; stop with `shutdown()` and `server_close()`."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        return thread


class _Handler(BaseHTTPRequestHandler):
    server: GitServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, b"ok\n")
        else:
            self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.server.requests.append((self.command, self.path))
        if self.server.refuse is not None:
            self._answer(self.server.refuse, b"refused\n")
        elif not self._authorized():
            self._answer(401, b"credentials needed\n", {"WWW-Authenticate": 'Basic realm="git"'})
        else:
            self._backend()

    def _authorized(self) -> bool:
        expected = self.server.expected
        return expected is None or hmac.compare_digest(
            self.headers.get("Authorization", "").encode(), expected.encode()
        )

    def _backend(self) -> None:
        path, _, query = self.path.partition("?")
        environment = git_environment() | {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "git",
            "REMOTE_ADDR": self.client_address[0],
        }
        if self.headers.get("Content-Length"):
            environment["CONTENT_LENGTH"] = self.headers["Content-Length"]
        process = subprocess.Popen(
            ["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert process.stdin is not None and process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, self._body()), daemon=True)
        feeder.start()
        try:
            self._relay(process.stdout)
        except (BrokenPipeError, ConnectionResetError):
            process.kill()
        finally:
            feeder.join(5)
            process.stdout.close()
            process.wait()

    def _body(self) -> Iterator[bytes]:
        """The request's body in pieces; git sends big ones chunked."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (piece := self.rfile.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece

    def _relay(self, out: IO[bytes]) -> None:
        status, headers = 200, []
        while (line := out.readline().decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value.strip()))
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := out.read1(CHUNK):  # type: ignore[attr-defined]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        for _ in self._body():
            pass
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        if os.environ.get("GITSERVER_LOG"):
            super().log_message(format, *args)


def _feed(stdin: IO[bytes], body: Iterator[bytes]) -> None:
    try:
        with stdin:
            for piece in body:
                stdin.write(piece)
    except (BrokenPipeError, ValueError):
        for _ in body:
            pass


def main(arguments: list[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Git over smart HTTP for demos and tests.")
    parser.add_argument("--root", type=Path, required=True, help="directory of the bare repositories")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument(
        "--create", action="append", default=[], metavar="NAME", help="make NAME.git when it is missing"
    )
    parser.add_argument("--user", help="ask for this user, with the password in --password-file")
    parser.add_argument("--password-file", type=Path)
    options = parser.parse_args(arguments)
    if bool(options.user) != bool(options.password_file):
        parser.error("--user and --password-file belong together")
    for name in options.create:
        create_repository(options.root, name)
    credentials = (options.user, options.password_file.read_text().strip()) if options.user else None
    server = GitServer((options.host, options.port), options.root, credentials=credentials)
    print(f"serving {options.root} on {options.host}:{server.port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
