"""An approval step, changed inputs and one's own change on a real cluster, with the shipped policy and the real CLI."""

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from examples.rain.demo import servers
from examples.rain.demo.stage import Stage, Timeline
from localcluster.errors import ClusterError
from perennial.adapters.kube import connect_store
from perennial.api import kinds, names
from perennial.domain.rollout.commands import command_text
from tests.cluster.operator import LOOP, make_namespace
from tests.cluster.test_bad_input import DEPLOYMENT, SYNC, command_line

MODELS = """
import sys
sys.path.insert(0, "/files")
import sender
sender.data(0, "first")
sender.artifact(0)
sender.artifact(0, version=2)
sender.artifact(0, version=3, input="y")
"""
Json = dict[str, Any]


@asynccontextmanager
async def team(installed: Stage) -> AsyncIterator[Stage]:
    """A namespace with a store and a Git server; ada and bob may edit in it."""
    async with connect_store(kubeconfig=str(installed.cluster.kubeconfig)) as (store, _):
        stage = Stage(installed.cluster, store, Timeline(), f"approval-{secrets.token_hex(3)}", installed.tags)
        make_namespace(stage)
        try:
            stage.apply(*(binding("edit", user) for user in ("ada", "bob")))
            await stage.serve_git_and_store()
            yield stage
        finally:
            stage.kubectl("delete", "namespace", stage.namespace, "--wait=false")


def binding(role: str, user: str) -> Json:
    """The cluster's role for a user in the namespace."""
    return {
        "apiVersion": kinds.ROLE_BINDING.api_version,
        "kind": kinds.ROLE_BINDING.kind,
        "metadata": {"name": f"{role}-{user}"},
        "roleRef": {"apiGroup": kinds.ROLE.group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": kinds.ROLE.group, "kind": "User", "name": user}],
    }


def deployment(stage: Stage, artifact: Json) -> Json:
    """The ModelDeployment of an artifact; its first step waits for a person who did not write the change."""
    made: Json = yaml.safe_load(DEPLOYMENT.replace("IMAGE", stage.tags["trivial"]))
    chosen = {key: artifact[key] for key in ("uri", "digest", "format")}
    made["spec"]["model"] = {"name": "loop", "artifact": chosen}
    steps = [{"weight": 50, "approval": True}, {"weight": 90}]
    analysis = {"warmupSeconds": 0, "minRequests": 20}
    made["spec"]["rollout"] = {"steps": steps, "analysis": analysis, "forbidOwnApproval": True}
    return made


async def status(stage: Stage) -> Json:
    """The status of the ModelDeployment."""
    return dict((await stage.store.get(kinds.MODEL_DEPLOYMENT, stage.namespace, "loop") or {}).get("status", {}))


async def until(stage: Stage, what: str, fits: Callable[[Json], bool], limit: float = 60) -> Json:
    """The status once it fits."""

    async def look() -> Json | None:
        found = await status(stage)
        return found if fits(found) else None

    return await stage.wait(what, look, limit, every=0.2)


def waits_at(weight: int) -> Callable[[Json], bool]:
    """Whether a person is asked at that weight."""
    return lambda s: s.get("rollout", {}).get("state") == "Approval" and s["canary"]["weight"] == weight


def serves(artifact: Json) -> Callable[[Json], bool]:
    """Whether that artifact is stable and nothing is rolled out."""
    return lambda s: s.get("stable", {}).get("digest") == artifact["digest"] and "rollout" not in s


def words(found: Json) -> str:
    """What the condition Ready says."""
    return str(next(c["message"] for c in found["conditions"] if c["type"] == "Ready"))


async def push(stage: Stage, job: str, artifact: Json) -> None:
    """Ada commits the artifact; the GitSync applies it."""
    await stage.person(job, "Another model", {"loop.yaml": yaml.safe_dump(deployment(stage, artifact))})


async def test_people_with_the_verb_let_others_changes_pass(installed: Stage, quiet_operator: None) -> None:
    async with team(installed) as stage:
        files, image = {"sender.py": (LOOP / "sender.py").read_text()}, stage.tags["perennial"]
        await stage.job("models", image, ["python3", "-c", MODELS], env=servers.store_env(), files=files)
        await stage.wait("the models", lambda: stage.job_done("models"), 60)
        first, second, other = map(json.loads, (await stage.job_log("models")).strip().splitlines()[-3:])
        await push(stage, "first", first)
        stage.apply(yaml.safe_load(SYNC.replace("NAMESPACE", stage.namespace)))
        await until(stage, "the first revision", serves(first))
        env = [*servers.store_env(), {"name": "WINDOW", "value": "3600"}]
        await stage.job("sender", image, ["python3", "/files/sender.py", "send"], env=env, files=files)

        await push(stage, "second", second)
        asked = await until(stage, "the step's question", waits_at(50))
        assert "`kubectl perennial approve loop` lets it go on" in words(asked)
        refused = command_line(stage, "--as", "bob", "approve", "loop")
        assert "bob may not give commands to modeldeployments" in refused
        assert "ask an administrator for the verb approve" in refused
        stage.apply(*(binding("perennial-approve", user) for user in ("ada", "bob")))
        said = command_text("approve", asked["rollout"]["targetRevision"], "borrowed", "bob")
        with pytest.raises(ClusterError, match="because ada sets it"):
            annotation = f"{names.ANNOTATION_COMMAND}={said}"
            stage.kubectl("--as", "ada", "-n", stage.namespace, "annotate", "modeldeployment", "loop", annotation)
        refused = command_line(stage, "--as", "ada", "approve", "loop")
        assert "Ada Person <ada@example.com> wrote the change" in refused
        held = await status(stage)
        assert waits_at(50)(held) and words(held).startswith("approve by ada is refused: forbidOwnApproval is set")
        assert "taken" in command_line(stage, "--as", "bob", "approve", "loop")
        promoted = await until(stage, "the second revision", serves(second))
        assert promoted["history"][0]["approvedBy"] == "bob"

        await push(stage, "third", other)
        asked = await until(stage, "the question about inputs", waits_at(0))
        assert 'input "x" is FP64 [-1] in stable and missing in the canary' in words(asked)
        assert asked["traffic"][-1]["weight"] == 0 and asked["canary"]["readyReplicas"] == 1
        assert "taken" in command_line(stage, "--as", "bob", "approve", "loop")
        going = await until(stage, "the first step", lambda s: s.get("canary", {}).get("weight") == 50)
        assert [(a["by"], a["said"]) for a in going["rollout"]["approvals"]] == [("bob", "Signature")]
        assert "taken" in command_line(stage, "--as", "ada", "abort", "loop")
        ended = await until(stage, "the abort", serves(second), 30)
        assert ended["rejected"][0]["message"].startswith("ada aborted the rollout")
        counts = json.loads((await stage.job_log("sender")).strip().splitlines()[-1])
        assert counts["sent"] > 300 and counts["failed"] == 0, counts
