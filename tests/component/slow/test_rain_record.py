"""The rain record, years 10 to 48, through the drift decisions on a fake clock: the figures of the example.

Models are trained by the recipe of examples/rain/training/rain.py. A window is a year of 365 days and one row is one
request. What must come out: visibility drifts massively from year 14 on and starts nothing; the prediction drifts in
year 22, when a retrained model really is better, and in year 47, when it is not and the gate stops it.
"""

import csv
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perennial.domain.drift.baseline import Baseline, build_baseline
from perennial.domain.drift.world import Champion
from perennial.steps.reference import build, read
from tests.fakes.drift import Sim, digest, tallies

EXAMPLE = Path(__file__).parents[3] / "examples" / "rain"
YEAR = 365 * 86_400
FIRST, LAST = 10, 48
HOUR = 3_600

POLICIES: dict[str, dict[str, Any]] = {
    "rain-inputs": {"features": {"include": "All", "prediction": False}, "rule": {"forWindows": 2}},
    "rain-predictions": {
        "features": {"include": "None"},
        "test": {"effect": "0.15"},
        "rule": {"forWindows": 1},
        "action": "Retrain",
        "retrain": {"trainingJobRef": {"name": "rain-train"}, "cooldownSeconds": YEAR},
    },
}


def load_recipe() -> ModuleType:
    """The example's module: it is no part of the package."""
    path = EXAMPLE / "training" / "rain.py"
    spec = importlib.util.spec_from_file_location("rain_recipe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass
class Story:
    """What happened: log loss by year, effects by policy and year, what was started and how it ended."""

    never: dict[int, float]
    perennial: dict[int, float]
    effects: dict[str, dict[int, float]]
    alarms: dict[str, list[int]]
    outcomes: list[tuple[int, str]]
    gates: dict[int, tuple[float, float]]
    noise: float
    visibility: dict[int, float]
    states: dict[int, str]


class Replay:
    """The years, one after the other."""

    def __init__(self, recipe: ModuleType) -> None:
        self.recipe = recipe
        self.record = recipe.load(EXAMPLE / "data" / "rain.csv.gz")
        self.first, baseline = self.train(FIRST - 1)
        self.serving = self.first
        champion = Champion("rev1", "rain-r1", FIRST * YEAR, baseline, "", {"train": digest(f"year {FIRST - 1}")})
        self.sim = Sim(POLICIES, seconds=YEAR, start=FIRST * YEAR, champion=champion)
        self.noise = baseline.prediction.noise if baseline.prediction else 0.0
        self.gates: dict[int, tuple[float, float]] = {}
        self.outcomes: list[tuple[int, str]] = []

    def train(self, year: int) -> tuple[Any, Baseline]:
        """The version made after that year, and its baseline."""
        train, _ = self.recipe.split(self.record, year)
        table = self.recipe.reference(train)
        features = {name: table[name] for name in self.recipe.FEATURES}
        baseline = build_baseline(features, prediction=table["prediction"], blocks=table["block"])
        return self.recipe.fit(train), baseline

    def run(self) -> Story:
        """Serve every year, close its window, and follow what the policies start."""
        sim, recipe = self.sim, self.recipe
        effects: dict[str, dict[int, float]] = {name: {} for name in POLICIES}
        alarms: dict[str, list[int]] = {name: [] for name in POLICIES}
        never, perennial, visibility, states = {}, {}, {}, {}
        for year in range(FIRST, LAST + 1):
            rows = recipe.year(self.record, year)
            never[year] = recipe.scores(self.first, rows)["log_loss"]
            perennial[year] = recipe.scores(self.serving, rows)["log_loss"]
            columns = {name: rows.x[:, place].tolist() for place, name in enumerate(recipe.FEATURES)}
            baseline = sim.champion.baseline
            assert baseline is not None
            sim.observe(
                year * YEAR, tallies(baseline, columns, recipe.predict(self.serving, rows).tolist()), len(rows.y)
            )
            sim.data = digest(f"year {year}")  # the labels are uploaded before the window ends
            sim.now = (year + 1) * YEAR + 1.5
            before = len(sim.events)
            sim.settle()
            for name in POLICIES:
                effects[name][year] = float(sim.status(name).get("effect", "nan"))
                alarms[name] += [
                    year for own, note in sim.events[before:] if (own, note.reason) == (name, "DriftDetected")
                ]
            visibility[year] = self._effect_of("visibility", year)
            self._follow(year)
            states[year] = sim.status("rain-predictions")["state"]
        return Story(never, perennial, effects, alarms, self.outcomes, self.gates, self.noise, visibility, states)

    def _effect_of(self, feature: str, year: int) -> float:
        drifted = self.sim.status("rain-inputs").get("drifted") or ()
        return next((float(item["effect"]) for item in drifted if item["feature"] == feature), 0.0)

    def _follow(self, year: int) -> None:
        """The TrainingJob of an active trigger runs an hour, its gate compares on the Evaluate weeks."""
        active = self.sim.status("rain-predictions").get("activeTrigger")
        if active is None:
            return
        self.sim.now += HOUR
        candidate, baseline = self.train(year)
        _, evaluate = self.recipe.split(self.record, year)
        ours, theirs = (self.recipe.scores(model, evaluate)["log_loss"] for model in (self.serving, candidate))
        self.gates[year] = (ours, theirs)
        if theirs <= ours:
            self.sim.finish(active["trainingJob"], version=f"rain-r{year}")
            self.sim.settle()
            self.sim.promote(f"rain-r{year}", f"rev{year}", baseline)
            self.serving = candidate
        else:
            self.sim.finish(active["trainingJob"], failed="GateFailed")
        self.sim.settle()
        last = self.sim.status("rain-predictions")["lastTrigger"]
        assert last["id"] == active["id"]
        self.outcomes.append((year, last["outcome"]))


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """The example's own training code."""
    return load_recipe()


@pytest.fixture(scope="module")
def story(recipe: ModuleType) -> Story:
    """The whole record, replayed once."""
    return Replay(recipe).run()


def mean(values: dict[int, float], first: int = FIRST, last: int = LAST) -> float:
    """The mean over some years."""
    chosen = [values[year] for year in range(first, last + 1)]
    return sum(chosen) / len(chosen)


def test_the_rotated_rows_are_restored(recipe: ModuleType) -> None:
    record = recipe.load(EXAMPLE / "data" / "rain.csv.gz")
    assert record.x.shape == (18_159, 8)
    late = record.x[recipe.ROTATED_FROM :]
    pairs = [late[:, 0] - late[:, 0].mean(), late[:, 1] - late[:, 1].mean()]
    correlation = (pairs[0] * pairs[1]).mean() / (pairs[0].std() * pairs[1].std())
    assert correlation == pytest.approx(0.96, abs=0.005)


def test_evaluate_weeks_are_kept_apart(recipe: ModuleType) -> None:
    record = recipe.load(EXAMPLE / "data" / "rain.csv.gz")
    train, evaluate = recipe.split(record, 22)
    assert (len(train.y), len(evaluate.y)) == (3_468, 182)
    assert not set(train.index) & set(evaluate.index)
    assert set(evaluate.year) == {21, 22}


def test_the_baseline_of_a_published_reference_is_the_one_of_the_figures(recipe: ModuleType, tmp_path: Path) -> None:
    train, _ = recipe.split(recipe.load(EXAMPLE / "data" / "rain.csv.gz"), 9)
    table = recipe.reference(train, learning_rate=0.05, max_leaf_nodes=15)
    with (tmp_path / "reference.csv").open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    features = {name: table[name] for name in recipe.FEATURES}
    expected = build_baseline(features, prediction=table["prediction"], blocks=table["block"])
    written = read(tmp_path)
    assert written is not None and build(tmp_path, written) == expected.to_json()


def test_retrains_twice_and_promotes_only_what_wins(story: Story) -> None:
    assert story.outcomes == [(22, "Promoted"), (47, "GateFailed")]
    assert story.alarms["rain-predictions"] == [22, 47]


def test_the_prediction_is_calm_until_year_22(story: Story) -> None:
    effects = story.effects["rain-predictions"]
    assert max(effects[year] for year in range(10, 22)) < 0.10
    assert effects[22] == pytest.approx(0.287, abs=0.002)
    assert story.noise == pytest.approx(0.22, abs=0.005)


def test_the_candidate_of_year_22_wins_on_the_evaluate_weeks(story: Story) -> None:
    champion, candidate = story.gates[22]
    assert champion == pytest.approx(0.456, abs=0.001)
    assert candidate == pytest.approx(0.426, abs=0.001)
    assert story.gates[47][1] > story.gates[47][0]


def test_the_visibility_change_is_reported_in_year_15_and_starts_nothing(story: Story) -> None:
    assert story.alarms["rain-inputs"][0] == 15
    assert all(2.0 < story.visibility[year] < 2.5 + 0.02 for year in range(14, 21))
    assert not [year for year, _ in story.outcomes if year < 22]


def test_log_loss_over_the_whole_record(story: Story) -> None:
    assert mean(story.never) == pytest.approx(0.486, abs=0.001)
    assert mean(story.perennial) == pytest.approx(0.454, abs=0.001)


def test_log_loss_of_the_years_after_the_promotion(story: Story) -> None:
    assert mean(story.never, 23, 28) == pytest.approx(0.514, abs=0.001)
    assert mean(story.perennial, 23, 28) == pytest.approx(0.422, abs=0.001)


def test_most_of_what_yearly_retraining_gains_is_gained_with_two_jobs(story: Story, recipe: ModuleType) -> None:
    record = recipe.load(EXAMPLE / "data" / "rain.csv.gz")
    yearly = {}
    for year in range(FIRST, LAST + 1):
        decade = record.take((record.year >= year - recipe.YEARS_OF_TRAINING) & (record.year < year))
        yearly[year] = recipe.scores(recipe.fit(decade), recipe.year(record, year))["log_loss"]
    assert mean(yearly) == pytest.approx(0.439, abs=0.001)
    recovered = (mean(story.never) - mean(story.perennial)) / (mean(story.never) - mean(yearly))
    assert recovered >= 0.65
    assert len(story.outcomes) <= 4


def test_the_rejected_retrain_rests_for_the_cooldown(story: Story) -> None:
    assert story.states[48] == "CoolingDown"
