"""The population stability index, its distribution without drift, and what follows from both.

PSI = sum over bins of (q - p) * ln(q / p), with p the reference's and q the window's shares. Without drift, and with
independent rows, PSI / (1/n + 1/m) follows a chi-square distribution with bins - 1 degrees of freedom, n and m being
the rows of window and reference (Yurdakul, dissertation 3208, Western Michigan University 2018; Yurdakul and Naranjo,
Journal of Risk Model Validation 14(4), 2020). Forgetting m gives false alarms without end, a fixed cut-off gives them
at small n; so everything here takes both sizes.

Pure numbers: must not know of features, policies or windows. The chi-square functions are our own (about forty
lines), because the operator needs nothing else of scipy; tests compare them with scipy.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, exp, fsum, inf, lgamma, log, sqrt
from statistics import NormalDist

SMOOTHING = 0.5
"""Rows added to every bin on both sides, so that an empty bin does not dominate."""

_EPSILON = 1e-16
_TINY = 1e-300
_MAX_TERMS = 10_000


def psi(reference: Sequence[int], window: Sequence[int]) -> float:
    """PSI of two histograms over the same bins; share = (count + 0.5) / (rows + 0.5 * bins) on both sides.

    ValueError when the histograms have different or no bins. Zero for a single bin.
    """
    if len(reference) != len(window) or not reference:
        raise ValueError(f"histograms of {len(reference)} and {len(window)} bins cannot be compared")
    extra = SMOOTHING * len(reference)
    rows_p, rows_q = sum(reference) + extra, sum(window) + extra
    terms = []
    for count_p, count_q in zip(reference, window, strict=True):
        p, q = (count_p + SMOOTHING) / rows_p, (count_q + SMOOTHING) / rows_q
        terms.append((q - p) * log(q / p))
    return fsum(terms)


def scale(window_rows: int, reference_rows: int) -> float:
    """k = 1/n + 1/m, by which PSI shrinks as rows grow; infinite when a side has no rows."""
    if window_rows <= 0 or reference_rows <= 0:
        return inf
    return 1.0 / window_rows + 1.0 / reference_rows


def critical_psi(window_rows: int, reference_rows: int, bins: int, alpha: float) -> float:
    """The PSI exceeded with probability `alpha` when nothing drifted: (1/n + 1/m) * chi2(bins - 1, 1 - alpha)."""
    if bins < 2:
        return inf
    return scale(window_rows, reference_rows) * chi2_upper_quantile(alpha, bins - 1)


def corrected_effect(value: float, window_rows: int, reference_rows: int, bins: int) -> float:
    """PSI less its mean without drift, (bins - 1) * (1/n + 1/m): an effect size that does not depend on n."""
    return value - (bins - 1) * scale(window_rows, reference_rows) if bins > 1 else 0.0


def p_value(value: float, window_rows: int, reference_rows: int, bins: int) -> float:
    """Probability of at least this PSI when nothing drifted."""
    if bins < 2 or window_rows <= 0 or reference_rows <= 0:
        return 1.0
    return chi2_upper_tail(value / scale(window_rows, reference_rows), bins - 1)


def min_samples(effect: float, reference_rows: int, bins: int, alpha: float) -> int | None:
    """The fewest window rows at which a PSI of `effect` clears the test: ceil(1 / (effect / chi2 - 1/m)).

    None when no number of rows suffices, because the reference itself has too few (or the effect is not positive).
    One bin needs no rows at all: 0.
    """
    if bins < 2:
        return 0
    if reference_rows <= 0:
        return None
    room = effect / chi2_upper_quantile(alpha, bins - 1) - 1.0 / reference_rows
    return ceil(1.0 / room) if room > 0 else None


def chi2_upper_tail(x: float, degrees: int) -> float:
    """P(X > x) of a chi-square variable: the regularised upper incomplete gamma function Q(degrees/2, x/2)."""
    if degrees < 1:
        raise ValueError(f"degrees of freedom must be at least 1, not {degrees}")
    if x <= 0:
        return 1.0
    a, y = degrees / 2.0, x / 2.0
    factor = exp(a * log(y) - y - lgamma(a))
    if y < a + 1.0:
        return 1.0 - factor * _lower_series(a, y)
    return factor * _upper_fraction(a, y)


@lru_cache(maxsize=4096)
def chi2_upper_quantile(alpha: float, degrees: int) -> float:
    """The x with P(X > x) = alpha, 0 < alpha < 1, to about 1e-12 relative.

    Newton steps on ln P from the Wilson-Hilferty start, kept inside a shrinking bracket.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be above 0 and below 1, not {alpha}")
    third = 2.0 / (9.0 * degrees)
    start = degrees * (1.0 - third - NormalDist().inv_cdf(alpha) * sqrt(third)) ** 3
    low, high = 0.0, inf
    x = max(start, 1e-6)
    for _ in range(200):
        tail = chi2_upper_tail(x, degrees)
        if tail > alpha:
            low = x
        else:
            high = x
        following = x + _newton_step(x, degrees, tail, alpha)
        if not low < following < high:
            following = (low + high) / 2.0 if high < inf else 2.0 * x + 1.0
        if abs(following - x) <= 1e-14 * x:
            return following
        x = following
    return x


def _newton_step(x: float, degrees: int, tail: float, alpha: float) -> float:
    """What to add to x so that ln P(X > x) moves to ln alpha along its tangent."""
    if tail <= 0.0:
        return -inf
    density = exp((degrees / 2.0 - 1.0) * log(x) - x / 2.0 - lgamma(degrees / 2.0) - degrees / 2.0 * log(2.0))
    return (log(tail) - log(alpha)) * tail / density if density > 0.0 else inf


def _lower_series(a: float, y: float) -> float:
    """sum of y^n / (a (a+1) ... (a+n)): P(a, y) without its leading factor; fast for y < a + 1."""
    term = total = 1.0 / a
    for n in range(1, _MAX_TERMS):
        term *= y / (a + n)
        total += term
        if term < total * _EPSILON:
            break
    return total


def _upper_fraction(a: float, y: float) -> float:
    """The continued fraction of Q(a, y) without its leading factor, by Lentz's method; fast for y >= a + 1."""
    b = y + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    result = d
    for n in range(1, _MAX_TERMS):
        numerator = -n * (n - a)
        b += 2.0
        d = numerator * d + b
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = b + numerator / c
        c = c if abs(c) > _TINY else _TINY
        change = c * d
        result *= change
        if abs(change - 1.0) < 1e-15:
            break
    return result
