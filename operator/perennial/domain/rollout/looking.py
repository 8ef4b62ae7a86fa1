"""How often a ModelDeployment's HTTPRoute and its Gateways are read. Pure.

They are not watched: most clusters have no such kinds, and most ModelDeployments no route. So passes read them, often
while a weight waits to be accepted, and slowly otherwise, which is how a route that somebody changed comes back.
"""

from datetime import datetime

from perennial.domain.rollout.gateway import GatewaySeen
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import Recorded

QUICK_SECONDS = 0.5
"""While a weight waits to be accepted, for the first HURRY_SECONDS."""
HURRY_SECONDS = 60.0
SLOW_SECONDS = 5.0
"""During the rest of a rollout, and while a Gateway objects."""
REST_SECONDS = 30.0
"""While nothing goes on."""


def look_seconds(recorded: Recorded, now: datetime, seen: GatewaySeen | None) -> float:
    """Seconds from one look to the next, by what the last one gave."""
    rollout = recorded.rollout
    if rollout is None:
        return SLOW_SECONDS if seen is None or seen.objections or seen.unreadable is not None else REST_SECONDS
    waits = rollout.state in (State.SHIFTING, State.WITHDRAWING)
    return QUICK_SECONDS if waits and (now - rollout.state_since).total_seconds() < HURRY_SECONDS else SLOW_SECONDS
