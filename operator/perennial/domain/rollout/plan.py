"""Which children a ModelDeployment must have now, from what status already holds. Pure.

Every action carries out an intent that an earlier pass recorded; applying one twice is the same as once. Scaling
follows the weights recorded last pass: pods come before weight, and go only well after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from perennial.domain.rollout.smoke import job_name
from perennial.domain.rollout.state import State
from perennial.domain.rollout.stops import UNSCHEDULABLE_SECONDS, behind, let_go_by_all, unverified
from perennial.domain.rollout.world import RevisionSeen, Rollout, Target, World
from perennial.domain.times import rfc3339

ABORTED_DRAIN_SECONDS = 30


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Make the revision's Deployment and Service, each with POST."""

    target: Target
    replicas: int


@dataclass(frozen=True, slots=True)
class ScaleRevision:
    """Set a revision's replicas."""

    revision: str
    uid: str
    replicas: int


@dataclass(frozen=True, slots=True)
class MarkDrain:
    """Write (or with None remove) the absolute time after which the revision may be scaled to zero."""

    revision: str
    uid: str
    at: str | None


@dataclass(frozen=True, slots=True)
class DeleteRevision:
    """Remove a revision beyond revisionHistoryLimit."""

    revision: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteRouter:
    """Remove a router that does not follow status.traffic."""

    pod: str
    uid: str


@dataclass(frozen=True, slots=True)
class SetAutoscaler:
    """Point the autoscaler at stable, with at least `min_replicas`; revision None removes it."""

    revision: str | None
    min_replicas: int


@dataclass(frozen=True, slots=True)
class ApplyRoute:
    """Bring the HTTPRoute to these weights (revision -> weight, all above 0)."""

    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove our HTTPRoute: nothing serves, or no Gateway is asked for any more."""

    uid: str


@dataclass(frozen=True, slots=True)
class RunSmoke:
    """Make the Job that sends sample inputs to the canary."""

    target: Target
    name: str
    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class DeleteSmoke:
    """Remove a Job whose report is in status, or that nobody waits for."""

    name: str
    uid: str


Action = (
    CreateRevision
    | ScaleRevision
    | MarkDrain
    | DeleteRevision
    | DeleteRouter
    | SetAutoscaler
    | ApplyRoute
    | DeleteRoute
    | RunSmoke
    | DeleteSmoke
)


def plan(world: World, now: datetime) -> tuple[Action, ...]:
    """All that must be done now; at most one deletion."""
    deaf = unverified(world, now) or behind(world, now)
    actions: list[Action] = [DeleteRouter(deaf.pod, deaf.uid)] if deaf is not None else []
    actions += _creations(world)
    actions += _replicas(world, now)
    actions += _drains(world, now)
    if not actions:
        actions += _pruning(world)
    return (*actions, *_smoke(world), *_autoscaler(world), *_route(world))


def next_drain(world: World, now: datetime) -> float | None:
    """Seconds until a revision may be scaled to zero; None when none waits for that alone."""
    waits = [(seen.drain_until - now).total_seconds() for seen in _draining(world) if seen.drain_until is not None]
    return max(0.0, min(waits)) if waits else None


def _creations(world: World) -> list[Action]:
    """The revision that is rolled out, and stable's children that somebody deleted, whatever is asked for: without them
    an abort has nothing to go back to."""
    target, again, rollout = world.target, world.stable_again, world.recorded.rollout
    going = rollout is not None and rollout.state is not State.WITHDRAWING
    actions: list[Action] = []
    if again is not None:
        left = _left_to_stable(world, rollout) if rollout is not None and going and rollout.replacing else world.whole
        actions.append(CreateRevision(again, left))
    if isinstance(target, Target) and rollout is not None and going and rollout.target.revision == target.revision:
        seen = world.revisions.get(target.revision)
        if seen is None or not seen.has_service:
            actions.append(CreateRevision(target, world.replicas_for(rollout.weight)))
    return actions


def _replicas(world: World, now: datetime) -> list[Action]:
    actions: list[Action] = []
    rollout, stable = world.recorded.rollout, world.stable_seen
    if stable is not None:
        wanted = _stable_replicas(world, stable, rollout)
        if wanted is not None and stable.replicas != wanted:
            actions.append(ScaleRevision(stable.revision, stable.uid, wanted))
    canary = world.revisions.get(rollout.target.revision) if rollout is not None else None
    if rollout is None or canary is None:
        return actions
    wanted = _canary_replicas(world, canary, rollout, now)
    if canary.replicas != wanted:
        actions.append(ScaleRevision(canary.revision, canary.uid, wanted))
    return actions


def _stable_replicas(world: World, stable: RevisionSeen, rollout: Rollout | None) -> int | None:
    """What stable must have; None where the autoscaler decides."""
    if rollout is not None and rollout.replacing and rollout.state is not State.WITHDRAWING:
        return _left_to_stable(world, rollout)
    if world.spec.scaling is None:
        return world.spec.replicas
    floor = _floor(world)
    gave = rollout is not None and rollout.replacing and stable.replicas < floor  # it gets back what it gave
    return floor if stable.replicas == 0 or gave else None


def _left_to_stable(world: World, rollout: Rollout) -> int:
    """Pods that a stable which makes room keeps: none of a single one, else those for the requests that it still gets,
    but for the places that it gives up now, and at least one. It gives up none while suspended, or while a router has
    not followed the last weight."""
    worth = world.worth(world.recorded.weight_of(rollout.target.revision))
    left = max(1, world.whole - min(world.replicas_for(rollout.weight), worth + world.at_once))
    left = 0 if world.whole == 1 else left
    waits = world.spec.suspend or not (world.confirmed_by_all or world.whole == 1)
    has = world.stable_seen.replicas if world.stable_seen is not None else 0
    return max(left, has) if waits else left


def _canary_replicas(world: World, canary: RevisionSeen, rollout: Rollout, now: datetime) -> int:
    """Enough for the weight that is aimed at and for the live one; never fewer than it has, until it is withdrawn."""
    if rollout.state is State.WITHDRAWING:
        return 0 if rollout.replacing and _gives_back(world, canary, rollout, now) else canary.replicas
    live = world.recorded.weight_of(canary.revision)
    wanted = world.replicas_for(max(rollout.weight, live))
    if rollout.replacing:  # a pod that waits for a place could get one that a lost pod of stable leaves
        wanted = min(wanted, world.whole - _left_to_stable(world, rollout))
    return max(wanted, canary.replicas)


def _gives_back(world: World, canary: RevisionSeen, rollout: Rollout, now: datetime) -> bool:
    """Whether a withdrawn canary leaves the places that it took. While stable has no ready pod it may be all that
    answers: it then leaves them only when stable waits for them."""
    if canary.ready == 0:
        return True
    if not world.stable_lost:
        return let_go_by_all(world, rollout)
    since = world.stable_seen.unschedulable_since if world.stable_seen is not None else None
    no_room = since is not None and (now - since).total_seconds() >= UNSCHEDULABLE_SECONDS
    return no_room or rollout.stable_replicas == 1


def _others(world: World) -> list[RevisionSeen]:
    """Revisions that neither are stable nor rolled out."""
    recorded = world.recorded
    current = {recorded.stable.revision if recorded.stable else None}
    if recorded.rollout is not None:
        current.add(recorded.rollout.target.revision)
    return [seen for name, seen in sorted(world.revisions.items()) if name not in current]


def _draining(world: World) -> list[RevisionSeen]:
    """Revisions that only time keeps from being scaled to zero. The clock alone changes nothing for any other."""
    if world.recorded.stable is not None and world.stable_lost:
        return []
    if not world.edge.follows:  # a Gateway may still send them requests
        return []
    return [seen for seen in _others(world) if seen.replicas > 0 and not world.recorded.weight_of(seen.revision)]


def _drains(world: World, now: datetime) -> list[Action]:
    """Order down: no weight, confirmed, a delay by an absolute time on the object, then no pods.

    The clock starts only when stable can take everything: while it is lost, any healthy copy is kept.
    """
    others = _others(world)
    actions: list[Action] = [
        MarkDrain(seen.revision, seen.uid, None)
        for seen in world.revisions.values()
        if seen.drain_until is not None and seen not in others
    ]
    served = {entry.revision for entry in world.recorded.history}
    for seen in _draining(world):
        if seen.drain_until is None:
            delay = world.spec.scale_down_delay_seconds if seen.revision in served else ABORTED_DRAIN_SECONDS
            actions.append(MarkDrain(seen.revision, seen.uid, rfc3339(now + timedelta(seconds=delay))))
        elif now >= seen.drain_until:
            actions.append(ScaleRevision(seen.revision, seen.uid, 0))
    return actions


def _smoke(world: World) -> list[Action]:
    """The Job of the attempt in status, until its report is there too; all others go, one a pass."""
    rollout, target = world.recorded.rollout, world.target
    wanted = None
    if rollout is not None and rollout.state is State.SMOKE and rollout.smoke is not None and rollout.smoking:
        smoke = rollout.smoke
        wanted = job_name(world.name, rollout.id, smoke.attempt) if smoke.answers is None else None
        mine = isinstance(target, Target) and target.revision == rollout.target.revision
        if wanted is not None and mine and all(job.name != wanted for job in world.smoke_jobs):
            assert isinstance(target, Target)
            return [RunSmoke(target, wanted, smoke.requests, world.spec.analysis.max_seconds)]
    surplus = next((job for job in world.smoke_jobs if job.name != wanted), None)
    return [DeleteSmoke(surplus.name, surplus.uid)] if surplus is not None else []


def _autoscaler(world: World) -> list[Action]:
    """On stable, with at least the count that it had at the start of a rollout: an abort never overloads it.

    None while a canary takes stable's place: it would bring back the pods that stable gives up.
    """
    scaling, stable, rollout = world.spec.scaling, world.recorded.stable, world.recorded.rollout
    replacing = rollout is not None and rollout.replacing and rollout.state is not State.WITHDRAWING
    if scaling is None or replacing:
        return [SetAutoscaler(None, 0)]
    return [SetAutoscaler(stable.revision, _floor(world))] if stable is not None else []


def _route(world: World) -> list[Action]:
    """The HTTPRoute with the weights of status, also after somebody changed or removed it; only once status says that
    there is one, so that none is forgotten. Last of all: one that the server refuses keeps no pods from being scaled.
    """
    seen, wanted = world.gateway, world.shares.weights
    if seen is None or seen.obstacle is not None or seen.unreadable is not None or not world.recorded.routed:
        return []
    if not wanted:
        return [DeleteRoute(seen.route.uid)] if seen.route is not None and world.shares.as_recorded else []
    right = seen.route is not None and seen.route.intact and dict(seen.route.weights) == dict(wanted)
    return [] if right else [ApplyRoute(wanted)]


def _floor(world: World) -> int:
    """The fewest pods that stable may have under an autoscaler now."""
    scaling, rollout = world.spec.scaling, world.recorded.rollout
    return max(
        scaling.min_replicas if scaling is not None else 0, rollout.stable_replicas if rollout is not None else 0
    )


def _pruning(world: World) -> list[Action]:
    """The oldest revision beyond the limit, one a pass; only ones without pods."""
    idle = [seen for seen in _others(world) if seen.replicas == 0 and not world.recorded.weight_of(seen.revision)]
    promoted = {entry.revision: entry.promoted for entry in reversed(world.recorded.history)}
    idle.sort(key=lambda seen: (promoted.get(seen.revision, seen.created), seen.revision), reverse=True)
    beyond = idle[world.spec.revision_history_limit :]
    return [DeleteRevision(beyond[-1].revision, beyond[-1].uid)] if beyond else []
