"""Does the canary predict what stable predicts on the same traffic? Pure arithmetic on counts, with words for people.

Two things must hold before a canary is stopped: evidence that it differs at all (an e-process, which may be looked at
all the time), and a distance above what the spec allows (the bias-corrected PSI of drift). What could not be read is
no evidence: it holds the rollout and never ends it. Formulas: docs/spec/modeldeployment.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from perennial.domain import reasons
from perennial.domain.drift import psi as numbers
from perennial.domain.rollout import eprocess
from perennial.domain.rollout.predictions import Pair, Predictions

TESTS = 2
"""How many shares of alpha the comparison takes: for the distance and for a constant output."""
OF_PREDICTIONS = frozenset({reasons.PREDICTIONS_DIFFER, reasons.NULL_PREDICTIONS, reasons.CONSTANT_PREDICTIONS})
"""Why a canary is stopped although it answers."""
_GROUP_ROWS = 5
"""A group of neighbouring bins has about so many rows of the smaller arm, if all its rows were there."""


class Result(StrEnum):
    """What the comparison says."""

    PASSED = "Passed"
    FAILED = "Failed"
    NOT_ENOUGH = "NotEnough"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One look. distance: bias-corrected PSI, None while there is nothing to compare; needed: how many more canary
    rows; reason: one word of why it does not pass; hold: whether even a step that is not the last must wait.
    """

    result: Result
    canary: Predictions
    stable: Predictions
    limit: float
    distance: float | None = None
    needed: int = 0
    reason: str = ""
    words: str = ""
    hold: bool = False


def compare(pair: Pair, *, weight: int, limit: float, alpha: float, least_rows: int) -> Comparison:
    """Compare what both arms predicted at one weight (percent to the canary).

    limit: maxDistance; alpha: of each of the TESTS; least_rows: no verdict against the canary on fewer canary rows.
    """
    canary, stable = pair.canary, pair.stable
    unreadable = _unreadable(canary, stable, limit, least_rows)
    if unreadable is not None:
        return unreadable
    cells = list(zip(canary.counts, stable.counts, strict=True))
    n, m = sum(canary.counts), sum(stable.counts)
    mine, other = _grouped(cells, n, m)
    distance = numbers.corrected_effect(numbers.psi(mine, other), n, m, len(mine)) if n and m else None
    wanted = max(least_rows, _rows_wanted(len(mine), n, m, limit, alpha))
    needed = max(0, wanted - n) if m else wanted
    counted = _counted(canary, stable, weight, distance, limit)
    goal, share = -math.log(alpha), weight / 100
    result, reason, words = Result.PASSED, "", f"{counted}."
    hold = False
    if n >= least_rows and canary.other == 0 and _constant_log(canary, stable, share) >= goal:
        result, reason = Result.FAILED, reasons.CONSTANT_PREDICTIONS
        words = (
            f"all {canary.rows} canary predictions at {weight}% are one and the same value, while {stable.other} of "
            f"{stable.rows} of stable's on the same traffic differ from it."
        )
    elif distance is not None and distance > limit and n >= least_rows:
        if eprocess.log_association(cells, share) >= goal:
            result, reason, words = (
                Result.FAILED,
                reasons.PREDICTIONS_DIFFER,
                f"{counted}: more than maxDistance allows.",
            )
        elif n >= wanted:
            result, reason, hold = Result.NOT_ENOUGH, "PredictionsMayDiffer", True
            words = f"{counted}; the evidence leans towards a difference, so the weight stays."
    if result is Result.PASSED and needed:
        result, reason = Result.NOT_ENOUGH, "NotEnoughPredictions"
        words = f"{counted}; {needed} more canary predictions are needed to compare."
    return Comparison(result, canary, stable, limit, distance, needed, reason, words, hold)


def _unreadable(canary: Predictions, stable: Predictions, limit: float, least: int) -> Comparison | None:
    """When answers of an arm cannot be compared: why, and what to change; None when they can."""
    for name, arm in (("canary", canary), ("stable", stable)):
        bad = arm.unparsed + arm.streams
        if bad <= arm.rows or bad < min(5, least):
            continue
        if arm.streams >= arm.unparsed:
            why = "were streams, which cannot be compared: remove analysis.predictions"
        else:
            why = (
                "cannot be read (no tensor of a known form, or longer than observation.maxBodyBytes): raise "
                "maxBodyBytes, let the model answer a first output of numbers or texts, or remove analysis.predictions"
            )
        words = f"{bad} of {bad + arm.rows} {name} answers {why}."
        return Comparison(
            Result.NOT_ENOUGH, canary, stable, limit, None, least, "PredictionsUnreadable", words, hold=True
        )
    return None


def _counted(canary: Predictions, stable: Predictions, weight: int, distance: float | None, limit: float) -> str:
    shown = f"{distance:.3f}" if distance is not None else "unknown"
    return (
        f"{canary.rows} canary predictions at {weight}% are at a distance of {shown} from {stable.rows} of stable's on "
        f"the same traffic (maxDistance {limit:g})"
    )


def _constant_log(canary: Predictions, stable: Predictions, share: float) -> float:
    """Log evidence that "equal to what the canary answered just before" depends on who answers."""
    return eprocess.log_association([(canary.same, stable.same), (canary.other, stable.other)], share)


def _grouped(cells: Sequence[tuple[int, int]], n: int, m: int) -> tuple[list[int], list[int]]:
    """Neighbouring cells put together until one arm has a share of _GROUP_ROWS / min(n, m): PSI is no measure of
    cells that hardly anything falls into."""
    least = _GROUP_ROWS / max(1, min(n, m))
    mine, other = [0], [0]
    for canary, stable in cells:
        if mine[-1] >= max(1, least * n) or other[-1] >= max(1, least * m):
            mine.append(0)
            other.append(0)
        mine[-1] += canary
        other[-1] += stable
    if len(mine) > 1 and mine[-1] < least * n and other[-1] < least * m:
        rest_mine, rest_other = mine.pop(), other.pop()
        mine[-1] += rest_mine
        other[-1] += rest_other
    return mine, other


def _rows_wanted(groups: int, n: int, m: int, limit: float, alpha: float) -> int:
    """Canary rows at which a PSI of `limit` clears the test of drift (psi.py, min_samples), with stable's rows growing
    in the present proportion: (1/n + 1/m) * chi2(groups - 1, 1 - alpha) = limit."""
    if groups < 2 or not n or not m:
        return 0
    return math.ceil(numbers.chi2_upper_quantile(alpha, groups - 1) * (1 + n / m) / limit)
