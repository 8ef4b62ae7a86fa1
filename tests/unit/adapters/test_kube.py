"""What the API server's answers become, and what is sent, on a server that only records."""

import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from perennial.adapters.kube import KubeStore, open_access, path_of
from perennial.adapters.kube_errors import error_of
from perennial.api import kinds
from perennial.domain.errors import Conflict, Forbidden, Invalid, PerennialError, Stalled, Transient, Unavailable
from tests.contract.store_suite import config_map


def status(code: int, reason: str, message: str, **details: Any) -> bytes:
    return json.dumps({"code": code, "reason": reason, "message": message, "details": details}).encode()


@pytest.mark.parametrize(
    ("code", "body", "type_", "reason"),
    [
        (409, status(409, "AlreadyExists", "x"), Conflict, "AlreadyExists"),
        (409, status(409, "Conflict", "x"), Conflict, "Conflict"),
        (422, status(422, "Invalid", "x", causes=[{"field": "metadata.uid"}]), Conflict, "Conflict"),
        (422, status(422, "Invalid", "x", causes=[{"field": "spec.a"}]), Invalid, "Invalid"),
        (400, status(400, "BadRequest", "x"), Invalid, "BadRequest"),
        (413, b"Request entity too large", Invalid, "Invalid"),
        (403, status(403, "Forbidden", "x"), Forbidden, "Forbidden"),
        (403, status(403, "Forbidden", "exceeded quota: gpu"), Forbidden, "QuotaExceeded"),
        (403, status(403, "Forbidden", "x", causes=[{"reason": "NamespaceTerminating"}]), Forbidden,
         "NamespaceTerminating"),
        (404, status(404, "NotFound", "x", name="a", kind="pods"), Conflict, "NotFound"),
        (404, status(404, "NotFound", "x", name="a", kind="namespaces"), Invalid, "NamespaceNotFound"),
        (404, b"404 page not found", Invalid, "NoSuchKind"),
        (401, status(401, "Unauthorized", "x"), Transient, "Unauthorized"),
        (410, status(410, "Expired", "x"), Transient, "Expired"),
        (429, b"slow down", Transient, "TooManyRequests"),
        (500, status(500, "InternalError", "failed calling webhook"), Unavailable, "ApiServerError"),
        (503, b"\xff\xfe", Unavailable, "ApiServerError"),
    ],
)  # fmt: skip
def test_answers_become_our_errors(code: int, body: bytes, type_: type[PerennialError], reason: str) -> None:
    error = error_of(code, body, {}, "get pods default/a")
    assert (type(error), error.reason) == (type_, reason)


def test_the_words_are_the_servers_and_short() -> None:
    error = error_of(422, status(422, "Invalid", "spec.a: " + "x" * 5000), {}, "create")
    assert error.message.startswith("spec.a: x")
    assert len(error.message.encode()) <= 1000


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), (None, None)])
def test_retry_after_travels_with_the_error(header: str | None, seconds: float | None) -> None:
    error = error_of(429, b"", {"Retry-After": header} if header else {}, "get")
    assert isinstance(error, Transient)
    assert error.retry_after == seconds


def test_paths() -> None:
    assert path_of(kinds.POD, "a", "b", "log") == "/api/v1/namespaces/a/pods/b/log"
    assert path_of(kinds.DRIFT_POLICY, None) == "/apis/perennial.dev/v1alpha1/driftpolicies"
    assert path_of(kinds.NAMESPACE, "ignored", "n") == "/api/v1/namespaces/n"
    assert path_of(kinds.POD, "a", "../secrets/x") == "/api/v1/namespaces/a/pods/..%2Fsecrets%2Fx"


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.code, self.body, self.headers = 200, b"{}", dict[str, str]()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        query, headers = dict(request.query), dict(request.headers)
        self.seen.append((request.method, request.path, query, headers, json.loads(raw) if raw else None))
        return web.Response(body=self.body, status=self.code, headers=self.headers, content_type="application/json")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def store(recorder: Recorder, tmp_path: Path) -> AsyncIterator[KubeStore]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.serve)
    async with TestServer(app) as server:
        path = tmp_path / "kubeconfig"
        context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "here"}}
        cluster = {"name": "c", "cluster": {"server": str(server.make_url("")).rstrip("/")}}
        user = {"name": "u", "user": {"token": "s3cret"}}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [context],
                    "clusters": [cluster],
                    "users": [user],
                }
            )
        )
        async with open_access(str(path)) as access:
            assert access.namespace == "here"
            assert (await access.authorization() or "").lower() == "bearer s3cret"
            yield KubeStore(access)


async def test_apply_says_manager_force_and_dry_run(store: KubeStore, recorder: Recorder) -> None:
    await store.apply({**config_map("a"), "metadata": {"name": "one", "namespace": "a", "managedFields": []}},
                      manager="perennial-x", force=True, dry_run=True)  # fmt: skip
    method, path, query, headers, body = recorder.seen[0]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/a/configmaps/one")
    assert query == {"fieldManager": "perennial-x", "force": "true", "dryRun": "All"}
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert headers["Authorization"].lower() == "bearer s3cret"
    assert "managedFields" not in body["metadata"]


async def test_acting_as_impersonates_the_account_only(store: KubeStore, recorder: Recorder) -> None:
    await store.acting_as("a", "tenant").get(kinds.POD, "a", "p")
    await store.get(kinds.POD, "a", "p")
    assert recorder.seen[0][3]["Impersonate-User"] == "system:serviceaccount:a:tenant"
    assert "Impersonate-User" not in recorder.seen[1][3]


async def test_delete_carries_uid_grace_and_background(store: KubeStore, recorder: Recorder) -> None:
    assert await store.delete(kinds.POD, "a", "p", uid="u", grace_seconds=0)
    body = recorder.seen[0][4]
    assert body["preconditions"] == {"uid": "u"}
    assert (body["propagationPolicy"], body["gracePeriodSeconds"]) == ("Background", 0)


async def test_no_request_is_made_for_discovery(store: KubeStore, recorder: Recorder) -> None:
    await store.list(kinds.JOB, "a", labels="x=1")
    assert [entry[1] for entry in recorder.seen] == ["/apis/batch/v1/namespaces/a/jobs"]


async def test_too_many_requests_is_transient_with_its_wait(store: KubeStore, recorder: Recorder) -> None:
    recorder.code, recorder.headers = 429, {"Retry-After": "3"}
    with pytest.raises(Transient) as caught:
        await store.get(kinds.POD, "a", "p")
    assert caught.value.retry_after == 3.0


async def test_the_log_of_a_waiting_container_is_none(store: KubeStore, recorder: Recorder) -> None:
    recorder.code, recorder.body = 400, status(400, "BadRequest", 'container "c" is waiting to start')
    assert await store.log("a", "p", "c") is None
    recorder.code, recorder.body = 200, b"line\n"
    assert await store.log("a", "p", "c", tail_lines=5) == "line\n"
    assert recorder.seen[-1][2] == {"container": "c", "limitBytes": str(1 << 20), "tailLines": "5"}


async def test_a_broken_kubeconfig_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Stalled, match="no usable Kubernetes configuration"):
        async with open_access(str(tmp_path / "absent")):
            pass
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(Stalled, match="no usable Kubernetes configuration"):
        async with open_access(str(tmp_path / "bad")):
            pass


async def test_in_a_pod_the_accounts_token_is_used_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = "kubernetes.aio.config.incluster_config"
    token = tmp_path / "token"
    token.write_text("one")
    monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", certifi.where())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    async with open_access() as access:
        assert access.server == "https://10.0.0.1:443"
        assert (await access.authorization() or "").lower() == "bearer one"
        token.write_text("two")
        monkeypatch.setattr(f"{loader}.datetime", Later())
        assert (await access.authorization() or "").lower() == "bearer two"


class InAnHour(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "InAnHour":
        return super().now(tz) + datetime.timedelta(hours=1)


class Later:
    """The datetime module an hour from now."""

    timedelta = datetime.timedelta
    datetime = InAnHour
