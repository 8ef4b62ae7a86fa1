"""The input signatures of stable and canary: read by the agent from real servers, told on its page, past Envoy."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from perennial.adapters.routers import HttpRouterReports
from perennial.domain.rollout.routers import read_router
from perennial.domain.rollout.signature import compare
from perennial.domain.rollout.world import Recorded
from perennial.router import signatures
from perennial.router.signatures import MAX_BYTES, MAX_INPUTS, read_inputs
from tests.component.router.harness import TOKEN, Router, answering, eventually

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
X = [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}]
Y = [{"name": "y", "datatype": "FP64", "shape": [-1, 1]}]


def telling(*pages: tuple[int, Any]) -> Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]:
    """A server whose metadata page answers these in turn, the last one for ever; it predicts as others do."""
    left, predict = list(pages), answering("model")

    async def behaviour(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.method == "GET" and request.path == "/v2/models/rain":
            status, inputs = left.pop(0) if len(left) > 1 else left[0]
            return web.json_response({"name": "rain", "inputs": inputs}, status=status)
        return await predict(request, body)

    return behaviour


async def told(running: Router, *revisions: str) -> dict[str, Any]:
    """The inputs on the agent's page once it tells those revisions."""

    async def check() -> dict[str, Any]:
        state = (await running.page("/v1/status")).get("deployments", {}).get("rain", {})
        return state if state.get("inputs", {}).keys() == set(revisions) else {}

    return dict((await eventually(check, f"inputs of {revisions}"))["inputs"])


async def test_the_inputs_of_both_revisions_are_told_at_weight_zero_and_cost_no_request(running: Router) -> None:
    stable, canary = await running.serve("s", telling((200, X))), await running.serve("c", telling((200, Y)))
    await running.ready("rain", STABLE, stable)
    await running.ready("rain", CANARY, canary)
    await running.split("rain", 1, {STABLE: 100, CANARY: 0})
    assert await told(running, STABLE, CANARY) == {STABLE: X, CANARY: Y}
    assert (stable.seen, canary.seen) == (1, 1)
    await running.confirmed("rain", 1)
    revisions = (await running.page("/v1/counts"))["deployments"]["rain"]["revisions"]
    assert sum(counts["requests"] for counts in revisions.values()) == 0
    reports = HttpRouterReports(port=running.agent_port)
    [page] = await reports.collect("ns", [("router-0", "uid-0", "127.0.0.1")], TOKEN, want="status")
    await reports.close()
    seen = read_router(
        page.pod, page.pod_uid, page.status, {}, deployment="rain", recorded=Recorded(), failure_codes=frozenset()
    )
    found = compare([seen.inputs], STABLE, CANARY)
    assert found.difference is not None
    assert found.difference.startswith('input "x" is FP64 [-1, 1] in stable and missing in the canary')


async def test_without_a_canary_nobody_is_asked_and_an_old_one_is_forgotten(running: Router) -> None:
    stable, canary = await running.serve("s", telling((200, X))), await running.serve("c", telling((200, Y)))
    await running.ready("rain", STABLE, stable)
    await running.split("rain", 1, {STABLE: 100})
    await running.confirmed("rain", 1)
    assert stable.seen == 0
    await running.ready("rain", CANARY, canary)
    await running.split("rain", 2, {STABLE: 100, CANARY: 0})
    await told(running, STABLE, CANARY)
    await running.split("rain", 3, {STABLE: 100})
    assert await told(running) == {}


async def test_a_server_without_such_a_page_is_unknown_and_asked_once(running: Router) -> None:
    stable, canary = await running.serve("s", telling((404, None))), await running.serve("c", telling((200, Y)))
    await running.ready("rain", STABLE, stable)
    await running.ready("rain", CANARY, canary)
    await running.split("rain", 1, {STABLE: 95, CANARY: 5})
    assert await told(running, STABLE, CANARY) == {STABLE: None, CANARY: Y}
    assert stable.seen == 1


async def test_a_server_that_is_not_quite_there_is_asked_again(running: Router) -> None:
    stable, canary = (
        await running.serve("s", telling((200, X))),
        await running.serve("c", telling((503, None), (200, Y))),
    )
    await running.ready("rain", STABLE, stable)
    await running.split("rain", 1, {STABLE: 100, CANARY: 0})
    assert await told(running, STABLE) == {STABLE: X}
    await running.ready("rain", CANARY, canary)
    assert await told(running, STABLE, CANARY) == {STABLE: X, CANARY: Y}
    assert canary.seen == 2


async def test_a_server_that_never_answers_is_asked_some_times_and_never_said_to_have_no_page(
    running: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "_RETRY_SECONDS", 0.01)
    stable, canary = await running.serve("s", telling((200, X))), await running.serve("c", telling((503, None)))
    await running.ready("rain", STABLE, stable)
    await running.ready("rain", CANARY, canary)
    await running.split("rain", 1, {STABLE: 100, CANARY: 0})
    assert await told(running, STABLE) == {STABLE: X}

    async def given_up() -> bool:
        return canary.seen == signatures.TRIES

    await eventually(given_up, "the last try")
    await running.split("rain", 2, {STABLE: 99, CANARY: 1})
    await running.confirmed("rain", 2)
    assert canary.seen == signatures.TRIES
    assert await told(running, STABLE) == {STABLE: X}


@pytest.mark.parametrize(
    "page",
    [
        "",
        "no JSON",
        "[]",
        {"name": "rain"},
        {"inputs": []},
        {"inputs": {"x": 1}},
        {"inputs": [{"name": "x", "datatype": "FP64"}]},
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": ["n"]}]},
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": [True]}]},
        {"inputs": [{"name": "x" * 257, "datatype": "FP64", "shape": []}]},
        {"inputs": X * (MAX_INPUTS + 1)},
        {"inputs": X, "more": "x" * MAX_BYTES},
    ],
)
def test_a_page_that_is_none_or_too_long_is_unknown(page: Any) -> None:
    assert read_inputs((page if isinstance(page, str) else json.dumps(page)).encode()) is None


def test_a_page_is_reduced_to_what_is_compared() -> None:
    page = {"inputs": [{**X[0], "parameters": {"content_type": "np"}}], "outputs": Y}
    assert read_inputs(json.dumps(page).encode()) == X
