"""Follows the ModelDeployments, EndpointSlices and DriftPolicies of one namespace, and hands on Snapshots.

Only reads. While the API server is away nothing is handed on, so the router goes on with what it had. Each kind is
listed, then watched from there; any error means a back-off and a new list.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import orjson
from kubernetes.aio import client, config

from perennial.api.kinds import DRIFT_POLICY, ENDPOINT_SLICE, MODEL_DEPLOYMENT, MODEL_VERSION, Kind
from perennial.api.names import LABEL_MANAGED_BY, MANAGED_BY_PERENNIAL
from perennial.router.assemble import assemble, needed_versions, read_deployment, read_policy, read_slice
from perennial.router.model import Snapshot

log = logging.getLogger(__name__)

_WATCHED: tuple[tuple[Kind, str], ...] = (
    (MODEL_DEPLOYMENT, ""),
    (ENDPOINT_SLICE, f"{LABEL_MANAGED_BY}={MANAGED_BY_PERENNIAL}"),
    (DRIFT_POLICY, ""),
)
_READERS: Mapping[Kind, Callable[[Mapping[str, Any]], Any]] = {
    MODEL_DEPLOYMENT: read_deployment,
    ENDPOINT_SLICE: read_slice,
    DRIFT_POLICY: read_policy,
}
_WATCH_SECONDS = 240
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.1, 5.0
_GATHER_SECONDS = 0.1
"""After a change is handed on the next ones are gathered this long: a burst of changes costs a few Snapshots, and a
single one does not wait."""

JsonObject = dict[str, Any]


class ApiTrouble(Exception):
    """The API server did not answer as hoped; the caller backs off and lists again."""


class NamespaceReader:
    """Lists, watches and gets in one namespace: in the cluster by the pod's account, else by the kubeconfig."""

    def __init__(self, namespace: str, kubeconfig: str | None = None) -> None:
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._client: Any = None

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            await self._client.close()

    async def read_all(self, kind: Kind, selector: str) -> tuple[list[JsonObject], str]:
        """(objects, resourceVersion of the list)."""
        body = await self._read(self._path(kind), _query(selector), _timeout(15))
        return body.get("items") or [], body["metadata"]["resourceVersion"]

    async def get(self, kind: Kind, name: str) -> JsonObject | None:
        """One object, None when there is none of that name."""
        found: JsonObject | None = await self._read(f"{self._path(kind)}/{name}", [], _timeout(15), missing_ok=True)
        return found

    async def watch(self, kind: Kind, selector: str, version: str) -> AsyncIterator[tuple[str, JsonObject]]:
        """(event type, object) after `version`, until the server ends the watch."""
        query = [
            *_query(selector),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(_WATCH_SECONDS)),
        ]
        try:
            response = await self._request(self._path(kind), query, _timeout(_WATCH_SECONDS + 15))
            async with response:
                if response.status != 200:
                    raise ApiTrouble(f"watching {kind.plural}: HTTP {response.status}")
                async for line in response.content:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiTrouble(f"watching {kind.plural}: {event['object'].get('message')}")
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiTrouble(f"watching {kind.plural}: {error!r}") from error

    def _path(self, kind: Kind) -> str:
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        return f"{root}/namespaces/{self._namespace}/{kind.plural}"

    async def _read(
        self, path: str, query: list[tuple[str, str]], timeout: aiohttp.ClientTimeout, *, missing_ok: bool = False
    ) -> Any:
        try:
            response = await self._request(path, query, timeout)
            async with response:
                if missing_ok and response.status == 404:
                    return None
                if response.status != 200:
                    raise ApiTrouble(f"{path}: HTTP {response.status}")
                return orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiTrouble(f"{path}: {error!r}") from error

    async def _request(
        self, path: str, query: list[tuple[str, str]], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            settings = client.Configuration()
            try:
                if self._kubeconfig:
                    await config.load_kube_config(self._kubeconfig, client_configuration=settings)
                else:
                    config.load_incluster_config(settings)
            except config.ConfigException as error:
                raise ApiTrouble(f"no way to the API server: {error}") from error
            self._client = client.ApiClient(settings)
        call = await self._client.param_serialize(
            "GET", path, query_params=query, header_params={}, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(*call, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


class Follower:
    """Keeps the namespace's objects and calls `changed` with a Snapshot whenever one of them changes it."""

    def __init__(self, namespace: str, reader: NamespaceReader, changed: Callable[[Snapshot], None]) -> None:
        self._namespace = namespace
        self._reader = reader
        self._changed = changed
        self._read: dict[Kind, dict[str, Any]] = {}
        self._baselines: dict[str, Mapping[str, Any] | None] = {}
        self._stirred = asyncio.Event()
        self._last: Snapshot | None = None

    def remember(self, snapshot: Snapshot) -> None:
        """Takes over the baselines of an earlier agent's snapshot: facts that never change."""
        self._baselines.update(snapshot.baselines)

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed once."""
        return len(self._read) == len(_WATCHED)

    async def run(self) -> None:
        """Follows until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind, selector in _WATCHED:
                group.create_task(self._follow(kind, selector))
            group.create_task(self._hand_on())

    async def _follow(self, kind: Kind, selector: str) -> None:
        back_off = _FIRST_BACK_OFF
        while True:
            try:
                items, version = await self._reader.read_all(kind, selector)
                self._read[kind] = {item["metadata"]["name"]: _READERS[kind](item) for item in items}
                self._stirred.set()
                back_off = _FIRST_BACK_OFF
                while True:
                    version = await self._watch(kind, selector, version)
            except ApiTrouble as trouble:
                log.warning("%s; the last known state stays, next try in about %.1f s", trouble, back_off)
            await asyncio.sleep(back_off * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)

    async def _watch(self, kind: Kind, selector: str, version: str) -> str:
        """One watch request; the resourceVersion from which the next one goes on."""
        known, read = self._read[kind], _READERS[kind]
        async for event, obj in self._reader.watch(kind, selector, version):
            version = obj["metadata"]["resourceVersion"]
            if event == "BOOKMARK":
                continue
            name, told = obj["metadata"]["name"], None if event == "DELETED" else read(obj)
            if event == "DELETED":
                known.pop(name, None)
            elif name in known and known[name] == told:
                continue  # news of what the router does not look at
            else:
                known[name] = told
            self._stirred.set()
        return version

    async def _hand_on(self) -> None:
        """Assembles on every change; weights never wait for baselines, which are fetched afterwards."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            if not self.synced:
                continue
            snapshot = self._assembled()
            self._give(snapshot)
            missing = needed_versions(snapshot.deployments) - snapshot.baselines.keys()
            if missing:
                if not await self._fetch(missing):
                    asyncio.get_running_loop().call_later(1.0, self._stirred.set)
                self._give(self._assembled())
            await asyncio.sleep(_GATHER_SECONDS)

    def _assembled(self) -> Snapshot:
        deployments, slices, wishes = (self._read[kind].values() for kind, _ in _WATCHED)
        snapshot = assemble(self._namespace, deployments, slices, wishes, self._baselines)
        self._baselines = dict(snapshot.baselines)  # of what no longer serves they are not needed
        return snapshot

    def _give(self, snapshot: Snapshot) -> None:
        if snapshot != self._last:
            self._last = snapshot
            self._changed(snapshot)

    async def _fetch(self, versions: set[str]) -> bool:
        """Fetches baselines; False when one could not be read for now."""
        complete = True
        for version in sorted(versions):
            try:
                obj = await self._reader.get(MODEL_VERSION, version)
            except ApiTrouble as trouble:
                log.warning("the baseline of %s is not known yet: %s", version, trouble)
                complete = False
                continue
            self._baselines[version] = (obj or {}).get("spec", {}).get("baseline")
        return complete


def _query(selector: str) -> list[tuple[str, str]]:
    return [("labelSelector", selector)] if selector else []


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=5)
