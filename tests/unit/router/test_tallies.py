"""Exact counts across reads of one deployment or all, clusters that go and come back, and other Envoy processes."""

import re
from typing import Any

from perennial.router.tallies import RequestCounts


class Admin:
    """Envoy's admin page with the given counters."""

    def __init__(self) -> None:
        self.node = "router@1"
        self.counters: dict[str, int] = {}
        self.asked: list[str] = []

    async def started(self) -> tuple[str, float | None]:
        return self.node, float(self.node.partition("@")[2])

    async def stats(self, pattern: str, only: Any = None) -> dict[str, int | str]:
        self.asked.append(pattern)
        return {name: value for name, value in self.counters.items() if re.search(pattern, name)}

    def answer(self, deployment: str, code: int, count: int) -> None:
        self.counters[f"cluster.{deployment}-rev-aaaaaaaa.upstream_rq_{code}"] = count
        self.counters[f"cluster.{deployment}-rev-aaaaaaaa.upstream_rq_active"] = 0


def counts(admin: Admin, restarts: list[int]) -> RequestCounts:
    return RequestCounts(admin, lambda: restarts.append(1))  # type: ignore[arg-type]


async def test_a_read_of_one_deployment_leaves_the_others_as_they_were() -> None:
    admin = Admin()
    tallies = counts(admin, [])
    admin.answer("rain", 200, 5)
    admin.answer("rain-two", 503, 1)
    await tallies.refresh()
    admin.answer("rain", 200, 7)
    admin.answer("rain-two", 503, 9)
    await tallies.refresh("rain")
    assert tallies.revisions("rain")["aaaaaaaa"]["codes"] == {"200": 7}
    assert tallies.revisions("rain-two")["aaaaaaaa"]["codes"] == {"503": 1}
    await tallies.refresh("rain-two")
    assert tallies.revisions("rain-two")["aaaaaaaa"]["codes"] == {"503": 9}


async def test_counts_of_a_cluster_that_went_and_came_back_are_added_up() -> None:
    admin = Admin()
    tallies = counts(admin, [])
    admin.answer("rain", 200, 5)
    await tallies.refresh("rain")
    admin.counters.clear()
    await tallies.refresh()
    assert tallies.revisions("rain")["aaaaaaaa"] == {"requests": 5, "codes": {"200": 5}, "grpc": {}, "active": 0}
    admin.answer("rain", 200, 6)
    await tallies.refresh("rain")
    assert tallies.revisions("rain")["aaaaaaaa"]["requests"] == 11


async def test_a_revision_with_a_port_for_grpc_has_one_number_of_each_kind() -> None:
    admin = Admin()
    tallies = counts(admin, [])
    admin.answer("rain", 200, 5)
    for kind in ("rev", "pick", "copy"):
        second = f"cluster.rain-{kind}-aaaaaaaa-grpc"
        admin.counters |= {f"{second}.upstream_rq_200": 3, f"{second}.grpc.13": 2, f"{second}.upstream_rq_active": 1}
    alone = {"requests": 3, "codes": {"200": 3}, "grpc": {"13": 2}, "active": 1}
    for read in ("rain", None):
        await tallies.refresh(read)
        assert tallies.revisions("rain") == {"aaaaaaaa": {**alone, "requests": 8, "codes": {"200": 8}}}
        assert tallies.overrides("rain") == tallies.copies("rain") == {"aaaaaaaa": alone}
    admin.counters.clear()
    await tallies.refresh()
    assert tallies.revisions("rain")["aaaaaaaa"] == {
        "requests": 8,
        "codes": {"200": 8},
        "grpc": {"13": 2},
        "active": 0,
    }


async def test_another_envoy_starts_everything_at_zero_even_before_counts_are_read() -> None:
    admin, restarts = Admin(), []
    tallies = counts(admin, restarts)
    admin.answer("rain", 200, 5)
    await tallies.refresh()
    admin.node = "router@2"
    await tallies.check()
    assert (restarts, tallies.started, tallies.revisions("rain")) == ([1], 2.0, {})
    assert len(admin.asked) == 1  # whether it is another Envoy is known without reading thousands of counters


async def test_requests_that_chose_their_revision_are_in_no_other_number() -> None:
    admin = Admin()
    tallies = counts(admin, [])
    admin.answer("rain", 200, 5)
    admin.counters["cluster.rain-pick-aaaaaaaa.upstream_rq_500"] = 3
    admin.counters["cluster.rain-pick-b-rev-aaaaaaaa.upstream_rq_200"] = 7  # a deployment named rain-pick-b
    await tallies.refresh("rain")
    assert tallies.revisions("rain")["aaaaaaaa"]["codes"] == {"200": 5}
    assert tallies.overrides("rain")["aaaaaaaa"]["codes"] == {"500": 3}
    assert (tallies.revisions("rain-pick-b"), tallies.overrides("rain-pick-b")) == ({}, {})
    await tallies.refresh()
    assert tallies.revisions("rain-pick-b")["aaaaaaaa"]["codes"] == {"200": 7}
    assert set(tallies.overrides("rain")) == {"aaaaaaaa"}
