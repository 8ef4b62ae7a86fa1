"""Somebody deletes what serves while something else is asked for: it is made again as it was, or words say why not."""

import pytest

from perennial.api import kinds
from perennial.api.kinds import Kind
from tests.component.serving.rig import V1, V2, V3, Rig
from tests.fakes.copies import copied


def child(rig: Rig, kind: Kind, revision: str) -> str | None:
    """The uid of a revision's child of that kind."""
    names = {obj["metadata"]["name"]: str(obj["metadata"]["uid"]) for obj in rig.world.store.all(kind)}
    return names.get(f"rain-rev-{revision}")


async def delete(rig: Rig, kind: Kind, revision: str) -> None:
    """`kubectl delete`, and what follows at once."""
    await rig.world.store.delete(kind, "default", f"rain-rev-{revision}", uid=child(rig, kind, revision))
    await rig.cluster.settle()


@pytest.mark.parametrize("kind", [kinds.DEPLOYMENT, kinds.SERVICE], ids=["Deployment", "Service"])
@pytest.mark.parametrize("refused", [False, True])
async def test_stable_is_made_again_as_it_was_whatever_is_asked_for(kind: Kind, refused: bool) -> None:
    rig = await Rig().serve_first()
    stable = rig.status["stable"]["revision"]
    before = copied(rig.world.obj(kind, f"rain-rev-{stable}")["spec"])
    await rig.name(V2)
    if refused:
        await rig.order("abort")
    await delete(rig, kind, stable)
    await rig.cluster.run_for(2)
    after = rig.world.obj(kind, f"rain-rev-{stable}")["spec"]
    assert {**after, "clusterIP": None} == {**before, "clusterIP": None}
    if not refused:
        await rig.order("abort")
    await rig.cluster.run_for(5)
    assert (rig.stable(), rig.condition("Available")) == (V1, ("True", "Serving"))


async def test_a_stable_that_would_be_another_revision_now_is_not_made_and_words_say_what_to_do() -> None:
    rig = await Rig().serve_first()
    stable = rig.status["stable"]["revision"]
    more = {"requests": {"cpu": "2"}}
    await rig.name(V2, resources=more)
    await rig.order("abort", resources=more)
    await delete(rig, kinds.DEPLOYMENT, stable)
    await rig.cluster.run_for(5)
    assert child(rig, kinds.DEPLOYMENT, stable) is None
    assert "cannot be made again" in rig.words("Available")
    assert rig.condition("Available") == ("False", "PodsNotReady")
    await rig.name(V3, resources=more)
    await rig.cluster.run_until(lambda: rig.stable() == V3)
