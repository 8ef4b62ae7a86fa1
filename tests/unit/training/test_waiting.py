"""Why an attempt waits, in the cluster's words."""

from typing import Any

import pytest

from perennial.domain.training.usage import gpu_seconds, is_accelerator
from perennial.domain.training.waiting import of_attempt, of_pod


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"metadata": {"name": "p", "uid": "u"}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: none", "(missing nvidia.com/gpu)"),
        ("0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.", "(missing cpu, memory)"),
        (
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/mig-1g.10gb.",
            "nvidia.com/mig-1g.10gb",
        ),
        ('persistentvolumeclaim "scratch" not found', "no node can take pod p: persistentvolumeclaim"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "node affinity"),
    ],
)
def test_the_scheduler_is_quoted_and_missing_resources_named(message: str, missing: str) -> None:
    why = of_pod(unschedulable(message))
    assert why is not None
    assert why.reason == "Unschedulable"
    assert missing in why.message
    assert message in why.message


def test_a_suspended_job_waits_for_its_queue() -> None:
    job = {"metadata": {"uid": "j", "labels": {"kueue.x-k8s.io/queue-name": "gpus"}}, "spec": {"suspend": True}}
    why = of_attempt(job, [], {})
    assert why is not None
    assert (why.reason, why.message) == ("Queued", "the Job waits for admission by gpus")


def test_accelerators_are_known_by_name() -> None:
    for name in ("nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.10gb", "gpu.intel.com/i915"):
        assert is_accelerator(name), name
    for name in ("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "example.com/fpga"):
        assert not is_accelerator(name), name


def test_gpu_seconds_tell_held_from_training() -> None:
    from datetime import UTC, datetime

    gpus = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    pod: dict[str, Any] = {
        "metadata": {"name": "p"},
        "spec": {"initContainers": [{}, gpus, gpus], "containers": [{"resources": {"limits": {"cpu": "2"}}}]},
        "status": {
            "phase": "Succeeded",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "initContainerStatuses": [
                {
                    "name": "train",
                    "state": {
                        "terminated": {"startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:40Z"}
                    },
                }
            ],
            "containerStatuses": [
                {"name": "publish", "state": {"terminated": {"finishedAt": "2026-01-01T00:01:00Z"}}},
            ],
        },
    }
    later = datetime(2026, 1, 2, tzinfo=UTC)
    assert gpu_seconds([pod], later) == {"held": 120, "training": 60}
    pod["spec"]["initContainers"] = [{}]
    assert gpu_seconds([pod], later) == {"held": 0, "training": 0}
