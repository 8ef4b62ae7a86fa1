"""Why pods are not available, in the cluster's words."""

from typing import Any

import pytest

from perennial.domain.rollout.pods import PodTrouble, trouble_of
from perennial.domain.times import parse_time


def pod(name: str = "p", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def container(kind: str, **entry: Any) -> dict[str, Any]:
    return {kind: [{"name": "server" if kind == "containerStatuses" else "fetch", "ready": False, **entry}]}


SINCE = "2026-11-25T10:00:00Z"
NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    "lastTransitionTime": SINCE,
}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"conditions": [NO_ROOM]}, "Insufficient nvidia.com/gpu"),
        (
            container(
                "initContainerStatuses", state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
            ),
            "not found",
        ),
        (
            container(
                "initContainerStatuses",
                state={"terminated": {"exitCode": 65, "message": "model: the directory\n is empty"}},
            ),
            "container fetch ended with exit code 65: model: the directory is empty",
        ),
        (
            container(
                "initContainerStatuses",
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"exitCode": 65, "message": "digest differs"}},
            ),
            "container fetch ended with exit code 65: digest differs",
        ),
        (
            container(
                "containerStatuses",
                lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                state={"running": {}},
            ),
            "more memory than its limit",
        ),
        (container("containerStatuses", state={"running": {}}), "readiness probe does not pass"),
    ],
)
def test_words(status: dict[str, Any], words: str) -> None:
    found = trouble_of([pod(**status)]).words
    assert found is not None
    assert words in found


def test_since_when_there_is_no_room() -> None:
    assert trouble_of([pod(conditions=[NO_ROOM])]).unschedulable_since == parse_time(SINCE)


def test_good_and_leaving_pods_are_no_trouble() -> None:
    ready = {"containerStatuses": [{"name": "server", "ready": True, "state": {"running": {}}}]}
    leaving = pod("a", conditions=[NO_ROOM])
    leaving["metadata"]["deletionTimestamp"] = SINCE
    assert trouble_of([leaving, pod("b", **ready)]) == PodTrouble()
