"""Wrong verdicts stay below alpha however often the counts are looked at, and bad canaries are found: simulated.

A smaller grid than `make bench-statistics`, whose nulls and scenarios these are.
"""

import numpy as np
import pytest

from benchmarks.statistics import NULLS, STRICT, Null, cold, outage
from perennial.domain.rollout.spec import Analysis, Latency
from tests.support.simulate import ONE, THREE, Ending, Rates, Scenario, Steady, first_abort, runs, share_of

SEED = 7
GRID = [null for null in NULLS if null.limit == 0.01 or null.per_second == 100]


@pytest.mark.parametrize("null", GRID, ids=str)
def test_good_canaries_at_the_edge_are_aborted_at_most_alpha(null: Null) -> None:
    """200 rollouts of three steps with 60 looks each; a fair method may err by chance, so 4 sigma are granted."""
    rng, count = np.random.default_rng(SEED), 200
    aborted = sum(first_abort(rng, null.scenario()) is not None for _ in range(count))
    assert aborted <= count * null.alpha + 4 * (count * null.alpha * (1 - null.alpha)) ** 0.5


def test_the_same_looks_at_a_plain_five_percent_test_abort_most_of_them() -> None:
    """What the evidence is for: the edge is hard enough to tell an honest method from one that peeks."""
    rng, aborted = np.random.default_rng(SEED), 0
    for _ in range(200):
        failures = np.cumsum(rng.binomial(25, 0.01, 300))
        requests = 25 * np.arange(1, 301)
        z = (failures / requests - 0.01) / np.sqrt(0.01 * 0.99 / requests)
        aborted += bool((z[failures >= 5] > 1.645).any())
    assert aborted > 200 * 0.2


@pytest.mark.parametrize("per_second", [10, 100, 1000])
@pytest.mark.parametrize("times", [5, 10, 20])
def test_bad_canaries_are_found(per_second: int, times: int) -> None:
    bad = Scenario(Steady(0.01 * times, 0.001), per_second, THREE, STRICT, 600)
    assert share_of(Ending.ABORTED, runs(SEED, bad, 30)) == 1


@pytest.mark.parametrize("per_second", [100, 1000])
@pytest.mark.parametrize("rate", [0.0, 0.0025, 0.005])
def test_good_canaries_are_promoted(per_second: int, rate: float) -> None:
    good = Scenario(Steady(rate, rate), per_second, THREE, STRICT, 600)
    assert share_of(Ending.PROMOTED, runs(SEED, good, 60)) == 1


def test_of_a_thousand_good_rollouts_at_most_ten_are_aborted() -> None:
    played = runs(SEED, Scenario(Steady(0.005, 0.005), 100, THREE, STRICT), 1000)
    assert share_of(Ending.ABORTED, played) <= 0.01


def test_a_twentieth_of_the_traffic_failing_by_a_fifth_is_aborted_in_six_and_ten_counted_seconds() -> None:
    played = runs(SEED, Scenario(Steady(0.2, 0.001), 100, ONE, STRICT), 1000)
    assert share_of(Ending.ABORTED, played) == 1
    counted = sorted(run.counted for run in played)
    assert (counted[499] <= 6, counted[899] <= 10) == (True, True)


@pytest.mark.parametrize("rates", [outage, cold])
def test_neither_a_shared_outage_nor_a_cold_second_aborts_a_good_canary(rates: Rates) -> None:
    assert share_of(Ending.ABORTED, runs(SEED, Scenario(rates, 100, THREE, STRICT), 60)) == 0


def test_latency_is_judged_like_failures() -> None:
    limit = Analysis(max_error_rate=0.01, latency=Latency(95, 200))
    slow = Scenario(Steady(0.3, 0.01), 100, THREE, limit, measure="slow")
    assert {(run.ending, run.reason) for run in runs(SEED, slow, 30)} == {(Ending.ABORTED, "TooSlow")}
    shared = Scenario(Steady(0.3, 0.3), 100, THREE, limit, 120, measure="slow")
    assert share_of(Ending.ABORTED, runs(SEED, shared, 30)) == 0
