"""What Envoy reads, rendered from a Snapshot: the bootstrap, and the RDS and CDS files.

Pure functions: no I/O, no clock. Facts about Envoy behind the choices: file xDS has no ordering and knows a change only
by a rename into a watched directory (`apply.py` does both); a changed listener would drain every connection, so the
listener is static and everything that may change is in the route table. No runtime keys: what the files say is what is.
Endpoints come from the agent over gRPC (`endpoints.py`), not from EDS files: Envoy takes one inotify instance for each
EDS file, many nodes allow a user 128 in all, and Envoy aborts when there are no more.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson

from perennial.api.names import HEADER_REVISION
from perennial.router.model import (
    Deployment,
    Snapshot,
    copy_name,
    effective_copies,
    effective_picks,
    effective_weights,
    grpc_name,
    pick_name,
)
from perennial.router.packed import Packed, packed_host, packed_routes, packed_table

JsonObject = dict[str, Any]

ROUTES = "perennial"
STAT_PREFIX = "router"
READY_PATH = "/perennial/ready"
_INNER = "copies"
_COPY_HEADER = "x-perennial-copy"
_COPY_LIMIT_HEADER = "x-perennial-copy-limit"
_COPY_FROM_HEADER, _COPY_TO_HEADER = "x-perennial-copy-from", "x-perennial-copy-to"
_COPY_SAMPLE_HEADER, _COPY_MAX_HEADER = "x-perennial-copy-sample", "x-perennial-copy-max"
"""For copied.lua."""
_COPY_HEADERS = (
    _COPY_HEADER,
    _COPY_LIMIT_HEADER,
    _COPY_FROM_HEADER,
    _COPY_TO_HEADER,
    _COPY_SAMPLE_HEADER,
    _COPY_MAX_HEADER,
)
_TYPE = "type.googleapis.com/"
_UPSTREAM_IDLE_SECONDS = 1
"""Well below the keep-alive of common Python servers (gunicorn: 2 s, uvicorn: 5 s): a request must not meet a
connection that the server is just closing."""
_CONNECT_SECONDS = 5
"""A starved server with a full accept queue lets connections wait: TCP tries again after 1 and 3 s."""
_UNSEEN_RETRIES = 10
"""Envoy fails all requests that wait for a connection as soon as one connection times out: in a stall each of them
needs many tries. With the back-off they last about 3 s, behind the first _CONNECT_SECONDS."""
_UNREACHABLE = {
    "split_external_local_origin_errors": True,
    "enforcing_consecutive_5xx": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "interval": "2s",
    "base_ejection_time": "10s",
    "max_ejection_percent": 50,
}
"""A pod that five requests in a row could not reach, or that did not answer them in time, gets none for 10 s; at most
half of the pods, so never the only one. What they answer does not count: errors are for the analysis to see."""
_MAX_CONCURRENT = 100_000
"""Circuit breakers off in practice: the default of 1,024 would answer 503 in the model's place."""
_STATS = (
    r"^cluster\.[^.]*-(rev|pick|copy)-[^.]*\.(upstream_rq_([0-9]{3}|completed|active|rx_reset|timeout|per_try_timeout|total)"
    r"|membership_(total|healthy))$",
    r"^cluster\.[^.]*-(rev|pick|copy)-[^.]*\.grpc\.[^.]*$",
    rf"^http\.{STAT_PREFIX}\.(downstream_(cx|rq)_active|rds\..*)$",
    r"^cluster_manager\..*",
    r"^access_logs\..*",
    r"^server\.(uptime|state|live)$",
    r"^listener_manager\.(lds\..*|total_listeners_.*)$",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are: `directory` is the emptyDir that the containers of the pod share."""

    directory: str = "/run/perennial"
    host: str = "0.0.0.0"  # noqa: S104 - pods are reached on their pod IP
    port: int = 8080
    admin_port: int = 9901

    @property
    def bootstrap(self) -> str:
        """Envoy's own configuration file."""
        return f"{self.directory}/bootstrap.json"

    @property
    def socket(self) -> str:
        """The Unix socket on which the agent takes access logs and serves endpoints."""
        return f"{self.directory}/agent.sock"

    @property
    def inner_socket(self) -> str:
        """The Unix socket on which Envoy takes its own copies of requests."""
        return f"{self.directory}/inner.sock"

    @property
    def routes(self) -> str:
        """The RDS file; see packed.py."""
        return f"{self.directory}/rds/routes.pb"

    @property
    def clusters(self) -> str:
        """The CDS file."""
        return f"{self.directory}/cds/clusters.json"

    @property
    def state(self) -> str:
        """The last Snapshot, for a restarted agent."""
        return f"{self.directory}/state.json"


def render_bootstrap(layout: Layout) -> JsonObject:
    """The bootstrap: admin on loopback, one static listener, everything else from files."""
    return {
        "admin": {"address": _socket_address("127.0.0.1", layout.admin_port)},
        "dynamic_resources": {
            "cds_config": _from_file(layout.clusters),
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
            },
        },
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"safe_regex": {"regex": pattern}} for pattern in _STATS]}
            }
        },
        "static_resources": {
            "listeners": [_listener(layout), _inner_listener(layout)],
            "clusters": [
                _pipe_cluster("agent", layout.socket, "http2_protocol_options"),
                _pipe_cluster(f"{_INNER}-http", layout.inner_socket, "http_protocol_options"),
                _pipe_cluster(f"{_INNER}-grpc", layout.inner_socket, "http2_protocol_options"),
            ],
        },
    }


@dataclass(frozen=True, slots=True)
class Routed:
    """Where the requests of a deployment go: by weight, and by header value (picks: value -> revision); copies: the
    revision that is sent copies."""

    weights: Mapping[str, int]
    picks: Mapping[str, str]
    copies: str | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one deployment adds to the route table, and what it was made from."""

    deployment: Deployment
    routed: Routed
    host: bytes
    by_path: bytes


class RouteTable:
    """Renders the RDS answer; the parts of deployments that did not change since the last time are used again."""

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    @property
    def routed(self) -> dict[str, Routed]:
        """Where the table rendered last sends the requests of each deployment."""
        return {name: part.routed for name, part in self._parts.items()}

    def render(self, snapshot: Snapshot, ready: Set[str]) -> Packed:
        """`ready`: clusters that Envoy knows, warm, with at least one endpoint."""
        self._parts = {d.name: self._part(d, snapshot.namespace, ready) for d in snapshot.deployments}
        parts = self._parts.values()
        return _route_table([part.host for part in parts], [part.by_path for part in parts])

    def _part(self, deployment: Deployment, namespace: str, ready: Set[str]) -> _Part:
        routed = Routed(
            effective_weights(deployment, ready),
            effective_picks(deployment, ready),
            effective_copies(deployment, ready),
        )
        known = self._parts.get(deployment.name)
        if known is not None and known.routed == routed and known.deployment == deployment:
            return known
        host = {
            "name": deployment.name,
            "domains": _domains(deployment.name, namespace),
            "routes": _routes(deployment, routed, [{"prefix": "/"}], whole_host=True),
        }
        by_path = packed_routes(_routes(deployment, routed, _path_matches(deployment.name)))
        return _Part(deployment, routed, packed_host(host), by_path)


def render_routes(snapshot: Snapshot, ready: Set[str]) -> Packed:
    """The RDS answer, rendered once; see RouteTable."""
    return RouteTable().render(snapshot, ready)


def _route_table(hosts: Sequence[bytes], by_path: Sequence[bytes]) -> Packed:
    nobody = _answer(404, "no ModelDeployment of this namespace is addressed; use its name as host or in the path")
    routes = [*by_path, packed_routes([{"match": {"prefix": "/"}, **nobody}])]
    head = {"name": ROUTES, "ignore_port_in_host_matching": True}
    return packed_table(head, hosts, {"name": "*", "domains": ["*"]}, routes)


def render_clusters(clusters: Collection[str]) -> JsonObject:
    """The CDS answer. A cluster's definition depends on its name only, so it never changes within a revision: Envoy
    would drop the counters of response codes with the old definition.
    """
    return _versioned([_cluster_fragment(name) for name in sorted(clusters)])


def _fragment(value: JsonObject) -> orjson.Fragment:
    """JSON in canonical form, to be put into other JSON as it is."""
    return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=8192)
def _cluster_fragment(name: str) -> orjson.Fragment:
    return _fragment(_revision_cluster(name))


def _versioned(resources: Sequence[Any]) -> JsonObject:
    """The version is the hash of the content: equal content is never written again, and Envoy reports what it has."""
    canonical = orjson.dumps(resources, option=orjson.OPT_SORT_KEYS)
    return {"version_info": hashlib.sha256(canonical).hexdigest()[:16], "resources": resources}


def _domains(name: str, namespace: str) -> list[str]:
    return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.*"]


def _path_matches(name: str) -> list[JsonObject]:
    return [
        {"path_separated_prefix": f"/v2/models/{name}"},
        {"path_separated_prefix": f"/v1/models/{name}"},
        {"prefix": f"/v1/models/{name}:"},
    ]


def _routes(
    deployment: Deployment, routed: Routed, matches: Sequence[JsonObject], *, whole_host: bool = False
) -> list[JsonObject]:
    """The routes of a deployment: first those for requests that choose their revision, which no weight can divert.

    whole_host: the paths of gRPC calls match too, so that they need routes of their own where a revision takes them on
    a port of its own. The other paths are no gRPC service's.
    """
    routes = []
    for word, revision in routed.picks.items():
        asked = {"name": HEADER_REVISION, "string_match": {"safe_regex": {"regex": f"{word}|{revision}"}}}
        for match, grpc in _by_protocol(matches, apart=whole_host and deployment.own_grpc([revision])):
            cluster = _of_port(deployment, revision, pick_name(deployment.name, revision), grpc)
            chosen = _forward(deployment, [_arm(deployment, cluster, revision, 1)], observed=0)
            routes.append({"match": {**match, "headers": [asked]}, **chosen})
    copies = routed.copies if any(routed.weights.values()) else None
    apart = copies is not None or (whole_host and deployment.own_grpc(r for r, w in routed.weights.items() if w))
    for match, grpc in _by_protocol(matches, apart=apart):
        own_port = grpc and whole_host
        action = _action(deployment, routed.weights, own_port)
        if copies is not None:
            copied = [_copied(deployment, copies, grpc, own_port)]
            action = {**action, "route": {**action["route"], "request_mirror_policies": copied}}
        routes.append({"match": match, **action})
    return routes


def _by_protocol(matches: Sequence[JsonObject], *, apart: bool) -> list[tuple[JsonObject, bool]]:
    """(match, whether it is for gRPC alone); apart: gRPC is told from the rest, by the requests' content-type."""
    grpc = [({**match, "grpc": {}}, True) for match in matches] if apart else []
    return [*grpc, *((match, False) for match in matches)]


def _of_port(deployment: Deployment, revision: str, cluster: str, own_port: bool) -> str:
    """That cluster of a revision, or, for gRPC, the one of its port for it, where it has one."""
    return grpc_name(cluster) if own_port and deployment.own_grpc([revision]) else cluster


def _set_header(key: str, value: str) -> JsonObject:
    return {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def _copied(deployment: Deployment, revision: str, grpc: bool, own_port: bool) -> JsonObject:
    """Some requests are sent again, through the inner listener, to the canary; Envoy drops the answers. The inner
    listener counts what Envoy does not for copies of its own: gRPC statuses and time-outs. Copies of gRPC calls must go
    on in HTTP/2.
    """
    share = {"numerator": deployment.copy_percent, "denominator": "HUNDRED"}
    told = {
        _COPY_HEADER: _of_port(deployment, revision, copy_name(deployment.name, revision), own_port),
        _COPY_LIMIT_HEADER: str(deployment.timeout_seconds * 1000),
    }
    by_name = [deployment.served_names.get(arm, deployment.name) for arm in (deployment.stable or "", revision)]
    if by_name[0] != by_name[1]:
        told |= {_COPY_FROM_HEADER: by_name[0], _COPY_TO_HEADER: by_name[1]}
    if deployment.compared == revision:
        told |= {
            _COPY_SAMPLE_HEADER: str(deployment.sample_percent),
            _COPY_MAX_HEADER: str(deployment.max_body_bytes),
        }
    return {
        "cluster": f"{_INNER}-{'grpc' if grpc else 'http'}",
        "runtime_fraction": {"default_value": share},
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": [_set_header(key, value) for key, value in told.items()],
    }


def _action(deployment: Deployment, effective: Mapping[str, int], own_port: bool) -> JsonObject:
    """What a route by weight does."""
    weights = {revision: weight for revision, weight in effective.items() if weight}
    if not weights:
        return _answer(503, f"ModelDeployment {deployment.name} serves no version yet")
    arms = [
        _arm(deployment, _of_port(deployment, revision, deployment.cluster(revision), own_port), revision, weight)
        for revision, weight in sorted(weights.items())
    ]
    observed = deployment.sample_percent if deployment.windows or deployment.compared else 0
    action = _forward(deployment, arms, observed=observed)
    if deployment.sticky_header and len(arms) > 1:
        action["route"]["weighted_clusters"]["use_hash_policy"] = True
        action["route"]["hash_policy"] = [_sticky(deployment.sticky_header, deployment.stable, weights)]
    return action


def _sticky(header: str, stable: str | None, weights: Collection[str]) -> JsonObject:
    """Callers are put in an order by the hash of the header's value, and the canary's share is one end of it: a weight
    that rises takes nobody's canary away. The canary's name goes into the hash, so that it is not the same callers who
    meet every canary first. Without the header Envoy draws at random.
    """
    new = ",".join(sorted(revision for revision in weights if revision != stable))
    mixed = {"pattern": {"regex": "^(.*)$"}, "substitution": rf"\1 {new}"}
    return {"header": {"header_name": header, "regex_rewrite": mixed}}


def _forward(deployment: Deployment, arms: Sequence[JsonObject], *, observed: int) -> JsonObject:
    """Requests go to one of the arms. observed: the percent of them that the Lua filter copies. What a request asks for
    by header is for the router alone: a model that hands headers on must not choose elsewhere.
    """
    return {
        "request_headers_to_remove": [HEADER_REVISION],
        "route": {
            "weighted_clusters": {"clusters": list(arms)},
            # `timeout` would cut streams off: the limit to the response headers is the per-try timeout below.
            "timeout": "0s",
            "idle_timeout": f"{deployment.timeout_seconds + 1}s",
            "retry_policy": _retries(deployment),
        },
        "metadata": {
            "filter_metadata": {
                "envoy.filters.http.lua": {"sample": observed, "max": deployment.max_body_bytes},
            }
        },
    }


def _arm(deployment: Deployment, cluster: str, revision: str, weight: int) -> JsonObject:
    """One revision's share; every answer names the revision, so that a client can tell who answered it."""
    named = {"key": HEADER_REVISION, "value": revision}
    header = {"header": named, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "name": cluster,
        "weight": weight,
        "response_headers_to_add": [header],
        **_renaming(deployment, revision),
    }


def _renaming(deployment: Deployment, revision: str) -> JsonObject:
    """Has the Lua filter put the server's name for the model into the path, where it is not the deployment's.

    Per arm, since a rollout may change that name; Envoy's own rewrites are per route, before an arm is chosen.
    """
    served = deployment.served_names.get(revision, deployment.name)
    if served == deployment.name:
        return {}
    context = {"name": deployment.name, "served": served}
    per_route = {"@type": _TYPE + "envoy.extensions.filters.http.lua.v3.LuaPerRoute", "filter_context": context}
    return {"typed_per_filter_config": {"envoy.filters.http.lua": per_route}}


def _retries(deployment: Deployment) -> JsonObject:
    """Requests that no server has seen are always tried again; others only when the deployment asks for it."""
    unseen = "connect-failure,refused-stream,reset-before-request"
    return {
        "retry_on": f"{unseen},gateway-error,reset" if deployment.retries else unseen,
        "num_retries": deployment.retries or _UNSEEN_RETRIES,
        "per_try_timeout": f"{deployment.timeout_seconds}s",
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "1s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": _TYPE + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _answer(code: int, message: str) -> JsonObject:
    body = orjson.dumps({"error": message}).decode()
    return {
        "direct_response": {"status": code, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _revision_cluster(name: str) -> JsonObject:
    limits = {"max_connections": _MAX_CONCURRENT, "max_pending_requests": _MAX_CONCURRENT}
    return {
        "@type": _TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        # No time-out for the first endpoints: an Envoy that starts without its agent must not become ready and say 503.
        "eds_cluster_config": {"eds_config": {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "ads": {}}},
        "connect_timeout": f"{_CONNECT_SECONDS}s",
        "outlier_detection": _UNREACHABLE,
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            "thresholds": [{**limits, "max_requests": _MAX_CONCURRENT, "max_retries": _MAX_CONCURRENT}]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{_UPSTREAM_IDLE_SECONDS}s"},
                "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
            }
        },
    }


def _pipe_cluster(name: str, path: str, protocol: str) -> JsonObject:
    """A server on a Unix socket of this pod."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            }
        },
    }


def _inner_listener(layout: Layout) -> JsonObject:
    """Takes copies from the serving listener and sends each to the cluster that its header names; a client cannot reach
    it. A copy that fails is tried again as seldom as any request, and answers nobody.
    """
    route = {"match": {"prefix": "/"}, "route": {"cluster_header": _COPY_HEADER, "timeout": "0s"}}
    private = {"request_headers_to_remove": list(_COPY_HEADERS)}
    host = {"name": "*", "domains": ["*"], "routes": [{**route, **private}]}
    # Envoy's own header for the limit would end the copy on its way here, where no statistics of the canary are kept.
    limit = _set_header("x-envoy-upstream-rq-timeout-ms", f"%REQ({_COPY_LIMIT_HEADER})%")
    manager = {
        "@type": _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": _INNER,
        "generate_request_id": False,
        "access_log": [_access_log()],
        "route_config": {"name": _INNER, "virtual_hosts": [host]},
        "http_filters": [
            _named_filter(
                "header_mutation", "header_mutation.v3.HeaderMutation", {"mutations": {"request_mutations": [limit]}}
            ),
            _lua_filter("copied.lua"),
            _grpc_stats_filter(),
            _named_filter("router", "router.v3.Router", {"suppress_envoy_headers": True}),
        ],
    }
    return {
        "name": _INNER,
        "address": {"pipe": {"path": layout.inner_socket}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _listener(layout: Layout) -> JsonObject:
    manager = {
        "@type": _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STAT_PREFIX,
        "codec_type": "AUTO",
        "strip_trailing_host_dot": True,
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        # The routes say how long a stream may be idle; the default here would cut long answers off after 5 minutes.
        "stream_idle_timeout": "0s",
        "http_protocol_options": {"accept_http_10": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "rds": {"route_config_name": ROUTES, "config_source": _from_file(layout.routes)},
        "http_filters": [
            _ready_filter(),
            _lua_filter("served.lua"),
            _grpc_stats_filter(),
            _named_filter("router", "router.v3.Router", {"suppress_envoy_headers": True}),
        ],
        "access_log": [_access_log()],
    }
    return {
        "name": "serving",
        "address": _socket_address(layout.host, layout.port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _ready_filter() -> JsonObject:
    """Answers the readiness probe: 200, and 503 once the agent has told Envoy to fail it."""
    check = {"pass_through_mode": False, "headers": [{"name": ":path", "string_match": {"exact": READY_PATH}}]}
    return _named_filter("health_check", "health_check.v3.HealthCheck", check)


def _lua_filter(name: str) -> JsonObject:
    script = "".join(
        files("perennial.router").joinpath(part).read_text() for part in ("rename.lua", name, "observe.lua")
    )
    # A path rewritten for an arm must not lead to another throw of the dice: the route stays.
    config = {"default_source_code": {"inline_string": script}, "clear_route_cache": False}
    return _named_filter("lua", "lua.v3.Lua", config)


def _grpc_stats_filter() -> JsonObject:
    return _named_filter("grpc_stats", "grpc_stats.v3.FilterConfig", {"individual_method_stats_allowlist": {}})


def _named_filter(name: str, message: str, config: Mapping[str, Any] | None = None) -> JsonObject:
    typed = {"@type": f"{_TYPE}envoy.extensions.filters.http.{message}", **(config or {})}
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed}


def _access_log() -> JsonObject:
    """Batches to the agent: flushed at most 100 ms late, so that counts land in the window in which answers ended."""
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"not_health_check_filter": {}},
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "perennial",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "agent"}},
                "buffer_flush_interval": "0.1s",
                "buffer_size_bytes": 262144,
            },
        },
    }


def _from_file(path: str) -> JsonObject:
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "path_config_source": {"path": path, "watched_directory": {"path": path.rpartition("/")[0]}},
    }


def _socket_address(address: str, port: int) -> JsonObject:
    return {"socket_address": {"address": address, "port_value": port}}
