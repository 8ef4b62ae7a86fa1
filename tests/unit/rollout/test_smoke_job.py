"""What a smoke Job and its pod say: a report, or why there is none."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial.domain.rollout.smoke import Answers, JobSeen
from perennial.domain.rollout.smoke_job import read_job

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
GOOD = Answers(sent=3, good=3)


def job(condition: str = "", **status: Any) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", **status.pop("of", {})}] if condition else []
    return {"metadata": {"name": "rain-smoke-1-1", "uid": "u"}, "status": {"conditions": conditions, **status}}


def pod(state: Any = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "smoke", "state": state}] if state is not None else []
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": containers, **status}}


def ended(code: int, message: str = "", **more: Any) -> dict[str, Any]:
    return pod({"terminated": {"exitCode": code, "message": message, **more}})


def read(of: dict[str, Any], *pods: dict[str, Any]) -> JobSeen:
    return read_job(of, pods, NOW)


def test_a_report_counts_as_soon_as_its_container_has_ended() -> None:
    seen = read(job(), ended(0, json.dumps({**GOOD.to_json(), "record": "sha256:0"})))
    assert (seen.answers, seen.over, seen.started) == (GOOD, True, True)


@pytest.mark.parametrize(("code", "lasting"), [(65, True), (78, True), (64, True), (75, False), (70, False)])
def test_a_step_that_failed_says_why_and_whether_another_try_makes_sense(code: int, lasting: bool) -> None:
    seen = read(job("Failed"), ended(code, "no such place"))
    assert (seen.answers, seen.over, seen.trouble, seen.lasting) == (None, True, "no such place", lasting)


@pytest.mark.parametrize(
    ("of", "pods", "words"),
    [
        (job("Failed"), [ended(137, reason="OOMKilled")], "more memory than its limit"),
        (job("Failed"), [ended(137)], "exit code 137"),
        (job(), [ended(0, "hello")], "not JSON"),
        (job("Failed"), [pod(reason="Evicted", message="the node was low on memory")], "low on memory"),
        (job("Failed", of={"reason": "DeadlineExceeded", "message": "too long"}), [], "(DeadlineExceeded): too long"),
        (job("Complete", completionTime="2026-11-26T09:59:00Z"), [], "its pod is gone"),
    ],
)
def test_a_job_without_a_report_is_over_and_says_why(of: Any, pods: Any, words: str) -> None:
    seen = read(of, *pods)
    assert (seen.answers, seen.over, seen.lasting) == (None, True, False)
    assert words in (seen.trouble or "")


def test_a_job_that_is_complete_waits_a_moment_for_the_news_of_its_pod() -> None:
    just = (NOW - timedelta(seconds=3)).isoformat()
    assert not read(job("Complete", completionTime=just)).over
    assert not read(job("Complete"), pod({"running": {}})).over


def test_a_job_that_does_not_start_says_why() -> None:
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    seen = read(job(), pod(phase="Pending", conditions=[no_room]))
    assert (seen.started, seen.over) == (False, False) and "0/1 nodes" in (seen.trouble or "")
    assert "no pod of it" in (read(job()).trouble or "")
    assert read(job(), pod({"running": {}})) == JobSeen("rain-smoke-1-1", "u", started=True)
