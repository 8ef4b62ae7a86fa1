"""Where a canary finds no room beside stable: when stable's places are taken, and the weight that goes with them. Pure.

With one replica the only pod leaves before the new one comes; with more, places and weight go over bit by bit.
"""

from dataclasses import replace

from perennial.domain import reasons
from perennial.domain.decision import EventNote
from perennial.domain.rollout.change import Change, split, with_traffic
from perennial.domain.rollout.moment import Moment, next_weight
from perennial.domain.rollout.spec import FULL
from perennial.domain.rollout.state import Event, State
from perennial.domain.rollout.stops import UNSCHEDULABLE_SECONDS
from perennial.domain.rollout.world import Rollout, World


def no_room(moment: Moment) -> bool:
    """Whether stable must make room: the spec wants it so, or the scheduler has found none for long enough."""
    world, rollout = moment.world, moment.rollout
    if moment.recorded.stable is None or rollout.replacing or world.spec.surge == "Surge":
        return False
    if world.spec.surge == "Replace":
        return True
    seen = world.revisions.get(rollout.target.revision)
    since = seen.unschedulable_since if seen is not None else None
    patience = min(UNSCHEDULABLE_SECONDS, world.spec.progress_deadline_seconds / 2)
    return since is not None and (moment.now - since).total_seconds() >= patience


def replace_stable(moment: Moment) -> Change:
    """Make room. With one replica that is downtime without analysis; with more, stable gives up pods step by step."""
    rollout = moment.rollout
    seen = moment.world.revisions.get(rollout.target.revision)
    why = f" ({seen.trouble})" if seen is not None and seen.trouble else ""
    whole = moment.world.whole
    if whole > 1:
        words = f"No room beside stable{why}: {rollout.target.label} takes the place of some of its pods."
        weight = rollout.weight
        if weight == 0:
            weight = next_weight(moment.world, 0)
            words += f" It gets no copies of requests, for neither has pods to spare; first is {weight}%."
        made = replace(rollout, replacing=True, weight=weight, stable_replicas=whole, short_since=moment.now)
        changed = replace(moment.recorded, rollout=made)
        note = EventNote(reasons.NO_ROOM, words, "Warning")
        return Change(changed, words=words, finding=moment.finding, events=(note,), requeue=0.0)
    words = (
        f"No room beside stable{why}: {rollout.target.label} takes its place, with downtime until it is ready and "
        "without analysis; the old revision comes back if it fails."
    )
    return moment.go(
        Event.NO_ROOM, words, EventNote(reasons.NO_ROOM, words, "Warning"), replacing=True, weight=FULL,
        short_since=moment.now,
    )  # fmt: skip


def held_up(moment: Moment) -> str | None:
    """Why stable gives up no more places now, as a sentence; None when nothing keeps it from that."""
    rollout = moment.rollout
    if not rollout.replacing or moment.world.confirmed_by_all:
        return None
    return f"Stable keeps its pods until all routers confirm {moment.live}% for {rollout.target.label}."


def may_have_part(moment: Moment, available: int) -> bool:
    """Whether the canary's pods can take more than its weight, though not what it aims at: stable makes room pod by
    pod, and with the weight, so that it never has many more requests than pods for them."""
    world = moment.world
    return moment.rollout.replacing and available >= world.worth(moment.live) + world.at_once


def give_part(moment: Moment, available: int) -> Change:
    """The weight that so many pods can take, on the way to the next step."""
    rollout, label = moment.rollout, moment.rollout.target.label
    weight = FULL * available // moment.world.whole
    words = f"Give {label} {weight}% of the requests, which {available} pods can take, on its way to {rollout.weight}%."
    note = EventNote(reasons.WEIGHT_SET, words)
    change = moment.go(Event.SOME_AVAILABLE, words, note, verified=None, short_since=None)
    traffic = split(change.recorded, rollout.target.revision, weight)
    return replace(change, recorded=with_traffic(change.recorded, traffic))


def needed_pods(world: World, rollout: Rollout, live: int) -> int:
    """The pods that the canary is given time for: those of its aim, but no more than stable has made room for."""
    aims = (State.SCALING, State.SMOKE, State.SHIFTING, State.REPLACING)
    needed = world.replicas_for(rollout.weight if rollout.state in aims else live)
    if not rollout.replacing or rollout.state not in (State.SCALING, State.SMOKE):
        return needed
    left = world.whole - (world.stable_seen.replicas if world.stable_seen is not None else 0)
    return min(needed, max(left, world.worth(live)))
