"""Rollouts beside a real Prometheus: failed, error, no data and inconclusive are four different things.

The clock of the rollout starts at the present and runs ahead: Prometheus then answers with its newest sample, which is
valid for five minutes.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from perennial.adapters.prometheus import Prometheus as Adapter
from perennial.adapters.prometheus import PrometheusSource
from perennial.domain.rollout.metrics import LOOK_SECONDS
from tests.component.serving.rig import V1, V2, Rig
from tests.fakes.clock import FakeClock
from tests.support import prometheus
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHECK = {"name": "auc", "prometheus": {"source": "main", "query": "model_auc"}, "min": "0.5"}


class Exporter:
    """What the model exports: `text` is the page."""

    def __init__(self) -> None:
        self.text = ""

    async def serve(self, _: web.Request) -> web.Response:
        return web.Response(text=self.text)

    def says(self, *values: str) -> None:
        self.text = "".join(f'model_auc{{shard="{shard}"}} {value}\n' for shard, value in enumerate(values))


class Stand:
    """A rollout of V2 with the check beside a Prometheus that scrapes the exporter."""

    def __init__(self, server: prometheus.Prometheus, exporter: Exporter, adapter: Adapter) -> None:
        self.server = server
        self.exporter = exporter
        self.adapter = adapter
        self.rig = Rig(metrics=adapter, clock=FakeClock(datetime.now(UTC)))

    async def exports(self, *values: str) -> None:
        """The exporter says so, and Prometheus has seen it."""
        self.exporter.says(*values)
        query = f"count(model_auc) == {len(values)} and count(model_auc == {values[0]}) > 0" if values else ""
        async with asyncio.timeout(10):
            while True:
                if values and values[0] != "NaN":
                    seen = (await self.adapter.query("main", query)).value is not None
                else:
                    found = await self.adapter.query("main", "model_auc")
                    seen = found.value is None and ("no finite" if values else "no series") in found.detail
                if seen:
                    return
                await asyncio.sleep(0.1)

    async def begin(self, **analysis: int) -> "Stand":
        await self.rig.serve_first(analysis={"metrics": [CHECK], **analysis})
        await self.rig.name(V2, analysis={"metrics": [CHECK], **analysis})
        return self

    async def looks(self, count: int) -> None:
        """Time for so many looks at the metric."""
        await self.rig.cluster.run_for(count * LOOK_SECONDS)

    async def ends(self) -> str | None:
        await self.rig.cluster.run_until(lambda: self.rig.state == "Rest", seconds=120)
        return self.rig.stable()

    def holds(self, words: str) -> None:
        """Nothing moved, nothing is rejected, and the status says why."""
        assert (self.rig.state, self.rig.status["canary"]["weight"]) == ("Analysing", 5)
        assert "rejected" not in self.rig.status
        assert words in self.rig.words()


@pytest.fixture(scope="module")
def binary() -> Path:
    found = prometheus.program()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(
    binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[prometheus.Prometheus, Exporter, Adapter]]:
    exporter = Exporter()
    app = web.Application()
    app.router.add_get("/metrics", exporter.serve)
    folder = tmp_path_factory.mktemp("prometheus")
    async with (
        TestServer(app, host="127.0.0.1") as served,
        aiohttp.ClientSession() as session,
        prometheus.running(binary, folder, free_port(), f"127.0.0.1:{served.port}") as server,
    ):
        yield server, exporter, Adapter(session, {"main": PrometheusSource(server.url, timeout_seconds=1)})


@pytest_asyncio.fixture(loop_scope="module")
async def stand(scene: tuple[prometheus.Prometheus, Exporter, Adapter]) -> Stand:
    made = Stand(*scene)
    await made.exports("0.9")
    return made


async def test_a_metric_within_its_bounds_lets_the_canary_through(stand: Stand) -> None:
    assert await (await stand.begin()).ends() == V2


async def test_a_metric_that_fails_three_looks_in_a_row_aborts_and_two_looks_do_not(stand: Stand) -> None:
    await stand.exports("0.3")
    await stand.begin(minRequests=2000)
    await stand.looks(2)
    assert stand.rig.state == "Analysing"
    await stand.exports("0.9")
    await stand.looks(1)
    await stand.exports("0.3")
    await stand.looks(2)
    assert stand.rig.state == "Analysing"
    assert await stand.ends() == V1
    entry = stand.rig.status["rejected"][0]
    assert (entry["version"], entry["reason"]) == (V2, "CanaryFailed")
    assert "Metric auc failed 3 looks in a row: 0.3 is below 0.5" in entry["message"]


async def test_a_metric_that_fails_holds_the_weight_before_it_aborts(stand: Stand) -> None:
    await stand.exports("0.3")
    await stand.begin(minRequests=50)
    await stand.looks(2)
    stand.holds("metric auc fails: 0.3 is below 0.5")


async def test_a_provider_that_stops_is_an_error_that_holds_and_never_aborts(stand: Stand) -> None:
    await stand.begin()
    await stand.server.stop()
    await stand.looks(6)
    stand.holds("metric auc cannot be read: Prometheus source main does not answer")
    await stand.server.start()
    await stand.exports("0.8")  # another number than before: seen only when it scrapes again
    assert await stand.ends() == V2


async def test_a_provider_that_hangs_delays_no_abort_that_the_routers_call_for(stand: Stand) -> None:
    await stand.begin()
    assert stand.server.process is not None
    stand.server.process.send_signal(signal.SIGSTOP)
    stand.rig.routers.error_rates[V2] = 0.5
    assert await stand.ends() == V1
    stand.server.process.send_signal(signal.SIGCONT)
    assert "more than maxErrorRate" in stand.rig.status["rejected"][0]["message"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((), "metric auc has no data: the query to main gave no series"),
        (("NaN",), "metric auc has no data: the query to main gave no finite number"),
        (("0.3", "0.2"), "metric auc has no data: the query to main gave 2 series instead of one"),
    ],
)
async def test_no_data_holds_until_there_is_some(stand: Stand, values: tuple[str, ...], words: str) -> None:
    await stand.exports(*values)
    await stand.begin()
    await stand.looks(6)
    stand.holds(words)
    await stand.exports("0.9")
    assert await stand.ends() == V2
