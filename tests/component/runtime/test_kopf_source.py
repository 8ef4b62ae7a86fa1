"""kopf as an event source on a scripted API server: what comes through, what shows life, and what is asked for."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from perennial.adapters.kube import Access, open_access, path_of
from perennial.api import kinds
from perennial.app.kopf_source import KopfSource
from perennial.runtime.cache import CHILD_KINDS, CHILD_SELECTOR, WATCHED_KINDS

KNOWN = (*WATCHED_KINDS, kinds.NAMESPACE, kinds.CRD)  # kopf waits until it finds the last two
POLICIES = path_of(kinds.DRIFT_POLICY, None)


def policy(name: str, version: int) -> dict[str, Any]:
    return {
        "apiVersion": "perennial.dev/v1alpha1",
        "kind": "DriftPolicy",
        "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version)},
    }


class Api:
    """Discovery, lists and watches; `streams` holds what each further watch of DriftPolicies sends."""

    def __init__(self) -> None:
        self.items = [policy("first", 5)]
        self.streams: list[list[Mapping[str, Any]]] = []
        self.watches: list[tuple[str, dict[str, str]]] = []
        self.tokens: set[str | None] = set()
        self.writes: list[str] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("Authorization"))
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path}")
            return web.json_response({}, status=403)
        found = self.discovery(request.path)
        if found is not None:
            return web.json_response(found)
        if request.query.get("watch") == "true":
            return await self.watch(request)
        items = self.items if request.path == POLICIES else []
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "9"}, "items": items})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.watches.append((request.path, dict(request.query)))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if request.path == POLICIES and self.streams:
            for event in self.streams.pop(0):
                await response.write(json.dumps(event).encode() + b"\n")
            return response
        await asyncio.Event().wait()
        raise AssertionError

    def discovery(self, path: str) -> dict[str, Any] | None:
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            groups = sorted({(kind.group, kind.version) for kind in KNOWN if kind.group})
            return {
                "groups": [
                    {"name": group, "preferredVersion": {"version": version}, "versions": [{"version": version}]}
                    for group, version in groups
                ]
            }
        for kind in KNOWN:
            if path == (f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"):
                return {
                    "resources": [
                        {
                            "name": other.plural,
                            "singularName": other.kind.lower(),
                            "kind": other.kind,
                            "namespaced": True,
                            "verbs": ["list", "watch", "patch"],
                        }
                        for other in KNOWN
                        if (other.group, other.version) == (kind.group, kind.version)
                    ]
                }
        return None


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def access(api: Api, tmp_path: Path) -> AsyncIterator[Access]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.serve)
    async with TestServer(app) as server:
        path = tmp_path / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("")).rstrip("/")}}],
                    "users": [{"name": "u", "user": {"token": "abc"}}],
                }
            )
        )
        async with open_access(str(path)) as opened:
            yield opened


class Run:
    """kopf running until the block ends; what it told."""

    def __init__(self, access: Access) -> None:
        self.events: list[tuple[str | None, str, str]] = []
        self.life: list[str] = []
        self.changed = asyncio.Condition()
        self._stop = asyncio.Event()
        source = KopfSource(access, [], self.on_event, self.life.append)
        self._task = asyncio.create_task(source.run(self._stop, asyncio.Event()))

    def on_event(self, type_: str | None, obj: Mapping[str, Any]) -> None:
        self.events.append((type_, obj["metadata"]["name"], obj["metadata"]["resourceVersion"]))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                assert not self._task.done(), "kopf ended by itself"
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> "Run":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        async with asyncio.timeout(20):
            await self._task


async def test_listed_and_watched_objects_come_through_and_nothing_is_written(api: Api, access: Access) -> None:
    added = {"type": "ADDED", "object": policy("second", 10)}
    bookmark = {"type": "BOOKMARK", "object": {**policy("", 11), "metadata": {"resourceVersion": "11"}}}
    deleted = {"type": "DELETED", "object": policy("first", 12)}
    api.streams = [[added, bookmark, deleted]]
    async with Run(access) as run:
        await run.until(lambda: len(run.events) >= 3 and len(api.watches) >= len(WATCHED_KINDS))
    assert sorted(run.events, key=str) == [("ADDED", "second", "10"), ("DELETED", "first", "12"), (None, "first", "5")]
    assert api.writes == []
    assert {(token or "").lower() for token in api.tokens} == {"bearer abc"}


async def test_watches_are_bounded_in_time_and_children_selected_on_the_server(api: Api, access: Access) -> None:
    async with Run(access) as run:
        await run.until(lambda: len({path for path, _ in api.watches}) == len(WATCHED_KINDS))
    selectors = {path: query.get("labelSelector") for path, query in api.watches}
    for kind in WATCHED_KINDS:
        assert selectors[path_of(kind, None)] == (CHILD_SELECTOR if kind in CHILD_KINDS else None)
    assert {query["timeoutSeconds"] for _, query in api.watches} == {"120"}
    assert set(run.life) >= {path_of(kind, None) for kind in WATCHED_KINDS}


async def test_a_quiet_watch_shows_life_each_time_it_is_opened_again(api: Api, access: Access) -> None:
    api.items = []
    api.streams = [[], []]
    async with Run(access) as run:
        await run.until(lambda: sum(path == POLICIES for path, _ in api.watches) >= 3)
        await run.until(lambda: run.life.count(POLICIES) >= 4)
    assert run.events == []


async def test_after_410_the_objects_are_listed_again(api: Api, access: Access) -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    api.streams = [[gone]]
    async with Run(access) as run:
        await run.until(lambda: run.events.count((None, "first", "5")) == 2)
