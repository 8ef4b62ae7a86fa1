"""One decision about a rollout in progress: what it starts from, and the moves that all states share. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime

from perennial.domain.decision import EventNote
from perennial.domain.rollout.change import Change, moved
from perennial.domain.rollout.spec import FULL
from perennial.domain.rollout.state import Event, State
from perennial.domain.rollout.stops import VERIFY_SECONDS
from perennial.domain.rollout.verdict import Finding
from perennial.domain.rollout.world import Recorded, Rollout, World

WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision in progress: the world, the facts with this look's counts, and the verdict at the live weight."""

    world: World
    recorded: Recorded
    rollout: Rollout
    live: int
    finding: Finding | None
    now: datetime

    def go(self, event: Event, words: str, *notes: EventNote, **fields: object) -> Change:
        """Move by the table."""
        rollout = moved(self.rollout, event, self.now, **{"refusal": None, **fields})
        return Change(
            replace(self.recorded, rollout=rollout), words=words, finding=self.finding, events=notes, requeue=0.0
        )

    def wait(self, words: str) -> Change:
        """Stay; look again soon, often while requests are counted or weights confirmed."""
        counting = self.live > 0 or self.rollout.copying
        requeue = float(self.world.spec.analysis.period_seconds) if counting else WAIT_SECONDS
        if self.rollout.state is State.SHIFTING:
            requeue = VERIFY_SECONDS
        warm = (self.rollout.counts_from(self.world.spec.analysis.warmup_seconds) - self.now).total_seconds()
        if counting and warm > 0:
            requeue = min(requeue, warm)  # the first look that counts comes right at its end
        if self.rollout.refusal is not None:
            words = f"{self.rollout.refusal} {words}"
        return Change(self.recorded, words=words, finding=self.finding, requeue=requeue)

    def next_step(
        self, event: Event, weight: int, words: str, note: EventNote | None = None, **fields: object
    ) -> Change:
        """Aim at another weight: first its pods, then the weight."""
        notes = (note,) if note is not None else ()
        return self.go(event, words, *notes, weight=weight, step_started=self.now, short_since=None, **fields)


def next_weight(world: World, weight: int) -> int:
    """The first weight of the spec above `weight`; 100 after the last."""
    return next((w for w in world.spec.weights if w > weight), FULL)
