"""Where a policy stands between two passes: read back from its status, which is its only memory. Must not decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perennial.domain import conditions, reasons
from perennial.domain.drift.examine import WindowResult
from perennial.domain.drift.rule import Progress
from perennial.domain.drift.spec import QualitySpec
from perennial.domain.drift.world import World
from perennial.domain.times import parse_time

MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """progress: of the rule. armed: drift may trigger. window_end: of the last examined window (epoch). last: that
    window when this pass examined it. broken_windows: in a row; data_accepted: a person said it is right as it is."""

    progress: Progress = field(default_factory=Progress)
    armed: bool = True
    window_end: float | None = None
    last: WindowResult | None = None
    broken_windows: int = 0
    data_accepted: bool = False
    active: Mapping[str, Any] | None = None
    last_trigger: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    commands: tuple[str, ...] = ()
    fresh: bool = False

    def blocked(self, spec: QualitySpec) -> bool:
        """Whether broken data holds retraining."""
        return spec.blocks and self.broken_windows > 0 and not self.data_accepted

    def last_drifted(self, world: World) -> bool:
        """Whether the last examined window was a drifted one."""
        if self.last is not None:
            return self.last.outcome == "Drifted"
        if self.fresh:
            return False
        return len(world.recorded.get("drifted") or ()) >= min(world.spec.rule.min_drifted, MAX_LISTED)


def recorded_standing(world: World) -> Standing:
    """What the status says. Another served revision than the recorded one starts the windows anew (`fresh`)."""
    status = world.recorded
    window = status.get("window") or {}
    found = status.get("conditions") or ()
    end = window.get("endTime")
    kept = Standing(
        active=status.get("activeTrigger"),
        last_trigger=status.get("lastTrigger"),
        history=tuple(status.get("history") or ()),
        commands=tuple(status.get("commands") or ()),
        window_end=parse_time(end).timestamp() if end else None,
        fresh=True,
    )
    revision = world.champion.revision if world.champion is not None else window.get("revision")
    if not window or window.get("revision") != revision:
        return kept
    healthy = conditions.find(found, "DataHealthy") or {}
    return Standing(
        progress=Progress(
            drifted_windows=int(status.get("consecutive") or 0),
            clear_windows=int(status.get("clear") or 0),
            drifting=conditions.is_true(found, "DriftDetected"),
        ),
        armed=bool(status.get("armed", True)),
        window_end=kept.window_end,
        broken_windows=int(status.get("blockedWindows") or 0),
        data_accepted=healthy.get("reason") == reasons.DATA_ACCEPTED,
        active=kept.active,
        last_trigger=kept.last_trigger,
        history=kept.history,
        commands=kept.commands,
    )
