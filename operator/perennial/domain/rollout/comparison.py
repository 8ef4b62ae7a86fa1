"""Does the canary predict what stable predicts on the same traffic? Pure arithmetic on counts, with words for people.

Two things must hold before a canary is stopped: evidence that it differs at all (an e-process, which may be looked at
all the time), and a distance above what the spec allows (the bias-corrected PSI of drift). What could not be read is
no evidence: it holds the rollout and never ends it. Formulas: docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from perennial.domain import reasons
from perennial.domain.drift import psi as numbers
from perennial.domain.rollout import eprocess
from perennial.domain.rollout.predictions import Pair, Predictions

TESTS = 2
"""How many shares of alpha the comparison takes: for the distance and for a constant output."""
OF_PREDICTIONS = frozenset({reasons.PREDICTIONS_DIFFER, reasons.NULL_PREDICTIONS, reasons.CONSTANT_PREDICTIONS})
"""Why a canary is stopped although it answers."""
LEAST_ROWS = 50
"""No verdict on fewer canary rows."""
_FEW = 5
"""So few unreadable answers are no reason to wait."""
_REMOVE = "remove analysis.predictions."
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


def compare(
    pair: Pair, *, weight: float, limit: float, alpha: float, requests: int, place: str | None = None
) -> Comparison:
    """Compare what both arms predicted at one weight (percent to the canary); `place`: its words, such as "at 5%".

    limit: maxDistance; alpha: of each of the TESTS; requests: those of the canary that were counted, read or not.
    """
    canary, stable = pair.canary, pair.stable
    place = place or f"at {weight:g}%"
    unreadable = _unreadable(canary, stable, requests)
    if unreadable:
        return Comparison(
            Result.NOT_ENOUGH, canary, stable, limit, None, LEAST_ROWS, "PredictionsUnreadable", unreadable, hold=True
        )
    cells, share, goal = list(zip(canary.counts, stable.counts, strict=True)), weight / 100, -math.log(alpha)
    n, m = sum(canary.counts), sum(stable.counts)
    mine, other = _grouped(cells, n, m)
    distance = numbers.corrected_effect(numbers.psi(mine, other), n, m, len(mine)) if n and m else None
    wanted = max(LEAST_ROWS, _rows_wanted(len(mine), n, m, limit, alpha))
    found = Comparison(Result.PASSED, canary, stable, limit, distance, max(0, wanted - n))
    counted = _counted(found, place)
    if n >= LEAST_ROWS and canary.other == 0 and _constant_log(canary, stable, share) >= goal:
        words = (
            f"all {canary.rows} canary predictions {place} are one and the same value, while {stable.other} of "
            f"{stable.rows} of stable's on the same traffic differ from it."
        )
        return replace(found, result=Result.FAILED, reason=reasons.CONSTANT_PREDICTIONS, words=words)
    if distance is not None and distance > limit and n >= LEAST_ROWS:
        if eprocess.log_association(cells, share) >= goal:
            words = f"{counted}: more than maxDistance allows."
            return replace(found, result=Result.FAILED, reason=reasons.PREDICTIONS_DIFFER, words=words)
        if n >= wanted:
            words = f"{counted}; the evidence leans towards a difference, so the weight stays."
            return replace(found, result=Result.NOT_ENOUGH, reason="PredictionsMayDiffer", words=words, hold=True)
    if found.needed or distance is None:
        missing = f"{found.needed} more canary predictions" if m else "predictions of stable"
        words = f"{counted}; {missing} are needed to compare."
        return replace(found, result=Result.NOT_ENOUGH, reason="NotEnoughPredictions", words=words)
    return replace(found, words=f"{counted}.")


def _unreadable(canary: Predictions, stable: Predictions, requests: int) -> str:
    """When answers of an arm cannot be compared: why, and what to change; empty when they can."""
    if requests >= LEAST_ROWS and not canary.rows + canary.unparsed + canary.streams:
        return (
            f"no answer to {requests} canary requests was read: raise observation.samplePercent, send fewer requests "
            "with x-perennial-observe: none, or remove analysis.predictions (only POST to .../infer, :predict and "
            "ModelInfer is read)."
        )
    for name, arm in (("canary", canary), ("stable", stable)):
        bad = arm.unparsed + arm.streams
        if bad <= max(arm.rows, _FEW):
            continue
        if arm.streams >= arm.unparsed:
            return f"{bad} of {bad + arm.rows} {name} answers were streams, which cannot be compared: " + _REMOVE
        return (
            f"{bad} of {bad + arm.rows} {name} answers cannot be read (longer than observation.maxBodyBytes, or "
            "without a first output of numbers or texts): raise maxBodyBytes, correct the model's answers, or "
            + _REMOVE
        )
    return ""


def _counted(found: Comparison, place: str) -> str:
    if found.distance is None:
        return f"{found.canary.rows} canary predictions {place} and {found.stable.rows} of stable's were read"
    return (
        f"{found.canary.rows} canary predictions {place} are at a distance of {found.distance:.3f} from "
        f"{found.stable.rows} of stable's on the same traffic (maxDistance {found.limit:g})"
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
