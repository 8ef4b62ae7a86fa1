"""Which value is counted where, and in which window."""

from bisect import bisect_right
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.drift.baseline import build_baseline, parse_baseline
from perennial.domain.drift.grid import GRID_EDGES
from perennial.router.counters import GRID, CategoryBins, NumericBins, Window, WindowSeries, plan_of
from perennial.router.model import WindowSpec
from perennial.router.parse import Table, Unparsed

BASELINE = parse_baseline(
    {
        "features": [
            {"name": "a", "kind": "Numeric", "edges": ["0", "1"], "low": "-1", "high": "2", "counts": [1, 1, 1]},
            {"name": "b", "kind": "Categorical", "categories": ["high", "low"], "counts": [1, 1, 1]},
        ],
        "prediction": {"kind": "Numeric", "edges": ["0.5"], "counts": [1, 1]},
    }
)
PLAN = plan_of(BASELINE)


def window() -> Window:
    return Window(0, "aaaaaaaa", PLAN)


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3), st.floats(allow_nan=True), st.text(max_size=1)), max_size=40))
def test_every_value_is_counted_once(values: list[object]) -> None:
    bins = NumericBins((0.0, 1.0), -1.0, 2.0)
    tally = bins.tally()
    bins.count(tally, values)
    numbers = [v for v in values if isinstance(v, (int, float)) and v == v]
    assert sum(tally.counts) == len(numbers)
    assert tally.nulls == len(values) - len(numbers)
    assert tally.counts == [sum(bisect_right((0.0, 1.0), v) == place for v in numbers) for place in range(3)]
    assert tally.zeros == sum(v == 0 for v in numbers)
    assert (tally.below, tally.above) == (sum(v < -1 for v in numbers), sum(v > 2 for v in numbers))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=60),
    st.lists(st.sampled_from(["x", "y", "z"]), min_size=30, max_size=30),
)
def test_the_reference_rows_fall_into_the_bins_that_the_baseline_says(numbers: list[float], texts: list[str]) -> None:
    rows = len(texts)
    baseline = build_baseline({"n": numbers[:rows], "t": texts})
    counted = Window(0, "aaaaaaaa", plan_of(parse_baseline(baseline.to_json())))
    counted.add(Table(rows, {"n": numbers[:rows], "t": texts}), None)
    features = counted.to_json(60, 0)["features"]
    for feature in baseline.features:
        assert tuple(features[feature.name]["counts"]) == feature.counts
        assert features[feature.name]["zeros"] == feature.zero_count


def test_values_on_an_edge_fall_to_the_right_and_infinities_into_the_end_bins() -> None:
    bins = NumericBins((0.0, 1.0), -1.0, 2.0)
    tally = bins.tally()
    bins.count(tally, [0.0, 1.0, inf, -inf, nan, True])
    assert tally.counts == [1, 1, 3] and (tally.below, tally.above, tally.nulls) == (1, 1, 1)


def test_categories_are_compared_as_text() -> None:
    bins = CategoryBins(["1", "2", "true"])
    tally = bins.tally()
    bins.count(tally, [1, 1.0, "1", 2, True, "3", None, nan, 1.5])
    assert tally.counts == [3, 1, 1, 2] and (tally.unseen, tally.nulls) == (2, 2)


def test_columns_by_name_count_a_missing_feature_as_null() -> None:
    counted = window()
    counted.add(Table(2, {"a": [0.5, 0.7], "unknown": [1, 2]}), [0.1, 0.9])
    body = counted.to_json(60, 0)
    assert body["features"]["a"]["counts"] == [0, 2, 0]
    assert body["features"]["b"]["nulls"] == 2
    assert body["prediction"]["counts"] == [1, 1]
    assert (body["requests"], body["rows"]) == (1, 2)


@pytest.mark.parametrize(
    "table",
    [
        Table(1, None, [[1.0]]),
        Table(2, None, [[1.0, "low"], [1.0]]),
        Table(1, {"unknown": [1]}),
    ],
)
def test_rows_that_do_not_fit_are_refused_whole(table: Table) -> None:
    counted = window()
    before = counted.to_json(60, 0)
    with pytest.raises(Unparsed):
        counted.add(table, [0.1])
    assert counted.to_json(60, 0) == before


def test_an_answer_counts_in_the_window_in_which_it_ended() -> None:
    series = WindowSeries(WindowSpec(10, 3))
    for moment in (12.9, 13.0, 22.9, 23.0):
        found = series.at(moment, "aaaaaaaa", PLAN, 23.5)
        assert found is not None
        found.add(Table(1, None, [[0.5, "low"]]), None)
    assert [(w["start"], w["rows"]) for w in series.to_json(23.5)] == [(3, 1), (13, 2), (23, 1)]


def test_a_window_is_final_a_second_after_its_end() -> None:
    series = WindowSeries(WindowSpec(10, 0))
    series.at(5, "aaaaaaaa", PLAN, 5)
    assert [series.to_json(now)[0]["final"] for now in (5, 10.9, 11.0)] == [False, False, True]


def test_the_open_and_the_last_four_closed_windows_are_kept() -> None:
    series = WindowSeries(WindowSpec(10, 0))
    for moment in range(5, 105, 10):
        series.at(moment, "aaaaaaaa", PLAN, moment)
    assert [w["start"] for w in series.to_json(95)] == [50, 60, 70, 80, 90]
    assert series.at(49, "aaaaaaaa", PLAN, 95) is None
    assert series.at(50, "aaaaaaaa", PLAN, 95) is not None


def test_a_promotion_in_mid_window_keeps_both_revisions_apart() -> None:
    series = WindowSeries(WindowSpec(10, 0))
    for revision, plan in (("aaaaaaaa", PLAN), ("bbbbbbbb", PLAN), ("bbbbbbbb", GRID)):
        found = series.at(5, revision, plan, 5)
        assert found is not None
        found.add(Table(1, {"a": [1.0]}), None)
    seen = {(w["revision"], w["baseline"]): w["rows"] for w in series.to_json(5)}
    assert seen == {("aaaaaaaa", PLAN.digest): 1, ("bbbbbbbb", PLAN.digest): 1, ("bbbbbbbb", "grid"): 1}


def test_without_a_baseline_features_are_found_as_they_come() -> None:
    counted = Window(0, "aaaaaaaa", plan_of(None))
    counted.add(Table(2, None, [[1.5, "x"], [-1.5, "y"]], "in"), [0.5, 0.5])
    counted.add(Table(1, None, [[1.5, "x"]], "in"), None)
    body = counted.to_json(60, 0)
    first, second = body["features"]["in[0]"], body["features"]["in[1]"]
    assert first["kind"] == "Numeric" and len(first["counts"]) == len(GRID_EDGES) + 1
    assert first["counts"][bisect_right(GRID_EDGES, 1.5)] == 2 and first["counts"][bisect_right(GRID_EDGES, -1.5)] == 1
    assert (second["categories"], second["counts"]) == (["x", "y"], [2, 1, 0])
    assert sum(body["prediction"]["counts"]) == 2


def test_the_grid_holds_64_texts_and_counts_the_rest_as_other() -> None:
    counted = Window(0, "aaaaaaaa", GRID)
    counted.add(Table(70, {"t": [f"text-{i}" for i in range(70)]}), None)
    feature = counted.to_json(60, 0)["features"]["t"]
    assert len(feature["categories"]) == 64 and feature["counts"][-1] == feature["unseen"] == 6


def test_the_grid_rises_strictly_and_is_the_same_on_both_sides_of_zero() -> None:
    assert all(low < high for low, high in pairwise(GRID_EDGES))
    assert tuple(-edge for edge in reversed(GRID_EDGES)) == GRID_EDGES
