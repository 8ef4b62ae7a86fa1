"""A promoted version is taken back as docs/operations.md says: by name and one `promote`, never by Direct itself."""

from tests.component.serving.rig import V1, V2, Rig, deployment, version

SOON = 3.0
"""Seconds: the weights of one step and no analysis."""


async def test_a_promote_goes_back_at_once_while_the_old_pods_stay() -> None:
    rig = await Rig().serve_first()
    await rig.name(V2)
    await rig.cluster.run_until(lambda: rig.stable() == V2)
    assert rig.replicas()[V1] == 1
    await rig.name(V1)
    assert rig.state == "Analysing"
    await rig.order("promote")
    took = await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=SOON)
    assert took < SOON
    assert rig.condition("Ready") == ("True", "Serving")


async def test_direct_stays_with_what_it_promoted_until_a_person_names_another() -> None:
    rig = Rig()
    direct = deployment(None, model={"updatePolicy": "Direct"})
    for obj in (version(V1), direct):
        await rig.world.person(obj)
    await rig.cluster.settle()
    await rig.cluster.run_until(lambda: rig.stable() == V1 and rig.state == "Rest")
    await rig.world.person(version(V2))
    await rig.cluster.settle()
    await rig.cluster.run_until(lambda: rig.stable() == V2 and rig.state == "Rest")

    bad = {"deployment": "rain", "reason": "ByHand", "message": "wrong", "time": "2026-11-26T00:00:00Z"}
    await rig.world.person(version(V2, rejections=[{**bad, "revision": rig.status["stable"]["revision"]}]))
    await rig.cluster.settle()
    await rig.cluster.run_for(60)
    assert (rig.stable(), rig.state) == (V2, "Rest")

    await rig.name(V1)
    await rig.order("promote")
    await rig.cluster.run_until(lambda: rig.stable() == V1, seconds=SOON)
    await rig.world.person(direct)
    await rig.cluster.settle()
    await rig.cluster.run_for(60)
    assert (rig.stable(), rig.state) == (V1, "Rest"), "the rejection keeps Direct from it"
