"""The statistics against scipy and against the published numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln
from scipy.stats import beta

from perennial.domain.rollout import eprocess

TINY = -600.0
"""Below this logarithm scipy loses digits (390 of 416 at p 0.15625: e^-635, wrong in the seventh): no oracle."""


def oracle_above(k: int, n: int, p: float) -> float:
    return (
        betaln(k + 1, n - k + 1)
        + beta.logsf(p, k + 1, n - k + 1)
        - math.log1p(-p)
        - k * math.log(p)
        - (n - k) * math.log1p(-p)
    )


def oracle_below(k: int, n: int, p: float) -> float:
    return (
        betaln(k + 1, n - k + 1)
        + beta.logcdf(p, k + 1, n - k + 1)
        - math.log(p)
        - k * math.log(p)
        - (n - k) * math.log1p(-p)
    )


@settings(max_examples=150, deadline=None)
@given(n=st.integers(0, 20_000), share=st.floats(0, 1), p=st.floats(0.0005, 0.2))
def test_agrees_with_scipy(n: int, share: float, p: float) -> None:
    k = round(n * share * share)
    if beta.logsf(p, k + 1, n - k + 1) > TINY:
        assert eprocess.log_rate_above(k, n, p) == pytest.approx(oracle_above(k, n, p), abs=1e-9 * (1 + n))
    if beta.logcdf(p, k + 1, n - k + 1) > TINY:
        assert eprocess.log_rate_below(k, n, p) == pytest.approx(oracle_below(k, n, p), abs=1e-9 * (1 + n))


@pytest.mark.parametrize(
    ("limit", "alpha", "needed"),
    [
        (0.05, 0.05, 88), (0.05, 0.01, 126), (0.05, 0.005, 142),
        (0.01, 0.05, 449), (0.01, 0.01, 644), (0.01, 0.005, 725),
        (0.001, 0.05, 4512), (0.001, 0.01, 6471), (0.001, 0.005, 7281),
        (0.02, 0.005, 361),
    ],
)  # fmt: skip
def test_clean_requests_to_promote(limit: float, alpha: float, needed: int) -> None:
    assert eprocess.clean_requests_needed(0, 0, limit, alpha) == needed
    assert eprocess.clean_requests_needed(0, needed, limit, alpha) == 0
    assert eprocess.clean_requests_needed(0, needed - 1, limit, alpha) == 1


@pytest.mark.parametrize(("failures", "total"), [(1, 896), (2, 1110), (5, 1666)])
def test_failures_make_promotion_dearer(failures: int, total: int) -> None:
    assert failures + eprocess.clean_requests_needed(failures, failures, 0.01, 0.01) == total


@pytest.mark.parametrize(
    ("alpha", "failures", "within"),
    [(0.05, 2, 10), (0.05, 3, 25), (0.05, 4, 46), (0.05, 6, 101),
     (0.01, 2, 6), (0.01, 3, 16), (0.01, 4, 32), (0.01, 5, 53), (0.01, 6, 78)],
)  # fmt: skip
def test_failures_that_abort_at_one_percent(alpha: float, failures: int, within: int) -> None:
    goal = -math.log(alpha)
    assert eprocess.log_rate_above(failures, within, 0.01) >= goal
    assert eprocess.log_rate_above(failures, within + 1, 0.01) < goal


def test_without_a_failure_there_is_no_evidence_against() -> None:
    assert all(eprocess.log_rate_above(0, n, 0.01) == pytest.approx(-math.log(n + 1)) for n in (0, 1, 50, 5000))


@pytest.mark.parametrize("grid", [eprocess.ABORT_GRID, eprocess.PROMOTE_GRID])
def test_ratio_evidence_averages_one_at_the_limit(grid: tuple[float, ...]) -> None:
    """At the null each failure is the canary's with probability theta0; the mean over all outcomes must be 1."""
    share, limit, failures = 0.25, 1.5, 6
    theta = limit * share / (limit * share + 1 - share)
    mean = sum(
        math.comb(failures, c) * theta**c * (1 - theta) ** (failures - c)
        * math.exp(eprocess.log_ratio([(c, failures - c, share)], limit, grid))
        for c in range(failures + 1)
    )  # fmt: skip
    assert mean == pytest.approx(1.0)


def test_ratio_needs_failures_to_move() -> None:
    assert eprocess.log_ratio([(0, 0, 0.5)], 1.5, eprocess.ABORT_GRID) == pytest.approx(0.0)
    assert eprocess.log_ratio([(8, 0, 0.05)], 1.5, eprocess.ABORT_GRID) > math.log(1000)
    assert eprocess.log_ratio([(0, 60, 0.25)], 1.5, eprocess.PROMOTE_GRID) > math.log(200)


def test_ratio_multiplies_over_stretches_of_other_shares() -> None:
    one = [(3, 10, 0.05), (4, 9, 0.25)]
    whole = eprocess.log_ratio(one, 1.5, (2.0,))
    assert whole == pytest.approx(sum(eprocess.log_ratio([pair], 1.5, (2.0,)) for pair in one))


def test_looking_after_every_request_keeps_alpha() -> None:
    """Published: 0.26 % false aborts at exactly the limit over 20,000 requests; here 2,000 runs of 3,000."""
    rng = np.random.default_rng(7)
    failures = rng.random((2000, 3000)) < 0.01
    goal = math.log(100)
    wrong = 0
    for row in failures:
        at = np.flatnonzero(row) + 1  # evidence against only rises at a failure
        wrong += any(eprocess.log_rate_above(k, int(n), 0.01) >= goal for k, n in enumerate(at[:12], start=1))
    assert wrong / 2000 <= 0.01


@pytest.mark.parametrize(("failures", "requests"), [(0, 50), (3, 100), (100, 100), (7, 1234)])
def test_wilson_solves_its_equation(failures: int, requests: int) -> None:
    """Both ends p satisfy |phat - p| = z sqrt(p (1-p) / n)."""
    phat = failures / requests
    for end in eprocess.wilson(failures, requests):
        assert (phat - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / requests, abs=1e-12)


def test_wilson_knows_nothing_without_requests() -> None:
    assert eprocess.wilson(0, 0) == (0.0, 1.0)
