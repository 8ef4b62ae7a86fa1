"""How often a rollout that waits for a person writes its counts. Pure.

While requests flow every look finds other counts. In a step that may wait for days nobody reads them every second, so
they are written at growing intervals. A look that is not written loses nothing and doubles nothing: the next one counts
from the routers' counters last written. What the look shows is judged all the same, every time.
"""

from dataclasses import replace
from datetime import datetime

from perennial.domain.rollout.change import Change
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import World

WAITING = (State.HOLDING, State.APPROVAL)
SHARE = 0.1
"""Counts are written when they are older than this share of the time waited so far, ..."""
LONGEST_SECONDS = 60.0
"""... and at the latest after this time."""


def is_unremarkable(world: World, change: Change, now: datetime) -> bool:
    """Whether a pass changes nothing but counts that are still fresh enough in status."""
    before, after = world.recorded.rollout, change.recorded.rollout
    if before is None or after is None or before.state not in WAITING or before.evidence.looked is None:
        return False
    if change.events or replace(world.recorded, rollout=replace(before, evidence=after.evidence)) != change.recorded:
        return False
    readings = [router.reading for router in world.routers if router.reading is not None]
    evidence = before.evidence
    goes_on = evidence.goes_on_in(readings, world.recorded.traffic_version)
    if not goes_on or evidence.of_routers(world.following) != evidence:
        return False
    waited = (now - before.state_since).total_seconds()
    age = (now - before.evidence.looked).total_seconds()
    return age < min(LONGEST_SECONDS, SHARE * waited)


def unread(world: World) -> World:
    """The same World as between two looks: no router was asked for its counts."""
    return replace(world, routers=tuple(replace(router, reading=None) for router in world.routers))
