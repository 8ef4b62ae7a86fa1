"""What the counts page says of the rows that went through a real Envoy."""

import asyncio
import json
import struct
from typing import Any

import grpc
from aiohttp import web

from perennial.domain.drift.baseline import baseline_digest
from perennial.router.grpc_messages import ModelInferRequest, ModelInferResponse
from tests.component.router.harness import NAMESPACE, Router, eventually, free_ports

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
HOUR = 3600
BASELINE = {
    "rows": 30,
    "features": [
        {"name": "a", "kind": "Numeric", "edges": ["0", "1"], "low": "-1", "high": "2", "counts": [10, 10, 10]},
        {"name": "b", "kind": "Numeric", "edges": ["0.5"], "low": "-9", "high": "9", "counts": [15, 15]},
    ],
    "prediction": {"name": "prediction", "kind": "Numeric", "edges": ["0.4"], "counts": [15, 15]},
}


async def observed(running: Router, *, baseline: dict[str, Any] | None = BASELINE, **spec: Any) -> None:
    """A deployment whose stable revision is observed in windows of an hour."""
    version = {"metadata": {"name": "rain-v1"}, "spec": {"baseline": baseline} if baseline else {}}
    await running.api.put("modelversions", version)
    policy = {"deploymentRef": {"name": "rain"}, "window": {"seconds": HOUR}}
    await running.api.put("driftpolicies", {"metadata": {"name": "drift"}, "spec": policy})
    await running.split("rain", 1, {STABLE: 100}, **spec)
    await running.confirmed("rain", 1)

    async def binning() -> bool:
        return (await running.page("/v1/status"))["deployments"]["rain"]["baseline"] is not None

    await eventually(binning, "the agent has the baseline")


async def window(running: Router, seen: int) -> dict[str, Any]:
    """The open window once it holds `seen` requests, parsed or not."""

    async def check() -> dict[str, Any] | None:
        windows = (await running.page("/v1/counts"))["deployments"]["rain"]["windows"]
        total = sum(w["requests"] + w["unparsed"] + w["streams"] for w in windows)
        assert total <= seen
        return windows[-1] if total == seen else None

    return await eventually(check, f"{seen} requests are counted")


def row(a: float | None, b: float) -> bytes:
    """One row as a matrix by position."""
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [a, b]}]}).encode()


async def test_counts_exactly_the_rows_that_were_asked(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await observed(running)
    for _ in range(20):
        await running.post(body=row(0.5, 0.0))
    await running.post(body=row(7.0, 1.0))
    await running.post(body=row(None, -10.0))
    named = [{"name": n, "shape": [2], "datatype": "FP64", "data": [-5, 0.2]} for n in ("b", "a")]
    await running.post(body=json.dumps({"inputs": named}).encode())
    await running.post(body=b'{"instances": [[0.5, 0.1], [0.5, 0.2]]}', path="/v1/models/rain:predict")
    await running.post(body=row(0.5, 0.0), x_perennial_observe="none")
    await running.post(body=b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}')
    await running.post(path="/v2/models/rain/infer", body=b"no json")
    seen = await window(running, 26)
    assert (seen["requests"], seen["rows"], seen["unparsed"]) == (24, 26, 2)
    assert seen["features"]["a"] == {"counts": [1, 23, 1], "nulls": 1, "zeros": 0, "unseen": 0, "below": 1, "above": 1}
    assert seen["features"]["b"] == {"counts": [25, 1], "nulls": 0, "zeros": 20, "unseen": 0, "below": 1, "above": 0}
    assert seen["prediction"]["counts"] == [0, 24]
    assert (seen["revision"], seen["seconds"], seen["start"] % HOUR) == (STABLE, HOUR, 0)
    assert seen["baseline"] == baseline_digest(BASELINE) and seen["final"] is False


async def test_binary_tensors_survive_their_nul_bytes(running: Router) -> None:
    async def behaviour(_request: web.Request, _body: bytes) -> web.StreamResponse:
        head = json.dumps({"outputs": [tensor("p", [2], "FP32", 8)]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return web.Response(body=head + struct.pack("<2f", 0.0, 1.0), headers=headers)

    def tensor(name: str, shape: list[int], datatype: str, size: int) -> dict[str, Any]:
        return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}

    await running.ready("rain", STABLE, await running.serve("stable", behaviour))
    await observed(running)
    head = json.dumps({"inputs": [tensor("a", [2, 1], "FP32", 8), tensor("b", [2, 1], "INT64", 16)]}).encode()
    body = head + struct.pack("<2f", 0.0, 1.5) + struct.pack("<2q", 0, 256)
    status, _ = await running.post(body=body, Inference_Header_Content_Length=str(len(head)))
    assert status == 200
    seen = await window(running, 1)
    assert (seen["rows"], seen["unparsed"]) == (2, 0)
    assert seen["features"]["a"]["counts"] == [0, 1, 1]
    assert seen["features"]["b"]["counts"] == [1, 1] and seen["features"]["b"]["above"] == 1
    assert seen["prediction"]["counts"] == [1, 1]


async def test_grpc_calls_are_routed_counted_and_observed(running: Router) -> None:
    server, service = grpc.aio.server(), "inference.GRPCInferenceService"

    async def infer(request: Any, context: Any) -> Any:
        if not request.inputs:
            await context.abort(grpc.StatusCode.INTERNAL, "nothing to do")
        answer = ModelInferResponse()
        answer.outputs.add(name="p", datatype="FP64", shape=[1]).contents.fp64_contents.append(0.9)
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),))
    stable = await running.serve("unused")
    (stable.port,) = free_ports(1)
    server.add_insecure_port(f"127.0.0.1:{stable.port}")
    await server.start()
    await running.ready("rain", STABLE, stable)
    await observed(running)
    options = [("grpc.default_authority", f"rain.{NAMESPACE}")]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.layout.port}", options=options) as channel:
        call = channel.unary_unary(
            f"/{service}/ModelInfer", ModelInferRequest.SerializeToString, ModelInferResponse.FromString
        )
        request = ModelInferRequest()
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        request.raw_input_contents.append(struct.pack("<2f", 0.5, 1.0))
        answer = await call(request)
        assert answer.outputs[0].contents.fp64_contents[0] == 0.9
        failed = await asyncio.gather(call(ModelInferRequest()), return_exceptions=True)
        assert isinstance(failed[0], grpc.aio.AioRpcError)
    await server.stop(0)
    seen = await window(running, 1)
    assert seen["features"]["a"]["counts"] == [0, 1, 0] and seen["prediction"]["counts"] == [0, 1]
    revision = (await running.page("/v1/counts"))["deployments"]["rain"]["revisions"][STABLE]
    assert revision["grpc"] == {"0": 1, "13": 1}
    assert revision["requests"] == 2


async def test_only_stable_is_binned_and_slow_answers_are_counted(running: Router) -> None:
    async def slow(_request: web.Request, _body: bytes) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.json_response({"predictions": [[0.2, 0.8]]})

    await running.ready("rain", STABLE, await running.serve("stable", slow))
    await running.ready("rain", CANARY, await running.serve("canary"))
    await observed(running, rollout={"analysis": {"latency": {"percentile": 95, "maxMilliseconds": 10}}})
    await running.split("rain", 2, {STABLE: 50, CANARY: 50}, rollout={"analysis": {"latency": {"maxMilliseconds": 10}}})
    await running.confirmed("rain", 2)
    await asyncio.gather(*(running.post(body=row(0.5, 0.0)) for _ in range(40)))

    async def logged() -> dict[str, Any] | None:
        found = (await running.page("/v1/counts"))["deployments"]["rain"]
        total = sum(revision["latency"]["logged"] for revision in found["revisions"].values())
        return found if total == 40 else None

    found = await eventually(logged, "all requests are in the access log")
    stable = found["revisions"][STABLE]
    assert stable["latency"]["overLimit"] == stable["requests"] == found["windows"][0]["requests"]
    assert 0 < stable["requests"] < 40 and found["dropped"] == 0
    assert found["windows"][0]["prediction"]["counts"] == [0, stable["requests"]]  # the second column


async def test_without_a_baseline_rows_are_counted_on_the_grid(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await observed(running, baseline=None)
    await running.post(body=b'{"instances": [{"wind": 3.5, "cover": "low"}, {"wind": 3.6, "cover": "high"}]}')
    seen = await window(running, 1)
    assert seen["baseline"] == "grid"
    assert sum(seen["features"]["wind"]["counts"]) == 2 == max(seen["features"]["wind"]["counts"])
    assert seen["features"]["cover"]["categories"] == ["low", "high"]
    assert seen["features"]["cover"]["counts"] == [1, 1, 0]


async def test_a_sample_of_no_requests_observes_none(running: Router) -> None:
    await running.ready("rain", STABLE, await running.serve("stable"))
    await observed(running, observation={"samplePercent": 0})
    for _ in range(5):
        await running.post(body=row(0.5, 0.0))

    async def logged() -> dict[str, Any] | None:
        found = (await running.page("/v1/counts"))["deployments"]["rain"]
        return found if found["revisions"].get(STABLE, {}).get("latency", {}).get("logged") == 5 else None

    assert (await eventually(logged, "all are in the access log"))["windows"] == []
