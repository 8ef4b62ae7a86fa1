"""Weights that are really sent, and the snapshot's way through its file."""

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from perennial.router.model import (
    Deployment,
    Endpoint,
    Share,
    Snapshot,
    WindowSpec,
    cluster_name,
    copy_name,
    effective_copies,
    effective_picks,
    effective_weights,
    grpc_name,
    pick_name,
    snapshot_from_json,
    split_cluster,
    split_copy,
    split_pick,
)

REVISIONS = ["aaaaaaaa", "bbbbbbbb", "cccccccc"]


def deployment(weights: dict[str, int], stable: str | None = "aaaaaaaa") -> Deployment:
    return Deployment("rain", 1, tuple(Share(r, w) for r, w in weights.items()), stable)


def ready(*revisions: str) -> set[str]:
    return {f"rain-rev-{revision}" for revision in revisions}


def test_ready_revisions_get_what_is_wanted() -> None:
    weights = {"aaaaaaaa": 95, "bbbbbbbb": 5}
    assert effective_weights(deployment(weights), ready("aaaaaaaa", "bbbbbbbb")) == weights


def test_the_share_of_an_unready_canary_goes_to_stable() -> None:
    weights = effective_weights(deployment({"aaaaaaaa": 95, "bbbbbbbb": 5}), ready("aaaaaaaa"))
    assert weights == {"aaaaaaaa": 100, "bbbbbbbb": 0}


def test_all_goes_to_the_canary_when_stable_cannot_answer() -> None:
    weights = effective_weights(deployment({"aaaaaaaa": 95, "bbbbbbbb": 5}), ready("bbbbbbbb"))
    assert weights == {"aaaaaaaa": 0, "bbbbbbbb": 100}


def test_weights_stay_when_nobody_is_ready_and_are_empty_without_traffic() -> None:
    assert effective_weights(deployment({"aaaaaaaa": 100}), ready()) == {"aaaaaaaa": 100}
    assert effective_weights(deployment({}), ready("aaaaaaaa")) == {}
    assert effective_weights(deployment({"aaaaaaaa": 0}), ready("aaaaaaaa")) == {}


@given(
    weights=st.dictionaries(st.sampled_from(REVISIONS), st.integers(0, 100), min_size=1).filter(
        lambda w: any(w.values())
    ),
    answering=st.sets(st.sampled_from(REVISIONS)),
    stable=st.sampled_from([*REVISIONS, None]),
)
def test_no_weight_is_lost_and_none_goes_where_nobody_answers(
    weights: dict[str, int], answering: set[str], stable: str | None
) -> None:
    sent = effective_weights(deployment(weights, stable), ready(*answering))
    assert sum(sent.values()) == sum(weights.values())
    assert sent.keys() == weights.keys()
    if answering & weights.keys():
        assert all(revision in answering for revision, weight in sent.items() if weight)


def test_a_snapshot_survives_its_file() -> None:
    rain = Deployment(
        "rain", 7, (Share("aaaaaaaa", 100),), "aaaaaaaa", {"aaaaaaaa": "rain-v1"}, windows=(WindowSpec(60, 5),)
    )
    rain = replace(rain, grpc_revisions=("aaaaaaaa",))
    snapshot = Snapshot(
        "team", (rain,), {"rain-rev-aaaaaaaa": (Endpoint("10.0.0.1", 8080),)}, {"rain-v1": {"rows": 1}, "rain-v0": None}
    )
    assert snapshot_from_json(orjson.loads(orjson.dumps(snapshot))) == snapshot


def test_cluster_names_come_apart_again() -> None:
    assert split_cluster("rain-rev-aaaaaaaa") == ("rain", "aaaaaaaa")
    assert split_cluster("agent") is None


def test_clusters_of_chosen_requests_are_no_revisions_and_have_the_revisions_pods() -> None:
    rain = Deployment("a-pick-b", 1, (Share("aaaaaaaa", 100),), "aaaaaaaa", canary="bbbbbbbb")
    pods = (Endpoint("10.0.0.1", 8080),)
    snapshot = Snapshot("team", (rain,), {"a-pick-b-rev-bbbbbbbb": pods})
    chosen = pick_name("a-pick-b", "bbbbbbbb")
    assert (split_cluster(chosen), split_pick(chosen)) == (None, ("a-pick-b", "bbbbbbbb"))
    assert split_pick("a-pick-b-rev-bbbbbbbb") is None and split_pick("agent") is None
    assert snapshot.clusters() == {"a-pick-b-rev-aaaaaaaa", pick_name("a-pick-b", "aaaaaaaa"), chosen}
    assert snapshot.endpoints_of(chosen) == pods
    assert effective_picks(rain, {chosen}) == {"canary": "bbbbbbbb"}


def test_a_revision_with_a_port_for_grpc_has_a_cluster_for_each_port_and_is_there_only_with_both() -> None:
    rain = Deployment("rain", 1, (Share("aaaaaaaa", 95), Share("bbbbbbbb", 5)), "aaaaaaaa", canary="bbbbbbbb")
    rain = replace(rain, grpc_revisions=("bbbbbbbb",), copies_to="bbbbbbbb", copy_percent=50)
    pods, second = (Endpoint("10.0.0.1", 8080),), (Endpoint("10.0.0.1", 8081),)
    found = {"rain-rev-aaaaaaaa": pods, "rain-rev-bbbbbbbb": pods, "rain-rev-bbbbbbbb-grpc": second}
    snapshot = Snapshot("team", (rain,), found)
    both = [name(rain.name, "bbbbbbbb") for name in (cluster_name, pick_name, copy_name)]
    for cluster, split in zip(both, (split_cluster, split_pick, split_copy), strict=True):
        assert split(cluster) == split(grpc_name(cluster)) == ("rain", "bbbbbbbb")
        assert (snapshot.endpoints_of(cluster), snapshot.endpoints_of(grpc_name(cluster))) == (pods, second)
    single = {"rain-rev-aaaaaaaa", "rain-pick-aaaaaaaa"}
    everything = single | {*both, *map(grpc_name, both)}
    assert snapshot.clusters() == everything
    assert effective_weights(rain, everything) == {"aaaaaaaa": 95, "bbbbbbbb": 5}
    assert effective_weights(rain, single | set(both)) == {"aaaaaaaa": 100, "bbbbbbbb": 0}
    assert effective_picks(rain, single | set(both)) == {"stable": "aaaaaaaa"}
    unweighted = replace(rain, traffic=(Share("aaaaaaaa", 100), Share("bbbbbbbb", 0)))
    assert effective_copies(unweighted, everything) == "bbbbbbbb"
    assert effective_copies(unweighted, single | set(both)) is None


def test_a_canary_that_stands_in_for_a_lost_stable_gets_no_copies_of_what_it_answers() -> None:
    rain = replace(deployment({"aaaaaaaa": 100, "bbbbbbbb": 0}), copies_to="bbbbbbbb", copy_percent=50)
    canary = {"rain-rev-bbbbbbbb", copy_name("rain", "bbbbbbbb")}
    assert effective_copies(rain, ready("aaaaaaaa") | canary) == "bbbbbbbb"
    assert effective_copies(rain, canary) is None
    assert effective_copies(rain, ready("aaaaaaaa", "bbbbbbbb")) is None  # Envoy does not have that cluster yet


@given(seconds=st.integers(1, 10**6), offset=st.integers(-(10**6), 10**6), moment=st.floats(0, 4e9))
def test_a_window_holds_its_moment(seconds: int, offset: int, moment: float) -> None:
    start = WindowSpec(seconds, offset).start_of(moment)
    assert start <= moment < start + seconds
    assert (start - offset) % seconds == 0
