"""`ObjectStore` on a real API server: the dynamic client of `kubernetes.aio`, dicts in and out.

The only module of the operator that imports kubernetes. URLs are built from `Kind`, so no discovery request is ever
made and no answer passes through typed models (they drop fields newer than themselves). Must not retry: that is the
queue's business; `retry_after` travels with the error.
"""

import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic.client import DynamicClient

from perennial.adapters.kube_errors import error_of, is_precondition
from perennial.api import kinds
from perennial.api.kinds import Kind
from perennial.domain.conditions import bounded
from perennial.domain.decision import JsonObject
from perennial.domain.errors import Conflict, Invalid, PerennialError, Stalled, Unavailable
from perennial.ports import PatchTarget
from perennial.runtime import metrics

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)
PAGE = 500
PAGE_OF_VERSIONS = 50
"""A ModelVersion may have 256 KiB of baseline: a page of 500 would be 128 MB."""
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_USER_FILE = str(Path("~/.kube/config").expanduser())
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


class Access:
    """How to reach the API server: shared by the store and the event source."""

    def __init__(self, configuration: Any, namespace: str) -> None:
        self._configuration = configuration
        self.client = ApiClient(configuration)
        self.namespace = namespace

    @property
    def server(self) -> str:
        """The server's URL without a trailing slash."""
        return str(self._configuration.host).rstrip("/")

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Trust roots and client certificate."""
        context: ssl.SSLContext = self.client.rest_client.ssl_context
        return context

    async def authorization(self) -> str | None:
        """The Authorization header for a request now (in-cluster tokens are read anew every minute)."""
        settings = await self._configuration.auth_settings()
        token = settings.get("BearerToken")
        return str(token["value"]) if token and token.get("value") else None

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


@asynccontextmanager
async def open_access(kubeconfig: str | None = None, context: str | None = None) -> AsyncIterator[Access]:
    """The cluster named by `kubeconfig`, else $KUBECONFIG, else the pod's account, else ~/.kube/config.

    Stalled with one sentence when there is none or it is broken.
    """
    configuration = Configuration()
    configuration.retries = None
    try:
        namespace = await _configure(configuration, kubeconfig, context)
        access = Access(configuration, namespace)
    except (kube_config.ConfigException, yaml.YAMLError, OSError, LookupError, ValueError, TypeError) as error:
        words = bounded(" ".join(str(error).split()), 500)
        raise Stalled("NoCluster", f"no usable Kubernetes configuration: {words}") from error
    try:
        yield access
    finally:
        await access.close()


async def _configure(configuration: Any, kubeconfig: str | None, context: str | None) -> str:
    """Fill `configuration`; returns the default namespace."""
    path = kubeconfig or os.environ.get("KUBECONFIG") or ""
    if not path and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        kube_config.load_incluster_config(client_configuration=configuration)
        file = _ACCOUNT / "namespace"
        return file.read_text(encoding="utf-8").strip() if file.is_file() else "default"
    path = path or _USER_FILE
    await kube_config.load_kube_config(
        config_file=path, context=context, client_configuration=configuration, persist_config=False
    )
    contexts, current = kube_config.list_kube_config_contexts(config_file=path)
    chosen = next((item for item in contexts if item["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    verb: str  # for metrics and messages
    path: str
    what: str


class KubeStore:
    """Implements ports.ObjectStore. `namespaces` empty: list(namespace=None) asks for the whole cluster."""

    def __init__(self, access: Access, *, namespaces: Sequence[str] = (), user: str | None = None) -> None:
        self._access = access
        self._dynamic = DynamicClient(access.client)
        self._namespaces = tuple(namespaces)
        self._user = user

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject | None:
        """See ObjectStore."""
        call = _call("GET", "get", kind, namespace, name)
        try:
            return await self._object(call, kind)
        except (Conflict, Invalid) as error:
            if error.reason in ("NotFound", "NamespaceNotFound"):
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[JsonObject]:
        """See ObjectStore; read in pages of 500."""
        found: list[JsonObject] = []
        scopes: Sequence[str | None] = (namespace,)
        if namespace is None and kind.namespaced and self._namespaces:
            scopes = self._namespaces
        for scope in scopes:
            call = _call("GET", "list", kind, scope, "")
            token = ""
            while True:
                query = [("limit", str(PAGE_OF_VERSIONS if kind == kinds.MODEL_VERSION else PAGE))]
                query += [("labelSelector", labels)] if labels else []
                query += [("continue", token)] if token else []
                page = orjson.loads(await self._send(call, query=query))
                found += [_named(item, kind) for item in page.get("items") or ()]
                token = (page.get("metadata") or {}).get("continue") or ""
                if not token:
                    break
        return found

    async def create(self, obj: Mapping[str, Any], *, manager: str, dry_run: bool = False) -> JsonObject:
        """See ObjectStore."""
        kind, namespace, _ = _where(obj)
        call = _call("POST", "create", kind, namespace, "", label=obj["metadata"].get("name", ""))
        return await self._object(call, kind, body=obj, query=_write_query(manager, dry_run))

    async def apply(
        self, obj: Mapping[str, Any], *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> JsonObject:
        """See ObjectStore."""
        kind, namespace, name = _where(obj)
        verb = f"apply-{subresource}" if subresource else "apply"
        call = _call("PATCH", verb, kind, namespace, name, subresource)
        query = [*_write_query(manager, dry_run), ("force", "true" if force else "false")]
        return await self._object(call, kind, body=_without_managed_fields(obj), query=query, content_type=_APPLY)

    async def patch(
        self, target: PatchTarget, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> JsonObject | None:
        """See ObjectStore."""
        call = _call("PATCH", "patch", target.kind, target.namespace, target.name, subresource)
        guards = {"uid": target.uid, "resourceVersion": target.resource_version}
        guards = {key: value for key, value in guards.items() if value is not None}
        guarded = {**body, "metadata": {**(body.get("metadata") or {}), **guards}} if guards else dict(body)
        try:
            return await self._object(
                call, target.kind, body=guarded, query=_write_query(manager, False), content_type=_MERGE
            )
        except Conflict as error:
            if error.reason == "NotFound":
                return None
            raise

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None, grace_seconds: int | None = None
    ) -> bool:
        """See ObjectStore."""
        call = _call("DELETE", "delete", kind, namespace, name)
        body: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._send(call, body=body)
        except PerennialError as error:
            if error.reason in ("NotFound", "NamespaceNotFound") or (uid is not None and is_precondition(error)):
                return False
            raise
        return True

    async def log(
        self, namespace: str, pod: str, container: str, *, tail_lines: int | None = None, limit_bytes: int = 1 << 20
    ) -> str | None:
        """See ObjectStore. A container that has not started yet has no log: None."""
        call = _call("GET", "log", kinds.POD, namespace, pod, "log")
        query = [("container", container), ("limitBytes", str(limit_bytes))]
        if tail_lines is not None:
            query.append(("tailLines", str(tail_lines)))
        try:
            return (await self._send(call, query=query)).decode(errors="replace")
        except (Conflict, Invalid) as error:
            if error.reason in ("NotFound", "NamespaceNotFound", "BadRequest"):
                return None
            raise

    async def who(self) -> str:
        """The caller's own name, as the API server knows it. Forbidden where the cluster does not tell."""
        review = {"apiVersion": kinds.SELF_REVIEW.api_version, "kind": kinds.SELF_REVIEW.kind}
        told = await self._object(_call("POST", "create", kinds.SELF_REVIEW, None, ""), kinds.SELF_REVIEW, body=review)
        return str(told["status"]["userInfo"]["username"])

    def acting_as(self, namespace: str, account: str) -> "KubeStore":
        """See ObjectStore."""
        user = f"system:serviceaccount:{namespace}:{account}"
        return KubeStore(self._access, namespaces=self._namespaces, user=user)

    async def _object(
        self,
        call: _Call,
        kind: Kind,
        *,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
    ) -> JsonObject:
        return _named(orjson.loads(await self._send(call, body=body, query=query, content_type=content_type)), kind)

    async def _send(
        self,
        call: _Call,
        *,
        body: Mapping[str, Any] | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
    ) -> bytes:
        """One request, counted; the answer's bytes, or an error of ours."""
        headers = {"Accept": "*/*" if call.verb == "log" else "application/json"}
        if self._user is not None:
            headers["Impersonate-User"] = self._user
        code = "0"
        try:
            response = await self._dynamic.request(
                call.method,
                call.path,
                body=None if body is None else dict(body),
                query_params=list(query),
                header_params=headers,
                content_type=content_type,
                serialize=False,
                _request_timeout=REQUEST_TIMEOUT,
            )
            content: bytes = await response.read()
            code = str(response.status)
            return content
        except ApiException as error:
            code = str(error.status)
            raise error_of(int(error.status or 0), error.body, error.headers, call.what) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            words = str(error) or "no answer in time"
            raise Unavailable(
                "ApiServerUnreachable", f"{call.what}: the API server does not answer: {words}"
            ) from error
        finally:
            metrics.API_REQUESTS_TOTAL.labels(call.verb, code).inc()


@asynccontextmanager
async def connect_store(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    user: str | None = None,
    namespaces: Sequence[str] = (),
) -> AsyncIterator[tuple[KubeStore, str]]:
    """A store and the default namespace, for a command line: see `open_access`. `user`: act as that user."""
    async with open_access(kubeconfig, context) as access:
        yield KubeStore(access, namespaces=namespaces, user=user), access.namespace


def path_of(kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """The URL path of a kind (of a namespace), of one object, or of a subresource of it."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe=":") for part in parts)


def _call(
    method: str, verb: str, kind: Kind, namespace: str | None, name: str, subresource: str = "", *, label: str = ""
) -> _Call:
    where = "/".join(part for part in (namespace, name or label) if part)
    return _Call(method, verb, path_of(kind, namespace, name, subresource), f"{verb} {kind.plural} {where}".rstrip())


def _where(obj: Mapping[str, Any]) -> tuple[Kind, str | None, str]:
    """Kind, namespace and name of an object to be written; Invalid when it cannot be said."""
    api_version, word = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    kind = kinds.find(api_version, word)
    if kind is None:
        raise Invalid("NoSuchKind", f"Perennial does not write objects of kind {word!r} in {api_version!r}")
    meta = obj.get("metadata") or {}
    namespace, name = meta.get("namespace"), str(meta.get("name") or "")
    if not name:
        raise Invalid("BadRequest", f"a {word} without metadata.name cannot be written")
    if kind.namespaced and not namespace:
        raise Invalid("BadRequest", f"{word} {name}: the namespace of the object is missing")
    return kind, (str(namespace) if kind.namespaced else None), name


def _write_query(manager: str, dry_run: bool) -> list[tuple[str, str]]:
    return [("fieldManager", manager), *([("dryRun", "All")] if dry_run else [])]


def _without_managed_fields(obj: Mapping[str, Any]) -> JsonObject:
    """Server-side apply refuses a body with managedFields."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}


def _named(obj: JsonObject, kind: Kind) -> JsonObject:
    """Items of built-in lists come without apiVersion and kind."""
    obj.setdefault("apiVersion", kind.api_version)
    obj.setdefault("kind", kind.kind)
    return obj
