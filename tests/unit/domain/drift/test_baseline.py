"""Baselines: bins at deciles, robust to discrete values, the same before and after JSON."""

import json
import math
import random
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.domain.drift.baseline import (
    BaselineError,
    baseline_digest,
    build_baseline,
    build_feature,
    parse_baseline,
)


def gauss(rows: int, seed: int = 1, shift: float = 0.0) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(shift, 1) for _ in range(rows)]


def test_ten_bins_hold_a_tenth_each() -> None:
    feature = build_feature("x", gauss(1_000))
    assert feature.bins == 10
    assert feature.counts == (100,) * 10
    assert feature.low < feature.edges[0] < feature.edges[-1] < feature.high


def test_a_binary_feature_has_two_bins_with_the_edge_between_the_values() -> None:
    feature = build_feature("rain", [0.0] * 70 + [1.0] * 30)
    assert feature.edges == (0.5,)
    assert feature.counts == (70, 30)
    assert feature.zero_count == 70


def test_a_constant_feature_has_one_bin() -> None:
    feature = build_feature("x", [3.0] * 50)
    assert feature.bins == 1
    assert feature.counts == (50,)


def test_nulls_are_counted_and_not_binned() -> None:
    feature = build_feature("x", [None, math.nan, *gauss(100)])
    assert feature.null_count == 2
    assert feature.rows == 100


def test_infinite_values_fall_into_the_end_bins() -> None:
    feature = build_feature("x", [math.inf, -math.inf, *gauss(100)])
    assert all(math.isfinite(edge) for edge in feature.edges)
    assert feature.rows == 102


def test_rare_categories_become_other() -> None:
    feature = build_feature("wind", ["north"] * 50 + ["south"] * 20 + ["mr smith"] * 19 + [None])
    assert feature.categories == ("north", "south")
    assert feature.counts == (50, 20, 19)
    assert feature.null_count == 1


def test_noise_is_the_largest_effect_of_one_block_against_the_others() -> None:
    calm = build_feature("x", gauss(3_000), blocks=[i // 300 for i in range(3_000)])
    odd = build_feature("x", gauss(2_700) + gauss(300, 2, 1.0), blocks=[i // 300 for i in range(3_000)])
    assert calm.noise < 0.05
    assert 0.6 < odd.noise < 1.5
    assert build_feature("x", gauss(100)).noise == 0.0


def test_one_block_alone_makes_no_noise() -> None:
    assert build_feature("x", gauss(100), blocks=[1] * 100).noise == 0.0


@settings(deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, width=32) | st.none(), max_size=200),
    st.lists(st.sampled_from(["a", "b", None]), min_size=0, max_size=0),
)
def test_what_json_keeps_bins_the_same_rows(values: list[float | None], _: list[str]) -> None:
    built = build_baseline({"x": values}, prediction=values)
    text = json.dumps(built.to_json())
    read = parse_baseline(json.loads(text))
    assert read.digest == built.digest == baseline_digest(json.loads(text))
    again = [0] * read.features[0].bins
    for value in values:
        if value is not None:
            again[bisect_right(read.features[0].edges, value)] += 1
    assert tuple(again) == read.features[0].counts


def test_the_digest_names_bins_and_not_counts() -> None:
    raw = build_baseline({"x": gauss(100)}).to_json()
    before = baseline_digest(raw)
    raw["features"][0] |= {"counts": [1] * 10, "noise": "0.5", "nullCount": 7, "zeroCount": 3}
    assert baseline_digest(raw) == before
    raw["features"][0]["edges"][0] = "-99"
    assert baseline_digest(raw) != before
    assert len(before) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"counts": [1, 2]}, "2 counts for 10 bins"),
        ({"edges": ["1"] * 9}, "rise strictly"),
        ({"edges": ["warm"] * 9}, "cannot be read"),
    ],
)
def test_an_inconsistent_baseline_is_refused_by_the_features_name(change: dict[str, object], words: str) -> None:
    raw = build_baseline({"temperature": gauss(100)}).to_json()
    raw["features"][0] |= change
    with pytest.raises(BaselineError, match=f"temperature.*{words}"):
        parse_baseline(raw)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(BaselineError, match="'y' has 2 rows"):
        build_baseline({"x": [1.0], "y": [1.0, 2.0]})
    with pytest.raises(BaselineError, match="block column has 1 rows"):
        build_baseline({"x": [1.0, 2.0]}, blocks=[1])


def test_edges_are_plain_decimals() -> None:
    feature = build_feature("x", [1e-7 * i for i in range(100)])
    assert all("e" not in edge for edge in feature.to_json()["edges"])
