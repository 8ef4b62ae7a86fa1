"""How long to wait after a failure: exponential with full jitter. Must not sleep itself."""

import random
from collections.abc import Callable
from dataclasses import dataclass

Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: the n-th delay (n from 0) is drawn from [0, min(cap, base * 2^n)] seconds.

    Source: M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015): full jitter finishes competing
    retries with the fewest calls. `floor` keeps the first retries from following each other at once.
    """

    base: float = 0.25
    cap: float = 300.0
    floor: float = 0.05
    uniform: Uniform = random.uniform

    def delay(self, failures: int) -> float:
        """Seconds to wait after `failures` earlier failures in a row (0 for the first failure)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(failures, 32))
        return max(min(self.floor, ceiling), self.uniform(0.0, ceiling))
