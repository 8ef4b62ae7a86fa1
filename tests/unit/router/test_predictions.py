"""Predictions of both arms, counted by the same bins and never as values."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from perennial.domain.drift.baseline import parse_baseline
from perennial.router.assemble import needed_versions, read_deployment
from perennial.router.counters import plan_of
from perennial.router.model import Deployment, Share, Snapshot, WindowSpec
from perennial.router.observer import METADATA, Observer
from perennial.router.parse import parse_response
from perennial.router.predictions import Compared

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
FEATURE = {"name": "a", "kind": "Numeric", "edges": ["0"], "counts": [1, 1]}
NUMBERS = {"name": "prediction", "kind": "Numeric", "edges": ["0", "1"], "low": "-5", "high": "5", "counts": [1, 1, 1]}
CLASSES = {"name": "prediction", "kind": "Categorical", "categories": ["0", "1"], "counts": [1, 1, 0]}


def compared(prediction: dict[str, Any] | None = NUMBERS) -> Compared:
    baseline = {"rows": 3, "features": [FEATURE], **({"prediction": prediction} if prediction else {})}
    return Compared(plan_of(parse_baseline(baseline)), stable=STABLE, canary=CANARY)


def counts(arms: Compared, revision: str) -> dict[str, Any]:
    return {key: value for key, value in arms.to_json()[revision].items() if key != "bins"}


def test_values_fall_into_the_bins_of_the_baseline() -> None:
    arms = compared()
    for value in (-0.5, 0, 0.5, 1.0, 900, True):
        arms.count(CANARY, [value], stream=False)
    assert counts(arms, CANARY)["counts"] == [1, 2, 3]
    classes = compared(CLASSES)
    for value in ("1", 1, 1.0, "0", "new"):
        classes.count(STABLE, [value], stream=False)
    assert counts(classes, STABLE)["counts"] == [1, 3, 1]


@pytest.mark.parametrize("value", [None, nan, inf, -inf, "text"])
def test_what_is_no_finite_number_is_a_null(value: Any) -> None:
    arms = compared()
    arms.count(CANARY, [value], stream=False)
    arms.count(CANARY, [0.5, value], stream=False)  # nowhere in an answer
    found = counts(arms, CANARY)
    assert (found["rows"], found["nulls"], sum(found["counts"])) == (2, 2, 0)


def test_one_row_of_each_answer_counts_in_turn() -> None:
    arms = compared()
    for _ in range(4):
        arms.count(STABLE, [-1.0, 2.0], stream=False)
    assert counts(arms, STABLE)["counts"] == [2, 0, 2]


def test_a_constant_canary_shows_without_a_value_leaving() -> None:
    arms = compared()
    for value in (0.1, 0.2, 0.5, 0.3):
        arms.count(CANARY, [0.5], stream=False)
        arms.count(STABLE, [value], stream=False)
    mine, other = counts(arms, CANARY), counts(arms, STABLE)
    assert (mine["same"], mine["other"]) == (3, 0)
    assert (other["same"], other["other"]) == (1, 3)
    assert all(isinstance(number, int) for key, number in mine.items() if key != "counts")


def test_texts_and_numbers_without_a_baseline_fall_into_cells_that_routers_can_add() -> None:
    arms, another = compared(None), compared(None)
    for value in ("low", "high", 3.5):
        arms.count(CANARY, [value], stream=False)
    for value in (3.6, "high", "low"):
        another.count(CANARY, [value], stream=False)
    assert counts(arms, CANARY)["counts"] == counts(another, CANARY)["counts"]
    assert arms.bins == "grid" and len([n for n in counts(arms, CANARY)["counts"] if n]) == 3


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_json_with_words_that_json_does_not_have_is_read(word: str) -> None:
    body = f'{{"outputs": [{{"name": "y", "shape": [2], "datatype": "FP64", "data": [1.5, {word}]}}]}}'
    assert str(parse_response(body.encode(), 32)) == str([1.5, float(word)])
    classes = f'{{"predictions": [[0.1, 0.7, 0.2], [0.1, {word}, 0.2]]}}'
    assert parse_response(classes.encode(), 32) == ["1", None]


def deployment(**changes: Any) -> Deployment:
    made = Deployment(
        "rain",
        traffic=(Share(STABLE, 75), Share(CANARY, 25)),
        stable=STABLE,
        versions={STABLE: "rain-r1"},
        predictions=True,
    )
    return replace(made, **changes)


def entry(revision: str, answer: str | None = "eyJwcmVkaWN0aW9ucyI6WzFdfQ==", **noted: str) -> Any:
    made = HTTPAccessLogEntry()
    made.common_properties.upstream_cluster = f"rain-rev-{revision}"
    made.response.response_code.value = 200
    fields = made.common_properties.metadata.filter_metadata[METADATA].fields
    for key, value in {**({"r": answer} if answer is not None else {}), **noted}.items():
        fields[key].string_value = value
    return made


def observed(observer: Observer, *entries: Any) -> dict[str, Any]:
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(entries)
    observer.consume(message, 1e6)
    arms = observer.counts["rain"].compared
    return {} if arms is None else {revision: counts(arms, revision) for revision in (STABLE, CANARY)}


def following(made: Deployment, baselines: dict[str, Any] | None = None) -> Observer:
    observer = Observer()
    observer.follow(Snapshot("default", (made,), baselines={"rain-r1": None} if baselines is None else baselines))
    return observer


def test_both_arms_are_counted_without_any_drift_policy() -> None:
    found = observed(following(deployment()), entry(STABLE), entry(CANARY), entry(CANARY, "e30="), entry(CANARY, s=""))
    assert (found[STABLE]["rows"], found[CANARY]["rows"]) == (1, 1)
    assert (found[CANARY]["unparsed"], found[CANARY]["streams"]) == (1, 1)


def test_a_long_request_hides_no_answer_and_a_long_answer_is_unparsed() -> None:
    found = observed(following(deployment()), entry(CANARY, t=""), entry(CANARY, None, q="e30=", t=""))
    assert (found[CANARY]["rows"], found[CANARY]["unparsed"]) == (1, 1)


def test_requests_that_are_not_to_be_observed_are_in_no_count() -> None:
    found = observed(following(deployment()), entry(CANARY, n=""))
    assert sum(sum(n) if isinstance(n, list) else n for n in found[CANARY].values()) == 0


@pytest.mark.parametrize(
    "made",
    [
        deployment(predictions=False),
        deployment(traffic=(Share(STABLE, 100), Share(CANARY, 0))),
        deployment(traffic=(Share(CANARY, 100),)),
    ],
    ids=["not asked for", "no weight", "no stable"],
)
def test_nothing_is_compared_unless_asked_for_and_both_have_weight(made: Deployment) -> None:
    assert made.compared is None
    assert observed(following(made), entry(STABLE)) == {}


def test_counting_waits_for_the_baseline_and_goes_on_through_other_weights() -> None:
    observer = following(deployment(), baselines={})
    assert observed(observer, entry(STABLE)) == {}
    known = Snapshot("default", (deployment(),), baselines={"rain-r1": None})
    observer.follow(known)
    assert observed(observer, entry(STABLE))[STABLE]["rows"] == 1
    more = deployment(traffic=(Share(STABLE, 50), Share(CANARY, 50)), windows=(WindowSpec(60, 0),))
    observer.follow(replace(known, deployments=(more,)))
    assert observed(observer, entry(STABLE))[STABLE]["rows"] == 2
    observer.restart()
    assert observed(observer, entry(STABLE))[STABLE]["rows"] == 1, "a new Envoy, new counters"


def test_the_check_is_read_from_the_spec_and_asks_for_the_baseline() -> None:
    made = read_deployment(
        {
            "metadata": {"name": "rain"},
            "spec": {"rollout": {"analysis": {"predictions": {"maxDistance": "0.2"}}}},
            "status": {"stable": {"revision": STABLE, "version": "rain-r1"}},
        }
    )
    assert made.predictions and needed_versions([made]) == {"rain-r1"}
