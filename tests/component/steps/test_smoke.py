"""Step smoke against a real HTTP server: what is sent, what is counted, and what ends it in one sentence."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from perennial.domain.rollout.smoke import Answers, read_report
from perennial.domain.training.record import digest_of
from tests.component.steps.conftest import Result, Store
from tests.support.ports import free_port

NAMED = [{"name": "b", "datatype": "FP64", "shape": [-1]}, {"name": "a", "datatype": "INT32", "shape": [-1, 1]}]
MATRIX = [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}]
SAMPLES = "a,b,prediction\n1,0.5,1.5\n2,0.25,2.25\n3,0.125,3.1\n"
"""The model answers a + b; the last row was written with one digit."""


class Canary:
    """An OIP v2 server: `answer` makes (code, body) of the values of a request, None for none at all."""

    def __init__(self, inputs: Any, answer: Callable[[list[float]], tuple[int, Any] | None]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        canary = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(200 if inputs else 404, {"name": "rain", "inputs": inputs})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                canary.asked.append(body)
                canary.headers.append(self.headers["x-perennial-observe"])
                made = answer([value for tensor in body["inputs"] for value in tensor["data"]])
                if made is None:
                    self.close_connection = True
                    return
                self._send(*made)

            def _send(self, code: int, body: Any) -> None:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


Smoke = Callable[..., tuple[Result, Canary]]


def outputs(*values: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "y", "datatype": "FP64", "shape": [len(values)], "data": list(values)}]}


def sums(values: list[float]) -> tuple[int, Any]:
    return 200, outputs(sum(values))


@pytest.fixture
def smoke(local: Store, step: Any) -> Iterator[Smoke]:
    servers: list[Canary] = []

    def run(
        inputs: Any = NAMED,
        answer: Callable[..., Any] = sums,
        samples: str = SAMPLES,
        digest: str = "",
        started: Callable[[Canary], None] = lambda _: None,
        **more: Any,
    ) -> tuple[Result, Canary]:
        canary = Canary(inputs, answer)
        servers.append(canary)
        started(canary)
        uri = local.put("rain/samples/s.csv", samples.encode())
        given = {
            "samples": {"uri": uri, "digest": digest or digest_of(samples)},
            "url": canary.url,
            "model": "rain",
            "requests": 30,
            "timeoutSeconds": 5,
            "seconds": 20,
            **more,
        }
        return step("smoke", given, local.environ), canary

    yield run
    for canary in servers:
        canary.server.shutdown()
        canary.server.server_close()


def report(result: Result) -> Answers:
    assert result.code == 0, result.message
    return read_report(result.message)


def test_each_input_is_sent_by_name_in_its_type_and_answers_are_compared_with_training(smoke: Smoke) -> None:
    result, canary = smoke()
    found = report(result)
    assert (found.sent, found.good, found.compared, found.different) == (30, 30, 30, 0)
    rows = [
        [
            {"name": "b", "shape": [1], "datatype": "FP64", "data": [b]},
            {"name": "a", "shape": [1, 1], "datatype": "INT32", "data": [a]},
        ]
        for a, b in ((1, 0.5), (2, 0.25), (3, 0.125))
    ]
    assert [sum(body["inputs"] == row for body in canary.asked) for row in rows] == [10, 10, 10]
    assert set(canary.headers) == {"none"}


def test_one_matrix_takes_the_columns_in_their_order(smoke: Smoke) -> None:
    result, canary = smoke(MATRIX)
    assert report(result).good == 30
    tensor = canary.asked[0]["inputs"][0]
    assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("input", [1, 2], "FP32")
    assert tensor["data"] in ([1.0, 0.5], [2.0, 0.25], [3.0, 0.125])


def test_failures_are_counted_by_their_cause_and_the_first_is_told(smoke: Smoke) -> None:
    def answer(values: list[float]) -> Any:
        row = int(max(values))
        return {1: (500, b"no such\ncolumn"), 2: None, 3: (200, outputs(float("nan")))}[row]

    found = report(smoke(answer=answer, requests=15)[0])
    assert dict(found.codes) == {"500": 5} and (found.broken, found.nulls, found.good) == (5, 5, 0)
    assert found.failures(frozenset()) == 15 == found.counted(frozenset())
    assert found.first is not None and "\n" not in found.first
    assert found.causes(frozenset()).startswith("500: 5")


def test_answers_that_are_no_finite_numbers_are_nulls(smoke: Smoke) -> None:
    for value in (None, float("inf"), 10**400):
        assert report(smoke(answer=lambda values, value=value: (200, outputs(value)), requests=4)[0]).nulls == 4


def test_refusals_and_answers_of_another_protocol_are_neither_good_nor_bad(smoke: Smoke) -> None:
    def answer(values: list[float]) -> Any:
        return (422, b"{}") if max(values) == 1 else (200, b"hello")

    found = report(smoke(answer=answer)[0])
    assert (found.failures(frozenset()), found.counted(frozenset())) == (0, 0)
    assert found.unclear(frozenset()) == "no answer by the protocol: 20, 422: 10"
    assert found.failures(frozenset({"422"})) == 10


def test_a_request_that_gets_no_answer_in_time_is_a_failure_and_ends_nothing(smoke: Smoke) -> None:
    def answer(values: list[float]) -> Any:
        if max(values) == 2:
            time.sleep(0.6)
        return sums(values)

    found = report(smoke(answer=answer, timeoutSeconds=0.3, requests=6)[0])
    assert (found.timeouts, found.good) == (2, 4)


def test_requests_that_no_server_took_are_neither_good_nor_bad(smoke: Smoke) -> None:
    gone = threading.Event()

    def answer(values: list[float]) -> Any:
        if not gone.is_set():
            gone.set()
            canaries[0].server.shutdown()
            canaries[0].server.server_close()
        return sums(values)

    canaries: list[Canary] = []
    found = report(smoke(answer=answer, started=canaries.append, timeoutSeconds=0.2, requests=60)[0])
    assert found.unreached >= 20 and found.failures(frozenset()) == found.broken <= 4
    assert found.unclear(frozenset()) == f"no connection: {found.unreached}"


def test_a_canary_that_fails_everything_is_not_asked_to_the_end(smoke: Smoke) -> None:
    found = report(smoke(answer=lambda values: (500, b""), requests=1000)[0])
    assert 20 <= found.sent < 30


def test_answers_that_differ_from_what_training_recorded_are_counted_with_the_largest_difference(smoke: Smoke) -> None:
    def answer(values: list[float]) -> Any:
        return 200, outputs(sum(values) + (0.5 if max(values) == 1 else 0.0001))

    found = report(smoke(answer=answer)[0])
    assert (found.good, found.compared, found.different, found.largest) == (30, 30, 10, "0.5")


def test_classes_and_texts_are_compared_as_training_writes_them(smoke: Smoke) -> None:
    result, _ = smoke(answer=lambda values: (200, outputs(0.1, 0.2, 0.7)), samples="a,b,prediction\n1,1,2\n1,1,0\n")
    assert (report(result).compared, report(result).different) == (30, 15)
    result, _ = smoke(answer=lambda values: (200, outputs("cat")), samples="a,b,prediction\n1,1,cat\n1,1,dog\n")
    assert (report(result).compared, report(result).different) == (30, 15)
    result, _ = smoke(samples="a,b\n1,1\n")
    assert (report(result).good, report(result).compared) == (30, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": None}, "tells no inputs"),
        ({"inputs": [{"name": "c", "datatype": "FP64", "shape": [-1]}, *MATRIX]}, "neither the 2 columns"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3]}]}, "nor one input of 2 columns"),
        ({"samples": "a,b\n1.5,2\n"}, "'1.5' in column \"a\", which the model takes as INT32"),
    ],
)
def test_samples_that_no_request_can_be_made_of_end_with_65(smoke: Smoke, changes: Any, words: str) -> None:
    result, _ = smoke(**changes)
    assert result.code == 65
    assert words in result.message


def test_other_samples_than_the_version_names_are_not_sent(smoke: Smoke) -> None:
    result, canary = smoke(digest="sha256:" + "0" * 64)
    assert result.code == 65 and "is required" in result.message
    assert canary.asked == []


def test_a_canary_that_nobody_can_reach_says_nothing_of_its_answers(smoke: Smoke, monkeypatch: Any) -> None:
    monkeypatch.setattr("perennial.steps.smoke.PATIENCE_SECONDS", 0.2)
    result, _ = smoke(url=f"http://127.0.0.1:{free_port()}")
    assert result.code == 75
    assert "does not answer" in result.message
