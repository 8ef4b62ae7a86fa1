"""The operator killed after each single write of two policies' lives: the same objects, each made once."""

from typing import Any

from perennial.api import kinds
from tests.component.drift.place import Place, policy
from tests.fakes.world import World, stop_after_every_write


async def test_a_kill_after_any_write_makes_the_same_objects_once() -> None:
    places: list[Place] = []

    async def build() -> World:
        places.append(Place())
        return places[-1].world

    async def scenario(world: World) -> None:
        place = places[-1]
        await place.set_up(policy("one"), policy("two", features={"include": "All", "prediction": False}))
        await place.window(shift=1.0)
        await place.answer_probes()
        await place.world.run_for(2)
        await place.answer_probes()
        job = place.jobs()[0]
        await place.finish(job, version="rain-r00000002")
        await place.serve("rain-r00000002", "rain-rev-00000002")
        await place.world.run_for(5)

    def compare(world: World) -> Any:
        statuses = {p["metadata"]["name"]: p["status"] for p in world.store.all(kinds.DRIFT_POLICY)}
        return (
            sorted(item for item in world.created() if item[0] in ("TrainingJob", "ConfigMap")),
            {
                name: (
                    s["state"],
                    s["consecutive"],
                    [t["outcome"] for t in s.get("history", ())],
                    s["window"]["samples"],
                )
                for name, s in statuses.items()
            },
        )

    kills = await stop_after_every_write(build, scenario, compare=compare)
    assert kills >= 12
