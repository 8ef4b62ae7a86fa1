"""What dashboards and alerts see of rollouts: how many ended how, and nothing of a deployment that is gone."""

from collections import Counter

from perennial.api import kinds
from perennial.runtime.metrics import REGISTRY
from tests.component.serving.rig import V1, V2, V3, Rig


def ended() -> Counter[str]:
    """Rollouts of the deployment `rain` by outcome, since the process began."""
    return Counter({labels["outcome"]: int(value) for labels, value in series("perennial_rollouts_total")})


def series(name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name and sample.labels["name"] == "rain"
    ]


async def test_each_rollout_is_counted_once_by_how_it_ended() -> None:
    before = ended()
    rig = await Rig().serve_first()
    await rig.name(V2)
    rig.world.restart()
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    rig.routers.error_rates[V3] = 0.5
    await rig.name(V3)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
    await rig.name(V1)
    await rig.name(V2)
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
    await rig.cluster.run_for(60)
    assert ended() - before == Counter({"Promoted": 2, "CanaryFailed": 1, "Reverted": 1})


async def test_series_of_a_deployment_go_when_it_goes() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    assert [value for _, value in series("perennial_rollout_info")] == [5.0]
    await rig.world.store.delete(kinds.MODEL_DEPLOYMENT, "default", "rain", uid=None)
    await rig.cluster.settle()
    assert series("perennial_rollout_info") + series("perennial_rollouts_total") == []
