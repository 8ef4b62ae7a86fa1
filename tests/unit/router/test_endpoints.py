"""Which endpoints Envoy has taken, when its connection is made anew."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from perennial.router.endpoints import _TYPE_URL, EndpointService
from perennial.router.model import Endpoint

POD = Endpoint("10.0.0.1", 8080)


class Envoy:
    """One stream of an Envoy that takes whatever it is sent, until it hangs up."""

    def __init__(self, service: EndpointService) -> None:
        self._said: asyncio.Queue[DiscoveryRequest | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._talk(service))

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self._said.get()) is not None:
            yield request

    async def _talk(self, service: EndpointService) -> None:
        self._say("")
        async for response in service._stream(self._requests(), None):
            self._say(response.nonce)

    def _say(self, nonce: str) -> None:
        self._said.put_nowait(DiscoveryRequest(type_url=_TYPE_URL, resource_names=["rain"], response_nonce=nonce))

    async def hang_up(self) -> None:
        self._said.put_nowait(None)
        await self._task


async def test_the_late_end_of_an_old_connection_forgets_nothing_of_the_new_one() -> None:
    service = EndpointService()
    service.publish({"rain": (POD,)})
    old = Envoy(service)
    await taken(service)
    new = Envoy(service)
    while len(service._streams) < 2:  # noqa: ASYNC110 - the loop's next turns, no time
        await asyncio.sleep(0)
    await taken(service)
    await old.hang_up()
    assert service.taken("rain") == (POD,)
    await new.hang_up()
    assert service.taken("rain") == ()


async def taken(service: EndpointService) -> None:
    """Wait until Envoy has acknowledged the pod."""
    async with asyncio.timeout(5):
        while service.taken("rain") != (POD,):
            service.progress.clear()
            await service.progress.wait()
