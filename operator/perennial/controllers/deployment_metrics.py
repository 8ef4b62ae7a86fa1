"""The Prometheus checks of rollouts: asked every LOOK_SECONDS while the canary's requests are counted.

A provider that hangs must not hold up a pass, because the routers' counts may call for an abort meanwhile: its answer
is waited for PATIENCE_SECONDS, then a later pass takes it. Failed, error and no data are kept apart; must not judge.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from perennial.domain.errors import PerennialError
from perennial.domain.rollout.metrics import LOOK_SECONDS, MetricFinding, Outcome, with_names
from perennial.domain.rollout.spec import Analysis, MetricCheck
from perennial.domain.rollout.world import Recorded
from perennial.domain.times import is_fresh
from perennial.ports import MetricsSource

PATIENCE_SECONDS = 0.5


@dataclass(slots=True)
class _Look:
    """What was asked last, and what came of it."""

    of: tuple[str, tuple[MetricCheck, ...]]
    asked: datetime
    findings: tuple[MetricFinding, ...]
    asking: "asyncio.Task[tuple[MetricFinding, ...]] | None" = field(default=None)


class MetricLooks:
    """The latest findings of each deployment's checks; failed looks are counted in a row at one weight."""

    def __init__(self, source: MetricsSource | None) -> None:
        self._source = source
        self._looks: dict[str, _Look] = {}

    async def findings(
        self, key: str, analysis: Analysis, recorded: Recorded, now: datetime
    ) -> tuple[MetricFinding, ...]:
        """Each check's outcome; key: namespace/name.

        None before the routers confirm the live weight and its warm-up is over: nothing is counted then, and what
        failed at another weight is forgotten.
        """
        rollout, checks = recorded.rollout, analysis.metrics
        live = recorded.weight_of(rollout.target.revision) if rollout is not None else 0
        if rollout is None or not checks or live == 0 or rollout.verified is None:
            self.forget(key)
            return ()
        if now < rollout.counts_from(analysis.warmup_seconds):
            return ()
        stable = recorded.stable.revision if recorded.stable is not None else ""
        namespace, _, name = key.partition("/")
        checks = with_names(checks, canary=rollout.target.revision, stable=stable, namespace=namespace, name=name)
        of = (rollout.id, checks)
        look = self._looks.get(key)
        if look is None or look.of != of:
            self.forget(key)
            look = self._looks[key] = _Look(of, now, tuple(_unanswered(check) for check in checks))
            await self._ask(look, checks, now)
        elif look.asking is not None:
            _take(look)
        elif not is_fresh(look.asked, now, LOOK_SECONDS):
            look.asked = now
            await self._ask(look, checks, now)
        return look.findings

    def forget(self, key: str) -> None:
        """Nothing is to be asked for this deployment any more."""
        look = self._looks.pop(key, None)
        if look is not None and look.asking is not None:
            look.asking.cancel()

    async def _ask(self, look: _Look, checks: tuple[MetricCheck, ...], now: datetime) -> None:
        look.asking = asyncio.create_task(self._answers(look.findings, checks, now))
        await asyncio.wait({look.asking}, timeout=PATIENCE_SECONDS)
        _take(look)

    async def _answers(
        self, before: tuple[MetricFinding, ...], checks: tuple[MetricCheck, ...], now: datetime
    ) -> tuple[MetricFinding, ...]:
        last = {finding.name: finding for finding in before}
        return tuple(await asyncio.gather(*(self._answer(check, last[check.name], now) for check in checks)))

    async def _answer(self, check: MetricCheck, last: MetricFinding, now: datetime) -> MetricFinding:
        if self._source is None:
            return MetricFinding(check.name, Outcome.ERROR, f'no source named "{check.source}" is configured')
        try:
            sample = await self._source.query(check.source, check.query, at=now)
        except PerennialError as error:
            return MetricFinding(check.name, Outcome.ERROR, error.message)
        value = sample.value
        if value is None or value != value:
            return MetricFinding(check.name, Outcome.NO_DATA, sample.detail or "the query gives no number")
        failed = last.failed_looks + 1
        if check.minimum is not None and value < check.minimum:
            return MetricFinding(check.name, Outcome.FAILED, f"{value:g} is below {check.minimum:g}", failed)
        if check.maximum is not None and value > check.maximum:
            return MetricFinding(check.name, Outcome.FAILED, f"{value:g} is above {check.maximum:g}", failed)
        return MetricFinding(check.name, Outcome.PASSED, f"{value:g}", passed_looks=last.passed_looks + 1)


def _unanswered(check: MetricCheck) -> MetricFinding:
    return MetricFinding(check.name, Outcome.ERROR, f"{check.source} has not answered yet")


def _take(look: _Look) -> None:
    """The answers, once they are there; an error that is no PerennialError is raised here, once."""
    if look.asking is not None and look.asking.done():
        asked, look.asking = look.asking, None
        look.findings = asked.result()
