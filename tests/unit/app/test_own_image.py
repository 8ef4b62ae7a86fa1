"""Nobody has to name the image twice: routers and steps run from the one that the operator's own pod runs from."""

import asyncio

import pytest

from perennial.api.kinds import POD
from perennial.app import own_image as module
from perennial.app.own_image import own_image
from perennial.app.settings import SettingsError
from perennial.domain.errors import Forbidden, Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore

ENVIRON = {"POD_NAMESPACE": "system", "POD_NAME": "operator-1"}


async def running(*containers: tuple[str, str]) -> MemoryStore:
    store = MemoryStore(FakeClock())
    spec = {"containers": [{"name": name, "image": image} for name, image in containers]}
    meta = {"name": "operator-1", "namespace": "system"}
    await store.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, manager="x")
    return store


async def test_it_is_the_operators_container_and_no_sidecars() -> None:
    store = await running(("mesh", "sidecar:9"), ("operator", "registry/perennial@sha256:00"))
    assert await own_image(store, ENVIRON) == "registry/perennial@sha256:00"


async def test_it_waits_for_an_api_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    store = await running(("operator", "p:1"))
    store.fail("get", Unavailable("ApiServerUnreachable", "down"), times=3)
    assert await asyncio.wait_for(own_image(store, ENVIRON), 5) == "p:1"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "POD_NAME and POD_NAMESPACE are not both set, .*; set `image` in the settings file$"),
        ({**ENVIRON, "POD_NAME": "other"}, "there is no pod other in namespace system; set `image`"),
        (ENVIRON, "pod operator-1 has no container named operator, only main; set `image`"),
    ],
)
async def test_what_cannot_be_known_is_one_sentence(environ: dict[str, str], words: str) -> None:
    store = await running(("main", "p:1"))
    with pytest.raises(SettingsError, match=f"^settings: image is not set and .*{words}"):
        await own_image(store, environ)


async def test_a_pod_that_may_not_be_read_is_one_sentence() -> None:
    store = await running(("operator", "p:1"))
    store.fail("get", Forbidden("Forbidden", 'pods "operator-1" is forbidden'))
    with pytest.raises(SettingsError, match='its pod cannot be read: pods "operator-1" is forbidden; set `image`'):
        await own_image(store, ENVIRON)
    assert await store.get(POD, "system", "operator-1") is not None
