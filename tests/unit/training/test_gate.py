"""The gate: decimals, the champion, and words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.domain.training.gate import Measured, checks, passed, summary

M = Measured(
    trained={"auc": "0.86", "seen": "1"},
    evaluated={"loss": "0.30", "auc": "0.85"},
    champion={"loss": "0.1", "auc": "0.80"},
    champion_name="rain-rold",
)


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"metric": "auc", "min": "0.85"}, "Passed"),
        ({"metric": "auc", "min": "0.8500000001"}, "Failed"),
        ({"metric": "auc", "max": "0.85"}, "Passed"),
        ({"metric": "auc", "max": "0.849"}, "Failed"),
        ({"metric": "seen", "min": "1.00"}, "Passed"),
        ({"metric": "absent", "min": "0"}, "Failed"),
        ({"metric": "loss", "champion": {"maxIncrease": "0.2"}}, "Passed"),
        ({"metric": "loss", "champion": {"maxIncrease": "0.19"}}, "Failed"),
        ({"metric": "loss", "champion": {"minIncrease": "0.2"}}, "Passed"),
        ({"metric": "loss", "champion": {"minIncrease": "0.21"}}, "Failed"),
        ({"metric": "auc", "champion": {"maxDecrease": "0"}}, "Passed"),
        ({"metric": "auc", "champion": {"minDecrease": "0"}}, "Failed"),
        ({"metric": "loss", "champion": {"minDecrease": "0"}}, "Failed"),
        ({"metric": "seen", "champion": {"maxIncrease": "1"}}, "Failed"),
    ],
    ids=str,
)
def test_rules(rule: dict[str, Any], outcome: str) -> None:
    (check,) = checks([rule], M)
    assert check.outcome == outcome, check
    assert check.outcome == "Passed" or check.note


def test_decimals_are_compared_as_decimals() -> None:
    exact = Measured({}, {"x": "0.3"}, {"x": "0.1"}, "c")
    (check,) = checks([{"metric": "x", "champion": {"maxIncrease": "0.2"}}], exact)
    assert check.outcome == "Passed"  # in binary floats 0.3 - 0.1 > 0.2 is not so, and 0.1 + 0.2 > 0.3 is


def test_a_metric_of_training_is_never_compared_with_the_champions_evaluation() -> None:
    measured = Measured({"loss": "0.01"}, {}, {"loss": "0.4"}, "c")
    (check,) = checks([{"metric": "loss", "champion": {"maxIncrease": "0"}}], measured)
    assert check.outcome == "Failed"
    assert "evaluate did not write loss" in check.note


def test_without_a_champion_its_checks_are_skipped_and_count_as_held() -> None:
    results = checks([{"metric": "loss", "champion": {"maxIncrease": "0"}}], Measured({}, {"loss": "0.4"}))
    assert results[0].outcome == "Skipped"
    assert passed(results)
    words = "the gate holds (1 check, 1 skipped because there was no champion)"
    assert summary([check.as_json() for check in results]) == words


def test_a_champion_that_could_not_be_evaluated_fails_its_checks_in_words() -> None:
    measured = Measured({}, {"loss": "0.4"}, None, "c", "evaluate ended with exit code 3 for the champion")
    results = checks([{"metric": "loss", "champion": {"maxIncrease": "0"}}, {"metric": "loss", "max": "1"}], measured)
    assert [r.outcome for r in results] == ["Failed", "Passed"]
    assert results[0].note == "evaluate ended with exit code 3 for the champion"


def test_a_missing_metric_names_those_that_were_written() -> None:
    (check,) = checks([{"metric": "roc", "min": "0"}], M)
    assert check.note == "roc was not written; written were: auc, loss, seen"
    (check,) = checks([{"metric": "roc", "min": "0"}], Measured({}, {}))
    assert check.note == "roc was not written; no metric was written"


def test_no_gate_never_passes() -> None:
    assert not passed([])
    assert "never proposed" in summary([])


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**6), max_value=10**6), st.data())
def test_min_and_max_of_the_value_itself_always_hold(value: Any, data: st.DataObject) -> None:
    text = str(value)
    results = checks([{"metric": "m", "min": text}, {"metric": "m", "max": text}], Measured({"m": text}, {}))
    assert passed(results)
