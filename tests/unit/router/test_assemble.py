"""From Kubernetes objects to what the router follows."""

from typing import Any

from perennial.router.assemble import assemble, read_deployment, read_policy, read_slice
from perennial.router.model import Endpoint, Share, Snapshot, WindowSpec


def assembled(deployments: Any = (), slices: Any = (), policies: Any = (), baselines: Any = None) -> Snapshot:
    """The Snapshot of these objects."""
    parts = (map(read_deployment, deployments), map(read_slice, slices), map(read_policy, policies))
    return assemble("team", *parts, baselines or {})


def piece(service: str, *addresses: str, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        **changes,
    }


def policy(name: str, seconds: int, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"deploymentRef": {"name": "rain"}, "window": {"seconds": seconds}, **spec},
    }


MDEP = {
    "metadata": {"name": "rain"},
    "spec": {
        "traffic": {"timeoutSeconds": 5, "retries": 2},
        "observation": {"samplePercent": 10, "maxBodyBytes": 99, "maxRowsPerRequest": 3},
        "rollout": {"analysis": {"latency": {"maxMilliseconds": 200}}},
    },
    "status": {
        "stable": {"revision": "aaaaaaaa", "version": "rain-v1"},
        "canary": {"revision": "bbbbbbbb", "version": "rain-v2"},
        "traffic": [{"revision": "aaaaaaaa", "weight": 95}, {"revision": "bbbbbbbb", "weight": 5}],
        "trafficVersion": 4,
    },
}


def test_reads_everything_of_a_deployment() -> None:
    baselines = {"rain-v1": {"rows": 1}, "rain-v0": {"rows": 0}}
    snapshot = assembled([MDEP], [], [policy("p", 60)], baselines)
    (rain,) = snapshot.deployments
    assert rain.traffic == (Share("aaaaaaaa", 95), Share("bbbbbbbb", 5))
    assert (rain.traffic_version, rain.stable) == (4, "aaaaaaaa")
    assert (rain.timeout_seconds, rain.retries, rain.latency_limit_ms) == (5, 2, 200)
    assert (rain.sample_percent, rain.max_body_bytes, rain.max_rows) == (10, 99, 3)
    assert rain.versions == {"aaaaaaaa": "rain-v1", "bbbbbbbb": "rain-v2"}
    assert snapshot.baselines == {"rain-v1": {"rows": 1}}  # v2 is not fetched yet, v0 is not needed


def test_a_deployment_that_the_operator_has_not_seen_yet_has_no_traffic() -> None:
    (rain,) = assembled([{"metadata": {"name": "rain"}, "spec": {}}]).deployments
    assert (rain.traffic, rain.stable, rain.traffic_version) == ((), None, 0)


def test_requests_may_choose_while_a_rollout_is_in_progress_that_is_not_being_withdrawn() -> None:
    def chosen(state: str | None, **traffic: Any) -> dict[str, str]:
        rollout = {"rollout": {"targetRevision": "bbbbbbbb", "state": state}} if state else {}
        obj = {**MDEP, "spec": {"traffic": traffic}, "status": {**MDEP["status"], **rollout}}
        return read_deployment(obj).arms_to_pick()

    both = {"canary": "bbbbbbbb", "stable": "aaaaaaaa"}
    for state in ("Scaling", "Shifting", "Analysing", "Approval", "Holding", "Replacing"):
        assert chosen(state, override=True) == both, state
    assert chosen("Withdrawing", override=True) == chosen(None, override=True) == chosen("Analysing") == {}
    first = {**MDEP, "spec": {"traffic": {"override": True}}, "status": {"rollout": {"targetRevision": "bbbbbbbb"}}}
    assert read_deployment(first).arms_to_pick() == {}  # nothing to choose from


def test_a_canary_without_weight_beside_a_stable_gets_copies_until_it_is_withdrawn() -> None:
    def copied(state: str, weight: int = 0, percent: int = 30, **rollout: Any) -> tuple[str | None, int]:
        going = {"targetRevision": "bbbbbbbb", "state": state, **rollout}
        traffic = [{"revision": "aaaaaaaa", "weight": 100 - weight}, {"revision": "bbbbbbbb", "weight": weight}]
        status = {**MDEP["status"], "traffic": traffic, "rollout": going}
        found = read_deployment({**MDEP, "spec": {"rollout": {"mirrorPercent": percent}}, "status": status})
        return found.copies_to, found.copy_percent

    assert copied("Scaling") == copied("Analysing") == copied("Holding") == ("bbbbbbbb", 30)
    nobody = (None, 0)
    assert copied("Approval") == nobody  # its inputs differ
    assert copied("Withdrawing") == copied("Analysing", weight=5) == copied("Analysing", percent=0) == nobody
    assert copied("Scaling", replacing=True) == nobody


def test_a_canary_gets_no_copies_before_its_sample_inputs() -> None:
    def copied(state: str, **rollout: Any) -> str | None:
        going = {"targetRevision": "bbbbbbbb", "state": state, **rollout}
        traffic = [{"revision": "aaaaaaaa", "weight": 100}, {"revision": "bbbbbbbb", "weight": 0}]
        asked = {"mirrorPercent": 30, "smoke": {"requests": 9}}
        status = {**MDEP["status"], "traffic": traffic, "rollout": going}
        return read_deployment({**MDEP, "spec": {"rollout": asked}, "status": status}).copies_to

    waiting, over = {"over": False}, {"over": True}
    assert copied("Scaling") is copied("Smoke", smoke=waiting) is copied("Holding", smoke=waiting) is None
    assert copied("Scaling", smoke=over) == copied("Analysing", smoke=over) == "bbbbbbbb"
    assert copied("Analysing") == "bbbbbbbb"  # it was asked for only when copies were sent already


def test_windows_are_those_of_policies_that_read_observations() -> None:
    policies = [
        policy("day", 86400),
        policy("same", 86400),
        policy("explicit", 60, source={"observations": {}}),
        policy("prometheus", 30, source={"prometheus": {"query": "up"}}),
        {"metadata": {"name": "other"}, "spec": {"deploymentRef": {"name": "fog"}, "window": {"seconds": 5}}},
    ]
    (rain,) = assembled([MDEP], policies=policies).deployments
    assert rain.windows == (WindowSpec(60, 0), WindowSpec(86400, 0))


def test_endpoints_are_the_ready_pods_on_the_http_port() -> None:
    service = "rain-rev-aaaaaaaa"
    unready = [{"addresses": ["10.0.0.9"], "conditions": {"ready": False, "serving": True, "terminating": True}}]
    slices = [
        piece(service, "10.0.0.2", "10.0.0.1"),
        piece(service, "10.0.0.1", "10.0.0.3", ports=[{"port": 8080}]),
        piece(service, endpoints=unready),
        piece("rain-rev-bbbbbbbb", endpoints=None),
        piece("somebody", "10.0.0.4"),
        piece("rain-rev-cccccccc", "name.example", addressType="FQDN"),
        piece("rain-rev-dddddddd", "10.0.0.5", ports=[]),
    ]
    found = assembled(slices=slices).endpoints
    hosts = tuple(Endpoint(f"10.0.0.{last}", 8080) for last in (1, 2, 3))
    assert found == {service: hosts, "rain-rev-bbbbbbbb": ()}


def test_an_endpoint_without_conditions_is_ready() -> None:
    found = assembled(slices=[piece("rain-rev-aaaaaaaa", endpoints=[{"addresses": ["10.0.0.1"]}])])
    assert found.endpoints["rain-rev-aaaaaaaa"] == (Endpoint("10.0.0.1", 8080),)


def test_each_revision_has_the_name_that_its_own_slices_tell() -> None:
    told = piece("rain-rev-bbbbbbbb", "10.0.0.2")
    told["metadata"]["labels"]["perennial.dev/served-name"] = "forecast"
    fog = {**MDEP, "metadata": {"name": "fog"}}
    found = assembled([MDEP, fog], [piece("rain-rev-aaaaaaaa", "10.0.0.1"), told])
    assert {d.name: d.served_names for d in found.deployments} == {"fog": {}, "rain": {"bbbbbbbb": "forecast"}}


def test_a_second_port_takes_grpc_of_the_revisions_that_have_one() -> None:
    two = [{"name": "grpc", "port": 8081}, {"name": "http", "port": 8080}]
    slices = [
        piece("rain-rev-aaaaaaaa", "10.0.0.1"),
        piece("rain-rev-bbbbbbbb", "10.0.0.2", ports=two),
        piece("rain-rev-bbbbbbbb", "10.0.0.3", ports=two),
        piece("rain-rev-cccccccc", "10.0.0.4", ports=[{"name": "grpc", "port": 9000}]),  # one port, whatever its name
        piece("rain-rev-dddddddd-grpc", "10.0.0.5"),
    ]
    found = assembled([MDEP], slices)
    assert [d.grpc_revisions for d in found.deployments] == [("bbbbbbbb",)]
    assert {cluster: [(e.address[-1], e.port) for e in there] for cluster, there in found.endpoints.items()} == {
        "rain-rev-aaaaaaaa": [("1", 8080)],
        "rain-rev-bbbbbbbb": [("2", 8080), ("3", 8080)],
        "rain-rev-bbbbbbbb-grpc": [("2", 8081), ("3", 8081)],
        "rain-rev-cccccccc": [("4", 9000)],
    }
