"""Real Open Inference Protocol clients over HTTP and gRPC, and answers that stream, through a real Envoy."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from aiohttp import web
from tritonclient.grpc import aio as grpc_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.http import aio as http_aio
from tritonclient.utils import InferenceServerException

from tests.component.router.harness import NAMESPACE, Router, Upstream, answering, eventually

STABLE = "aaaaaaaa"
LIMIT = 5.0
AUTHORITY = f"rain.{NAMESPACE}.svc"
ROW = np.array([[0.5, 1.0]], dtype=np.float32)


async def served(running: Router, upstream: Upstream) -> None:
    """`rain` with that server, observed."""
    policy = {"deploymentRef": {"name": "rain"}, "window": {"seconds": 3600}}
    await running.api.put("driftpolicies", {"metadata": {"name": "drift"}, "spec": policy})
    await running.ready("rain", STABLE, upstream)
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)

    async def binning() -> bool:
        return (await running.page("/v1/status"))["deployments"]["rain"]["baseline"] is not None

    await eventually(binning, "bodies are observed")


async def counts(running: Router, logged: int) -> dict[str, Any]:
    """The counts of `rain` once that many requests are in the access log."""

    async def check() -> dict[str, Any] | None:
        found = (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]
        return found if found["revisions"][STABLE]["latency"]["logged"] == logged else None

    return await eventually(check, f"{logged} requests are in the access log")


class Model(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Sums rows. A stream is answered message by message; a model that is not `rain` is not found."""

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelMetadataResponse(name=request.name, platform="sums")

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        if request.model_name != "rain":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return self._sum(request)

    async def ModelStreamInfer(self, messages: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in messages:
            yield service_pb2.ModelStreamInferResponse(infer_response=self._sum(request))

    @staticmethod
    def _sum(request: Any) -> Any:
        rows = np.frombuffer(request.raw_input_contents[0], dtype=np.float32).reshape(request.inputs[0].shape)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="sum", datatype="FP32", shape=[len(rows)])
        answer.raw_output_contents.append(rows.sum(axis=1).astype(np.float32).tobytes())
        return answer


@asynccontextmanager
async def grpc_model() -> AsyncIterator[Upstream]:
    """The model behind a gRPC server."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Model(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Upstream("model", port, answering("nobody"))
    finally:
        await server.stop(None)


@asynccontextmanager
async def grpc_client(running: Router) -> AsyncIterator[Any]:
    """A client that goes by the host name, as it does in a cluster."""
    options = [("grpc.default_authority", AUTHORITY)]
    client = grpc_aio.InferenceServerClient(f"127.0.0.1:{running.layout.port}", channel_args=options)
    try:
        yield client
    finally:
        await client.close()


def grpc_input() -> list[Any]:
    """One row."""
    given = triton_grpc.InferInput("x", list(ROW.shape), "FP32")
    given.set_data_from_numpy(ROW)
    return [given]


async def test_a_grpc_client_infers_and_every_status_is_counted(running: Router) -> None:
    async with grpc_model() as model, grpc_client(running) as client:
        await served(running, model)
        assert await client.is_server_live()
        assert (await client.get_model_metadata("rain")).platform == "sums"
        result = await client.infer("rain", grpc_input())
        assert result.as_numpy("sum").tolist() == [1.5]
        with pytest.raises(InferenceServerException, match="no such model"):
            await client.infer("snow", grpc_input())
        found = await counts(running, 4)
    assert found["revisions"][STABLE]["codes"] == {"200": 4}
    assert found["revisions"][STABLE]["grpc"] == {"0": 3, "5": 1}
    (window,) = found["windows"]
    assert (window["requests"], window["rows"], window["unparsed"]) == (1, 1, 0)
    assert sum(window["prediction"]["counts"]) == 1


async def test_a_grpc_stream_answers_each_message_before_the_next_is_sent(running: Router) -> None:
    async with grpc_model() as model, grpc_client(running) as client:
        await served(running, model)
        questions: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def asked() -> AsyncIterator[dict[str, Any]]:
            while (question := await questions.get())["request_id"] != "end":
                yield question

        answers = client.stream_infer(asked())
        for number in range(3):
            await questions.put({"model_name": "rain", "inputs": grpc_input(), "request_id": str(number)})
            result, error = await asyncio.wait_for(anext(answers), LIMIT)
            assert error is None and result.get_response().id == str(number)
        await questions.put({"request_id": "end"})
        assert [answer async for answer in answers] == []
        found = await counts(running, 1)
    assert found["revisions"][STABLE]["grpc"] == {"0": 1}
    (window,) = found["windows"]
    assert (window["streams"], window["rows"]) == (1, 0)


@pytest.mark.parametrize("binary", [False, True])
async def test_an_http_client_infers_in_json_and_in_binary(running: Router, binary: bool) -> None:
    async def model(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"name": "rain"})
        length = int(request.headers.get("Inference-Header-Content-Length", len(body)))
        question = json.loads(body[:length])["inputs"][0]
        assert ("data" not in question) is binary
        rows = np.frombuffer(body[length:], np.float32) if binary else np.array(question["data"], np.float32)
        told = {"name": "sum", "datatype": "FP32", "shape": [1]}
        if not binary:
            return web.json_response({"outputs": [{**told, "data": [float(rows.sum())]}]})
        head = json.dumps({"outputs": [{**told, "parameters": {"binary_data_size": 4}}]}).encode()
        raw = rows.sum(keepdims=True).astype(np.float32).tobytes()
        return web.Response(body=head + raw, headers={"Inference-Header-Content-Length": str(len(head))})

    await served(running, await running.serve("model", model))
    client = http_aio.InferenceServerClient(f"127.0.0.1:{running.layout.port}")
    try:
        assert (await client.get_model_metadata("rain"))["name"] == "rain"  # by the path
        given = triton_http.InferInput("x", list(ROW.shape), "FP32")
        given.set_data_from_numpy(ROW, binary_data=binary)
        output = triton_http.InferRequestedOutput("sum", binary_data=binary)
        result = await client.infer("rain", [given], outputs=[output])
        assert result.as_numpy("sum").tolist() == [1.5]
    finally:
        await client.close()
    (window,) = (await counts(running, 2))["windows"]
    assert (window["requests"], window["rows"], window["unparsed"]) == (1, 1, 0)
    assert sum(window["prediction"]["counts"]) == 1


async def test_the_first_event_arrives_before_the_last_is_made(running: Router) -> None:
    read = asyncio.Event()

    async def model(request: web.Request, _body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": request.headers["Accept"]})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await asyncio.wait_for(read.wait(), LIMIT)
        await response.write(b"data: last\n\n")
        return response

    await served(running, await running.serve("model", model))
    for kind in ("text/event-stream", "application/x-ndjson"):
        for path in ("/v2/models/rain/infer", "/v1/models/rain:predict", "/v1/chat/completions"):
            read.clear()
            sent = {"Host": AUTHORITY, "Content-Type": "application/json", "Accept": kind}
            async with running.session.post(running.url + path, data=b'{"instances": [[1]]}', headers=sent) as response:
                first = await asyncio.wait_for(response.content.readline(), LIMIT)
                assert first == b"data: first\n", (kind, path)
                read.set()
                assert (await response.read()).endswith(b"data: last\n\n")
    found = await counts(running, 6)
    assert found["revisions"][STABLE]["codes"] == {"200": 6}
    assert sum(window["streams"] for window in found["windows"]) == 2  # event streams; their paths are the protocol's


async def test_a_request_is_not_held_until_it_is_complete(running: Router) -> None:
    """A model that reads while the client writes: observation copies what passes, and keeps nothing back."""
    heard = asyncio.Event()

    async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = b""
        while b"first" not in text:
            text += await reader.read(65536)
        heard.set()
        while b"last" not in text:
            text += await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(model, "127.0.0.1", 0, family=socket.AF_INET)
    await served(running, Upstream("model", server.sockets[0].getsockname()[1], answering("nobody")))

    async def body() -> AsyncIterator[bytes]:
        yield b'["first",'
        await asyncio.wait_for(heard.wait(), LIMIT)
        yield b'"last"]'

    sent = {"Host": AUTHORITY, "Content-Type": "application/json"}
    async with running.session.post(f"{running.url}/v2/models/rain/infer", data=body(), headers=sent) as response:
        assert response.status == 200
    server.close()
    await server.wait_closed()
