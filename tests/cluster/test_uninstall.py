"""Perennial leaves and no request notices: the steps of docs/operations.md, in order, under load."""

import json

from examples.rain.demo.stage import Stage
from perennial.api import kinds, names
from tests.cluster.operator import scale_operator
from tests.cluster.serving import RATE, Team, team


def lead_to_the_pods(on: Team, name: str, revision: str) -> None:
    """Point the clients' Service at the model's pods."""
    spec = {
        "selector": {"perennial.dev/deployment": name, "perennial.dev/revision": revision},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    }
    patch = json.dumps([{"op": "replace", "path": f"/spec/{key}", "value": value} for key, value in spec.items()])
    on.stage.kubectl("-n", on.stage.namespace, "patch", "service", name, "--type=json", "-p", patch)


async def test_models_go_on_serving_when_perennial_is_removed(installed: Stage) -> None:
    async with team(installed) as on:
        await on.deploy("loop", "blue")
        on.wait_ready("loop", 90)
        revision = (await on.status("loop"))["stable"]["revision"]
        await on.send()
        await scale_operator(on.stage, 0)
        try:
            lead_to_the_pods(on, "loop", revision)
            await leave(on)
        finally:
            await scale_operator(on.stage, 1)
        sent = await on.sent()
        assert sent["failed"] == 0, sent
        assert len(await on.pods(revision)) == 1
        assert await on.stage.store.get(kinds.DEPLOYMENT, on.stage.namespace, f"loop-rev-{revision}") is not None


async def leave(on: Team) -> None:
    """The routers first, so that no client keeps a connection to them; then the ModelDeployment, but no child of it."""
    store, namespace = on.stage.store, on.stage.namespace
    on.stage.kubectl("-n", namespace, "delete", "configmap", names.ROUTER)

    async def without_routers() -> bool | None:
        pods = await store.list(kinds.POD, namespace, labels=f"{names.LABEL_COMPONENT}={names.COMPONENT_ROUTER}")
        return not pods or None

    await on.stage.wait("the routers to go", without_routers, 90)
    on.stage.kubectl("-n", namespace, "delete", "mdep", "loop", "--cascade=orphan")
    before = (await on.sent())["sent"]

    async def still_answered() -> bool | None:
        return (await on.sent())["sent"] > before + 5 * RATE or None

    await on.stage.wait("more requests", still_answered, 30)
