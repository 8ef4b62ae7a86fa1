"""Why an attempt failed, and whether another may follow."""

from typing import Any

import pytest

from perennial.domain.conditions import MAX_MESSAGE_BYTES
from perennial.domain.training.failure import RANKS_MISSING, classify

SPEC = {"resources": {"limits": {"memory": "2Gi"}}}


def pod(
    container: str, code: int, *, name: str = "p0", at: str = "2026-01-01T00:00:00Z", **more: Any
) -> dict[str, Any]:
    ended = {"exitCode": code, "finishedAt": at, **more}
    return {
        "metadata": {"name": name},
        "status": {"initContainerStatuses": [{"name": container, "state": {"terminated": ended}}]},
    }


@pytest.mark.parametrize(
    ("container", "code", "reason", "retry"),
    [
        ("train", 1, "TrainFailed", "Counted"),
        ("train", 64, "UsageError", "No"),
        ("train", 65, "DataInvalid", "No"),
        ("train", 75, "TrainFailed", "Counted"),
        ("train", 78, "ConfigInvalid", "No"),
        ("train", 137, "OutOfMemory", "Counted"),
        ("train", 139, "TrainFailed", "Counted"),
        ("train", 143, "TrainFailed", "Counted"),
        ("validate", 65, "DataInvalid", "No"),
        ("validate", 2, "ValidateFailed", "Counted"),
        ("evaluate", 1, "EvaluateFailed", "Counted"),
        ("evaluate-champion", 137, "EvaluateChampionFailed", "Free"),
        ("fetch", 65, "DataInvalid", "No"),
        ("fetch", 75, "FetchFailed", "Counted"),
        ("publish", 65, "PublishFailed", "No"),
        ("publish", 75, "PublishFailed", "Counted"),
    ],
)
def test_exit_codes(container: str, code: int, reason: str, retry: str) -> None:
    found = classify({}, [pod(container, code)], SPEC)
    assert (found.reason, found.retry) == (reason, retry)
    assert container in found.message
    assert str(code) in found.message


def test_the_rank_that_failed_first_is_the_cause() -> None:
    later = pod("train", 143, name="p1", at="2026-01-01T00:00:09Z")
    first = pod("train", 65, name="p0", at="2026-01-01T00:00:01Z")
    assert classify({}, [later, first], SPEC).reason == "DataInvalid"


def test_a_disruption_is_free_whatever_the_exit_code_says() -> None:
    drained = pod("train", 65)
    drained["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "message": "drained"}]
    found = classify({}, [drained], SPEC)
    assert (found.reason, found.retry) == ("Disrupted", "Free")
    assert "drained" in found.message


def test_ranks_that_did_not_meet_are_free() -> None:
    found = classify({}, [pod("fetch", 75, message=f"{RANKS_MISSING} within 600 s")], SPEC)
    assert (found.reason, found.retry) == ("RanksMissing", "Free")


def test_the_message_ends_with_the_last_lines_of_the_log_and_fits() -> None:
    found = classify({}, [pod("train", 1)], SPEC, "x" * 5000 + "\nValueError: größe\n")
    assert found.message.endswith("ValueError: größe")
    assert len(found.message.encode()) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    ("message", "reason", "retry"),
    [
        (
            "Container train for pod a/b failed with exit code 78 matching FailJob rule at index 2",
            "ConfigInvalid",
            "No",
        ),
        ("Container train for pod a/b failed with exit code 1", "TrainFailed", "Counted"),
        ("Pod a/b has condition DisruptionTarget matching FailJob rule at index 0", "Disrupted", "Free"),
        ("Job has reached the specified backoff limit", "JobFailed", "Counted"),
    ],
)
def test_without_pods_the_jobs_own_words_decide(message: str, reason: str, retry: str) -> None:
    job = {"status": {"conditions": [{"type": "Failed", "status": "True", "message": message}]}}
    found = classify(job, [], SPEC)
    assert (found.reason, found.retry) == (reason, retry)


def test_a_job_that_is_gone_counts() -> None:
    assert classify(None, [], SPEC).reason == "JobDeleted"
