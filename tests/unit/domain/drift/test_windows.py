"""Windows: aligned, closed, and adding up exactly whatever order reports come in."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.domain.drift.examine import due_windows
from perennial.domain.drift.spec import WindowSpec
from perennial.domain.drift.state import decode, encode
from perennial.domain.drift.windows import (
    PREDICTION_KEY,
    Book,
    Pull,
    Slice,
    Tally,
    all_told,
    counted,
    forgotten,
    merged,
    same_counts,
    slices_of,
    with_score,
)

SPEC = WindowSpec(60, offset=10)


def part(rows: int, **changes: Any) -> Slice:
    """A slice of one process with `rows` rows in the first of two bins."""
    fields: dict[str, Any] = {
        "start": 70,
        "seconds": 60,
        "source": "pod/1/1",
        "revision": "r1",
        "baseline": "b1",
        "requests": rows,
        "rows": rows,
        "final": True,
        "seen": 131.0,
        "tallies": {"x": Tally((rows, 0))},
    }
    return Slice(**{**fields, **changes})


def page(rows: int, *, start: int = 70, seconds: int = 60) -> dict[str, Any]:
    """A counts page."""
    tally = {"counts": [rows, 0], "nulls": 1, "zeros": 2, "unseen": 3, "below": 4, "above": 5}
    window = {
        "start": start,
        "seconds": seconds,
        "final": False,
        "revision": "r1",
        "baseline": "b1",
        "requests": rows,
        "rows": rows,
        "unparsed": 7,
        "streams": 0,
        "features": {"prediction": tally},
        "prediction": tally,
    }
    return {"podUid": "u", "started": {"agent": 1.5, "envoy": 2.5}, "deployments": {"rain": {"windows": [window]}}}


@pytest.mark.parametrize(("moment", "start"), [(10, 10), (69.9, 10), (70, 70), (9, -50)])
def test_windows_are_aligned_to_the_epoch_plus_the_offset(moment: float, start: int) -> None:
    assert SPEC.start_of(moment) == start


@pytest.mark.parametrize(
    ("last_end", "since", "now", "starts"),
    [
        (None, 70.0, 131.5, [70]),
        (None, 71.0, 131.5, []),  # it lies in a window that was seen in part only
        (None, 71.0, 191.5, [130]),
        (130.0, 0.0, 131.5, []),
        (130.0, 0.0, 190.9, []),  # not final yet
        (130.0, 0.0, 191.0, [130]),
        (130.0, 0.0, 311.0, [130, 190, 250]),
        (130.0, 0.0, 10_000_011.0, [9_999_610 + 60 * i + 40 for i in range(6)]),
    ],
)
def test_each_window_is_due_once_and_after_its_end(
    last_end: float | None, since: float, now: float, starts: list[int]
) -> None:
    found = due_windows(SPEC, last_end, since, now)
    assert len(found) == len(starts)
    if now < 1_000:
        assert found == starts
    else:
        assert found[-1] == SPEC.start_of(now - 1) - 60


def test_a_window_is_told_when_all_routers_answered_after_it_became_final() -> None:
    book = merged(Book(), [part(5)])
    assert not all_told(book, 70, 60, None)
    assert not all_told(book, 70, 60, Pull(130.5))
    assert all_told(book, 70, 60, Pull(131.0))
    assert not all_told(book, 70, 60, Pull(131.0, ("router-1",)))


def test_a_router_whose_clock_is_behind_is_waited_for() -> None:
    book = merged(Book(), [part(5, final=False, seen=131.0)])
    assert not all_told(book, 70, 60, Pull(131.0))
    gone = merged(Book(), [part(5, final=False, seen=100.0)])
    assert all_told(gone, 70, 60, Pull(131.0))


def test_windows_of_an_earlier_length_are_not_mixed_in() -> None:
    book = merged(Book(), [part(5), part(7, seconds=30)])
    assert counted(book, 70, 60, "r1", "b1").rows == 5


def test_a_counts_page_is_read_with_its_prediction_apart_from_a_feature_of_that_name() -> None:
    (found,) = slices_of(page(3), "rain", SPEC, 100.0)
    assert found.source == "u/1.5/2.5"
    assert found.tallies == {name: Tally((3, 0), 1, 2, 3, 4, 5) for name in ("prediction", PREDICTION_KEY)}
    assert (found.unparsed, found.seen, found.final) == (7, 100.0, False)


def test_windows_of_other_cuts_and_deployments_are_left_out() -> None:
    assert not slices_of(page(3, start=60), "rain", SPEC, 100.0)
    assert not slices_of(page(3, seconds=30), "rain", SPEC, 100.0)
    assert not slices_of(page(3), "snow", SPEC, 100.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=30), st.integers(0, 9))
def test_counts_are_exact_whatever_order_reports_come_in(reports: list[tuple[str, int]], seed: int) -> None:
    newest: dict[str, int] = {}
    for source, rows in reports:
        newest[source] = max(rows, newest.get(source, 0))
    random.Random(seed).shuffle(reports)
    book = Book()
    for source, rows in reports:
        book = merged(book, [part(rows, source=source)])
        book = merged(book, [part(rows, source=source)])
    total = counted(book, 70, 60, "r1", "b1")
    assert total.rows == total.requests == sum(newest.values())
    if newest:
        assert total.tallies["x"].rows == sum(newest.values())


def test_another_baseline_or_revision_is_never_added() -> None:
    book = merged(Book(), [part(5), part(7, baseline="b2"), part(9, revision="r2"), part(11, start=130)])
    assert counted(book, 70, 60, "r1", "b1").rows == 5


def test_a_process_that_vanished_keeps_its_rows_and_its_loss_is_estimated_from_its_rate() -> None:
    total = counted(merged(Book(), [part(40, final=False, seen=90.0)]), 70, 60, "r1", "b1")
    assert (total.rows, total.lost) == (40, 80)


def test_a_process_that_reported_to_the_end_lost_nothing() -> None:
    assert counted(merged(Book(), [part(40)]), 70, 60, "r1", "b1").lost == 0


def test_the_book_survives_its_config_map() -> None:
    book = with_score(merged(Book(), [part(5), part(6, source="q/1/1", final=False)]), {"end": 130, "outcome": "Calm"})
    assert decode(encode(book)) == book
    assert encode(decode(encode(book))) == encode(book)


@pytest.mark.parametrize("text", ["", "not base64!", "aGVsbG8=", encode(Book())[:-8]])
def test_a_book_that_cannot_be_read_is_empty(text: str) -> None:
    assert decode(text) == Book()


def test_old_windows_and_scores_are_forgotten() -> None:
    book = merged(Book(), [part(5), part(6, start=130)])
    assert [p.start for p in forgotten(book, 130).slices] == [130]
    for end in range(100):
        book = with_score(book, {"end": end})
    assert [score["end"] for score in book.scores] == list(range(36, 100))
    assert with_score(book, {"end": 99, "outcome": "Calm"}).scores[-1] == {"end": 99, "outcome": "Calm"}


def test_hearing_the_same_again_is_no_news() -> None:
    book = merged(Book(), [part(5)])
    assert same_counts(book, merged(book, [part(5, seen=500.0)]))
    assert not same_counts(book, merged(book, [part(6)]))
    assert not same_counts(book, with_score(book, {"end": 1}))
