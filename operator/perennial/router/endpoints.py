"""Serves Envoy the ready endpoints of every cluster (EDS over one ADS stream), and knows which of them it has taken.

Must not decide anything: what is published here is what Envoy gets. When this goes away Envoy keeps what it has.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint as EnvoyEndpoint
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from perennial.router.model import Endpoint

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_TYPE_URL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

Endpoints = tuple[Endpoint, ...]


class EndpointService:
    """The current endpoints, and the streams that want to know of them."""

    def __init__(self) -> None:
        self._current: dict[str, Endpoints] = {}
        self._taken: dict[str, Endpoints] = {}
        self._streams: set[asyncio.Event] = set()
        self._newest: _Stream | None = None
        self._version = 0
        self.progress = asyncio.Event()
        """Set whenever Envoy has taken something; whoever waits for it clears it first."""

    def publish(self, endpoints: Mapping[str, Endpoints]) -> None:
        """Makes these the endpoints (cluster -> ready pods); clusters that are left out are empty."""
        if endpoints == self._current:
            return
        self._current = dict(endpoints)
        self._version += 1
        for event in self._streams:
            event.set()

    def taken(self, cluster: str) -> Endpoints:
        """The endpoints of that cluster that the connected Envoy has acknowledged; empty when none."""
        return self._taken.get(cluster, ())

    def handlers(self) -> grpc.GenericRpcHandler:
        """The gRPC service."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DiscoveryRequest.FromString,
            response_serializer=DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"StreamAggregatedResources": handler})

    async def _stream(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        stream = _Stream()
        self._streams.add(stream.wake)
        self._newest = stream
        self._taken.clear()
        reader = asyncio.create_task(self._read(requests, stream))
        try:
            while not stream.closed:
                await stream.wake.wait()
                stream.wake.clear()
                due = stream.due(self._current)
                if due:
                    nonce = stream.sending(due)
                    yield _response(due, str(self._version), nonce)
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            self._streams.discard(stream.wake)
            if self._newest is stream:  # the end of an old stream may be noticed after a new one has begun
                self._taken.clear()

    async def _read(self, requests: AsyncIterator[Any], stream: "_Stream") -> None:
        try:
            async for request in requests:
                if request.type_url == _TYPE_URL:
                    acknowledged = stream.answered(request)
                    if self._newest is stream:
                        self._taken.update(acknowledged)
                        for gone in self._taken.keys() - stream.wanted:
                            del self._taken[gone]
                    self.progress.set()
                    stream.wake.set()
        finally:
            stream.closed = True
            stream.wake.set()


class _Stream:
    """What one Envoy asked for, what it was sent, and what it has not acknowledged yet."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.closed = False
        self.wanted: set[str] = set()
        self._sent: dict[str, Endpoints] = {}
        self._pending: dict[str, dict[str, Endpoints]] = {}
        self._nonce = 0

    def due(self, current: Mapping[str, Endpoints]) -> dict[str, Endpoints]:
        """What must be sent now: wanted and new or changed."""
        due = {}
        for cluster in self.wanted:
            endpoints = current.get(cluster, ())
            if self._sent.get(cluster) != endpoints:
                due[cluster] = endpoints
        return due

    def sending(self, due: dict[str, Endpoints]) -> str:
        """Notes what is being sent and names it."""
        self._nonce += 1
        self._sent.update(due)
        self._pending[str(self._nonce)] = due
        return str(self._nonce)

    def answered(self, request: Any) -> dict[str, Endpoints]:
        """Takes a request in; the endpoints that it acknowledges."""
        wanted = set(request.resource_names)
        self._sent = {cluster: sent for cluster, sent in self._sent.items() if cluster in wanted}
        self.wanted = wanted
        pending = self._pending.pop(request.response_nonce, {})
        return {} if request.HasField("error_detail") else pending


def _response(due: Mapping[str, Sequence[Endpoint]], version: str, nonce: str) -> Any:
    response = DiscoveryResponse(version_info=version, type_url=_TYPE_URL, nonce=nonce)
    for cluster, endpoints in sorted(due.items()):
        assignment = ClusterLoadAssignment(cluster_name=cluster)
        if endpoints:
            assignment.endpoints.add(lb_endpoints=[_host(endpoint) for endpoint in endpoints])
        response.resources.add().Pack(assignment)
    return response


def _host(endpoint: Endpoint) -> Any:
    address = Address(socket_address=SocketAddress(address=endpoint.address, port_value=endpoint.port))
    return LbEndpoint(endpoint=EnvoyEndpoint(address=address))
