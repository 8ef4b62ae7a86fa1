"""The rollout as literal tables: states, what may happen in them, and where it leads. The docs diagram is made of them.

Must not decide: `decide` finds out what happened and looks up what follows; an event a state does not list is a bug.
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a ModelDeployment stands. In the first four no rollout is in progress and status.rollout is absent."""

    IDLE = "Idle"
    SETTLED = "Settled"
    REFUSED = "Refused"
    EXPIRED = "Expired"
    SCALING = "Scaling"
    SMOKE = "Smoke"
    SHIFTING = "Shifting"
    ANALYSING = "Analysing"
    APPROVAL = "Approval"
    HOLDING = "Holding"
    REPLACING = "Replacing"
    WITHDRAWING = "Withdrawing"


class Event(StrEnum):
    """What can happen to a rollout."""

    TARGET_NAMED = "TargetNamed"
    TARGET_IS_STABLE = "TargetIsStable"
    TARGET_REFUSED = "TargetRefused"
    TARGET_EXPIRED = "TargetExpired"
    NOTHING_NAMED = "NothingNamed"
    RETRY_ORDERED = "RetryOrdered"
    NO_ROOM = "NoRoom"
    PODS_AVAILABLE = "PodsAvailable"
    SOME_AVAILABLE = "SomeAvailable"
    SAMPLES_DUE = "SamplesDue"
    WEIGHT_VERIFIED = "WeightVerified"
    FULL_WEIGHT_VERIFIED = "FullWeightVerified"
    STEP_DONE = "StepDone"
    APPROVAL_NEEDED = "ApprovalNeeded"
    SIGNATURE_DIFFERS = "SignatureDiffers"
    APPROVED = "Approved"
    APPROVAL_DROPPED = "ApprovalDropped"
    PROMOTE_SHOWN = "PromoteShown"
    PROMOTE_ORDERED = "PromoteOrdered"
    SKIP_ORDERED = "SkipOrdered"
    INCONCLUSIVE = "Inconclusive"
    ABORT_SHOWN = "AbortShown"
    ABORT_ORDERED = "AbortOrdered"
    DEADLINE_PASSED = "DeadlinePassed"
    TARGET_CHANGED = "TargetChanged"
    HOLD_EXPIRED = "HoldExpired"
    ZERO_VERIFIED = "ZeroVerified"


AT_REST = (State.IDLE, State.SETTLED, State.REFUSED, State.EXPIRED)
MEANINGS: Mapping[State, str] = {
    State.IDLE: "no version is named, or it does not exist yet; what serves keeps serving",
    State.SETTLED: "stable is what is asked for",
    State.REFUSED: "what is asked for was rejected; stable serves until another version is named",
    State.EXPIRED: "the rollout ended without a verdict; stable serves",
    State.SCALING: "the canary's pods for the next weight become available",
    State.SMOKE: "a Job sends sample inputs of the version to the canary, which nobody else sees",
    State.SHIFTING: "the weight is in status.traffic; routers confirm it",
    State.ANALYSING: "requests are counted; every look may abort, advance or promote",
    State.APPROVAL: "the step is done, or at weight 0 the inputs differ from stable's; a person lets it go on",
    State.HOLDING: "no verdict by maxSeconds, or none of sample inputs; counting goes on at this weight",
    State.REPLACING: "no room beside stable: stable is scaled down so that the canary can start",
    State.WITHDRAWING: "weight 0 is in status.traffic; routers confirm it, and stable is whole again",
}

_BACK: Mapping[Event, State] = {
    Event.ABORT_ORDERED: State.WITHDRAWING,
    Event.ABORT_SHOWN: State.WITHDRAWING,
    Event.TARGET_CHANGED: State.WITHDRAWING,
    Event.DEADLINE_PASSED: State.WITHDRAWING,
}
"""What may happen in every state before the promotion: nothing keeps a person, a commit or a verdict from stopping it.
"""

_ON: Mapping[Event, State] = {Event.PROMOTE_ORDERED: State.SCALING, Event.SKIP_ORDERED: State.SCALING}

_RESTING: Mapping[Event, State] = {
    Event.NOTHING_NAMED: State.IDLE,
    Event.TARGET_IS_STABLE: State.SETTLED,
    Event.TARGET_REFUSED: State.REFUSED,
    Event.TARGET_EXPIRED: State.EXPIRED,
    Event.TARGET_NAMED: State.SCALING,
}

_COUNTING: Mapping[Event, State] = {
    **_BACK,
    **_ON,
    Event.STEP_DONE: State.SCALING,
    Event.PROMOTE_SHOWN: State.SCALING,
    Event.APPROVAL_NEEDED: State.APPROVAL,
}

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.IDLE: _RESTING,
    State.SETTLED: _RESTING,
    State.REFUSED: {**_RESTING, Event.RETRY_ORDERED: State.SCALING},
    State.EXPIRED: {**_RESTING, Event.RETRY_ORDERED: State.SCALING},
    State.SCALING: {
        **_BACK,
        **_ON,
        Event.PODS_AVAILABLE: State.SHIFTING,
        Event.SOME_AVAILABLE: State.SCALING,
        Event.SIGNATURE_DIFFERS: State.APPROVAL,
        Event.SAMPLES_DUE: State.SMOKE,
        Event.INCONCLUSIVE: State.HOLDING,
        Event.NO_ROOM: State.REPLACING,
    },
    State.SMOKE: {
        **_BACK,
        **_ON,
        Event.STEP_DONE: State.SCALING,
        Event.INCONCLUSIVE: State.HOLDING,
    },
    State.REPLACING: {**_BACK, Event.PODS_AVAILABLE: State.SHIFTING},
    State.SHIFTING: {
        **_BACK,
        **_ON,
        Event.WEIGHT_VERIFIED: State.ANALYSING,
        Event.FULL_WEIGHT_VERIFIED: State.SETTLED,
    },
    State.ANALYSING: {**_COUNTING, Event.INCONCLUSIVE: State.HOLDING},
    State.HOLDING: {**_COUNTING, Event.HOLD_EXPIRED: State.WITHDRAWING, Event.RETRY_ORDERED: State.SMOKE},
    State.APPROVAL: {
        **_BACK,
        **_ON,
        Event.APPROVED: State.SCALING,
        Event.APPROVAL_DROPPED: State.ANALYSING,
    },
    State.WITHDRAWING: {Event.ZERO_VERIFIED: State.SETTLED},
}


def after(state: State, event: Event) -> State:
    """The state that follows; KeyError when the table does not allow the event (a bug in `decide`)."""
    return TRANSITIONS[state][event]


def diagram() -> str:
    """The table as a Mermaid state diagram and a list of meanings, for docs/spec/modeldeployment.md."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, row in TRANSITIONS.items():
        by_target: dict[State, list[str]] = {}
        for event, target in row.items():
            by_target.setdefault(target, []).append(event.value)
        lines += [f"    {state} --> {target}: {', '.join(events)}" for target, events in by_target.items()]
    lines += ["```", "", "| State | In status.rollout | What it means |", "|---|---|---|"]
    lines += [f"| {state} | {'no' if state in AT_REST else 'yes'} | {MEANINGS[state]} |" for state in State]
    return "\n".join(lines) + "\n"
