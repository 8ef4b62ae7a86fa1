"""Simulated rollouts: random routing, a look every second, verdicts by the code that runs in production.

`run` plays one canary through its steps and says how it ended; `share_of` counts endings over many. `first_abort` asks
for aborts only and goes through all steps whatever happens: the most looks that a canary can get. Nothing here judges.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from perennial.domain.rollout.evidence import Evidence, Tally
from perennial.domain.rollout.failures import Arm
from perennial.domain.rollout.spec import Analysis, Step
from perennial.domain.rollout.verdict import Verdict, find_verdict, must_abort

Rates = Callable[[int], tuple[float, float]]
"""Second of the rollout -> (canary's, stable's) share of bad answers."""
ONE = (Step(5),)
THREE = (Step(5), Step(25), Step(50))


class Ending(StrEnum):
    """How a simulated rollout ends."""

    ABORTED = "aborted"
    PROMOTED = "promoted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is rolled out under which traffic (requests a second, both arms together) and for how long a step at most.

    measure: which answers are bad: "failures", or "slow" ones of an analysis with a latency limit.
    """

    rates: Rates
    per_second: float
    steps: tuple[Step, ...] = THREE
    analysis: Analysis = field(default_factory=Analysis)
    step_seconds: int = 600
    measure: str = "failures"


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout ended; seconds: of all steps, warm-ups included; counted: without them, at the last weight."""

    ending: Ending
    seconds: int
    counted: int
    reason: str


@dataclass(frozen=True, slots=True)
class Steady:
    """Rates that do not change."""

    canary: float
    stable: float

    def __call__(self, second: int) -> tuple[float, float]:
        """The same in every second."""
        return self.canary, self.stable


def run(rng: np.random.Generator, scenario: Scenario) -> Run:
    """One rollout, step by step until a verdict; undecided when a step has none after step_seconds."""
    evidence, second, counted = Evidence(), 0, 0
    for index, step in enumerate(scenario.steps):
        here = Tally(step.weight)
        for held in range(1, scenario.step_seconds + 1):
            second += 1
            if held <= scenario.analysis.warmup_seconds:
                continue
            counted = held - scenario.analysis.warmup_seconds
            before, here = here, _serve(rng, scenario, here, scenario.rates(second - 1))
            if not _telling(before, here, scenario.analysis, step, held):
                continue
            looked = replace(evidence, tallies=(*evidence.tallies, here))
            finding = find_verdict(looked, scenario.analysis, scenario.steps, index, held_seconds=held)
            if finding.verdict is Verdict.ABORT:
                return Run(Ending.ABORTED, second, counted, finding.reason)
            if finding.verdict is Verdict.PROMOTE:
                return Run(Ending.PROMOTED, second, counted, finding.reason)
            if finding.verdict is Verdict.ADVANCE:
                break
        else:
            return Run(Ending.UNDECIDED, second, counted, "")
        evidence = replace(evidence, tallies=(*evidence.tallies, here))
    raise AssertionError("the last step only ends with a verdict or by its time")


def first_abort(rng: np.random.Generator, scenario: Scenario) -> int | None:
    """Counted second of the abort when every step takes step_seconds, a look a second; None when there is none."""
    for number, step in enumerate(scenario.steps):
        here = Tally(step.weight)
        for second in range(scenario.step_seconds):
            before, here = here, _serve(rng, scenario, here, scenario.rates(second))
            worse = here.failures > before.failures or here.canary.slow > before.canary.slow
            if worse and must_abort(here, scenario.analysis, len(scenario.steps)):
                return number * scenario.step_seconds + second + 1
    return None


def runs(seed: int, scenario: Scenario, count: int) -> list[Run]:
    """Many rollouts from one seed."""
    rng = np.random.default_rng(seed)
    return [run(rng, scenario) for _ in range(count)]


def share_of(ending: Ending, played: list[Run]) -> float:
    """The share of the runs that ended so."""
    return sum(one.ending is ending for one in played) / len(played)


def _serve(rng: np.random.Generator, scenario: Scenario, tally: Tally, rates: tuple[float, float]) -> Tally:
    """A second more: each request goes to the canary with the weight's probability."""
    total = int(rng.poisson(scenario.per_second))
    canary = int(rng.binomial(total, tally.weight / 100))
    arms = [
        _arm(scenario.measure, n, int(rng.binomial(n, rate)))
        for n, rate in zip((canary, total - canary), rates, strict=True)
    ]
    grown = tally.milliseconds + 1000
    return replace(tally, milliseconds=grown, canary=tally.canary + arms[0], stable=tally.stable + arms[1])


def _arm(measure: str, requests: int, bad: int) -> Arm:
    if measure == "slow":
        return Arm(requests, logged=requests, slow=bad)
    return Arm(requests, bad, logged=requests)


def _telling(before: Tally, here: Tally, analysis: Analysis, step: Step, held: int) -> bool:
    """Whether this look can change anything: evidence against rises only with a bad answer, and before minRequests and
    holdSeconds nothing else is decided. Leaves out what `find_verdict` would answer with Wait."""
    worse = here.failures > before.failures or here.canary.slow > before.canary.slow
    return worse or (here.canary.requests >= analysis.min_requests and held >= step.hold_seconds)
