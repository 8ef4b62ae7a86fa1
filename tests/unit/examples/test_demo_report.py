"""What the demo reports, and that it admits what did not hold."""

import xml.etree.ElementTree as ElementTree

import pytest

from examples.rain.demo import report
from examples.rain.demo.__main__ import check, failures_by_fault, figures
from examples.rain.demo.play import Result


def result() -> Result:
    """A run as it should be: version 2 after year 22, a bad version rejected."""
    return Result(
        first_version="rain-r1",
        second_version="rain-r2",
        broken_version="rain-ada1",
        years={y: {"log_loss": 0.42 if y > 22 else 0.45, "sent": 365} for y in range(10, 29)},
        never={y: 0.52 if y > 22 else 0.45 for y in range(10, 29)},
        retrain_years=[22],
        input_drift_first_year=15,
        load={"sent": 1000, "failed": {"badbad00 500": 9}},
        replay_sent=19 * 365,
        bad_revision="badbad00",
        revert_commit="abc",
        abort_seconds=4.2,
    )


def test_a_good_run_holds() -> None:
    values = figures(result(), "local", {})
    assert check(values) == []
    assert values["requests_total"] == 1000 + 19 * 365
    assert values["logloss_never"] == 0.52
    assert values["logloss_perennial"] == 0.42


def test_the_broken_models_own_failures_are_not_perennials() -> None:
    run = result()
    run.load["failed"] = {"badbad00 500": 9, "none 503": 2, "aaaa0000 500": 1}
    run.replay_failures = {"transport reset": 1}
    assert failures_by_fault(run) == (4, 9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"retrain_years": [15, 22]}, "only year 22"),
        ({"input_drift_first_year": None}, "year None, not 15"),
        ({"revert_commit": ""}, "not reverted"),
        ({"replay_failures": {"503": 1}}, "1 requests failed by Perennial's doing"),
    ],
)
def test_what_did_not_hold_is_said(change: dict[str, object], words: str) -> None:
    run = result()
    for field, value in change.items():
        setattr(run, field, value)
    wrong = check(figures(run, "local", {}))
    assert any(words in sentence for sentence in wrong), wrong


def test_a_loss_that_is_no_better_is_said() -> None:
    run = result()
    run.never = dict.fromkeys(run.never, 0.42)
    assert any("log loss" in sentence for sentence in check(figures(run, "local", {})))


def test_the_page_is_self_contained_and_its_plots_are_well_formed() -> None:
    lines = [
        report.Series("inputs", [(10, 0.1), (11, 0.3)]),
        report.Series("threshold", [(10, 0.2), (11, 0.2)], steps=True, limit=True),
    ]
    plot = report.Plot("Effect <by> window", "year", "effect", lines)
    page = report.page({"a": 1}, report.Story([(0.0, "<began>")], [plot], [{"year": 10, "never": 0.4}], ["abc Ada: x"]))
    assert "http://" not in page and "https://" not in page and "&lt;began&gt;" in page
    tree = ElementTree.fromstring(report.plot_svg(plot))
    assert tree.tag == "svg"
    assert [path.get("stroke-dasharray") for path in tree.iter("path")] == [None, "5 4"]


def test_a_plot_without_points_says_so() -> None:
    assert "nothing was observed" in report.plot_svg(report.Plot("Empty", "x", "y", [report.Series("a", [])]))
