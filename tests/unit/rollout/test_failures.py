"""Which answers count as failures."""

import pytest

from perennial.domain.rollout.failures import Arm, read_arm

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("counters", "failed", "beside_stable"),
    [
        ({"codes": {"200": 90, "500": 4, "503": 3, "504": 3}}, 10, 10),
        ({"codes": {"200": 90, "404": 10}}, 0, 10),
        ({"codes": {"200": 5, "400": 1, "404": 1, "405": 1, "415": 1, "422": 1}}, 0, 5),
        ({"codes": {"200": 5, "401": 1, "403": 1, "429": 1, "302": 1}}, 0, 0),
        ({"codes": {"200": 40}, "grpc": {"0": 20, "2": 1, "4": 1, "8": 1, "12": 1, "13": 1, "14": 1, "15": 1}}, 7, 7),
        ({"codes": {"200": 10}, "grpc": {"3": 2, "5": 1, "7": 3, "16": 1}}, 0, 3),
        ({"codes": {"200": 10}, "resets": 2}, 2, 2),
        ({"codes": {"200": 1, "503": 4}, "resets": 4}, 5, 5),
        ({}, 0, 0),
    ],
)
def test_failures_by_code(counters: dict, failed: int, beside_stable: int) -> None:
    arm = read_arm(counters, NONE)
    assert arm.failed(with_client_errors=False) == failed
    assert arm.failed(with_client_errors=True) == beside_stable


def test_named_codes_are_failures_everywhere() -> None:
    arm = read_arm({"codes": {"200": 5, "429": 2, "404": 1}}, frozenset({"429", "404"}))
    assert arm.failed(with_client_errors=False) == 3
    assert arm.failed(with_client_errors=True) == 3


def test_a_hanging_request_is_not_counted_yet() -> None:
    assert read_arm({"requests": 9, "active": 4, "codes": {"200": 5}}, NONE).requests == 5


def test_differences_of_readings() -> None:
    later, earlier = Arm(10, 3, 1, 9, 2), Arm(4, 1, 1, 4, 0)
    assert later - earlier == Arm(6, 2, 0, 5, 2)
    assert (earlier - later).negative
    assert not (later - earlier).negative
