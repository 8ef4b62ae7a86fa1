"""A kubelet and Job controller played by hand: pods of Jobs, container by container, in a MemoryStore.

Only what a TrainingJob looks at: pod and container states, termination messages, logs, Job conditions, events.
"""

from collections.abc import Mapping
from typing import Any

from perennial.api.kinds import EVENT, JOB, POD
from perennial.domain.decision import JsonObject
from perennial.domain.times import rfc3339
from tests.fakes.world import World


class Kubelet:
    """Plays the node for one World; all methods act at the world's present time."""

    def __init__(self, world: World, namespace: str = "default") -> None:
        self.world = world
        self.namespace = namespace

    @property
    def now(self) -> str:
        """The present time, RFC 3339."""
        return rfc3339(self.world.clock.now())

    def jobs(self) -> list[str]:
        """The names of all Jobs there are."""
        return [job["metadata"]["name"] for job in self.world.store.all(JOB)]

    async def create_pod(self, job_name: str, index: int = 0) -> JsonObject:
        """The Job controller makes a pod; it is scheduled at once."""
        job = self.world.obj(JOB, job_name, self.namespace)
        template = job["spec"]["template"]
        name = f"{job_name}-{index}-abcde"
        meta = {
            "name": name,
            "namespace": self.namespace,
            "labels": {**template["metadata"]["labels"], "batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": job_name,
                    "uid": job["metadata"]["uid"],
                    "controller": True,
                }
            ],
        }
        await self.world.store.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}, manager="kube"
        )
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.now}
        self.set_status(name, {"phase": "Pending", "conditions": [scheduled]})
        return self.world.obj(POD, name, self.namespace)

    def pod(self, job_name: str, index: int = 0) -> JsonObject:
        """The pod of a Job."""
        return self.world.obj(POD, f"{job_name}-{index}-abcde", self.namespace)

    def set_status(self, pod: str, status: Mapping[str, Any]) -> None:
        """Replace a pod's status."""
        self.world.store.put_status(POD, self.namespace, pod, status)

    def _set_state(self, job_name: str, container: str, state: Mapping[str, Any], index: int, **more: Any) -> None:
        pod = self.pod(job_name, index)
        status = dict(pod.get("status") or {})
        is_init = any(c["name"] == container for c in pod["spec"].get("initContainers", ()))
        key = "initContainerStatuses" if is_init else "containerStatuses"
        entries = [dict(e) for e in status.get(key, ()) if e["name"] != container]
        before = next((e for e in status.get(key, ()) if e["name"] == container), {})
        status[key] = [*entries, {**before, "name": container, "state": dict(state), **more}]
        if not is_init and "terminated" in state:
            status["phase"] = "Failed" if state["terminated"]["exitCode"] else "Succeeded"
        self.set_status(pod["metadata"]["name"], status)

    def start(self, job_name: str, container: str, index: int = 0, image_id: str = "") -> None:
        """A container begins to run."""
        more = {"imageID": image_id} if image_id else {}
        self._set_state(job_name, container, {"running": {"startedAt": self.now}}, index, **more)

    def wait(self, job_name: str, container: str, reason: str, message: str = "", index: int = 0) -> None:
        """A container waits for a reason, e.g. ImagePullBackOff."""
        state = {"waiting": {"reason": reason, "message": message}}
        self._set_state(job_name, container, state, index, image="registry/train:1")

    def end(
        self,
        job_name: str,
        container: str,
        code: int = 0,
        *,
        message: str = "",
        log: str = "",
        reason: str = "",
        index: int = 0,
    ) -> None:
        """A container ends."""
        ended = {"exitCode": code, "startedAt": self.now, "finishedAt": self.now}
        ended["reason"] = reason or ("Completed" if code == 0 else "Error")
        if message:
            ended["message"] = message
        self._set_state(job_name, container, {"terminated": ended}, index)
        if log:
            pod = self.pod(job_name, index)["metadata"]["name"]
            self.world.store.logs[(self.namespace, pod, container)] = log

    def complete(self, job_name: str) -> None:
        """The Job controller sees the Job's success."""
        condition = {"type": "Complete", "status": "True", "lastTransitionTime": self.now}
        self.world.store.put_status(
            JOB, self.namespace, job_name, {"conditions": [condition], "succeeded": 1, "completionTime": self.now}
        )

    def fail(self, job_name: str, message: str = "Job has reached the specified backoff limit") -> None:
        """The Job controller gives the Job up."""
        condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": message}
        self.world.store.put_status(JOB, self.namespace, job_name, {"conditions": [condition], "failed": 1})

    async def event(self, about: JsonObject, reason: str, note: str) -> None:
        """An event of the cluster on a Job or pod."""
        await self.world.store.create(
            {
                "apiVersion": EVENT.api_version,
                "kind": EVENT.kind,
                "metadata": {"name": f"e-{reason.lower()}", "namespace": self.namespace},
                "regarding": {"uid": about["metadata"]["uid"], "name": about["metadata"]["name"]},
                "reason": reason,
                "note": note,
                "type": "Warning",
            },
            manager="kube",
        )
