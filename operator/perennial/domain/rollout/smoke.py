"""Sample inputs replayed to a canary before anybody else sees it: what is recorded, and what a Job reports. Pure.

A Job's own trouble (no room, no image, no store) is unknown and not bad: only answers of the canary are evidence.
Must not judge; smoking.py does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.domain.conditions import bounded
from perennial.domain.rollout.failures import is_failure
from perennial.domain.times import parse_time, rfc3339

ATTEMPTS = 3
"""Jobs in all, when one ends without a report."""
START_SECONDS = 300.0
"""How long a Job may take until its container runs."""
_FIRST = 300
_COUNTS = ("sent", "good", "nulls", "unreadable", "timeouts", "broken", "unreached", "compared", "different")


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the sample inputs of a version lie."""

    uri: str
    digest: str


class BadReport(ValueError):
    """A termination message that is no report."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the requests of one Job: each is counted once.

    good: answered with values; nulls: answered with a missing, NaN or infinite value; unreadable: answered 2xx, but not
    by the protocol; codes: other answers; timeouts; broken: the connection ended without an answer; unreached: no
    connection. compared, different, largest: answers that training had recorded too; p50, p95: milliseconds, for
    people; first: the first failure, in words.
    """

    sent: int = 0
    good: int = 0
    nulls: int = 0
    unreadable: int = 0
    timeouts: int = 0
    broken: int = 0
    unreached: int = 0
    compared: int = 0
    different: int = 0
    codes: tuple[tuple[str, int], ...] = ()
    largest: str | None = None
    p50: int = 0
    p95: int = 0
    first: str | None = None

    def failures(self, failure_codes: frozenset[str]) -> int:
        """Failed requests by the rule for a canary without concurrent stable traffic, nulls among them."""
        codes = sum(count for code, count in self.codes if is_failure(code, failure_codes))
        return codes + self.timeouts + self.broken + self.nulls

    def counted(self, failure_codes: frozenset[str]) -> int:
        """Requests that say something about the canary: good or failed."""
        return self.good + self.failures(failure_codes)

    def causes(self, failure_codes: frozenset[str]) -> str:
        """Why requests failed, most often first: `500: 15, timeout: 2`."""
        found = [(code, count) for code, count in self.codes if is_failure(code, failure_codes)]
        found += [("timeout", self.timeouts), ("no whole answer", self.broken), ("null or NaN", self.nulls)]
        return _listed(found)

    def unclear(self, failure_codes: frozenset[str]) -> str:
        """What was neither good nor failed; empty when there is nothing."""
        found = [(code, count) for code, count in self.codes if not is_failure(code, failure_codes)]
        found += [("no answer by the protocol", self.unreadable), ("no connection", self.unreached)]
        return _listed(found)

    def to_json(self) -> dict[str, Any]:
        """As a Job reports it and status keeps it."""
        made: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        made |= {"codes": dict(self.codes), "p50Milliseconds": self.p50, "p95Milliseconds": self.p95}
        made |= {"largestDifference": self.largest} if self.largest is not None else {}
        return made | ({"first": bounded(self.first, _FIRST)} if self.first is not None else {})


def read_answers(value: Any) -> Answers:
    """The inverse of `to_json`, of what a pod said: BadReport when it is no report."""
    if not isinstance(value, Mapping) or not isinstance(value.get("codes"), Mapping):
        raise BadReport("the report holds no counts")
    counts = {name: _count(value.get(name)) for name in _COUNTS}
    codes = tuple(sorted((str(code)[:3], _count(count)) for code, count in value["codes"].items()))
    largest, first = value.get("largestDifference"), value.get("first")
    made = Answers(
        **counts,
        codes=codes,
        largest=None if largest is None else str(largest)[:32],
        p50=_count(value.get("p50Milliseconds")),
        p95=_count(value.get("p95Milliseconds")),
        first=None if first is None else bounded(str(first), _FIRST),
    )
    parts = made.good + made.nulls + made.unreadable + made.timeouts + made.broken + made.unreached
    if made.sent != parts + sum(count for _, count in codes) or made.different > made.compared:
        raise BadReport("the counts of the report do not add up")
    return made


@dataclass(frozen=True, slots=True)
class Smoke:
    """status.rollout.smoke. requests: how many are sent; attempt: the Job's number, from 1, since when; answers: its
    report; trouble: why the last Job left none; over: the rollout has gone on."""

    requests: int
    attempt: int
    since: datetime
    answers: Answers | None = None
    trouble: str | None = None
    over: bool = False


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A smoke Job as seen now. started: its container runs or ran; over: it will say nothing more; trouble: why it left
    no report, or why it does not start; lasting: trying again would end the same way."""

    name: str
    uid: str
    started: bool = False
    over: bool = False
    answers: Answers | None = None
    trouble: str | None = None
    lasting: bool = False


def job_name(deployment: str, rollout: str, attempt: int) -> str:
    """The Job of an attempt. A rollout's id is its own, so no Job of another one is ever taken for it."""
    return f"{_prefix(deployment)}{rollout}-{attempt}"


def is_smoke_job(deployment: str, name: str) -> bool:
    """Whether a Job that the deployment owns sends sample inputs."""
    return name.startswith(_prefix(deployment))


def _prefix(deployment: str) -> str:
    return f"{deployment}-smoke-"


def smoke_to_status(smoke: Smoke | None) -> dict[str, Any] | None:
    """The field status.rollout.smoke."""
    if smoke is None:
        return None
    made: dict[str, Any] = {
        "requests": smoke.requests,
        "attempt": smoke.attempt,
        "attemptTime": rfc3339(smoke.since, micro=True),
        "over": smoke.over,
    }
    if smoke.answers is not None:
        made |= smoke.answers.to_json()
    return made | ({"trouble": smoke.trouble} if smoke.trouble is not None else {})


def smoke_from_status(recorded: Mapping[str, Any] | None) -> Smoke | None:
    """The inverse; None when no sample inputs were due."""
    if not recorded:
        return None
    return Smoke(
        requests=int(recorded["requests"]),
        attempt=int(recorded["attempt"]),
        since=parse_time(recorded["attemptTime"]),
        answers=read_answers(recorded) if "sent" in recorded else None,
        trouble=recorded.get("trouble"),
        over=bool(recorded.get("over", False)),
    )


def read_report(message: str) -> Answers:
    """The report in a container's termination message; BadReport when it holds none."""
    try:
        return read_answers(json.loads(message))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadReport("the report is not JSON") from error


def _listed(found: list[tuple[str, int]]) -> str:
    order = sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1])
    return ", ".join(f"{name}: {count}" for name, count in order)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise BadReport("the report holds a count that is no number")
    return value
