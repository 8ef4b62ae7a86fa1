"""Rollouts through Gateway API: a weight counts when every parent has accepted the route that carries it."""

from typing import Any

import pytest

from perennial.domain.rollout.metrics import MetricFinding, Outcome
from perennial.domain.rollout.plan import ApplyRoute, DeleteRoute
from tests.unit.rollout.play import Play, spec_of, started, target
from tests.unit.rollout.test_smoke import SAMPLES, runs, said
from tests.unit.rollout.toy_gateway import ToyGateway, gateway

A, B = "aaaaaaaa", "bbbbbbbb"
ASK = {"parentRefs": [{"name": "edge"}], "hostnames": ["rain.example.org"]}
PASSED = (MetricFinding("errors", Outcome.PASSED, "0.001", passed_looks=3),)


def play_of(edge: ToyGateway | None = None, **spec: Any) -> Play:
    """A deployment with a Gateway, before its first pass."""
    analysis = {"warmupSeconds": 0, **spec.pop("analysis", {})}
    asked = spec_of(gateway=spec.pop("gateway", ASK), analysis=analysis, **spec)
    return Play(spec=asked, edge=edge or ToyGateway(), more={"metrics": PASSED})


def canary(**spec: Any) -> Play:
    """Stable serves; the Gateway has not looked at the route with the canary's first weight yet."""
    spec.setdefault("steps", [{"weight": 5, "holdSeconds": 1000}, {"weight": 50}])
    play = play_of(**spec).begin()
    edge_of(play).quiet = True
    play.settle()
    assert (play.state, edge_of(play).weights) == ("Shifting", {A: 95, B: 5})
    return play


def edge_of(play: Play) -> ToyGateway:
    assert play.edge is not None
    return play.edge


def progress(play: Play) -> str:
    return next(str(c["message"]) for c in play.status["conditions"] if c["type"] == "Progressing")


def test_the_route_carries_every_weight_of_a_rollout_and_none_that_is_zero() -> None:
    play = play_of().begin()
    play.tick(20)
    assert play.recorded.stable is not None and play.recorded.stable.revision == B
    assert edge_of(play).written == [{A: 100}, {A: 95, B: 5}, {A: 75, B: 25}, {A: 50, B: 50}, {B: 100}]
    assert play.status["gateway"]["accepted"] is True
    assert play.condition("Ready") == ("True", "Serving")


def test_the_first_revision_is_ready_when_the_gateway_has_accepted_its_route() -> None:
    play = play_of(ToyGateway(quiet=True))
    play.tick(20)
    assert (play.state, edge_of(play).weights) == ("Shifting", {A: 100})
    assert 'Gateway edge says nothing of the route yet: a controller of GatewayClass "edge-class"' in play.words()
    assert play.condition("Ready")[0] == "False"
    edge_of(play).look()
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_a_step_waits_in_words_until_the_gateway_has_looked_at_this_very_route() -> None:
    play = canary()
    play.tick(20)
    assert play.state == "Shifting"
    assert "routers confirm 5%" in play.words()
    assert "Gateway edge has not looked at the route as it is now." in play.words()
    assert play.status["gateway"] == {
        "accepted": False,
        "message": "Gateway edge has not looked at the route as it is now.",
    }
    edge_of(play).look()
    play.settle()
    assert play.state == "Analysing"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (
            {"Accepted": ("False", "NotAllowedByListeners", "No listener takes it.")},
            "Gateway edge has not accepted the route: NotAllowedByListeners: No listener takes it; let the listener's "
            "allowedRoutes take HTTPRoutes of this namespace.",
        ),
        (
            {"ResolvedRefs": ("False", "BackendNotFound", "no such\n Service")},
            "Gateway edge cannot resolve the route: BackendNotFound: no such Service; correct the Gateway or",
        ),
        (
            {"PartiallyInvalid": ("True", "UnsupportedValue", "dropped a rule")},
            "Gateway edge takes only a part of the route: UnsupportedValue: dropped a rule; correct",
        ),
    ],
)
def test_a_parent_that_objects_stops_the_step_with_its_own_words(says: dict[str, Any], words: str) -> None:
    play = canary()
    edge_of(play).says = says
    edge_of(play).look()
    play.tick(5)
    assert play.state == "Shifting"
    assert words in play.words()
    assert words in play.status["gateway"]["message"]
    edge_of(play).says = {}
    edge_of(play).look()
    play.settle()
    assert play.state == "Analysing"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "Gateway edge does not exist in this namespace: make it, or name another one"),
        (
            gateway({"type": "Programmed", "status": "False", "reason": "AddressNotAssigned", "message": "wait."}),
            "Gateway edge is not programmed: AddressNotAssigned: wait.",
        ),
    ],
)
def test_a_gateway_that_is_not_there_or_not_programmed_stops_everything_in_words(found: Any, words: str) -> None:
    play = play_of(ToyGateway(gateways={"edge": found}))
    play.tick(10)
    assert play.state == "Shifting"
    assert words in play.words()
    assert play.recorded.stable is None


def test_every_parent_must_accept() -> None:
    asked = {"parentRefs": [{"name": "edge", "sectionName": "https"}, {"name": "inner", "port": 80}]}
    play = play_of(ToyGateway(gateways={"edge": gateway()}), gateway=asked)
    play.tick(5)
    assert "Gateway inner does not exist" in play.words()
    assert "Gateway edge" not in play.words()
    edge_of(play).gateways["inner"] = gateway()
    play.tick(5)
    assert "Gateway inner says nothing of the route yet" in play.words()
    edge_of(play).look()
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_what_another_controller_once_said_of_a_parent_holds_nothing_up() -> None:
    play = canary()
    route = edge_of(play).route
    assert route is not None
    stale = route["status"]["parents"][0]
    edge_of(play).look()
    route["status"]["parents"].insert(0, {**stale, "controllerName": "example.org/gone"})
    play.settle()
    assert play.state == "Analysing"


def test_a_route_that_somebody_changes_comes_back_and_the_canary_gets_no_further_meanwhile() -> None:
    play = started_with_edge(steps=[{"weight": 5, "holdSeconds": 10}, {"weight": 50}])
    edge, route = edge_of(play), edge_of(play).route
    assert route is not None
    edge.quiet = True
    changed = {**route["spec"], "rules": [{**route["spec"]["rules"][0], "filters": [{"type": "RequestRedirect"}]}]}
    edge.put(changed, route["status"])
    play.tick(20)
    assert edge.route is not None and edge.route["spec"] == route["spec"]
    assert play.state == "Analysing"
    assert "The canary stays at 5%, because the Gateway does not: Gateway edge has not looked" in play.words()
    edge.look()
    play.tick(2)
    assert play.recorded.weight_of(B) == 50


def test_other_weights_of_somebody_are_put_right_and_a_removed_route_is_made_again() -> None:
    play = play_of()
    play.settle()
    edge, route = edge_of(play), edge_of(play).route
    assert route is not None
    other = {**route["spec"]["rules"][0]["backendRefs"][0], "name": f"rain-rev-{B}", "weight": 900}
    refs = [*route["spec"]["rules"][0]["backendRefs"], other]
    edge.put({**route["spec"], "rules": [{**route["spec"]["rules"][0], "backendRefs": refs}]}, None)
    play.tick()
    assert edge.weights == {A: 100}
    edge.route = None
    play.tick()
    assert edge.weights == {A: 100}
    edge.put({**route["spec"], "hostnames": ["other.example.org"]}, None)
    play.tick()
    assert edge.route is not None and edge.route["spec"]["hostnames"] == ["rain.example.org"]
    assert play.condition("Ready") == ("True", "Serving")


def test_without_the_api_one_sentence_stalls_and_nothing_serves_through_it() -> None:
    play = play_of(ToyGateway(installed=False))
    play.tick(10)
    assert play.condition("Stalled") == ("True", "GatewayApiMissing")
    assert play.words().startswith("Gateway API (gateway.networking.k8s.io/v1) is not installed in this cluster")
    assert play.recorded.stable is None
    assert not any(isinstance(action, ApplyRoute) for action in play.actions)
    play.spec = spec_of(analysis={"warmupSeconds": 0})
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")
    assert "gateway" not in play.status


def test_a_route_of_somebody_else_is_never_touched() -> None:
    play = play_of(ToyGateway(stranger=True))
    play.tick(10)
    assert play.condition("Stalled") == ("True", "NameTaken")
    assert "HTTPRoute rain exists and is not ours" in play.words()
    play.spec = spec_of()
    play.settle()
    assert not any(isinstance(action, ApplyRoute | DeleteRoute) for action in play.actions)


def test_an_abort_writes_weight_zero_at_once_and_the_canarys_pods_stay_until_the_gateway_has_it() -> None:
    play = canary()
    edge = edge_of(play)
    play.order("abort")
    assert edge.weights == {A: 100}, "in the pass that follows the abort"
    play.tick(20)
    assert (play.state, play.revisions[B].replicas) == ("Withdrawing", 1)
    assert (
        "Its pods stay until the Gateway sends them nothing: Gateway edge has not looked at the route" in play.words()
    )
    edge.look()
    play.settle()
    assert play.state == "Rest"
    play.tick(20)
    assert play.revisions[B].replicas == 1, "the usual delay begins when it is confirmed"
    play.tick(20)
    assert play.revisions[B].replicas == 0


def test_an_abort_ends_when_gateway_api_is_gone_with_all_its_routes() -> None:
    play = canary()
    edge_of(play).installed = False
    play.order("abort")
    play.settle()
    assert play.state == "Rest"
    assert play.condition("Stalled") == ("True", "GatewayApiMissing")


def test_a_failing_metric_aborts_also_while_the_gateway_does_not_follow() -> None:
    play = started_with_edge()
    edge_of(play).gateways["edge"] = gateway({"type": "Programmed", "status": "False"})
    play.more["metrics"] = (MetricFinding("errors", Outcome.FAILED, "0.5 is above 0.1", 3),)
    play.tick(1)
    assert edge_of(play).weights == {A: 100}
    assert "CanaryFailed" in play.reasons()


def test_a_gateway_that_is_lost_later_ends_ready_and_keeps_old_pods() -> None:
    play = play_of(scaleDownDelaySeconds=30).begin()
    play.tick(20)
    edge_of(play).gateways["edge"] = None
    play.tick(40)
    assert play.condition("Ready") == ("False", "GatewayNotReady")
    assert "Gateway edge does not exist" in play.words()
    assert play.revisions[A].replicas == 1, "a Gateway that does not follow may still send it requests"
    edge_of(play).gateways["edge"] = gateway()
    play.tick(40)
    assert play.revisions[A].replicas == 0
    assert play.condition("Ready") == ("True", "Serving")


def test_a_gateway_that_is_asked_for_later_is_ready_when_it_follows() -> None:
    play = Play(spec=spec_of(), edge=ToyGateway(quiet=True))
    play.settle()
    play.spec = spec_of(gateway=ASK)
    play.settle()
    assert play.condition("Ready") == ("False", "GatewayNotReady")
    edge_of(play).look()
    play.settle()
    assert play.condition("Ready") == ("True", "Serving")


def test_a_route_is_recorded_before_it_is_made() -> None:
    play = Play(spec=spec_of(), edge=ToyGateway())
    play.settle()
    play.spec = spec_of(gateway=ASK)
    play.step()
    assert "gateway" in play.status and edge_of(play).route is None
    play.step()
    assert edge_of(play).route is not None


def test_a_gateway_that_is_no_longer_asked_for_leaves_no_route() -> None:
    play = play_of()
    play.settle()
    assert edge_of(play).route is not None
    play.spec = spec_of()
    play.settle()
    assert edge_of(play).route is None
    assert "gateway" not in play.status
    assert play.condition("Ready") == ("True", "Serving")


def test_the_route_goes_when_nothing_serves() -> None:
    play = play_of(ToyGateway(quiet=True))
    play.settle()
    assert edge_of(play).route is not None
    play.target = target("cccccccc")
    play.step()
    play.step()
    assert edge_of(play).route is None, "the first revision is withdrawn, and there is no other"
    edge_of(play).quiet = False
    play.settle()
    assert edge_of(play).weights == {"cccccccc": 100}


def test_a_route_stays_while_the_deployments_behind_it_are_not_seen() -> None:
    play = play_of()
    play.settle()
    seen, play.revisions = play.revisions, {}
    play.step()
    assert edge_of(play).weights == {A: 100}, "what is not seen may be there"
    play.revisions = seen
    play.settle()
    assert edge_of(play).written == [{A: 100}]


def test_a_revision_without_a_ready_pod_is_left_out_as_the_routers_do() -> None:
    play = started_with_edge()
    assert edge_of(play).weights == {A: 95, B: 5}
    play.lose(B)
    play.tick(1)
    assert edge_of(play).weights == {A: 100}
    assert "because the Gateway does not: A revision with weight has no ready pod" in play.words()
    play.recover(B)
    play.tick(1)
    assert edge_of(play).weights == {A: 95, B: 5}
    play.lose(A)
    play.tick(1)
    assert edge_of(play).weights == {B: 100}


def test_a_route_that_cannot_be_read_holds_and_is_not_written() -> None:
    play = canary()
    edge_of(play).look()
    edge_of(play).unreadable = "the API server does not answer"
    written = len(edge_of(play).written)
    play.tick(20)
    assert play.state == "Shifting"
    assert "The HTTPRoute cannot be read: the API server does not answer" in play.words()
    assert len(edge_of(play).written) == written
    edge_of(play).unreadable = None
    play.settle()
    assert play.state == "Analysing"


def test_the_rollout_goes_by_metrics_without_any_counted_request() -> None:
    play = started_with_edge(steps=[{"weight": 5}, {"weight": 50, "holdSeconds": 20}])
    play.per_second = 0
    play.more["metrics"] = (MetricFinding("errors", Outcome.PASSED, "0.001", passed_looks=2),)
    play.tick(20)
    assert play.recorded.weight_of(B) == 5
    assert play.words() == (
        "Requests through the Gateway are not counted: metrics decide; "
        "errors is 0.001 and passed 2 of 3 looks in a row."
    )
    assert play.status["rollout"]["etaSeconds"] == 10 + 20
    play.more["metrics"] = PASSED
    play.tick(2)
    assert play.recorded.weight_of(B) == 50
    assert "waiting for holdSeconds of this step" in play.words()
    play.tick(25)
    assert play.recorded.stable is not None and play.recorded.stable.revision == B


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.NO_DATA, Outcome.FAILED])
def test_a_metric_that_does_not_pass_holds_until_max_seconds_and_then_a_person_decides(outcome: Outcome) -> None:
    play = started_with_edge(analysis={"maxSeconds": 20})
    play.more["metrics"] = (MetricFinding("errors", outcome, "why", failed_looks=2, passed_looks=0),)
    play.tick(19)
    assert (play.state, play.recorded.weight_of(B)) == ("Analysing", 5)
    play.tick(5)
    assert (play.state, play.recorded.weight_of(B)) == ("Holding", 5)
    play.order("promote")
    play.settle()
    assert play.recorded.stable is not None and play.recorded.stable.revision == B


def test_no_metric_that_was_looked_at_promotes_nothing() -> None:
    play = started_with_edge()
    play.more["metrics"] = ()
    play.tick(20)
    assert (play.state, play.recorded.weight_of(B)) == ("Analysing", 5)
    assert "no metric was looked at yet" in play.words()


def test_sample_inputs_come_before_the_route_knows_the_canary() -> None:
    play = play_of(smoke={"requests": 400}).begin(samples=SAMPLES)
    play.replay = runs
    play.tick(3)
    assert (play.state, edge_of(play).written) == ("Smoke", [{A: 100}])
    play.replay = said(sent=400, good=400)
    play.tick(20)
    assert play.recorded.stable is not None and play.recorded.stable.revision == B
    assert "SmokePassed" in play.reasons()


def test_callers_inside_the_cluster_may_still_abort() -> None:
    play = started_with_edge(steps=[{"weight": 50, "holdSeconds": 1000}])
    play.error_rates[B] = 0.5
    play.tick(20)
    assert "CanaryFailed" in play.reasons()
    assert "inside the cluster" in next(n.message for n in play.events if n.reason == "CanaryFailed")
    assert edge_of(play).weights == {A: 100}


def test_a_canary_that_fails_inside_the_cluster_gets_no_further_by_its_metrics() -> None:
    steps = [{"weight": 5, "holdSeconds": 5}, {"weight": 50}]
    play = started_with_edge(steps=steps, analysis={"minFailures": 1000})
    play.error_rates[B] = 0.5
    play.tick(20)
    assert play.recorded.weight_of(B) == 5
    assert "the evidence leans towards too many failures" in play.words()


def started_with_edge(**spec: Any) -> Play:
    """A canary at its first weight, which its Gateway has accepted."""
    spec.setdefault("steps", [{"weight": 5, "holdSeconds": 1000}, {"weight": 50}])
    play = play_of(**spec).begin()
    play.more["metrics"] = ()
    play.settle()
    play.more["metrics"] = PASSED
    assert play.state == "Analysing"
    return play


def test_without_a_gateway_nothing_is_said_of_one() -> None:
    assert "gateway" not in started().status
