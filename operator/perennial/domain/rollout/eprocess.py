"""The statistics behind a verdict: count e-processes in log space, and the Wilson interval for people.

An e-process may be looked at after every request without inflating the error: by Ville's inequality it exceeds 1/alpha
with probability at most alpha while its null hypothesis holds. Sources: Lindon and Malek, arXiv 2011.03567 (NeurIPS
2022); formulas and simulations as in docs/spec/modeldeployment.md. Must not know what is counted or who asks.
"""

import math
from collections.abc import Iterable

ABORT_GRID = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Alternatives for "the ratio is above the limit", as multiples of the limit; equal weights."""
PROMOTE_GRID = (0.7, 0.5, 0.3, 0.1)
"""Alternatives for "the ratio is below the limit", as multiples of the limit; equal weights."""

_SMALLEST_RATE = 1e-9
_NEGLIGIBLE = 1e-17


def log_rate_above(failures: int, requests: int, limit: float) -> float:
    """Log evidence that the failure rate is above `limit` (0..1): null p <= limit, uniform mixture over (limit, 1).

    E = P(Bin(N+1, p0) <= K) / ((N+1) (1-p0) b(K; N, p0)). With no failure it is 1/(N+1): never above 1.
    """
    p0 = _inside(limit)
    below, _ = _log_tails(failures, requests + 1, p0)
    return below - math.log(requests + 1) - math.log1p(-p0) - _log_pmf(failures, requests, p0)


def log_rate_below(failures: int, requests: int, limit: float) -> float:
    """Log evidence that the failure rate is below `limit` (0..1): E of the null p >= limit, uniform over (0, limit).

    E = P(Bin(N+1, p0) > K) / ((N+1) p0 b(K; N, p0)).
    """
    p0 = _inside(limit)
    _, above = _log_tails(failures, requests + 1, p0)
    return above - math.log(requests + 1) - math.log(p0) - _log_pmf(failures, requests, p0)


def log_ratio(pairs: Iterable[tuple[int, int, float]], limit: float, grid: tuple[float, ...]) -> float:
    """Log evidence about canary/stable failure rate against the null "the ratio is `limit`", for ratios limit * grid.

    pairs: (canary failures, concurrent stable failures, canary share of the routing, 0 < share < 1) for each stretch of
    constant share; each failure is the canary's with probability theta = L*share / (L*share + 1 - share).
    """
    logs = [0.0] * len(grid)
    for canary, stable, share in pairs:
        null = _log_theta(limit, share)
        for index, multiple in enumerate(grid):
            other = _log_theta(limit * multiple, share)
            logs[index] += canary * (other[0] - null[0]) + stable * (other[1] - null[1])
    return _log_sum(logs) - math.log(len(grid))


def log_association(cells: Iterable[tuple[int, int]], share: float) -> float:
    """Log evidence that what is answered depends on who answers; cells: (canary rows, stable rows) of each cell.

    Null: in every cell a row is the canary's with one and the same probability, whatever that is. Alternative: each
    cell has its own, drawn from Beta(a, b) with mean `share` (0 < share < 1, the canary's part of the routing) and
    min(a, b) = 1. E = prod_j B(a + c_j, b + s_j) / B(a, b) / max_t t^C (1 - t)^S, with C, S the sums: never above the
    martingale that has the true probability in place of the best one, so it may be looked at after every row. What
    falls into a cell may change with time, because only who answers is random. Sources: Wasserman, Ramdas and
    Balakrishnan, PNAS 117(29), 2020 (the maximum below); Turner, Ly and Gruenwald, arXiv 2106.02693 (two streams).
    """
    least = min(share, 1 - share)
    a, b = share / least, (1 - share) / least
    start = _log_beta(a, b)
    log, mine, other = 0.0, 0, 0
    for canary, stable in cells:
        if canary or stable:
            log += _log_beta(a + canary, b + stable) - start
            mine, other = mine + canary, other + stable
    for part in (mine, other):
        if part:
            log -= part * math.log(part / (mine + other))
    return log


def clean_requests_needed(failures: int, requests: int, limit: float, alpha: float) -> int:
    """How many more requests, none failing, show the rate to be below `limit` at `alpha`; 0 when already shown."""
    goal = -math.log(alpha)
    if log_rate_below(failures, requests, limit) >= goal:
        return 0
    high = 1
    while log_rate_below(failures, requests + high, limit) < goal:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if log_rate_below(failures, requests + middle, limit) >= goal:
            high = middle
        else:
            low = middle
    return high


def wilson(failures: int, requests: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of the failure rate (95 % at the default z); (0, 1) without requests. For display."""
    if requests == 0:
        return 0.0, 1.0
    rate = failures / requests
    scale = 1 + z * z / requests
    centre = (rate + z * z / (2 * requests)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / requests + z * z / (4 * requests * requests))
    return max(0.0, centre - half), min(1.0, centre + half)


def _inside(rate: float) -> float:
    """A limit of exactly 0 or 1 has no density; the nearest rate that has."""
    return min(max(rate, _SMALLEST_RATE), 1 - _SMALLEST_RATE)


def _log_pmf(k: int, n: int, p: float) -> float:
    combinations = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return combinations + k * math.log(p) + (n - k) * math.log1p(-p)


def _log_tails(k: int, n: int, p: float) -> tuple[float, float]:
    """(log P(Bin(n, p) <= k), log P(Bin(n, p) > k)): the smaller tail is summed, the other is its complement."""
    if k >= n:
        return 0.0, -math.inf
    if k < n * p:
        below = _log_pmf(k, n, p) + math.log(_geometric_down(k, n, p))
        return below, _log_complement(below)
    above = _log_pmf(k + 1, n, p) + math.log(_geometric_up(k + 1, n, p))
    return _log_complement(above), above


def _geometric_down(k: int, n: int, p: float) -> float:
    """Sum over i = k, k-1, ..., 0 of pmf(i)/pmf(k); the terms fall, because k is below the mean."""
    total, term, odds = 1.0, 1.0, (1 - p) / p
    for i in range(k, 0, -1):
        term *= i * odds / (n - i + 1)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return total


def _geometric_up(k: int, n: int, p: float) -> float:
    """Sum over i = k, k+1, ..., n of pmf(i)/pmf(k); the terms fall, because k is above the mean."""
    total, term, odds = 1.0, 1.0, p / (1 - p)
    for i in range(k, n):
        term *= (n - i) * odds / (i + 1)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return total


def _log_complement(log_probability: float) -> float:
    """log(1 - exp(x)) for x < 0, accurate at both ends."""
    if log_probability >= 0:
        return -math.inf
    if log_probability > -math.log(2):
        return math.log(-math.expm1(log_probability))
    return math.log1p(-math.exp(log_probability))


def _log_theta(ratio: float, share: float) -> tuple[float, float]:
    """(log theta, log(1 - theta)) of a failure being the canary's when its rate is `ratio` times stable's."""
    mine, other = ratio * share, 1 - share
    total = math.log(mine + other)
    return math.log(mine) - total, math.log(other) - total


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_sum(logs: list[float]) -> float:
    highest = max(logs)
    return highest + math.log(sum(math.exp(value - highest) for value in logs))
