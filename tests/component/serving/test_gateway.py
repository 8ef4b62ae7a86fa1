"""The HTTPRoute of a ModelDeployment on an API: made, followed, repaired, removed, and how often anything is asked."""

from datetime import timedelta
from typing import Any

import pytest

from perennial.api import kinds
from perennial.controllers.deployment_gateway import GatewayRoutes
from perennial.domain.errors import Forbidden, Invalid, Unavailable
from perennial.domain.rollout.recorded import recorded_from_status
from perennial.domain.rollout.spec import read_spec
from tests.component.serving.rig import V1, V2, Rig, version
from tests.component.serving.test_metric_looks import CHECK, Source
from tests.fakes.gateway import FakeGateways

ASK = {"traffic": {"gateway": {"parentRefs": [{"name": "edge"}], "hostnames": ["rain.example.org"]}}}
SPEC: dict[str, Any] = {**ASK, "analysis": {"metrics": [CHECK], "warmupSeconds": 0}}
MISSING = Invalid("NoSuchKind", "the server could not find the requested resource")


class Stand:
    """A rig with a Gateway beside it."""

    def __init__(self, value: float | None = 0.9) -> None:
        self.source = Source(value)
        self.rig = Rig(metrics=self.source)
        self.gateways = FakeGateways(self.rig.world)

    async def serve(self) -> "Stand":
        await self.gateways.make()
        await self.rig.serve_first(**SPEC)
        return self

    def asked(self) -> list[tuple[str, str]]:
        """What was asked of Gateway API since the last call."""
        mine = (kinds.HTTP_ROUTE.kind, kinds.GATEWAY.kind)
        found = [(verb, kind) for verb, kind in self.rig.world.store.requests if kind in mine]
        self.rig.world.store.requests.clear()
        return found

    def name_of(self, arm: str) -> str:
        return f"rain-rev-{self.rig.status[arm]['revision']}"


async def test_a_whole_rollout_goes_through_the_gateway() -> None:
    stand = await Stand().serve()
    rig, first = stand.rig, stand.name_of("stable")
    rig.routers.per_second = 0
    await rig.name(V2, **SPEC)
    await rig.cluster.run_until(lambda: rig.stable() == V2 and rig.state == "Rest", seconds=300)
    second = stand.name_of("stable")
    shares = [(weights.get(first, 0), weights.get(second, 0)) for weights in stand.gateways.routes]
    assert shares == [(100, 0), (95, 5), (50, 50), (0, 100)]
    assert all(0 not in weights.values() for weights in stand.gateways.routes)
    assert rig.status["gateway"]["accepted"] is True
    route = stand.gateways.route()
    assert route is not None
    (owner,) = route["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("ModelDeployment", "rain", True)
    assert route["spec"]["hostnames"] == ["rain.example.org"]


async def test_the_route_is_read_at_once_after_the_clock_was_set_back() -> None:
    stand = await Stand().serve()
    deployment = stand.rig.world.obj(kinds.MODEL_DEPLOYMENT, "rain")
    routes = GatewayRoutes(stand.rig.world.store, "test")
    route, recorded = read_spec(deployment["spec"]).gateway, recorded_from_status(deployment["status"])
    now = stand.rig.world.clock.now()
    stand.asked()
    for second in (0, 10, -3590):
        await routes.look(deployment, route, recorded, {}, now + timedelta(seconds=second))
    assert stand.asked() == [("get", "HTTPRoute"), ("get", "Gateway")] * 2


@pytest.mark.parametrize("write", [2, 4, 7])
async def test_an_operator_that_is_killed_at_a_write_leaves_the_route_to_the_next_one(write: int) -> None:
    stand = await Stand().serve()
    rig = stand.rig
    rig.world.crash_after(write)
    await rig.name(V2, **SPEC)
    await rig.cluster.run_until(lambda: stand.rig.state == "Analysing", seconds=60)
    assert rig.world.crashes == 1
    assert stand.gateways.routes[-1] == {stand.name_of("stable"): 95, stand.name_of("canary"): 5}


async def test_a_failing_metric_brings_everything_back_to_stable() -> None:
    stand = await Stand().serve()
    rig = stand.rig
    stand.source.value = 0.1
    rig.routers.per_second = 0
    await rig.name(V2, **SPEC)
    await rig.cluster.run_until(lambda: rig.condition("Stalled") == ("True", "CanaryFailed"), seconds=60)
    assert stand.gateways.routes[-1] == {stand.name_of("stable"): 100}
    assert rig.stable() == V1
    assert "Metric auc failed 3 looks in a row: 0.1 is below 0.5" in rig.words()


async def test_a_route_that_was_removed_or_changed_comes_back() -> None:
    stand = await Stand().serve()
    rig = stand.rig
    await rig.world.store.delete(kinds.HTTP_ROUTE, "default", "rain", uid=None)
    await rig.cluster.run_for(31)
    route = stand.gateways.route()
    assert route is not None
    changed = {**route, "spec": {**route["spec"], "rules": [{**route["spec"]["rules"][0], "filters": [{"type": "X"}]}]}}
    await rig.world.person(changed)
    await rig.cluster.run_for(31)
    found = stand.gateways.route()
    assert found is not None and found["spec"] == route["spec"]
    assert rig.condition("Ready") == ("True", "Serving")


async def test_the_route_goes_with_the_wish_for_it_and_then_nothing_is_asked_any_more() -> None:
    stand = await Stand().serve()
    await stand.rig.name(V1)
    await stand.rig.cluster.run_for(10)
    assert stand.gateways.route() is None
    assert "gateway" not in stand.rig.status
    stand.asked()
    await stand.rig.cluster.run_for(60)
    assert stand.asked() == []


async def test_a_deployment_without_gateway_asks_nothing_of_it_and_one_at_rest_little() -> None:
    plain = Stand()
    await plain.rig.serve_first()
    await plain.rig.name(V2)
    await plain.rig.cluster.run_until(lambda: plain.rig.stable() == V2, seconds=300)
    assert plain.asked() == []
    stand = await Stand().serve()
    await stand.rig.cluster.run_for(40)
    stand.asked()
    await stand.rig.cluster.run_for(150)
    asked = stand.asked()
    assert {verb for verb, _ in asked} == {"get"}
    assert 8 <= len(asked) <= 12, "a route and a Gateway each 30 s"


async def test_a_gateway_that_never_accepts_is_asked_less_and_less() -> None:
    stand = await Stand().serve()
    stand.gateways.deaf = True
    await stand.rig.name(V2, **SPEC)
    await stand.rig.cluster.run_for(65)
    assert stand.rig.state == "Shifting"
    assert "Gateway edge has not looked at the route as it is now." in stand.rig.words()
    stand.asked()
    await stand.rig.cluster.run_for(20)
    assert len(stand.asked()) <= 10, "two objects each 5 s"


async def test_a_route_of_somebody_else_is_left_alone_in_words() -> None:
    stand = Stand()
    await stand.gateways.make()
    theirs = {
        "apiVersion": kinds.HTTP_ROUTE.api_version,
        "kind": "HTTPRoute",
        "metadata": {"name": "rain", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "x", "weight": 1}]}]},
    }
    made = await stand.rig.world.person(theirs)
    await stand.rig.world.person(version(V1))
    await stand.rig.name(V1, **SPEC)
    await stand.rig.cluster.run_for(10)
    assert stand.rig.condition("Stalled") == ("True", "NameTaken")
    assert "HTTPRoute rain exists and is not ours" in stand.rig.words()
    await stand.rig.name(V1)
    await stand.rig.cluster.run_for(10)
    found = stand.gateways.route()
    assert found is not None and found["spec"] == made["spec"]


async def test_a_route_that_the_server_refuses_is_told_in_its_words_and_keeps_nothing_else_back() -> None:
    stand = Stand()
    await stand.gateways.make()
    refused = Invalid("Invalid", "spec.hostnames[0]: Invalid value")
    stand.rig.world.store.fail("create", refused, kind=kinds.HTTP_ROUTE, times=10**6)
    await stand.rig.world.person(version(V1))
    await stand.rig.name(V1, **SPEC)
    await stand.rig.cluster.run_for(20)
    assert stand.rig.condition("Stalled") == ("True", "Invalid")
    assert "The server refuses what the rollout needs: spec.hostnames[0]: Invalid value" in stand.rig.words()
    assert stand.rig.replicas() == {V1: 1}
    stand.rig.world.store.heal()
    await stand.rig.cluster.run_until(lambda: stand.rig.condition("Ready") == ("True", "Serving"), seconds=60)


async def test_a_cluster_without_gateway_api_says_so_in_one_sentence() -> None:
    stand = Stand()
    stand.rig.world.store.fail("get", MISSING, kind=kinds.HTTP_ROUTE, times=10**6)
    await stand.rig.world.person(version(V1))
    await stand.rig.name(V1, **SPEC)
    await stand.rig.cluster.run_for(20)
    assert stand.rig.condition("Stalled") == ("True", "GatewayApiMissing")
    words = stand.rig.words()
    assert "install its CRDs and a controller, or remove spec.traffic.gateway" in words
    assert stand.rig.world.events.messages("GatewayApiMissing") == [words]


@pytest.mark.parametrize(
    ("error", "reason"), [(Forbidden("Forbidden", "may not"), "Forbidden"), (Unavailable("Down", "is down"), "")]
)
async def test_a_route_that_cannot_be_read_keeps_no_abort_from_the_routers(error: Exception, reason: str) -> None:
    stand = await Stand().serve()
    rig = stand.rig
    analysis = {**SPEC["analysis"], "metrics": [{**CHECK, "min": "0.95"}]}  # fails: the weight stays at 5 %
    stand.source.value = None
    await rig.name(V2, **{**SPEC, "analysis": analysis})
    await rig.cluster.run_until(lambda: rig.state == "Analysing", seconds=60)
    rig.world.store.fail("get", error, kind=kinds.HTTP_ROUTE, times=10**6)  # type: ignore[arg-type]
    await rig.order("abort", **{**SPEC, "analysis": analysis})
    await rig.cluster.run_for(20)
    assert rig.state == "Withdrawing"
    assert [entry["weight"] for entry in rig.status["traffic"]] == [100, 0]
    assert rig.routers.seen_weights[-1][rig.status["canary"]["revision"]] == 0
    assert (rig.condition("Stalled") == ("True", reason)) == bool(reason)
    rig.world.store.heal()
    await rig.cluster.run_until(lambda: rig.state == "Rest", seconds=60)
