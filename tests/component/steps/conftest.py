"""Three stores for the steps: a folder, fsspec's memory, and a real S3 server; and a step run as a container would."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from localcluster import binaries
from localcluster.errors import ClusterError
from perennial.domain.conditions import MAX_MESSAGE_BYTES
from perennial.steps.locations import locate
from perennial.steps.main import run_step
from tests.support.s3_server import S3Server, s3_server


@dataclass(frozen=True, slots=True)
class Store:
    """A place to write to, and the environment by which the steps reach it."""

    uri: str
    environ: dict[str, str]

    def put(self, path: str, data: bytes) -> str:
        """Write one object; its URI."""
        uri = f"{self.uri}{path}"
        place = locate(uri, self.environ)
        if place.is_local:
            Path(place.path).parent.mkdir(parents=True, exist_ok=True)
        place.fs.pipe_file(place.path, data)
        return uri

    def read(self, path: str) -> bytes:
        """Read one object."""
        place = locate(f"{self.uri}{path}", self.environ)
        return bytes(place.fs.cat_file(place.path))

    def names(self) -> list[str]:
        """All objects below the place, relative."""
        place = locate(self.uri, self.environ)
        root = place.path.strip("/") + "/"
        return sorted(str(name).strip("/").removeprefix(root) for name in place.fs.find(place.path))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    try:
        binary = binaries.binary("versitygw")
    except ClusterError as error:
        pytest.skip(f"no S3 server: {error}")
    with s3_server(binary, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty place in each kind of store."""
    base = {"PERENNIAL_ALLOW_FILE": "1"}
    if request.param == "file":
        (tmp_path / "store").mkdir()
        yield Store(f"file://{tmp_path}/store/", base)
    elif request.param == "memory":
        name = uuid.uuid4().hex
        yield Store(f"memory://{name}/", base)
        memory = fsspec.filesystem("memory")
        if memory.exists(f"/{name}"):
            memory.rm(f"/{name}", recursive=True)
    else:
        server: S3Server = request.getfixturevalue("s3")
        yield Store(f"s3://{server.bucket}/{uuid.uuid4().hex}/", {**base, **server.environment})


@pytest.fixture
def local(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(f"file://{tmp_path}/store/", {"PERENNIAL_ALLOW_FILE": "1"})


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    message: str
    log: str


@pytest.fixture
def step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    def run(verb: str, given: Mapping[str, Any] | str, environ: Mapping[str, str] | None = None) -> Result:
        termination = tmp_path / "termination-log"
        termination.write_text("")
        text = given if isinstance(given, str) else json.dumps(given)
        whole = {**(environ or {}), "PERENNIAL_STEP": text, "PERENNIAL_TERMINATION_LOG": str(termination)}
        capfd.readouterr()
        code = run_step(verb, whole)
        result = Result(code, termination.read_text(), capfd.readouterr().out)
        assert len(result.message.encode()) <= MAX_MESSAGE_BYTES
        assert "Traceback" not in result.message + result.log
        return result

    return run
