"""docs/operations.md names every metric of the operator and no other, and its alerts use labels that there are."""

import re
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from perennial.api.crdgen import ROOT
from perennial.runtime import metrics

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
NAME = re.compile(r"\bperennial_[a-z_]+")
TABLE = PAGE.split("## Metrics")[1].split("```yaml")[0]
ALERTS: list[dict[str, Any]] = yaml.safe_load(PAGE.split("## Metrics")[1].split("```yaml")[1].split("```")[0])[
    "groups"
][0]["rules"]


def named(family: MetricWrapperBase) -> str:
    """The name that a query uses; a histogram's without `_bucket`."""
    return f"{family._name}_total" if isinstance(family, Counter) else family._name


FAMILIES = {named(family): family for family in vars(metrics).values() if isinstance(family, MetricWrapperBase)}
SERIES = {name if not isinstance(family, Histogram) else f"{name}_bucket": family for name, family in FAMILIES.items()}


def test_every_metric_of_the_operator_is_in_the_table_with_its_labels() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in TABLE.splitlines() if line.startswith("| `")]
    told = {name: labels for names, labels, _ in rows for name in NAME.findall(names)}
    assert told == {name: ", ".join(family._labelnames) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_uses_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    used = re.findall(r"(perennial_[a-z_]+)(?:\{([^}]*)\})?", alert["expr"])
    assert used
    for name, matchers in used:
        assert name in SERIES, name
        known = {*SERIES[name]._labelnames, "le"}
        assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= known
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", alert["expr"]) for label in labels.split(",")}
    assert grouped <= {label for name, _ in used for label in (*SERIES[name]._labelnames, "le")}
