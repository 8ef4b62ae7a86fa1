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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from perennial.domain.rollout.smoke import read_report
from perennial.domain.training.record import digest_of
from perennial.steps.main import run_step

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "runtimes" / "reference"
SUPPORT = ROOT / "tests" / "support" / "reference"
UV = str(Path(sys.executable).parent / "uv")
ROWS = [[1.5, 0.2], [-1.5, 0.3]]
FORMATS = ("sklearn", "xgboost", "lightgbm", "onnx")


@dataclass(frozen=True)
class Environment:
    """The server's Python, and a folder of packages that only training needs."""

    python: Path
    training: Path

    def run(self, *arguments: Any, training: bool = False, **variables: str) -> "subprocess.CompletedProcess[str]":
        """The server's Python with these arguments, to its end."""
        environ = self.variables(training) | variables
        command = [str(self.python), *map(str, arguments)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=180)

    def variables(self, training: bool = False) -> dict[str, str]:
        """As the image sets them."""
        path = f"{HOME}{os.pathsep}{self.training}" if training else str(HOME)
        openmp = str(self.python.parent.parent / "lib")
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "LD_LIBRARY_PATH": openmp}


@pytest.fixture(scope="module")
def environment() -> Environment:
    """Both, made once per pair of lock files; OpenMP is where the Dockerfile puts it."""
    locks = [HOME / "requirements.lock", HOME / "training.lock"]
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:12]
    home = ROOT / "build" / f"runtime-{key}"
    made = Environment(home / "bin" / "python", home / "training")
    if not (home / "ready").exists():
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        install = [UV, "pip", "install", "--quiet", "--no-deps", "--python", str(made.python)]
        subprocess.run([*install, "-r", str(locks[0])], check=True)
        served, trained = (set(lock.read_text().splitlines()) for lock in locks)
        only = sorted(line for line in trained - served if "==" in line and not line.startswith("#"))
        subprocess.run([*install, "--target", str(made.training), *only], check=True)
        (openmp,) = home.glob("lib/python3.*/site-packages/scikit_learn.libs/libgomp-*.so.*")
        (home / "lib" / "libgomp.so.1").symlink_to(openmp)
        (home / "ready").touch()
    return made


@pytest.fixture(scope="module")
def models(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model of every form, and expected.json."""
    directory = tmp_path_factory.mktemp("models")
    done = environment.run(SUPPORT / "train.py", directory, training=True)
    assert done.returncode == 0, done.stderr
    return directory


@dataclass
class Server:
    """A running server."""

    port: int
    grpc_port: int
    process: "subprocess.Popen[bytes]"

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

    def get(self, path: str) -> Any:
        """The JSON of a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def infer(self, *inputs: dict[str, Any]) -> dict[str, Any]:
        """The first output of a v2 request."""
        status, answer = self.post("/v2/models/rain/infer", {"inputs": list(inputs)})
        assert status == 200, answer
        output: dict[str, Any] = answer["outputs"][0]
        return output

    def ready(self) -> bool:
        """Whether the readiness page answers 200."""
        assert self.process.poll() is None, "the server ended before it was ready"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def servers(environment: Environment, models: Path) -> Iterator[dict[str, Server]]:
    """A server for each format, all started at once."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:
        for format_ in FORMATS:
            port, grpc_port = free_port(), free_port()
            settings = {
                "PERENNIAL_MODEL_NAME": "rain",
                "PERENNIAL_MODEL_DIR": str(models / format_),
                "PERENNIAL_HTTP_PORT": str(port),
                "PERENNIAL_GRPC_PORT": str(grpc_port),
            }
            command = [str(environment.python), "-m", "model_server", f"--format={format_}"]
            process = subprocess.Popen(command, env=environment.variables() | settings)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            running[format_] = Server(port, grpc_port, process)
        deadline = time.monotonic() + 120
        while not all(server.ready() for server in running.values()):
            assert time.monotonic() < deadline, "the servers did not become ready"
            time.sleep(0.2)
        yield running


@pytest.fixture(params=FORMATS)
def server(servers: dict[str, Server], request: pytest.FixtureRequest) -> Server:
    """The server of one format; all but onnx know their features' names."""
    return servers[request.param]


def tensor(name: str, values: list[Any], *shape: int, datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": values}


def by_name() -> list[dict[str, Any]]:
    return [tensor(name, [row[place] for row in ROWS], 2) for place, name in enumerate(("warmth", "wind"))]


def test_every_form_of_a_model_predicts_what_its_library_does(environment: Environment, models: Path) -> None:
    done = environment.run(SUPPORT / "load.py", models)
    assert done.returncode == 0, done.stderr
    said, expected = json.loads(done.stdout), json.loads((models / "expected.json").read_text())
    assert said.pop("onnx_plain") == {"twice": [[2, 4], [6, 8]], "total": [3, 7]}
    columns = said["onnx_columns"]
    assert columns["inputs"] == [["warmth", "FP32", [-1, 1]], ["sky", "BYTES", [-1, 1]]]
    for name, facts in expected.items():
        if name not in said:
            continue
        for answer in said[name]["answers"]:
            np.testing.assert_allclose(answer, facts["predictions"], rtol=1e-3, atol=1e-6, err_msg=name)
        if name != "onnx_columns":
            shape = [-1, *np.shape(facts["predictions"])[1:]]
            assert said[name]["outputs"] == [["prediction", "FP64", shape]], name
            assert [one[0] for one in said[name]["inputs"]] == (facts["features"] or said[name]["inputs"][0][:1]), name


def test_one_matrix_and_v1_rows_agree(server: Server) -> None:
    flat = [value for row in ROWS for value in row]
    matrix = server.infer(tensor("input", flat, 2, 2))
    v1 = server.post("/v1/models/rain:predict", {"instances": ROWS})[1]["predictions"]
    assert (matrix["name"], matrix["datatype"], matrix["shape"]) == ("prediction", "FP64", [2])
    assert matrix["data"] == v1
    assert v1[0] > 0.5 > v1[1]


@pytest.mark.parametrize("format_", FORMATS)
def test_sample_inputs_of_a_rollout_get_the_answers_that_training_recorded(
    servers: dict[str, Server], models: Path, tmp_path: Path, format_: str
) -> None:
    recorded = json.loads((models / "expected.json").read_text())[format_]["predictions"]
    rows = [f"{warmth},{wind},{p}" for (warmth, wind), p in zip([*ROWS, [0.1, -2.0]], recorded, strict=True)]
    text = "\n".join(["warmth,wind,prediction", *rows]) + "\n"
    (tmp_path / "samples.csv").write_text(text)
    given = {
        "samples": {"uri": f"file://{tmp_path}/samples.csv", "digest": digest_of(text)},
        "url": f"http://127.0.0.1:{servers[format_].port}",
        "model": "rain",
        "requests": 60,
        "timeoutSeconds": 10,
        "seconds": 60,
    }
    said = tmp_path / "said"
    environ = {"PERENNIAL_ALLOW_FILE": "1", "PERENNIAL_TERMINATION_LOG": str(said)}
    assert run_step("smoke", {**environ, "PERENNIAL_STEP": json.dumps(given)}) == 0, said.read_text()
    answers = read_report(said.read_text())
    assert (answers.good, answers.compared, answers.different) == (60, 60, 0), answers


@pytest.mark.parametrize("format_", ["sklearn", "xgboost", "lightgbm"])
def test_named_tensors_and_objects_agree_with_the_matrix(servers: dict[str, Server], format_: str) -> None:
    server = servers[format_]
    by_place = server.infer(tensor("input", [value for row in ROWS for value in row], 2, 2))["data"]
    objects = [{"wind": row[1], "warmth": row[0]} for row in ROWS]
    assert server.infer(*by_name())["data"] == by_place
    assert server.infer(*by_name(), tensor("dew", [1.0, 1.0], 2))["data"] == by_place, "a column of another version"
    assert server.post("/v1/models/rain:predict", {"instances": objects})[1]["predictions"] == by_place


def test_an_independent_client_gets_binary_answers(server: Server) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_ready() and client.is_model_ready("rain")
    described = client.get_model_metadata("rain")
    assert described["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    inputs = []
    for one in described["inputs"]:
        values = np.array([1.5]) if len(described["inputs"]) == 2 else np.array([[1.5, 0.2]], dtype=np.float32)
        given = triton.InferInput(one["name"], list(values.shape), one["datatype"])
        given.set_data_from_numpy(values)
        inputs.append(given)
    wanted = [triton.InferRequestedOutput("prediction", binary_data=True)]
    answer = client.infer("rain", inputs, outputs=wanted).as_numpy("prediction")
    assert answer.shape == (1,) and answer[0] > 0.5
    with pytest.raises(triton.InferenceServerException, match=r"no output other; it has prediction"):
        client.infer("rain", inputs, outputs=[triton.InferRequestedOutput("other")])


@pytest.fixture
def caller(server: Server) -> Iterator[triton_grpc.InferenceServerClient]:
    """An independent client of the server's other port."""
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


def over_grpc(name: str, values: list[Any], *shape: int) -> triton_grpc.InferInput:
    """An input of the raw form; numpy would not let a wrong shape pass."""
    given = triton_grpc.InferInput(name, list(shape), "FP64")
    given._raw_content = np.array(values).tobytes()
    return given


def test_the_same_inputs_get_the_same_answers_over_grpc(
    server: Server, caller: triton_grpc.InferenceServerClient
) -> None:
    flat = [value for row in ROWS for value in row]
    asked = server.infer(tensor("input", flat, 2, 2))
    answer = caller.infer("rain", [over_grpc("input", flat, 2, 2)])
    assert answer.as_numpy("prediction").tolist() == asked["data"]
    (output,) = answer.get_response().outputs
    assert (output.name, output.datatype, list(output.shape)) == ("prediction", "FP64", [2])
    told, page = caller.get_model_metadata("rain"), server.get("/v2/models/rain")
    for side in ("inputs", "outputs"):
        said = [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in getattr(told, side)]
        assert said == page[side]
    assert caller.is_server_ready() and caller.is_model_ready("rain")


def test_inputs_that_are_no_raw_bytes_are_answered_likewise_over_grpc(server: Server) -> None:
    request = service_pb2.ModelInferRequest(model_name="rain")
    given = request.inputs.add(name="input", datatype="FP64", shape=[2, 2])
    given.contents.fp64_contents.extend(value for row in ROWS for value in row)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    values = server.infer(tensor("input", [value for row in ROWS for value in row], 2, 2))["data"]
    assert list(answer.outputs[0].contents.fp64_contents) == values


@pytest.mark.parametrize(
    "inputs",
    [
        [("warmth", [1.0], 1)],
        [("x", [1.0, 2.0, 3.0], 1, 3)],
        [("x", [1.0, 2.0], 3, 2)],
        [("a", [1.0], 1), ("b", [1.0], 1)],
    ],
)
def test_a_wrong_request_over_grpc_is_an_invalid_argument_with_the_same_sentence(
    server: Server, caller: triton_grpc.InferenceServerClient, inputs: list[Any]
) -> None:
    status, answer = server.post("/v2/models/rain/infer", {"inputs": [tensor(*one) for one in inputs]})
    assert status == 400, answer
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        caller.infer("rain", [over_grpc(*one) for one in inputs])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert refused.value.message() == answer["error"]


def test_no_client_can_take_the_model_away(server: Server, caller: triton_grpc.InferenceServerClient) -> None:
    status, answer = server.post("/v2/repository/models/rain/unload", {})
    assert (status, answer["error"]) == (400, "rain cannot be unloaded: the server ends with its pod.")
    assert server.post("/v2/repository/models/rain/load", {})[0] == 400
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        caller.unload_model("rain")
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert server.ready() and caller.is_model_ready("rain")


def test_another_name_is_no_model_over_grpc(caller: triton_grpc.InferenceServerClient) -> None:
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        caller.infer("snow", [over_grpc("input", [1.0, 2.0], 1, 2)])
    assert refused.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v2/models/rain/infer", {"inputs": [tensor("warmth", [1.0], 1)]}, "The model takes "),
        ("/v2/models/rain/infer", {"inputs": [tensor("x", [1.0, 2.0, 3.0], 1, 3)]}, "[1, 3]"),
        ("/v2/models/rain/infer", {"inputs": [tensor("x", [1.0, 2.0], 3, 2)]}, "its shape and datatype say"),
        ("/v2/models/rain/infer", {"inputs": [tensor("a", [1.0], 1), tensor("b", [1.0], 1)]}, "the request has a, b"),
        ("/v1/models/rain:predict", {"instances": [[1.0, 2.0, 3.0]]}, "The model takes "),
        ("/v1/models/rain:predict", {"instances": [[1.0, "much"]]}, "could not be read"),
        ("/v1/models/rain:predict", {"instances": [{"warmth": 1.0}]}, "could not be read"),
        ("/v1/models/rain:predict", {"rows": []}, '"instances"'),
    ],
)
def test_a_wrong_request_is_told_what_the_model_takes(server: Server, path: str, body: Any, words: str) -> None:
    status, answer = server.post(path, body)
    assert status == 400, answer
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("format_", "files", "words"),
    [
        ("sklearn", {}, "named model.joblib or model.pkl; found no file with such a name"),
        ("onnx", {"model.joblib": "x"}, "one ONNX model named model.onnx; found no file with such a name"),
        ("xgboost", {"a.json": "{}", "b.json": "{}"}, "found a.json, b.json"),
        ("sklearn", {"model.joblib": "no pickle"}, "model.joblib is no scikit-learn model"),
        ("xgboost", {"model.json": '{"accuracy": 0.9}'}, "model.json is no XGBoost model"),
        ("lightgbm", {"model.txt": "notes"}, "model.txt is no LightGBM model"),
        ("onnx", {"model.onnx": "no graph"}, "model.onnx is no ONNX model"),
    ],
)
def test_an_artifact_without_a_model_of_the_format_ends_in_one_sentence(
    environment: Environment, tmp_path: Path, format_: str, files: dict[str, str], words: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = environment.run("-m", "model_server", "--format", format_, PERENNIAL_MODEL_DIR=str(tmp_path))
    assert done.returncode == 65, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()[-1]) < 1000


def test_a_pickle_of_something_else_is_named(environment: Environment, tmp_path: Path) -> None:
    environment.run("-c", "import sys, joblib; joblib.dump({'a': 1}, sys.argv[1])", tmp_path / "model.pkl")
    done = environment.run("-m", "model_server", PERENNIAL_MODEL_DIR=str(tmp_path))
    assert done.returncode == 65, done.stderr
    assert "model.pkl holds a dict, which cannot predict" in done.stderr.splitlines()[-1]
