"""The tables of a run: what each phase of an attempt is called, and what each ending means for the conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Stage = Literal["", "fetch", "train", "publish"]

ONE_POD: tuple[Stage, ...] = ("",)
STAGED: tuple[Stage, ...] = ("fetch", "train", "publish")


@dataclass(frozen=True, slots=True)
class Phase:
    """reason: the word in STATUS; doing: completes the sentence `attempt 1 of run x ...`."""

    reason: str
    doing: str


PHASES: Mapping[str, Phase] = {
    "fetch": Phase("Fetching", "downloads and verifies its data"),
    "validate": Phase("Validating", "tests its data"),
    "train": Phase("Training", "trains"),
    "evaluate": Phase("Evaluating", "evaluates the candidate"),
    "evaluate-champion": Phase("Evaluating", "evaluates the champion"),
    "publish": Phase("Publishing", "uploads the model"),
}
"""By the container that runs."""

STARTING = Phase("Pending", "waits for its pod")


@dataclass(frozen=True, slots=True)
class Ending:
    """What an ended run means. accepted: Ready and Succeeded are True; else Ready=False, Stalled=True with `reason`."""

    accepted: bool
    reason: str


ENDINGS: Mapping[str, Ending] = {
    "Succeeded": Ending(True, "Succeeded"),
    "AlreadyMade": Ending(True, "Succeeded"),
    "GateFailed": Ending(False, "GateFailed"),
    "TrainingFailed": Ending(False, "TrainingFailed"),
    "Superseded": Ending(False, "Superseded"),
}
"""By status.history[].outcome. Superseded never is the current run's."""
