"""The test of a window, the rule over windows, and data quality."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.domain.drift.baseline import Baseline, FeatureBaseline, build_baseline
from perennial.domain.drift.quality import violations
from perennial.domain.drift.rule import Progress, WindowOutcome, advanced, window_outcome
from perennial.domain.drift.spec import FeatureSpec, QualitySpec, RuleSpec, TestSpec
from perennial.domain.drift.test import Column, FeatureVerdict, columns_of, judge
from perennial.domain.drift.windows import Tally
from tests.fakes.drift import tally

OUTCOMES = st.lists(st.sampled_from(["Drifted", "Elevated", "Calm", "Unknown"]), max_size=60)


def numeric(name: str = "x", rows: int = 10_000, noise: float = 0.0) -> FeatureBaseline:
    """Ten bins with a tenth of the rows each, edges at a normal distribution's deciles."""
    edges = (-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816)
    return FeatureBaseline(name, "Numeric", (rows // 10,) * 10, edges=edges, noise=noise)


def verdict_on(
    reference: FeatureBaseline, counts: list[int], spec: TestSpec, requests: int | None = None
) -> FeatureVerdict:
    """The verdict on one feature alone."""
    rows = sum(counts) if requests is None else requests
    return judge([Column("x", reference)], {"x": Tally(tuple(counts))}, rows, spec)[0]


SHIFTED = [40, 60, 70, 80, 90, 110, 120, 130, 140, 160]
FAR = [0, 0, 10, 20, 50, 80, 120, 180, 240, 300]


def test_all_three_conditions_make_drift() -> None:
    assert verdict_on(numeric(), FAR, TestSpec()).outcome == "Drifted"


def test_certain_but_harmless_drift_is_not_drift() -> None:
    found = verdict_on(numeric(rows=100_000), [count * 100 for count in SHIFTED], TestSpec(effect=0.2))
    assert found.p_value < 1e-12
    assert found.outcome == "Elevated"
    assert 0.14 < found.effect < 0.2


def test_large_but_uncertain_drift_is_not_drift() -> None:
    few = TestSpec(effect=0.1, min_samples=20)
    assert verdict_on(numeric(), [5, 1, 2, 1, 2, 2, 2, 1, 2, 4], few).outcome != "Drifted"


def test_too_few_rows_or_requests_give_no_verdict() -> None:
    assert verdict_on(numeric(), [count // 20 for count in FAR], TestSpec()).outcome == "TooFew"
    assert verdict_on(numeric(), FAR, TestSpec(), requests=30).outcome == "TooFew"


def test_the_learnt_noise_is_a_floor() -> None:
    found = verdict_on(numeric(noise=5.0), FAR, TestSpec())
    assert (found.outcome, found.threshold) == ("Calm", 5.0)
    assert verdict_on(numeric(noise=0.1), FAR, TestSpec(effect=0.2)).threshold == 0.2


def test_an_effect_that_cannot_be_shown_gives_no_verdict() -> None:
    found = verdict_on(numeric(rows=1_000), FAR, TestSpec(effect=0.02))
    assert (found.needed, found.outcome) == (None, "TooFew")


def test_a_constant_feature_is_not_tested() -> None:
    baseline = build_baseline({"x": [1.0] * 50, "y": [float(i) for i in range(50)]})
    assert [column.key for column in columns_of(baseline, FeatureSpec())] == ["y"]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (FeatureSpec(), ["a", "b", "prediction"]),
        (FeatureSpec(prediction=False), ["a", "b"]),
        (FeatureSpec(names=frozenset()), ["prediction"]),
        (FeatureSpec(names=frozenset({"b"}), prediction=False), ["b"]),
        (FeatureSpec(exclude=frozenset({"a"}), prediction=False), ["b"]),
    ],
)
def test_columns_are_chosen(spec: FeatureSpec, names: list[str]) -> None:
    rows = [float(i) for i in range(50)]
    baseline = build_baseline({"a": rows, "b": rows}, prediction=rows)
    assert [column.reference.name for column in columns_of(baseline, spec)] == names


@pytest.mark.parametrize("correction", ["Bonferroni", "BenjaminiHochberg"])
@pytest.mark.parametrize(("features", "rows"), [(1, 50), (1, 300), (20, 1_000), (20, 100_000), (200, 1_000)])
def test_under_one_window_in_a_hundred_alarms_without_drift(features: int, rows: int, correction: str) -> None:
    rng = np.random.default_rng(features * rows)
    spec = TestSpec(correction=correction)  # type: ignore[arg-type]
    columns = [Column(f"f{i}", numeric(f"f{i}", 3_000)) for i in range(features)]
    windows, alarms = 4_000 // features + 20, 0
    for _ in range(windows):
        references = rng.multinomial(3_000, [0.1] * 10, size=features)
        drawn = rng.multinomial(rows, [0.1] * 10, size=features)
        columns = [
            Column(c.key, FeatureBaseline(c.key, "Numeric", tuple(r), edges=c.reference.edges))
            for c, r in zip(columns, references.tolist(), strict=True)
        ]
        tallies = {c.key: Tally(tuple(d)) for c, d in zip(columns, drawn.tolist(), strict=True)}
        alarms += window_outcome(judge(columns, tallies, rows, spec), RuleSpec()) == "Drifted"
    assert alarms <= windows * 0.01


@pytest.mark.parametrize("correction", ["Bonferroni", "BenjaminiHochberg"])
def test_half_a_standard_deviation_in_one_of_twenty_features_is_found_at_once(correction: str) -> None:
    rng = np.random.default_rng(7)
    spec = TestSpec(effect=0.1, correction=correction)  # type: ignore[arg-type]
    found = 0
    for _ in range(10):
        table = {f"f{i}": rng.normal(size=1_000).tolist() for i in range(20)}
        columns = columns_of(build_baseline(table), FeatureSpec())
        window = {c.key: tally(c.reference, rng.normal(0.5 * (c.key == "f7"), size=1_000).tolist()) for c in columns}
        drifted = [v.feature for v in judge(columns, window, 1_000, spec) if v.outcome == "Drifted"]
        found += drifted == ["f7"]
    assert found >= 9


def test_blocks_that_differ_anyway_rarely_alarm_above_the_learnt_noise() -> None:
    """Years that vary without a trend: the floor keeps alarms under a fifth of the windows; without it most alarm."""
    rng = np.random.default_rng(3)
    alarms = bare = 0
    for _ in range(40):
        years = [rng.normal(rng.normal(0, 0.5), 1, size=365).tolist() for _ in range(11)]
        past = [value for year in years[:10] for value in year]
        blocks = [year for year in range(10) for _ in range(365)]
        for noisy in (True, False):
            baseline = build_baseline({"x": past}, blocks=blocks if noisy else None)
            columns = columns_of(baseline, FeatureSpec())
            verdicts = judge(columns, {"x": tally(columns[0].reference, years[10])}, 365, TestSpec())
            drifted = verdicts[0].outcome == "Drifted"
            alarms, bare = alarms + (drifted and noisy), bare + (drifted and not noisy)
    assert alarms / 40 < 0.2
    assert bare > alarms


def test_benjamini_hochberg_finds_more_than_bonferroni() -> None:
    columns = [Column(f"f{i}", numeric(f"f{i}")) for i in range(20)]
    mild = Tally((62, 75, 85, 92, 98, 104, 110, 117, 124, 133))
    tallies = {c.key: mild if i < 15 else Tally((100,) * 10) for i, c in enumerate(columns)}
    counts = {}
    for correction in ("Bonferroni", "BenjaminiHochberg"):
        spec = TestSpec(effect=0.01, alpha=1e-6, correction=correction, min_samples=10)  # type: ignore[arg-type]
        counts[correction] = sum(v.outcome == "Drifted" for v in judge(columns, tallies, 1_000, spec))
    assert counts["BenjaminiHochberg"] >= counts["Bonferroni"]


def walk(outcomes: list[WindowOutcome], spec: RuleSpec) -> list[Progress]:
    """The progress after each window."""
    progress, found = Progress(), []
    for outcome in outcomes:
        progress = advanced(progress, outcome, spec)
        found.append(progress)
    return found


@pytest.mark.parametrize(
    ("outcomes", "drifting"),
    [
        ("DDD", [False, False, True]),
        ("DDCDDD", [False, False, False, False, False, True]),
        ("DDEDDD", [False, False, False, False, False, True]),
        ("DUDUUD", [False, False, False, False, False, True]),  # Unknown breaks nothing
        ("DDDCC", [False, False, True, True, False]),
        ("DDDCEC", [False, False, True, True, True, True]),  # not below the clear threshold: not clear
        ("DDDCUC", [False, False, True, True, True, False]),
        ("DDDUUUUU", [False, False, True, True, True, True, True, True]),
    ],
)
def test_the_rule_over_windows(outcomes: str, drifting: list[bool]) -> None:
    words: dict[str, WindowOutcome] = {"D": "Drifted", "E": "Elevated", "C": "Calm", "U": "Unknown"}
    found = walk([words[letter] for letter in outcomes], RuleSpec(for_windows=3, clear_windows=2))
    assert [progress.drifting for progress in found] == drifting


@settings(deadline=None)
@given(OUTCOMES, st.integers(1, 5), st.integers(1, 5))
def test_drift_needs_that_many_drifted_windows_and_unknown_changes_nothing(
    outcomes: list[WindowOutcome], enter: int, leave: int
) -> None:
    spec = RuleSpec(for_windows=enter, clear_windows=leave)
    known: list[WindowOutcome] = [outcome for outcome in outcomes if outcome != "Unknown"]
    ends = (walk(outcomes, spec) or [Progress()])[-1], (walk(known, spec) or [Progress()])[-1]
    assert ends[0] == ends[1]
    if known.count("Drifted") < enter:
        assert not ends[0].drifting
    if known[-leave:] == ["Calm"] * leave:
        assert not ends[0].drifting


def features_with(*outcomes: str) -> list[FeatureVerdict]:
    """Verdicts with these outcomes."""
    return [FeatureVerdict(f"f{i}", 1, 0, 0, 0, 0.2, 1, 1, o) for i, o in enumerate(outcomes)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcomes", "needed", "word"),
    [
        (("Calm", "Calm"), 1, "Calm"),
        (("Calm", "Elevated"), 1, "Elevated"),
        (("Drifted", "Calm"), 1, "Drifted"),
        (("Drifted", "Calm"), 2, "Calm"),
        (("Drifted", "Elevated"), 2, "Elevated"),
        (("TooFew", "TooFew"), 1, "Unknown"),
        (("TooFew", "TooFew", "Calm"), 1, "Unknown"),
        (("TooFew", "Calm", "Calm"), 1, "Calm"),
        (("TooFew", "TooFew", "Drifted"), 1, "Drifted"),
        ((), 1, "Unknown"),
    ],
)
def test_one_word_for_a_window(outcomes: tuple[str, ...], needed: int, word: str) -> None:
    assert window_outcome(features_with(*outcomes), RuleSpec(min_drifted=needed)) == word


def healthy() -> Baseline:
    """A numeric and a categorical feature: 5 % missing, 10 % zeros, 2 % other."""
    x = FeatureBaseline("x", "Numeric", (100, 900), edges=(0.0,), null_count=50, zero_count=100)
    c = FeatureBaseline("c", "Categorical", (490, 490, 20), categories=("a", "b"))
    return Baseline(1_000, (x, c), FeatureBaseline("prediction", "Numeric", (500, 500), edges=(0.5,)))


@pytest.mark.parametrize(
    ("tallies", "broken"),
    [
        ({"x": Tally((10, 90), nulls=5, zeros=10)}, []),
        ({"x": Tally((10, 90), nulls=15)}, ["x is missing"]),
        ({"x": Tally((0, 0), nulls=100)}, ["x is missing"]),
        ({"x": Tally((10, 90), zeros=45)}, ["x is zero"]),
        ({"c": Tally((40, 40, 20), unseen=20)}, ["c is in no known category"]),
        ({"c": Tally((49, 48, 3), unseen=3)}, []),
        ({"x": Tally((10, 90), below=30, above=30)}, []),
        ({"x": Tally((1, 2), nulls=10)}, []),
        ({"\x00prediction": Tally((10, 10), nulls=20)}, ["prediction is missing"]),
    ],
)
def test_shares_that_jump_are_violations(tallies: dict[str, Tally], broken: list[str]) -> None:
    found = violations(healthy(), tallies, FeatureSpec(), QualitySpec())
    assert [f"{v.feature} {v.what}" for v in found] == broken


def test_values_out_of_range_count_only_with_a_limit() -> None:
    tallies = {"x": Tally((10, 90), below=3, above=3)}
    assert not violations(healthy(), tallies, FeatureSpec(), QualitySpec())
    (found,) = violations(healthy(), tallies, FeatureSpec(), QualitySpec(out_of_range=0.05))
    assert "lies outside the training range" in found.sentence


def test_excluded_features_are_not_looked_at() -> None:
    tallies = {"x": Tally((10, 90), nulls=50)}
    assert not violations(healthy(), tallies, FeatureSpec(exclude=frozenset({"x"})), QualitySpec())
    assert violations(healthy(), tallies, FeatureSpec(names=frozenset()), QualitySpec())
