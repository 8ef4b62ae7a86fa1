"""From verdicts on windows to drift that lasts: consecutive windows in, consecutive windows out.

A window without a verdict (Unknown) counts neither way: it is not Ok, not drifted, and breaks no row of windows.
Must not know of triggers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from perennial.domain.drift.spec import RuleSpec
from perennial.domain.drift.test import FeatureVerdict

WindowOutcome = Literal["Drifted", "Elevated", "Calm", "Unknown"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the rule stands. drifted_windows: in a row; clear_windows: in a row, while drifting; drifting: drift was
    entered and not left."""

    drifted_windows: int = 0
    clear_windows: int = 0
    drifting: bool = False


def window_outcome(verdicts: Sequence[FeatureVerdict], spec: RuleSpec) -> WindowOutcome:
    """One word for a window. Unknown: it has not drifted, and most features have no verdict.

    A few features without a verdict (mostly missing values) do not blind the policy to the others.
    """
    drifted = sum(verdict.outcome == "Drifted" for verdict in verdicts)
    raised = drifted + sum(verdict.outcome == "Elevated" for verdict in verdicts)
    silent = sum(verdict.outcome == "TooFew" for verdict in verdicts)
    if drifted >= spec.min_drifted:
        return "Drifted"
    if 2 * silent > len(verdicts) or not verdicts:
        return "Unknown"
    return "Elevated" if raised >= spec.min_drifted else "Calm"


def advanced(progress: Progress, outcome: WindowOutcome, spec: RuleSpec) -> Progress:
    """The progress after one more window."""
    if outcome == "Unknown":
        return progress
    drifted = progress.drifted_windows + 1 if outcome == "Drifted" else 0
    if not progress.drifting:
        return Progress(drifted, 0, drifted >= spec.for_windows)
    clear = progress.clear_windows + 1 if outcome == "Calm" else 0
    if clear >= spec.clear_windows:
        return Progress()
    return Progress(drifted, clear, True)
