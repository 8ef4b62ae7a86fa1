"""When Prometheus is asked during a rollout, and that nothing waits for its answer."""

import asyncio
from typing import Any

import pytest

from perennial.controllers import deployment_metrics
from perennial.ports import MetricSample
from tests.component.serving.rig import V1, V2, Rig

CHECK = {"name": "auc", "prometheus": {"source": "main", "query": "auc"}, "min": "0.5"}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_metrics, "PATIENCE_SECONDS", 0.01)


class Source:
    """Answers `value` to everyone, or to no one while it is None."""

    def __init__(self, value: float | None) -> None:
        self.value = value
        self.asked: list[Any] = []
        self.queries: set[str] = set()
        self.defect: Exception | None = None

    async def query(self, source: str, query: str, *, at: Any = None) -> MetricSample:
        self.asked.append(at)
        self.queries.add(query)
        if self.defect is not None:
            raise self.defect
        if self.value is None:
            await asyncio.Event().wait()
        return MetricSample(self.value)


async def canary(source: Source, **analysis: Any) -> Rig:
    """V2 beside V1 at 5 %, just verified."""
    checks = {"metrics": [CHECK], **analysis}
    rig = await Rig(metrics=source).serve_first(analysis=checks)
    await rig.name(V2, analysis=checks)
    assert rig.state == "Analysing"
    return rig


async def test_a_provider_that_never_answers_holds_the_weight_and_delays_no_abort() -> None:
    source = Source(None)
    rig = await canary(source)
    async with asyncio.timeout(15):  # of the real clock: no pass waits for the answer
        await rig.cluster.run_for(60)
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    assert "metric auc cannot be read: main has not answered yet" in rig.words()
    assert len(source.asked) == 1, "the question that is under way is not asked again"
    rig.routers.error_rates[V2] = 0.9
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
    assert rig.stable() == V1


async def test_an_answer_that_comes_late_is_taken_by_a_later_pass() -> None:
    source = Source(None)
    rig = await canary(source, minRequests=1000)
    await rig.cluster.run_for(20)
    source.value = 0.9
    rig.world.restart()  # the operator that waited is gone; the new one asks anew
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=600)
    assert rig.stable() == V2


async def test_metrics_are_not_asked_before_the_warm_up_is_over() -> None:
    """A long warm-up would otherwise be three failed looks of a model that is only cold."""
    source = Source(0.1)
    rig = await canary(source, warmupSeconds=60)
    await rig.cluster.run_for(58)
    assert source.asked == []
    assert (rig.state, rig.status["canary"]["weight"]) == ("Analysing", 5)
    source.value = 0.9
    await rig.cluster.run_until(lambda: rig.stable() == V2, seconds=300)


async def test_failed_looks_are_counted_at_one_weight() -> None:
    """Two failed looks at 5 % and one at 50 % are not three in a row."""
    source = Source(0.1)
    rig = await canary(source, warmupSeconds=0)
    await rig.cluster.run_for(12)  # looks after 0 and 10 s
    assert len(source.asked) == 2
    await rig.order("skip", analysis={"metrics": [CHECK], "warmupSeconds": 0})
    await rig.cluster.run_for(12)
    assert (rig.state, rig.status["canary"]["weight"], len(source.asked)) == ("Analysing", 50, 4)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=30)
    assert rig.stable() == V1


async def test_a_query_that_breaks_us_breaks_one_pass_and_no_verdict() -> None:
    source = Source(0.9)
    rig = await canary(source, minRequests=1000)
    source.defect = ValueError("a defect of ours")
    await rig.cluster.run_for(25)
    rig.routers.error_rates[V2] = 0.9
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
    assert rig.stable() == V1


async def test_a_query_asks_about_the_canary_alone() -> None:
    query = 'errors{pod=~"$(name)-rev-$(canary)-.*"} / errors{pod=~"$(name)-rev-$(stable)-.*",namespace="$(namespace)"}'
    source = Source(0.9)
    rig = await canary(source, metrics=[{**CHECK, "prometheus": {"source": "main", "query": query}}])
    await rig.cluster.run_for(12)
    old, new = rig.status["stable"]["revision"], rig.status["canary"]["revision"]
    assert source.queries == {
        f'errors{{pod=~"rain-rev-{new}-.*"}} / errors{{pod=~"rain-rev-{old}-.*",namespace="default"}}'
    }
