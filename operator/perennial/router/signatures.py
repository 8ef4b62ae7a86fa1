"""Which inputs each revision's model wants, as its server's metadata page says (Open Inference Protocol v2).

Asked while a deployment has a canary, once for each revision, at one ready pod, past Envoy: nothing of it is counted.
Must not judge: the operator compares what is told here.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from perennial.domain.rollout.signature import NOT_THERE_YET
from perennial.router.model import Endpoint, Snapshot

log = logging.getLogger(__name__)

MAX_BYTES = 256 << 10
MAX_INPUTS = 1024
MAX_NAME = 256
MAX_DATATYPE = 32
MAX_DIMENSIONS = 16
_TIMEOUT = aiohttp.ClientTimeout(total=3)
_RETRY_SECONDS = 1.0
TRIES = 10
"""A server that has not answered so often is not asked any more; of its page that says nothing, so nothing is told."""
_AT_ONCE = 8

Inputs = list[dict[str, Any]]
Revision = tuple[str, str]
"""(deployment, revision)."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask: the page of one model at a ready pod; endpoint None: no pod is ready."""

    endpoint: Endpoint | None
    model: str


class Signatures:
    """The input signatures of revisions beside which another one has, or is about to get, requests."""

    def __init__(self) -> None:
        self._places: dict[Revision, _Place] = {}
        self._told: dict[Revision, Inputs | None] = {}
        self._failed: dict[Revision, int] = {}
        self._stirred = asyncio.Event()

    def follow(self, snapshot: Snapshot) -> None:
        """Takes the deployments with a canary from a snapshot and forgets all others."""
        places: dict[Revision, _Place] = {}
        for deployment in snapshot.deployments:
            if len(deployment.traffic) < 2:
                continue
            for share in deployment.traffic:
                ready = snapshot.endpoints.get(deployment.cluster(share.revision), ())
                model = deployment.served_names.get(share.revision, deployment.name)
                places[(deployment.name, share.revision)] = _Place(next(iter(ready), None), model)
        if places != self._places:
            self._places = places
            self._told = {revision: told for revision, told in self._told.items() if revision in places}
            self._failed = {revision: tries for revision, tries in self._failed.items() if revision in places}
            self._stirred.set()

    def of(self, deployment: str) -> dict[str, Inputs | None]:
        """Revision -> inputs; None: its server does not tell; left out: not known yet."""
        return {revision: told for (name, revision), told in self._told.items() if name == deployment}

    async def run(self) -> None:
        """Asks until it is cancelled."""
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                self._stirred.clear()
                due = self._due()
                await asyncio.gather(*(self._ask(session, revision, place) for revision, place in due.items()))
                left = due.keys() & self._due().keys()
                try:
                    await asyncio.wait_for(self._stirred.wait(), _RETRY_SECONDS if left else None)
                except TimeoutError:
                    continue

    def _due(self) -> dict[Revision, _Place]:
        """Whom to ask."""
        left = {r: place for r, place in self._places.items() if r not in self._told and place.endpoint is not None}
        return {r: place for r, place in left.items() if self._failed.get(r, 0) < TRIES}

    async def _ask(self, session: aiohttp.ClientSession, revision: Revision, place: _Place) -> None:
        raw = await self._read(session, place)
        if revision not in self._places:
            return
        if raw is None:
            self._failed[revision] = self._failed.get(revision, 0) + 1
            return
        self._told[revision] = read_inputs(raw)

    async def _read(self, session: aiohttp.ClientSession, place: _Place) -> bytes | None:
        """The page, empty when the server has none; None when it did not answer now."""
        assert place.endpoint is not None
        address, port = place.endpoint.address, place.endpoint.port
        host = f"[{address}]" if ":" in address else address
        try:
            async with session.get(f"http://{host}:{port}/v2/models/{place.model}", allow_redirects=False) as response:
                if response.status in NOT_THERE_YET:
                    return None
                raw = await response.content.read(MAX_BYTES + 1) if response.status == 200 else b""
                while raw and len(raw) <= MAX_BYTES and (more := await response.content.read(MAX_BYTES + 1 - len(raw))):
                    raw += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("%s:%d does not tell the inputs of %s: %r", host, port, place.model, error)
            return None
        return raw


def read_inputs(raw: bytes) -> Inputs | None:
    """The inputs on a metadata page: name, datatype and shape of each. None when it tells none, or more than fits."""
    if not raw or len(raw) > MAX_BYTES:
        return None
    try:
        page: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    inputs = page.get("inputs") if isinstance(page, Mapping) else None
    if not isinstance(inputs, list) or not 0 < len(inputs) <= MAX_INPUTS or not all(map(_is_input, inputs)):
        return None
    return [{key: one[key] for key in ("name", "datatype", "shape")} for one in inputs]


def _is_input(one: Any) -> bool:
    if not isinstance(one, Mapping):
        return False
    name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_NAME
        and isinstance(datatype, str)
        and 0 < len(datatype) <= MAX_DATATYPE
        and isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(isinstance(size, int) and not isinstance(size, bool) for size in shape)
    )
