"""The decision of one pass over a ModelDeployment: a pure function of a World and the time.

Actions carry out what status held when the World was read; a new intent (another state, other weights) is returned as
status only, and the next pass acts on it. Never raises for expected trouble.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from perennial.domain.decision import Decision
from perennial.domain.rollout.change import Change
from perennial.domain.rollout.looking import look_seconds
from perennial.domain.rollout.plan import Action, next_drain, plan
from perennial.domain.rollout.progress import proceed
from perennial.domain.rollout.quiet import is_unremarkable, unread
from perennial.domain.rollout.resting import rest
from perennial.domain.rollout.state import State
from perennial.domain.rollout.status import full_status
from perennial.domain.rollout.stops import finish
from perennial.domain.rollout.world import World


def decide(world: World, now: datetime, *, conditions: Sequence[Mapping[str, Any]] = ()) -> Decision[Action]:
    """Status, actions, events and the time of the next pass. `conditions`: those recorded, for transition times."""
    change = next_change(world, now)
    status = full_status(world, change, conditions, now)
    actions = plan(world, now)
    return Decision(status=status, actions=actions, requeue_after=_requeue(world, change, now), events=change.events)


def next_change(world: World, now: datetime) -> Change:
    """The facts after this pass."""
    rollout = world.recorded.rollout
    if rollout is None:
        return rest(world, now)
    if rollout.state is State.WITHDRAWING:
        return finish(world, now)
    change = proceed(world, now)
    return proceed(unread(world), now) if is_unremarkable(world, change, now) else change


def is_new_intent(world: World, change_status: Mapping[str, Any]) -> bool:
    """Whether the status to write records something to act on: it is then written before anything else is done."""
    recorded = world.recorded
    rollout = change_status.get("rollout") or {}
    before = recorded.rollout
    state = str(before.state) if before is not None else None
    return bool(
        change_status.get("trafficVersion", 0) != recorded.traffic_version
        or rollout.get("state") != state
        or (before is not None and rollout.get("weight") != before.weight)
    )


def _requeue(world: World, change: Change, now: datetime) -> float | None:
    route = None
    if world.spec.gateway is not None or world.recorded.routed:
        route = look_seconds(change.recorded, now, world.gateway)
    times = [t for t in (change.requeue, next_drain(world, now), route) if t is not None]
    return min(times) if times else None
