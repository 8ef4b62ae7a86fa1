"""Many who ask Envoy the same thing at once get one answer; who asks later gets a new one."""

import asyncio

import pytest

from perennial.router.admin import EnvoyAway, Shared


async def test_those_who_ask_while_an_answer_is_under_way_share_it() -> None:
    asked, gate = 0, asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await gate.wait()
        return asked

    shared = Shared(ask)
    callers = [asyncio.create_task(shared()) for _ in range(20)]
    await asyncio.sleep(0)
    callers[0].cancel()  # one who gives up takes the answer from nobody
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*callers[1:]) == [1] * 19
    assert await shared() == 2


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    answers = [EnvoyAway("no"), None]

    async def ask() -> str:
        await asyncio.sleep(0)
        failure = answers.pop(0)
        if failure is not None:
            raise failure
        return "here"

    shared = Shared(ask)
    for told in await asyncio.gather(shared(), shared(), return_exceptions=True):
        assert isinstance(told, EnvoyAway)
    assert await shared() == "here"
    with pytest.raises(IndexError):
        await shared()
