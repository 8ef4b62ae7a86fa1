"""The reference model server as its image runs it: its own locked environment, real requests over both protocols."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

HOME = Path(__file__).resolve().parents[3] / "runtimes" / "sklearn"
BUILD = Path(__file__).resolve().parents[3] / "build"
TRAIN = """
import joblib, numpy as np, pandas as pd, sys
from sklearn.ensemble import HistGradientBoostingClassifier
rows = pd.DataFrame(np.random.default_rng(0).normal(size=(400, 2)), columns=["warmth", "wind"])
joblib.dump(HistGradientBoostingClassifier(max_iter=5).fit(rows, rows.warmth > 0), sys.argv[1])
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The runtime's own Python environment, made once per lock file."""
    lock = HOME / "requirements.lock"
    home = BUILD / f"runtime-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    program = home / "bin" / "python"
    if not (home / "ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(program), "-r", str(lock)], check=True
        )
        (home / "ready").touch()
    return program


@dataclass
class Server:
    """A running server."""

    port: int

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """(status, JSON answer)."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def ready(self) -> bool:
        """Whether the readiness page answers 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A two-feature classifier behind the server."""
    directory = tmp_path_factory.mktemp("model")
    subprocess.run([str(python), "-c", TRAIN, str(directory / "model.joblib")], check=True, env=environment())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"PERENNIAL_MODEL_NAME": "rain", "PERENNIAL_MODEL_DIR": str(directory), "PERENNIAL_HTTP_PORT": str(port)}
    process = subprocess.Popen([str(python), str(HOME / "server.py")], env=environment() | settings)
    running = Server(port)
    try:
        deadline = time.monotonic() + 120
        while not running.ready():
            assert process.poll() is None, "the server ended before it was ready"
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.2)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_named_tensors_one_matrix_and_v1_rows_agree(server: Server) -> None:
    rows = [[1.5, 0.2], [-1.5, 0.3]]
    named = [
        {"name": name, "shape": [2], "datatype": "FP64", "data": [row[place] for row in rows]}
        for place, name in enumerate(("warmth", "wind"))
    ]
    by_name = server.post("/v2/models/rain/infer", {"inputs": named})[1]["outputs"][0]
    flat = [value for row in rows for value in row]
    matrix = [{"name": "input", "shape": [2, 2], "datatype": "FP64", "data": flat}]
    by_place = server.post("/v2/models/rain/infer", {"inputs": matrix})[1]["outputs"][0]
    v1 = server.post("/v1/models/rain:predict", {"instances": rows})[1]["predictions"]
    assert by_name["shape"] == [2]
    assert by_name["data"] == by_place["data"] == v1
    assert v1[0] > 0.5 > v1[1]


def test_an_independent_client_gets_binary_answers(server: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    inputs = []
    for name, value in (("warmth", 1.5), ("wind", 0.2)):
        tensor = triton.InferInput(name, [1], "FP64")
        tensor.set_data_from_numpy(np.array([value]))
        inputs.append(tensor)
    answer = client.infer("rain", inputs).as_numpy("prediction")
    assert answer.shape == (1,)
    assert answer[0] > 0.5
    assert [i["name"] for i in client.get_model_metadata("rain")["inputs"]] == ["warmth", "wind"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/rain/infer", {"inputs": [{"name": "warmth", "shape": [1], "datatype": "FP64", "data": [1.0]}]}),
        ("/v1/models/rain:predict", {"instances": [[1.0, 2.0, 3.0]]}),
        ("/v1/models/rain:predict", {"rows": []}),
    ],
)
def test_a_wrong_request_is_told_what_the_model_takes(server: Server, path: str, body: Any) -> None:
    status, answer = server.post(path, body)
    assert status == 400
    assert "warmth, wind" in answer["error"] or "instances" in answer["error"]


def test_an_artifact_without_a_model_ends_in_one_sentence(python: Path, tmp_path: Path) -> None:
    settings = {"PERENNIAL_MODEL_DIR": str(tmp_path)}
    done = subprocess.run(
        [str(python), str(HOME / "server.py")],
        env=environment() | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 65
    assert "found no file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
