"""What the routers' counters say is what the drift decision reads: one page, binned there, judged here."""

import pytest

from perennial.domain.drift.spec import FeatureSpec, TestSpec, WindowSpec
from perennial.domain.drift.test import columns_of, judge
from perennial.domain.drift.windows import PREDICTION_KEY, Book, counted, merged, slices_of
from perennial.router.counters import WindowSeries, plan_of
from perennial.router.model import WindowSpec as RouterWindowSpec
from perennial.router.parse import Table
from tests.fakes.drift import baseline_of, column, tallies


@pytest.mark.parametrize("offset", [0, 20])
def test_a_window_counted_by_a_router_is_judged_by_the_same_bins(offset: int) -> None:
    baseline, seconds = baseline_of(1), 60
    a, b, prediction = column(600, 100, 1.0), column(600, 101), column(600, 102, 1.0)
    series = WindowSeries(RouterWindowSpec(seconds, offset))
    for place in range(600):
        window = series.at(1_800_000_030.0, "rev1", plan_of(baseline), 1_800_000_030.0)
        assert window is not None
        table = Table(rows=1, columns={"a": [a[place]], "b": [b[place]]})
        window.add(table, [prediction[place]])
    now = 1_800_000_100.0
    page = {
        "podUid": "u",
        "started": {"agent": 1.0, "envoy": 2.0},
        "deployments": {"rain": {"windows": series.to_json(now)}},
    }
    spec = WindowSpec(seconds, offset)
    book = merged(Book(), slices_of(page, "rain", spec, now))
    total = counted(book, spec.start_of(1_800_000_030.0), seconds, "rev1", baseline.digest)
    assert (total.rows, total.requests, total.lost) == (600, 600, 0)
    assert total.tallies == tallies(baseline, {"a": a, "b": b}, prediction)
    verdicts = judge(columns_of(baseline, FeatureSpec()), total.tallies, total.requests, TestSpec())
    assert {v.feature: v.outcome for v in verdicts} == {"a": "Drifted", "b": "Calm", "prediction": "Drifted"}
    assert PREDICTION_KEY in total.tallies
