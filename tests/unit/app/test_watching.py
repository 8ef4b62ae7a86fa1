"""The watchdog, the pages, and what kopf is told."""

from collections.abc import AsyncIterator

import aiohttp
import kopf
import pytest

from perennial.app.http import Pages
from perennial.app.kopf_source import Backoffs, KopfSource, settings, watch_paths
from perennial.app.watchdog import Watchdog
from perennial.runtime import metrics
from perennial.runtime.cache import CHILD_SELECTOR


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_watch_is_trouble_after_150_seconds_and_named() -> None:
    ticks = Ticks()
    dog = Watchdog(["/a", "/b"], now=ticks)
    ticks.now = 1000
    assert dog.trouble() is None  # on standby nothing is watched
    dog.open()
    ticks.now = 1100
    dog.saw("/a")
    dog.saw("/unknown")
    ticks.now = 1151
    assert "/b has shown no life for 151 s" in (dog.trouble() or "")
    dog.saw("/b")
    assert dog.trouble() is None


async def test_the_watchdog_ends_with_the_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.app.watchdog.PERIOD_SECONDS", 0.001)
    ticks = Ticks()
    dog = Watchdog(["/a"], now=ticks)
    dog.open()
    ticks.now = 200
    assert "/a" in await dog.run()


def test_every_watch_has_a_path_per_namespace() -> None:
    wide, narrow = watch_paths([]), watch_paths(["x", "y"])
    assert len(wide) == 10
    assert len(narrow) == 20
    assert "/apis/perennial.dev/v1alpha1/gitsyncs" in wide
    assert "/api/v1/namespaces/y/pods" in narrow


def test_kopf_writes_nothing_and_children_are_selected_on_the_server() -> None:
    chosen = settings()
    assert chosen.peering.standalone
    assert chosen.scanning.disabled
    assert not chosen.posting.enabled
    assert chosen.watching.server_timeout is not None
    assert chosen.watching.server_timeout < 150
    assert chosen.networking.request_timeout == 15
    assert chosen.watching.label_selectors["", "v1", "pods"] == CHILD_SELECTOR


def test_only_event_handlers_are_registered() -> None:
    source = KopfSource(None, [], lambda type_, obj: None, lambda path: None)  # type: ignore[arg-type]
    registry = source._registry(None)  # type: ignore[arg-type]
    assert isinstance(registry, kopf.OperatorRegistry)
    assert len(list(registry._watching._handlers)) == 10
    for other in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert not list(other._handlers)


def test_back_offs_can_be_used_again_and_last_about_ten_minutes() -> None:
    delays = Backoffs()
    for _ in range(2):
        once = list(delays)
        assert 600 <= sum(once) <= 630
        assert max(once) <= 30


@pytest.fixture
async def trouble() -> dict[str, str | None]:
    return {"alive": None, "ready": "the operator is starting"}


@pytest.fixture
async def base(trouble: dict[str, str | None]) -> AsyncIterator[str]:
    pages = Pages(lambda: trouble["alive"], lambda: trouble["ready"])
    port = await pages.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await pages.stop()


async def test_the_pages_tell_health_readiness_and_metrics(base: str, trouble: dict[str, str | None]) -> None:
    metrics.RECONCILE_TOTAL.labels("GitSync", "done").inc()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/healthz") as answer:
            assert answer.status == 200
        async with session.get(f"{base}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "the operator is starting\n")
        trouble["ready"], trouble["alive"] = None, "the watch on /a has shown no life for 151 s"
        async with session.get(f"{base}/readyz") as answer:
            assert answer.status == 200
        async with session.get(f"{base}/healthz") as answer:
            assert answer.status == 503
        async with session.get(f"{base}/metrics") as answer:
            text = await answer.text()
    assert 'perennial_reconcile_total{kind="GitSync",result="done"}' in text
    for name in ("queue_depth", "api_requests_total", "watch_last_event_seconds", "write_back_pending", "drift_effect"):
        assert f"# TYPE perennial_{name}" in text or f"# TYPE perennial_{name.removesuffix('_total')}" in text
