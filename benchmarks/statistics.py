"""How often the verdict is wrong and how soon it is right: simulated rollouts, judged by the code of the operator.

No cluster and no clock: requests are drawn at random and looked at every second (tests/support/simulate.py). The same
seed gives the same figures on every machine. docs/statistics.md says what they mean.
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import support
from perennial.domain.rollout.spec import Analysis, Step
from tests.support.simulate import ONE, THREE, Ending, Rates, Run, Scenario, Steady, first_abort, runs, share_of

SEED = 20261126
RUNS = 1000
STRICT = Analysis(max_error_rate=0.01)
HOW = (
    "Simulated rollouts with a look every second; seed {seed}. Nulls: {runs} rollouts each of three steps of 60 s at "
    "5, 25 and 50 %, every look may abort and nothing else ends a step. Others: whole rollouts as the operator decides."
)


@dataclass(frozen=True)
class Null:
    """A good canary at the edge of what is good: its rate is the limit exactly, or its ratio to stable is."""

    edge: str
    limit: float
    per_second: int
    alpha: float

    def scenario(self) -> Scenario:
        """Three steps of 60 s. The other of the two conditions of an abort is true beyond doubt."""
        analysis = Analysis(max_error_rate=self.limit, alpha=self.alpha)
        arms = (self.limit, 0.0) if self.edge == "rate" else (8 * self.limit, 8 * self.limit / analysis.max_error_ratio)
        return Scenario(Steady(*arms), self.per_second, THREE, analysis, 60)


NULLS = [
    Null(edge, limit, per_second, alpha)
    for edge in ("rate", "ratio")
    for limit in (0.01, 0.05)
    for per_second in (5, 100, 1000)
    for alpha in (0.01, 0.05)
]


@dataclass(frozen=True)
class Case:
    """A rollout that is played to its end, and how often."""

    name: str
    scenario: Scenario
    count: int


def outage(second: int) -> tuple[float, float]:
    """Both arms fail for half of their requests, ten seconds long."""
    return (0.5, 0.5) if 20 <= second < 30 else (0.001, 0.001)


def alone(second: int) -> tuple[float, float]:
    """The same, but only the canary."""
    return outage(second)[0], 0.001


def cold(second: int) -> tuple[float, float]:
    """The canary's first second."""
    return (0.6, 0.001) if second == 0 else (0.001, 0.001)


def cases() -> Iterable[Case]:
    """The scenarios of the design, and good and bad canaries over a grid of rates and traffic."""

    def strict(rates: Rates, steps: tuple[Step, ...] = THREE, **changes: Any) -> Scenario:
        return Scenario(rates, 100, steps, replace(STRICT, **changes))

    yield Case("20 % errors, 5 requests/s", strict(Steady(0.2, 0.001), ONE), RUNS)
    yield Case("good: 0.5 % and 0.5 %", strict(Steady(0.005, 0.005)), RUNS)
    yield Case("shared outage of 10 s at 50 %", strict(outage), 200)
    yield Case("the same of the canary alone", strict(alone), 200)
    yield Case("cold first second", strict(cold), 300)
    yield Case("cold, without warm-up and minFailures", strict(cold, warmup_seconds=0, min_failures=1), 300)
    yield Case("both at a steady 2 %", strict(Steady(0.02, 0.02)), 100)
    yield Case("a fix: 2 % against 20 %", strict(Steady(0.02, 0.2)), 200)
    quiet = Scenario(Steady(0.001, 0.001), 0.1, ONE, Analysis(), 3600)
    yield Case("0.1 requests/s", quiet, 100)
    for per_second in (10, 100, 1000):
        for canary in (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0):
            scenario = Scenario(Steady(0.01 * canary, 0.001), per_second, THREE, STRICT, 300)
            yield Case(f"{canary:g} % against 0.1 %, {per_second} requests/s", scenario, 50)


def null_aborts(null: Null) -> float:
    """The share of good canaries that are aborted."""
    rng = np.random.default_rng(SEED)
    scenario = null.scenario()
    return sum(first_abort(rng, scenario) is not None for _ in range(RUNS)) / RUNS


def played(case: Case) -> dict[str, Any]:
    """How the rollouts of a case ended."""
    found = runs(SEED, case.scenario, case.count)
    made = {str(ending): share_of(ending, found) for ending in Ending}
    return {"case": case.name, "runs": case.count, **made, **_times(found)}


def _times(found: list[Run]) -> dict[str, float]:
    """Seconds of the whole rollout, and counted ones at the weight of the verdict, where there was one."""
    decided = [run for run in found if run.ending is not Ending.UNDECIDED]
    if not decided:
        return {}
    return {
        "p50_s": support.percentile([run.seconds for run in decided], 0.5),
        "p90_s": support.percentile([run.seconds for run in decided], 0.9),
        "counted_p50_s": support.percentile([run.counted for run in decided], 0.5),
        "counted_p90_s": support.percentile([run.counted for run in decided], 0.9),
    }


def main() -> int:
    """Run it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with ProcessPoolExecutor() as pool:
        aborts = list(pool.map(null_aborts, NULLS))
        support.say(f"{len(NULLS)} nulls: at most {max(aborts):.2%} aborted")
        ended = list(pool.map(played, cases()))
    for row in ended:
        words = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("case", "runs"))
        support.say(f"{row['case']}: {words}")
    by_name = {row["case"]: row for row in ended}
    bad = by_name["20 % errors, 5 requests/s"]
    figures = {
        "aborted_at_the_edge_alpha_0_01": max(a for a, null in zip(aborts, NULLS, strict=True) if null.alpha == 0.01),
        "aborted_at_the_edge_alpha_0_05": max(a for a, null in zip(aborts, NULLS, strict=True) if null.alpha == 0.05),
        "good_aborted": by_name["good: 0.5 % and 0.5 %"]["aborted"],
        "outage_aborted": by_name["shared outage of 10 s at 50 %"]["aborted"],
        "bad_aborted": bad["aborted"],
        "bad_counted_p50_s": bad["counted_p50_s"],
        "bad_counted_p90_s": bad["counted_p90_s"],
    }
    nulls = [
        {"edge": n.edge, "limit": n.limit, "per_second": n.per_second, "alpha": n.alpha, "aborted": a}
        for n, a in zip(NULLS, aborts, strict=True)
    ]
    support.write("statistics", figures, {"nulls": nulls, "cases": ended}, HOW.format(seed=SEED, runs=RUNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
