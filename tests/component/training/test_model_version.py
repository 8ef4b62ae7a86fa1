"""The ModelVersion controller: Ready, and who serves it; nothing else is ever written."""

from typing import Any

import pytest

from perennial.api.kinds import MODEL_DEPLOYMENT, MODEL_VERSION
from perennial.controllers.model_version import ModelVersionController, ModelVersionSettings
from perennial.domain.conditions import find
from tests.fakes.world import World

DIGEST = "sha256:" + "a" * 64


async def build(**artifact: Any) -> World:
    world = World()
    world.add(lambda w: ModelVersionController(w.store, w.cache, w.events, w.clock, ModelVersionSettings()))
    await world.person(
        {
            "apiVersion": MODEL_VERSION.api_version,
            "kind": "ModelVersion",
            "metadata": {"name": "rain-r1", "namespace": "default"},
            "spec": {
                "model": "rain",
                "artifact": {"uri": "s3://b/m/", "digest": DIGEST, "format": "sklearn", **artifact},
                "baseline": {"rows": 1},
            },
        }
    )
    await world.settle()
    return world


async def serve(world: World, name: str, **roles: str) -> None:
    obj = {
        "apiVersion": MODEL_DEPLOYMENT.api_version,
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"model": {"name": "rain"}},
    }
    await world.person(obj)
    status = {role: {"version": version} for role, version in roles.items()}
    world.store.put_status(MODEL_DEPLOYMENT, "default", name, status)
    await world.settle()


def status(world: World) -> dict[str, Any]:
    return dict(world.obj(MODEL_VERSION, "rain-r1")["status"])


async def test_a_complete_record_is_ready() -> None:
    world = await build()
    assert find(status(world)["conditions"], "Ready") == {
        "type": "Ready",
        "status": "True",
        "reason": "RecordComplete",
        "message": "the record names its artifact and digest",
        "lastTransitionTime": "2026-11-25T10:00:00Z",
        "observedGeneration": 1,
    }
    assert world.obj(MODEL_VERSION, "rain-r1")["spec"]["baseline"] == {"rows": 1}


@pytest.mark.parametrize("artifact", [{"digest": "sha256:short"}, {"uri": ""}], ids=str)
async def test_a_record_that_cannot_be_served_says_why(artifact: dict[str, str]) -> None:
    world = await build(**artifact)
    stalled = find(status(world)["conditions"], "Stalled")
    assert stalled is not None
    assert f"spec.artifact.{next(iter(artifact))}" in stalled["message"]


async def test_deployments_that_serve_it_are_named_and_leave_again() -> None:
    world = await build()
    await serve(world, "b", stable="rain-r1")
    await serve(world, "a", stable="rain-r0", canary="rain-r1")
    assert status(world)["deployments"] == ["a", "b"]
    await serve(world, "b", stable="rain-r2")
    assert status(world)["deployments"] == ["a"]
    await world.store.delete(MODEL_DEPLOYMENT, "default", "a", uid=None)
    await world.settle()
    assert status(world)["deployments"] == []


async def test_at_rest_nothing_is_written() -> None:
    world = await build()
    before = len(world.store.writes)
    world.restart()
    await world.settle()
    assert len(world.store.writes) == before
