"""Reads what belongs to one ModelDeployment or TrainingJob through the object store. Must not write."""

from typing import Any

from perennial.api import kinds, names
from perennial.api.kinds import Kind
from perennial.cli.tools import Connection
from perennial.cli.view import Family
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Stalled

LOG_LIMIT = 1 << 20
LINE_LIMIT = 300


async def require(connection: Connection, kind: Kind, name: str) -> JsonObject:
    """The object, or a sentence that names those that are there."""
    obj = await connection.store.get(kind, connection.namespace, name)
    if obj is not None:
        return obj
    others = [o["metadata"]["name"] for o in await connection.store.list(kind, connection.namespace)]
    there = f"there are {', '.join(sorted(others)[:10])}" if others else "there is none"
    raise Stalled("NotFound", f"{kind.kind} {name} does not exist in namespace {connection.namespace}; {there}.")


async def read(connection: Connection, name: str) -> Family:
    """A ModelDeployment with its versions, policies, trainings, GitSync and pods."""
    store, namespace = connection.store, connection.namespace
    deployment = await require(connection, kinds.MODEL_DEPLOYMENT, name)
    model = deployment["spec"].get("model", {}).get("name")
    versions = await store.list(kinds.MODEL_VERSION, namespace)
    policies = await store.list(kinds.DRIFT_POLICY, namespace)
    trainings = await store.list(kinds.TRAINING_JOB, namespace)
    syncs = await store.list(kinds.GIT_SYNC, namespace)
    pods = await store.list(kinds.POD, namespace, labels=f"{names.LABEL_DEPLOYMENT}={name}")
    sync = deployment["metadata"].get("labels", {}).get(names.LABEL_SYNC)
    return Family(
        deployment=deployment,
        versions=[v for v in versions if v["spec"]["model"] == model],
        trainings=[t for t in trainings if t["spec"]["model"] == model],
        policies=[p for p in policies if p["spec"]["deploymentRef"]["name"] == name],
        syncs=[s for s in syncs if s["metadata"]["name"] == sync],
        pods=pods,
    )


async def training_logs(connection: Connection, name: str, tail: int) -> list[str]:
    """The logs of the newest pod of a TrainingJob, container by container."""
    await require(connection, kinds.TRAINING_JOB, name)
    selector = f"{names.LABEL_OWNER_KIND}=TrainingJob,{names.LABEL_OWNER_NAME}={name}"
    pods = await connection.store.list(kinds.POD, connection.namespace, labels=selector)
    if not pods:
        return [f"TrainingJob {name} has no pod: nothing ran yet, or its Job was removed (spec.historyLimit)."]
    pod = max(pods, key=lambda p: str(p["metadata"].get("creationTimestamp", "")))
    lines: list[str] = []
    for container in _containers(pod):
        text = await connection.store.log(
            connection.namespace, pod["metadata"]["name"], container, tail_lines=tail, limit_bytes=LOG_LIMIT
        )
        if text:
            lines += [f"[{container}] {_cut(line)}" for line in text.splitlines()]
    return lines or [f"Pod {pod['metadata']['name']} wrote nothing yet."]


def _cut(line: str) -> str:
    """A line that a terminal can show; the record that publish writes is thousands of characters long."""
    return line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}... ({len(line)} characters)"


def _containers(pod: JsonObject) -> list[str]:
    spec: dict[str, Any] = pod["spec"]
    return [c["name"] for c in [*spec.get("initContainers", ()), *spec.get("containers", ())]]
