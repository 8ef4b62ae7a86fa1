"""The numbers of PSI: against scipy, against a published table, and against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perennial.domain.drift import psi as subject

HISTOGRAM = st.lists(st.integers(0, 10_000), min_size=2, max_size=30)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 12, 19, 31, 63, 200])
@pytest.mark.parametrize("alpha", [0.999, 0.5, 0.05, 0.01, 1e-3, 1e-3 / 21, 1e-3 / 201, 1e-9, 1e-14])
def test_chi_square_quantile_agrees_with_scipy(degrees: int, alpha: float) -> None:
    assert subject.chi2_upper_quantile(alpha, degrees) == pytest.approx(stats.chi2.isf(alpha, degrees), rel=1e-9)


@settings(deadline=None)
@given(st.floats(0.001, 500), st.integers(1, 120))
def test_chi_square_tail_agrees_with_scipy(x: float, degrees: int) -> None:
    assert subject.chi2_upper_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_refuses_an_alpha_that_is_no_probability(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        subject.chi2_upper_quantile(alpha, 9)


# reference/drift.md section 2: (effect, bins, reference rows, tests) -> fewest rows, at alpha 0.1 %.
@pytest.mark.parametrize(
    ("effect", "bins", "rows", "tests", "expected"),
    [
        (0.1, 10, 10**9, 1, 279),
        (0.1, 10, 10_000, 1, 287),
        (0.1, 10, 1_000, 1, 387),
        (0.1, 20, 10**9, 1, 439),
        (0.1, 20, 10_000, 1, 459),
        (0.1, 20, 1_000, 1, 780),
        (0.2, 10, 10**9, 1, 140),
        (0.2, 10, 10_000, 1, 142),
        (0.2, 10, 1_000, 1, 162),
        (0.02, 10, 10**9, 1, 1394),
        (0.02, 10, 10_000, 1, 1620),
        (0.02, 10, 1_000, 1, None),
        (0.1, 10, 10**9, 21, 356),
        (0.1, 10, 10_000, 21, 369),
        (0.1, 10, 1_000, 21, 552),
        (0.1, 10, 10**9, 201, 411),
        (0.1, 10, 10_000, 201, 428),
        (0.1, 10, 1_000, 201, 696),
    ],
)
def test_fewest_rows_that_can_show_an_effect(
    effect: float, bins: int, rows: int, tests: int, expected: int | None
) -> None:
    assert subject.min_samples(effect, rows, bins, 0.001 / tests) == expected


@settings(deadline=None)
@given(HISTOGRAM)
def test_equal_shares_have_no_psi(counts: list[int]) -> None:
    assert subject.psi(counts, counts) == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None)
@given(
    HISTOGRAM.flatmap(
        lambda a: st.tuples(st.just(a), st.lists(st.integers(0, 9_999), min_size=len(a), max_size=len(a)))
    )
)
def test_psi_is_symmetric_and_never_negative(pair: tuple[list[int], list[int]]) -> None:
    assert subject.psi(*pair) == pytest.approx(subject.psi(pair[1], pair[0]), abs=1e-9)
    assert subject.psi(*pair) >= 0.0


def test_psi_of_a_shift_of_half_a_standard_deviation() -> None:
    """reference/drift.md: 0.238 on deciles of a normal distribution."""
    edges = [-math.inf, *stats.norm.ppf([i / 10 for i in range(1, 10)]), math.inf]
    shifted = [round(10_000_000 * p) for p in np.diff(stats.norm.cdf(edges, loc=0.5))]
    assert subject.psi([1_000_000] * 10, shifted) == pytest.approx(0.238, abs=0.001)


def test_histograms_of_different_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2 bins"):
        subject.psi([1, 2, 3], [1, 2])


@pytest.mark.parametrize(("n", "m"), [(50, 1_000), (200, 10_000), (500, 1_000), (5_000, 1_000), (5_000, 10_000)])
def test_false_alarms_stay_at_the_nominal_level(n: int, m: int) -> None:
    """4.1-5.0 % at alpha 5 %, where the form that forgets the reference gives up to 97 %."""
    rng = np.random.default_rng(1)
    runs = 6_000
    references = rng.multinomial(m, [0.1] * 10, size=runs).tolist()
    windows = rng.multinomial(n, [0.1] * 10, size=runs).tolist()
    values = [subject.psi(*pair) for pair in zip(references, windows, strict=True)]
    alarms = sum(value > subject.critical_psi(n, m, 10, 0.05) for value in values)
    forgetful = sum(value > subject.critical_psi(n, 10**12, 10, 0.05) for value in values)
    assert 0.038 < alarms / runs < 0.058
    if (n, m) == (5_000, 1_000):
        assert forgetful / runs > 0.9


def test_nothing_is_certain_without_rows() -> None:
    assert subject.critical_psi(0, 100, 10, 0.05) == math.inf
    assert subject.p_value(1.0, 0, 100, 10) == 1.0
    assert subject.critical_psi(100, 100, 1, 0.05) == math.inf
    assert subject.corrected_effect(0.0, 100, 100, 1) == 0.0


@pytest.mark.parametrize(("n", "m", "bins", "alpha"), [(500, 3468, 10, 1e-3), (300, 1_000, 20, 1e-5)])
def test_p_value_at_the_critical_value_is_alpha(n: int, m: int, bins: int, alpha: float) -> None:
    assert subject.p_value(subject.critical_psi(n, m, bins, alpha), n, m, bins) == pytest.approx(alpha, rel=1e-9)
