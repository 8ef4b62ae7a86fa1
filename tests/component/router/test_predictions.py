"""What the counts page says of canary and stable predictions that went through a real Envoy."""

import asyncio
import json
from typing import Any

from aiohttp import web

from perennial.domain.drift.baseline import baseline_digest
from perennial.domain.rollout.predictions import read_pair
from tests.component.router.harness import Router, eventually
from tests.component.router.test_observation import BASELINE, CANARY, STABLE, row

ASKED = {"rollout": {"analysis": {"predictions": {"maxDistance": "0.2"}}}}


def saying(*texts: str) -> Any:
    """A model server that answers these bodies in turn."""
    numbers = iter(range(10**6))

    async def behaviour(_request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.Response(text=texts[next(numbers) % len(texts)], content_type="application/json")

    return behaviour


def answer(*values: str) -> str:
    shape = json.dumps([len(values)])
    return f'{{"outputs": [{{"name": "y", "shape": {shape}, "datatype": "FP64", "data": [{", ".join(values)}]}}]}}'


async def arms(running: Router, logged: int) -> dict[str, Any]:
    """The revisions of the counts page once so many requests are in the access log."""

    async def check() -> dict[str, Any] | None:
        found = (await running.page("/v1/counts"))["deployments"]["rain"]["revisions"]
        return found if sum(r["latency"]["logged"] for r in found.values()) == logged else None

    return await eventually(check, f"{logged} requests are in the access log")


async def rolling(running: Router, stable: Any, canary: Any, **spec: Any) -> None:
    """Stable and canary at half the requests each, with a baseline and no DriftPolicy."""
    await running.api.put("modelversions", {"metadata": {"name": "rain-v1"}, "spec": {"baseline": BASELINE}})
    await running.ready("rain", STABLE, await running.serve("stable", stable))
    await running.ready("rain", CANARY, await running.serve("canary", canary))
    await running.split("rain", 1, {STABLE: 50, CANARY: 50}, **spec)
    await running.confirmed("rain", 1)


async def known(running: Router) -> None:
    async def binning() -> bool:
        found = (await running.page("/v1/counts"))["deployments"]["rain"]["revisions"]
        return "predictions" in found.get(CANARY, {}) and "predictions" in found.get(STABLE, {})

    await eventually(binning, "the agent counts predictions of both")


async def test_both_arms_are_counted_by_the_same_bins_without_a_drift_policy(running: Router) -> None:
    wrong = saying(answer("0.9"), answer("NaN"), answer("null"), "no json")
    await rolling(running, saying(answer("0.1"), answer("0.9")), wrong, **ASKED)
    await known(running)
    await asyncio.gather(*(running.post(body=row(0.5, 0.0)) for _ in range(80)))
    await asyncio.gather(*(running.post(body=row(0.5, 0.0), x_perennial_observe="none") for _ in range(8)))
    found = await arms(running, 88)
    stable, canary = found[STABLE]["predictions"], found[CANARY]["predictions"]
    assert stable["bins"] == canary["bins"] == baseline_digest(BASELINE)
    assert stable["rows"] + canary["rows"] + canary["unparsed"] == 80
    assert stable["rows"] == sum(stable["counts"]) and abs(stable["counts"][0] - stable["counts"][1]) <= 8
    assert canary["nulls"] > canary["unparsed"] > 0 and canary["counts"][0] == 0
    assert canary["rows"] == canary["nulls"] + canary["counts"][1]
    assert canary["other"] == 0 < canary["same"] and stable["other"] > 0
    pair = read_pair(found[CANARY], found[STABLE])
    assert pair is not None and pair.canary.counts == tuple(canary["counts"])


async def test_without_the_check_no_body_is_read(running: Router) -> None:
    await rolling(running, saying(answer("0.1")), saying(answer("0.9")))
    await asyncio.gather(*(running.post(body=row(0.5, 0.0)) for _ in range(16)))
    found = await arms(running, 16)
    assert all("predictions" not in revision for revision in found.values())
