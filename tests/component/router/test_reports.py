"""What the ModelDeployment controller reads from a real router: counts become evidence, weights are confirmed."""

from datetime import UTC, datetime

from perennial.adapters.routers import HttpRouterReports
from perennial.domain.rollout.evidence import Evidence
from perennial.domain.rollout.routers import read_router
from perennial.domain.rollout.state import State
from perennial.domain.rollout.world import Recorded, RevisionRef, Rollout, RouterSeen
from tests.component.router.harness import TOKEN, Router, answering

STABLE, CANARY = "aaaaaaaa", "bbbbbbbb"
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


def recorded(version: int, **weights: int) -> Recorded:
    target = RevisionRef(CANARY, "rain-v2", None)
    rollout = Rollout("r1", State.ANALYSING, target, 25, NOW, NOW, NOW, 1, verified=NOW)
    traffic = tuple((revision, weights[arm]) for arm, revision in (("stable", STABLE), ("canary", CANARY)))
    return Recorded(
        stable=RevisionRef(STABLE, "rain-v1", None), traffic=traffic, traffic_version=version, rollout=rollout
    )


async def seen(running: Router, reports: HttpRouterReports, status: Recorded) -> RouterSeen:
    """The router as the controller sees it."""
    found = await reports.collect("ns", [("router-0", "uid-0", "127.0.0.1")], TOKEN, want="all")
    assert len(found) == 1
    page = found[0]
    return read_router(
        page.pod, page.pod_uid, page.status, page.counts, deployment="rain", recorded=status, failure_codes=frozenset()
    )


async def test_counts_of_a_real_router_become_evidence_exactly_once(running: Router) -> None:
    reports = HttpRouterReports(port=running.agent_port)
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.ready("rain", CANARY, await running.serve("canary", answering("canary", 500)))
    await running.split("rain", 1, {STABLE: 75, CANARY: 25})
    await running.confirmed("rain", 1)
    status = recorded(1, stable=75, canary=25)
    evidence = Evidence()
    answers: dict[str, int] = {}
    for _ in range(3):
        router = await seen(running, reports, status)
        assert router.serves(status)
        assert router.reading is not None
        evidence = evidence.look(
            [router.reading], weight=25, traffic_version=1, counts_from=NOW, now=NOW, codes=frozenset()
        )
        for who, count in (await running.who(80)).items():
            answers[who] = answers.get(who, 0) + count
    router = await seen(running, reports, status)
    assert router.reading is not None
    tally = evidence.look(
        [router.reading], weight=25, traffic_version=1, counts_from=NOW, now=NOW, codes=frozenset()
    ).tally(25)
    assert (tally.canary.requests, tally.failures) == (answers["500"], answers["500"])
    assert (tally.stable.requests, tally.stable_failures) == (answers["stable"], 0)
    await reports.close()


async def test_a_router_confirms_weight_zero_and_another_table_is_not_taken_for_it(running: Router) -> None:
    reports = HttpRouterReports(port=running.agent_port)
    await running.ready("rain", STABLE, await running.serve("stable"))
    await running.ready("rain", CANARY, await running.serve("canary"))
    await running.split("rain", 1, {STABLE: 75, CANARY: 25})
    await running.confirmed("rain", 1)
    withdrawn = recorded(2, stable=100, canary=0)
    assert not (await seen(running, reports, withdrawn)).serves_nothing_to(CANARY, withdrawn)
    await running.split("rain", 2, {STABLE: 100, CANARY: 0})
    await running.confirmed("rain", 2)
    assert (await seen(running, reports, withdrawn)).serves_nothing_to(CANARY, withdrawn)
    await reports.close()
