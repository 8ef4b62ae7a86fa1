"""Predictions of canary and stable compared: tables, and seeded simulations of looking all the time."""

from collections.abc import Callable

import numpy as np
import pytest

from perennial.domain.rollout.comparison import Comparison, Result, compare
from perennial.domain.rollout.predictions import MAX_BINS, Pair, Predictions, read_pair

BINS = 10
EVEN = np.full(BINS, 1 / BINS)
Numbers = np.random.Generator


def arm(counts: list[int], *, same: int = 0, other: int | None = None, **more: int) -> Predictions:
    rows = sum(counts) + more.get("nulls", 0)
    return Predictions(
        "d", rows, same=same, other=sum(counts) if other is None else other, counts=tuple(counts), **more
    )


def judged(canary: Predictions, stable: Predictions, *, weight: int = 50, limit: float = 0.2) -> Comparison:
    return compare(Pair(canary, stable), weight=weight, limit=limit, alpha=0.001, requests=0)


def test_equal_predictions_pass_once_there_are_enough() -> None:
    found = judged(arm([100] * 10), arm([100] * 10))
    assert (found.result, found.needed, found.reason) == (Result.PASSED, 0, "")
    assert found.distance is not None and found.distance < 0
    assert found.words == (
        "1000 canary predictions at 50% are at a distance of -0.018 from 1000 of stable's on the same traffic "
        "(maxDistance 0.2)."
    )


def test_too_few_say_how_many_more() -> None:
    found = judged(arm([6] * 10), arm([6] * 10))
    assert (found.result, found.reason, found.hold) == (Result.NOT_ENOUGH, "NotEnoughPredictions", False)
    assert 150 < found.needed < 250 and f"{found.needed} more canary predictions are needed" in found.words


def test_a_shift_fails_with_the_numbers() -> None:
    found = judged(arm([0] * 5 + [40] * 5), arm([40] * 5 + [0] * 5))
    assert (found.result, found.reason) == (Result.FAILED, "PredictionsDiffer")
    assert found.words.endswith("(maxDistance 0.2): more than maxDistance allows.")


def test_a_sure_difference_below_the_limit_passes() -> None:
    canary, stable = arm([110, 90] * 5), arm([90, 110] * 5)
    many = judged(canary.plus(canary).plus(canary).plus(canary), stable.plus(stable).plus(stable).plus(stable))
    assert many.result is Result.PASSED and many.distance is not None and 0.03 < many.distance < 0.05


def test_few_rows_fail_nobody() -> None:
    found = judged(arm([0, 49]), arm([500, 0]), weight=5)
    assert found.result is Result.NOT_ENOUGH
    assert judged(arm([0, 50]), arm([500, 0]), weight=5).result is Result.FAILED


def test_a_canary_far_from_stable_holds_while_evidence_comes_in() -> None:
    found = judged(arm([60, 75, 100]), arm([100, 75, 62]), limit=0.12)
    assert (found.result, found.reason, found.hold) == (Result.NOT_ENOUGH, "PredictionsMayDiffer", True)


def test_one_value_where_stable_varies_is_constant() -> None:
    within_a_bin = judged(arm([0, 60], same=59, other=0), arm([0, 900], same=3, other=897), weight=5)
    assert (within_a_bin.result, within_a_bin.reason) == (Result.FAILED, "ConstantPredictions")
    assert "all 60 canary predictions at 5% are one and the same value, while 897 of 900" in within_a_bin.words


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        (arm([0, 60], same=59, other=0), arm([0, 900], same=900, other=0)),
        (arm([0, 60], same=58, other=1), arm([0, 900], same=3, other=897)),
        (arm([0, 60], same=59, other=0), arm([0, 900], same=880, other=20)),
    ],
    ids=["stable is constant too", "the canary varies", "stable hardly varies"],
)
def test_not_constant(canary: Predictions, stable: Predictions) -> None:
    assert judged(canary, stable, weight=5).reason != "ConstantPredictions"


def test_unreadable_answers_hold_and_say_what_to_change() -> None:
    found = judged(arm([1], unparsed=60), arm([900]))
    assert (found.result, found.reason, found.hold) == (Result.NOT_ENOUGH, "PredictionsUnreadable", True)
    assert "60 of 61 canary answers cannot be read" in found.words and "maxBodyBytes" in found.words
    assert "stable answers" in judged(arm([90]), arm([1], unparsed=60)).words
    assert "streams" in judged(arm([0], streams=60), arm([0], streams=900)).words
    unread = compare(Pair(), weight=5, limit=0.2, alpha=0.001, requests=80)
    assert unread.hold and "no answer to 80 canary requests was read" in unread.words


def test_nothing_counted_yet_is_not_enough() -> None:
    assert compare(Pair(), weight=5, limit=0.2, alpha=0.001, requests=0).result is Result.NOT_ENOUGH


def test_fine_bins_are_put_together_alike_for_both_arms() -> None:
    page = {"bins": "grid", "rows": 3, "nulls": 0, "unparsed": 0, "streams": 0, "same": 0, "other": 3}
    canary = {"predictions": {**page, "counts": [1] + [0] * 121 + [2]}}
    pair = read_pair(canary, {"predictions": {**page, "counts": [0] * 60 + [3] + [0] * 62}})
    assert pair is not None and len(pair.canary.counts) == len(pair.stable.counts) <= MAX_BINS
    assert (pair.canary.counts[0], pair.canary.counts[-1], pair.stable.counts[30]) == (1, 2, 3)
    assert read_pair(canary, {}) is None
    assert read_pair(canary, {"predictions": {**page, "bins": "d", "counts": [3]}}) is None


def looks(
    numbers: Numbers,
    *,
    weight: int,
    canary: Callable[[int], np.ndarray],
    stable: Callable[[int], np.ndarray],
    batches: int = 60,
    batch: int = 40,
    limit: float = 0.01,
    alpha: float = 0.2,
) -> Comparison:
    """Looks after every batch of requests until the canary fails; the last look. Arms are drawn by the weight."""
    pair = Pair()
    for place in range(batches):
        mine = int(numbers.binomial(batch, weight / 100))
        drawn = (numbers.multinomial(mine, canary(place)), numbers.multinomial(batch - mine, stable(place)))
        pair = pair.plus(Pair(*(arm([int(n) for n in counts]) for counts in drawn)))
        found = compare(pair, weight=weight, limit=limit, alpha=alpha, requests=0)
        if found.result is Result.FAILED:
            return found
    return found


@pytest.mark.parametrize("weight", [5, 50])
def test_equal_arms_fail_at_most_alpha_however_often_one_looks(weight: int) -> None:
    numbers, runs = np.random.default_rng(5), 120
    failed = sum(
        looks(numbers, weight=weight, canary=lambda _: EVEN, stable=lambda _: EVEN).result is Result.FAILED
        for _ in range(runs)
    )
    assert failed / runs <= 0.2


@pytest.mark.parametrize(("weight", "rows"), [(5, 120), (50, 240)])
def test_a_shift_is_found(weight: int, rows: int) -> None:
    """A PSI of 0.42: three in ten of the canary's predictions move from the lower to the upper half."""
    shifted = np.array([0.4] * 5 + [1.6] * 5) / BINS
    numbers = np.random.default_rng(7)
    found = [
        looks(
            numbers, weight=weight, canary=lambda _: shifted, stable=lambda _: EVEN, batches=250, limit=0.2, alpha=0.001
        )
        for _ in range(30)
    ]
    assert all(one.result is Result.FAILED for one in found)
    assert np.median([one.canary.rows for one in found]) <= rows


def test_another_mix_of_requests_in_time_fails_nobody() -> None:
    """First one kind of request, then another: the arms see the same at every moment, so neither differs."""
    first, then = np.array([1.9] * 5 + [0.1] * 5) / BINS, np.array([0.1] * 5 + [1.9] * 5) / BINS

    def mix(place: int) -> np.ndarray:
        return first if place % 40 < 20 else then

    numbers = np.random.default_rng(11)
    failed = sum(looks(numbers, weight=25, canary=mix, stable=mix).result is Result.FAILED for _ in range(60))
    assert failed / 60 <= 0.2
