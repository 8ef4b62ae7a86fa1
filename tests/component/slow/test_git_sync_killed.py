"""The operator killed after each single write of a GitSync's life: the same objects and the same commits in the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.sync.conftest import Bench, config_map, deployment
from tests.component.sync.test_write_back import WRITES, first_served, report, serve, train, version


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A fresh bench."""
    made = Bench(tmp_path)
    yield made
    made.close()


async def test_killed_after_any_write_it_ends_in_the_same_world(bench: Bench) -> None:
    old = bench.person.push({"app/a.yaml": config_map("a"), "app/b.yaml": config_map("b"), "app/d.yaml": deployment()})
    await bench.start()
    first = bench.world
    new = bench.person.push({"app/b.yaml": None, "app/c.yaml": config_map("c")})
    await bench.poll()
    wanted, writes = first.snapshot(), first.writes_in_passes
    assert writes >= 8
    for write in range(1, writes + 1):
        bench.person.reset(old)
        world = bench.world = bench.new_world()
        world.crash_after(write)
        await bench.start()
        bench.person.reset(new)
        await bench.poll()
        assert world.crashes == 1
        assert world.snapshot() == wanted, f"after write {write}"


async def test_killed_after_any_write_the_commits_are_the_same(bench: Bench) -> None:
    world = await first_served(bench)
    writes = world.writes_in_passes
    wanted = bench.person.log()
    assert len(wanted) == 3 and writes > 8
    root = bench.person.git("rev-list", "--max-parents=0", "main")
    for write in range(4, writes + 1):
        bench.person.reset(root)
        bench.world = world = bench.new_world()
        world.crash_after(write)
        await bench.start(**WRITES)
        report(world)
        await world.settle()
        await train(world, "rain-r1", 1)
        await bench.poll()
        report(world)
        serve(world, "rain-r1")
        await world.settle()
        await bench.poll()
        assert world.crashes == 1
        assert bench.person.log() == wanted, f"after write {write}"


class Dying(BaseException):
    """The operator is killed at this point."""


class Stopping:
    """A repository that kills the operator before or after its n-th commit or push."""

    def __init__(self, bench: Bench, point: tuple[str, str, int]) -> None:
        self._bench = bench
        self._point = point
        self._seen = {"commit": 0, "push": 0}
        self.died = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._bench.repositories, name)
        if name not in self._seen:
            return found

        async def call(*arguments: Any) -> Any:
            self._seen[name] += 1
            self._die("before", name)
            result = await found(*arguments)
            self._die("after", name)
            return result

        return call

    def _die(self, when: str, name: str) -> None:
        if not self.died and self._point == (when, name, self._seen[name]):
            self.died = True
            raise Dying


@pytest.mark.parametrize("point", [("after", "commit", 1), ("after", "push", 2)])
async def test_killed_around_a_push_every_change_lands_exactly_once(bench: Bench, point: tuple[str, str, int]) -> None:
    bench.git = stopping = Stopping(bench, point)  # type: ignore[assignment]
    bench.world = bench.new_world()
    bench.person.push({"app/d.yaml": deployment()}, "Begin")

    async def on(work: Any) -> None:
        try:
            await work
        except Dying:
            bench.world.restart()
            await bench.world.settle()

    world = await bench.start(**WRITES)
    report(world)
    await world.store.create(version("rain-r1", 1), manager="perennial-training-job")
    await on(world.settle())
    report(world)
    serve(world, "rain-r1")
    await on(world.settle())
    await bench.poll()
    wanted = ["rain-r1 serves rain", "Roll out rain-r1 to rain", "Begin"]
    assert bench.person.log() == wanted
    assert stopping.died
