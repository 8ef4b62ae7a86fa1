"""A canary in a cluster that has no room for a pod more: places and weight go over together, and come back."""

from perennial.api import kinds
from perennial.domain.decision import JsonObject
from tests.component.serving.rig import V1, V2, Rig

PLACES = 8


async def crowded() -> tuple[Rig, list[tuple[int, int]]]:
    """V1 has every place and V2 is named; and (percent of the requests, pods) of V1 at each change of its pods."""
    rig = await Rig().serve_first(replicas=PLACES)
    rig.cluster.places = PLACES
    stable, seen = rig.status["stable"]["revision"], []

    def watch(type_: str, obj: JsonObject) -> None:
        if obj["kind"] == kinds.DEPLOYMENT.kind and obj["metadata"]["name"] == f"rain-rev-{stable}":
            shares = {share["revision"]: share["weight"] for share in rig.status["traffic"]}
            seen.append((shares.get(stable, 0), obj["spec"]["replicas"]))

    rig.world.store.on_event.append(watch)
    await rig.name(V2, replicas=PLACES, rollout={"surge": "Replace", "scaleDownDelaySeconds": 30})
    return rig, seen


async def test_stable_gives_up_a_place_when_the_weight_of_the_last_one_is_gone() -> None:
    rig, seen = await crowded()
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    during = [(share, pods) for share, pods in seen if share]
    assert [pods for _, pods in dict(during).items()] == [7, 6, 5, 4, 3, 2, 1], during
    assert all(pods >= (share - 1) * PLACES / 100 - 1 for share, pods in during), during
    await rig.cluster.run_for(40)
    assert rig.replicas() == {V1: 0, V2: PLACES}
    assert rig.condition("Ready") == ("True", "Serving")


async def test_a_bad_canary_gives_all_its_places_back() -> None:
    rig, _ = await crowded()
    rig.routers.error_rates[V2] = 0.5
    await rig.cluster.run_until(lambda: rig.state == "Rest")
    await rig.cluster.run_for(3)
    assert rig.replicas() == {V1: PLACES, V2: 0}
    assert rig.status["stable"]["readyReplicas"] == PLACES
