"""The operator killed after each single write of a GitSync's life: the same objects and the same commits in the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.sync.conftest import Bench, config_map, deployment
from tests.component.sync.test_write_back import WRITES, first_served, report, serve, train


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
