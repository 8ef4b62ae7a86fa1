"""The step before all others, in which sample inputs of the version are sent to the canary: what follows from it. Pure.

The requests are evidence like any other, judged by the failure rate alone, since stable answers none of them; only a
Job that ends without a report is tried again, and never held against the canary. progress.py moves by the table.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from perennial.domain import reasons
from perennial.domain.conditions import bounded
from perennial.domain.rollout import eprocess
from perennial.domain.rollout.smoke import ATTEMPTS, START_SECONDS, Answers, JobSeen, Smoke, job_name
from perennial.domain.rollout.spec import FULL, Analysis
from perennial.domain.rollout.state import Event, State
from perennial.domain.rollout.verdict import Finding, Verdict, alpha_of
from perennial.domain.rollout.world import Rollout, Target, World

LEANS = "MayBeFailing"
_TROUBLE = 600


@dataclass(frozen=True, slots=True)
class Turn:
    """What this look makes of the step. event: how it moves, None: it stays; reason: of the event to tell, "": none."""

    words: str
    smoke: Smoke
    event: Event | None = None
    reason: str = ""
    warning: bool = False


def is_due(world: World, rollout: Rollout) -> bool:
    """Whether sample inputs come before what the rollout aims at: not without a stable, and not for 100 %."""
    wanted = world.spec.analysis.smoke_requests > 0 and rollout.smoke is None and world.recorded.stable is not None
    return wanted and rollout.weight < FULL and world.recorded.weight_of(rollout.target.revision) == 0


def begin(world: World, rollout: Rollout, now: datetime) -> Turn | None:
    """The start of the step; held at once for a version without samples; None when what is named is not known now."""
    target, requests = world.target, world.spec.analysis.smoke_requests
    if not isinstance(target, Target) or target.revision != rollout.target.revision:
        return None
    if target.samples is None:
        words = _no_samples(world, target)
        smoke = Smoke(requests, 0, now, trouble=words)
        return Turn(f"{words} {_orders(world, smoke)}", smoke, Event.INCONCLUSIVE, reasons.INCONCLUSIVE, True)
    words = f"A Job sends {requests} requests with sample inputs to {target.label}, which nobody else sees yet."
    return Turn(words, Smoke(requests, 1, now), Event.SAMPLES_DUE, reasons.SMOKE_STARTED)


def passed_over(world: World, rollout: Rollout, now: datetime) -> Smoke | None:
    """The record when a person lets the rollout go on without it."""
    if rollout.smoke is not None:
        return replace(rollout.smoke, over=True)
    return Smoke(world.spec.analysis.smoke_requests, 0, now, over=True) if is_due(world, rollout) else None


def again(world: World, rollout: Rollout, now: datetime) -> Turn | None:
    """One more Job by a person's order, where the last one left no report; None where there is nothing to try again."""
    smoke = rollout.smoke
    if rollout.state is not State.HOLDING or smoke is None or smoke.over or smoke.answers or not smoke.attempt:
        return None
    words = f"Another Job sends {smoke.requests} requests with sample inputs to {rollout.target.label}."
    return Turn(words, replace(smoke, attempt=smoke.attempt + 1, since=now), Event.RETRY_ORDERED, reasons.COMMAND_DONE)


def take_in(world: World, rollout: Rollout) -> Rollout:
    """The rollout with the report of its Job, once there is one."""
    smoke, job = rollout.smoke, _job(world, rollout)
    if smoke is None or smoke.over or smoke.answers is not None or job is None or job.answers is None:
        return rollout
    return replace(rollout, smoke=replace(smoke, answers=job.answers, trouble=None))


def turn(world: World, rollout: Rollout, finding: Finding, now: datetime) -> Turn:
    """What follows from what is known now: go on, hold, try again, or wait."""
    smoke = rollout.smoke
    assert smoke is not None
    done = replace(smoke, over=True)
    portion = world.spec.portion(rollout.weight)
    if world.spec.analysis.smoke_requests == 0:
        words = f"spec.rollout.smoke is gone, so no more sample inputs are sent. Next is {portion}."
        return Turn(words, done, Event.STEP_DONE, reasons.STEP_STARTED)
    if finding.verdict is Verdict.ADVANCE and smoke.answers is not None:
        words = f"{finding.message} Next is {portion}."
        return Turn(words, done, Event.STEP_DONE, reasons.SMOKE_PASSED, smoke.answers.different > 0)
    if rollout.state is State.HOLDING:
        return Turn(f"Inconclusive, so nobody is sent to it: {finding.message} {_orders(world, smoke)}", smoke)
    if smoke.answers is not None:
        words = finding.message
        if world.spec.analysis.on_inconclusive == "Promote":
            words += " onInconclusive is Promote, but this is more than a lack of evidence."
        return Turn(f"{words} {_orders(world, smoke)}", smoke, Event.INCONCLUSIVE, reasons.INCONCLUSIVE, True)
    return _without_report(world, rollout, smoke, now)


def _without_report(world: World, rollout: Rollout, smoke: Smoke, now: datetime) -> Turn:
    job, label = _job(world, rollout), rollout.target.label
    late = (now - smoke.since).total_seconds() >= START_SECONDS and (job is None or not job.started)
    if not late and (job is None or not job.over):
        why = f": {job.trouble}" if job is not None and job.trouble and not job.started else ""
        words = f"Attempt {smoke.attempt}" if smoke.attempt > 1 else "A Job"
        return Turn(f"{words} sends {smoke.requests} requests with sample inputs to {label}{why}.", smoke)
    why = job.trouble if job is not None and job.trouble else "nothing of it was seen"
    trouble = bounded(f"The Job that sends sample inputs to {label} left no report: {why.rstrip('.')}.", _TROUBLE)
    if smoke.attempt < ATTEMPTS and not (job is not None and job.lasting):
        following = replace(smoke, attempt=smoke.attempt + 1, since=now, trouble=trouble)
        words = f"{trouble} That says nothing of the canary; attempt {following.attempt} of {ATTEMPTS} follows."
        return Turn(words, following, None, reasons.SMOKE_RETRIED, True)
    words = f"{trouble} That says nothing of the canary, so nobody is sent to it. {_orders(world, smoke)}"
    return Turn(words, replace(smoke, trouble=trouble), Event.INCONCLUSIVE, reasons.INCONCLUSIVE, True)


def smoke_finding(rollout: Rollout, analysis: Analysis, number_of_steps: int) -> Finding:
    """The verdict on the canary's answers to sample inputs; number_of_steps: the steps with a weight or copies."""
    smoke = rollout.smoke
    assert smoke is not None
    answers, codes = smoke.answers or Answers(), analysis.failure_codes
    bad, total, limit = answers.failures(codes), answers.counted(codes), analysis.max_error_rate
    alpha = alpha_of(analysis, number_of_steps)
    above = eprocess.log_rate_above(bad, total, limit)
    verdict, reason = _judge(smoke, analysis, above >= -math.log(alpha))
    return Finding(
        verdict=verdict,
        reason=reason,
        message=_sentence(smoke, analysis, reason),
        requests=total,
        failures=bad,
        interval=eprocess.wilson(bad, total),
        abort_log=above,
        promote_log=eprocess.log_rate_below(bad, total, limit),
        abort_goal=-math.log(alpha),
        promote_goal=-math.log(analysis.alpha / 2),
        needed=eprocess.clean_requests_needed(bad, total, limit, analysis.alpha / 2),
        eta_seconds=None,
    )


def _judge(smoke: Smoke, analysis: Analysis, shown: bool) -> tuple[Verdict, str]:
    answers, codes = smoke.answers, analysis.failure_codes
    if answers is None:
        return Verdict.WAIT, "NoReport"
    bad, total = answers.failures(codes), answers.counted(codes)
    if shown and bad >= analysis.min_failures:
        mostly_null = 2 * answers.nulls > bad
        return Verdict.ABORT, reasons.NULL_PREDICTIONS if mostly_null else "TooManyFailures"
    if bad and eprocess.log_rate_above(bad, total, analysis.max_error_rate) >= 0:
        return Verdict.WAIT, LEANS
    if total < answers.sent:
        return Verdict.WAIT, "Unclear"
    return (Verdict.ADVANCE, "StepDone") if total >= smoke.requests else (Verdict.WAIT, "NotAllSent")


def _sentence(smoke: Smoke, analysis: Analysis, reason: str) -> str:
    answers, codes = smoke.answers, analysis.failure_codes
    if answers is None:
        return smoke.trouble or "No sample input was answered yet."
    bad, total = answers.failures(codes), answers.counted(codes)
    counted = f"{bad} of {total} requests with sample inputs failed"
    first = f"; the first: {bounded(answers.first, 200)}" if answers.first else ""
    if bad:
        counted += f" ({answers.causes(codes)}{first})"
    if reason in ("TooManyFailures", reasons.NULL_PREDICTIONS):
        return f"{counted}: more than maxErrorRate {analysis.max_error_rate:g} allows."
    if reason == LEANS:
        return f"{counted}; the evidence leans towards too many failures, so nobody is sent to it."
    if reason == "Unclear":
        left = f"{answers.sent - total} more say neither good nor bad ({answers.unclear(codes)}{'' if bad else first})"
        return f"{counted}; {left}: the model may want other inputs than its reference.csv holds."
    if reason == "NotAllSent":
        return f"{counted}; {answers.sent} of {smoke.requests} were sent within maxSeconds ({analysis.max_seconds} s)."
    apart = skew(answers)
    return f"{counted}; this is within the limits.{' ' + apart if apart else ''}"


def skew(answers: Answers) -> str | None:
    """How the answers differ from what training recorded for the same inputs, as a sentence; None when they do not."""
    if not answers.different:
        return None
    largest = f", by up to {answers.largest}" if answers.largest is not None else ""
    return (
        f"{answers.different} of {answers.compared} answers differ from what training recorded for the same inputs"
        f"{largest}: the model may be given, or make of its inputs, something else in service than in training."
    )


def _job(world: World, rollout: Rollout) -> JobSeen | None:
    """The Job of this attempt."""
    assert rollout.smoke is not None
    name = job_name(world.name, rollout.id, rollout.smoke.attempt)
    return next((job for job in world.smoke_jobs if job.name == name), None)


def _no_samples(world: World, target: Target) -> str:
    asked = f"spec.rollout.smoke asks for {world.spec.analysis.smoke_requests} requests with sample inputs"
    if target.version is None:
        return f"{asked}, but an artifact that no TrainingJob has published has none."
    return (
        f"{asked}, but {target.label} has none: a TrainingJob publishes them with a version whose training writes "
        "reference.csv."
    )


def _orders(world: World, smoke: Smoke) -> str:
    go_on = f"`kubectl perennial skip {world.name}` goes on without"
    if smoke.attempt and smoke.answers is None:
        return f"{go_on}, `retry` makes the Job once more, `abort` rejects it."
    return f"{go_on}, `abort` rejects it."
