"""When a person is asked to let a rollout go on, and in which words. Pure; progress.py moves it by the table."""

from datetime import datetime

from perennial.domain.authors import written_by
from perennial.domain.conditions import bounded
from perennial.domain.rollout.approval import Said
from perennial.domain.rollout.signature import Compared, compare
from perennial.domain.rollout.spec import Step
from perennial.domain.rollout.world import Rollout, World

SIGNATURE_SECONDS = 5.0
"""How long ready routers have to tell both signatures; then they are unknown, which holds nothing up."""
_LONGEST = 600
"""Bytes of a difference: the sentence around it must fit a condition."""


def step_waits(world: World, rollout: Rollout, live: int) -> bool:
    """Whether the step at the live weight needs a person who has not spoken yet."""
    step = next((s for s in world.spec.steps if s.weight == live), Step(live))
    return step.approval and rollout.approved_weight != live


def signatures(world: World, rollout: Rollout, now: datetime) -> Compared:
    """What is known about the inputs of stable and canary before the first weight; not `known`: wait a little.

    Settled without a look when there is no stable to compare with, when the canary has had requests already, or when a
    person has approved its inputs.
    """
    stable = world.recorded.stable
    approved = any(approval.said is Said.SIGNATURE for approval in rollout.approvals)
    if stable is None or approved or world.recorded.weight_of(rollout.target.revision) > 0:
        return Compared(True)
    found = compare((router.inputs for router in world.routers), stable.revision, rollout.target.revision)
    if found.known:
        return Compared(True, bounded(found.difference, _LONGEST) if found.difference else None)
    waited = (now - rollout.checking_since).total_seconds() if rollout.checking_since is not None else 0.0
    return Compared(bool(world.routers) and waited >= SIGNATURE_SECONDS)  # without a router nothing can go on anyway


def not_ones_own(world: World, rollout: Rollout, verb: str, by: str) -> str | None:
    """Why `by` may not order that the rollout goes on, as a sentence; None when it is allowed.

    Only spec.rollout.forbidOwnApproval forbids anything: then whoever wrote the change may abort it, and nothing else;
    and nobody may approve a change whose author is not known.
    """
    if not world.spec.forbid_own_approval:
        return None
    label = rollout.target.label
    if not rollout.authors:
        return (
            f"{verb} by {by} is refused: forbidOwnApproval is set, and who wrote the change to {label} is not known, "
            "because no GitSync brought it with its authors: commit it below a GitSync's path."
        )
    author = written_by(by, rollout.authors)
    if author is None:
        return None
    return (
        f"{verb} by {by} is refused: forbidOwnApproval is set, and {bounded(author.words, 100)} wrote the change to "
        f"{label}: somebody else must approve it."
    )


def signature_words(world: World, rollout: Rollout, difference: str) -> str:
    """The question about changed inputs, as a sentence."""
    next_portion = world.spec.portion(rollout.weight)
    return (
        f"The inputs of {rollout.target.label} differ from stable's: {difference}. It stays at 0% until a person lets "
        f"it go on: `kubectl perennial approve {world.name}` gives it {next_portion}, `abort` rejects it."
    )
