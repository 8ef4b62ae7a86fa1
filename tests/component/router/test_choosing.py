"""Requests that choose their revision by header, and callers that keep theirs, through a real Envoy."""

import json
from typing import Any

from aiohttp import web

from tests.component.router.harness import Router, answering, eventually

STABLE, CANARY, NEXT = "aaaaaaaa", "bbbbbbbb", "cccccccc"
OVERRIDE = {"override": True}
STICKY = {"stickyHeader": "X-User-Id"}


async def arms(running: Router, *revisions: str) -> None:
    """A server for each revision of `rain`, which answers with the revision's name."""
    for revision in revisions:
        await running.ready("rain", revision, await running.serve(revision, answering(revision)))


async def asked(running: Router, count: int, **headers: str) -> set[str]:
    """Who answered requests with these headers."""
    return {json.loads((await running.post(**headers))[1])["who"] for _ in range(count)}


async def counts(running: Router) -> dict[str, Any]:
    """The counts page of `rain`."""
    return (await running.page("/v1/counts?deployment=rain"))["deployments"]["rain"]


async def test_a_header_chooses_the_revision_and_such_requests_are_counted_apart(running: Router) -> None:
    await arms(running, STABLE, CANARY)
    await running.split("rain", 1, {STABLE: 100, CANARY: 0}, rolling="Scaling", traffic=OVERRIDE)
    await running.confirmed("rain", 1)
    for path in ("", "/v1/models/rain:predict"):
        host = {"Host": "10.0.0.1"} if path else {}
        assert await asked(running, 5, path=path, x_perennial_revision="canary", **host) == {CANARY}
        assert await asked(running, 5, path=path, x_perennial_revision=CANARY, **host) == {CANARY}
    await running.split("rain", 2, {STABLE: 0, CANARY: 100}, rolling="Analysing", traffic=OVERRIDE)
    await running.confirmed("rain", 2)
    assert await asked(running, 10, x_perennial_revision="stable") == {STABLE}
    for nobody in ("Canary", "canary,stable", "dddddddd", ""):
        assert await asked(running, 3, x_perennial_revision=nobody) == {CANARY}

    async def logged() -> dict[str, Any] | None:
        found = await counts(running)
        return found if found["revisions"][CANARY]["latency"]["logged"] == 12 else None

    found = await eventually(logged, "the requests that were split by weight are in the access log")
    assert found["revisions"][CANARY]["codes"] == {"200": 12}
    assert not found["revisions"].get(STABLE, {}).get("requests")
    assert {r: o["codes"] for r, o in found["overrides"].items()} == {STABLE: {"200": 10}, CANARY: {"200": 20}}


async def test_an_abort_ends_choosing_with_the_same_table_also_at_weight_zero(running: Router) -> None:
    await arms(running, STABLE, CANARY)
    version = 0
    for weight in (25, 0):
        version += 1
        weights = {STABLE: 100 - weight, CANARY: weight}
        await running.split("rain", version, weights, rolling="Analysing", traffic=OVERRIDE)
        await running.confirmed("rain", version)
        assert await asked(running, 3, x_perennial_revision="canary") == {CANARY}
        version += 1
        await running.split("rain", version, {STABLE: 100, CANARY: 0}, rolling="Withdrawing", traffic=OVERRIDE)
        await running.confirmed("rain", version)
        before = running.upstreams[CANARY].seen
        assert await asked(running, 10, x_perennial_revision="canary") == {STABLE}
        assert running.upstreams[CANARY].seen == before


async def test_a_choice_goes_by_weight_where_it_is_off_or_nobody_is_there(running: Router) -> None:
    await arms(running, STABLE)
    await running.split("rain", 1, {STABLE: 95, CANARY: 5}, rolling="Analysing", traffic=OVERRIDE)

    async def stable_has_all() -> bool:
        state = (await running.page("/v1/status"))["deployments"].get("rain", {})
        return state.get("weights", {}).get(STABLE) == 100

    await eventually(stable_has_all, "a canary without a ready pod gets nothing")
    assert await asked(running, 5, x_perennial_revision="canary") == {STABLE}
    await arms(running, CANARY)
    await running.split("rain", 2, {STABLE: 100, CANARY: 0}, rolling="Analysing")
    await running.confirmed("rain", 2)
    assert await asked(running, 5, x_perennial_revision="canary") == {STABLE}
    await running.split("rain", 3, {CANARY: 100}, traffic=OVERRIDE)
    await running.confirmed("rain", 3)
    assert await asked(running, 5, x_perennial_revision="stable") == {CANARY}
    assert not any(chosen["requests"] for chosen in (await counts(running))["overrides"].values())


async def test_a_choice_stays_with_the_router_and_answers_name_who_gave_them(running: Router) -> None:
    async def telling(request: web.Request, _body: bytes) -> web.StreamResponse:
        return web.json_response(dict(request.headers), headers={"x-perennial-revision": "canary"})

    for revision in (STABLE, CANARY):
        await running.ready("rain", revision, await running.serve(revision, telling))
    for version, spec in ((1, OVERRIDE), (2, {})):
        await running.split("rain", version, {STABLE: 100, CANARY: 0}, rolling="Analysing", traffic=spec)
        await running.confirmed("rain", version)
        sent = {"Host": "rain", "x-perennial-revision": "canary", "x-mine": "1"}
        async with running.session.get(f"{running.url}/v2/models/rain", headers=sent) as response:
            names = {name.lower() for name in await response.json()}
            assert "x-mine" in names and "x-perennial-revision" not in names
            assert response.headers.getall("x-perennial-revision") == [CANARY if spec else STABLE]


async def callers_of(running: Router, revision: str, people: range) -> set[int]:
    """Which people get that revision; each asks twice and must get the same."""
    found = set()
    for person in people:
        answers = await asked(running, 2, x_user_id=f"user-{person}")
        assert len(answers) == 1, f"user-{person} was sent to {answers}"
        if answers == {revision}:
            found.add(person)
    return found


async def test_callers_keep_their_revision_and_a_rising_weight_takes_it_from_nobody(running: Router) -> None:
    await arms(running, STABLE, CANARY, NEXT)
    people = range(100)
    had: set[int] = set()
    for version, weight in enumerate((10, 30, 60), start=1):
        weights = {STABLE: 100 - weight, CANARY: weight}
        await running.split("rain", version, weights, rolling="Analysing", traffic=STICKY)
        await running.confirmed("rain", version)
        have = await callers_of(running, CANARY, people)
        assert had <= have
        assert abs(len(have) - weight) < 30  # six standard deviations
        had = have
    assert await asked(running, 60) == {STABLE, CANARY}  # without the header it is drawn for each request
    await running.split("rain", 4, {STABLE: 40, NEXT: 60}, rolling="Analysing", traffic=STICKY)
    await running.confirmed("rain", 4)
    others = await callers_of(running, NEXT, people)
    assert len(had - others) > 5 and len(others - had) > 5  # another canary meets other people
    await running.split("rain", 5, {STABLE: 100, NEXT: 0}, rolling="Withdrawing", traffic=STICKY)
    await running.confirmed("rain", 5)
    assert await callers_of(running, NEXT, people) == set()
