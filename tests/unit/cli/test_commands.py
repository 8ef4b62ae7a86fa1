"""The command line against an in-memory cluster: what it prints, what it writes, how it exits."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from perennial.api import kinds, names
from perennial.cli.main import main
from perennial.cli.tools import Connection, Target, Tools
from perennial.domain.errors import Forbidden, Stalled
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore


def deployment(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": kinds.MODEL_DEPLOYMENT.api_version,
        "kind": "ModelDeployment",
        "metadata": {"name": "rain", "namespace": "team"},
        "spec": {"model": {"name": "rain"}},
        "status": status,
    }


def ready(status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


class Cluster:
    """A store, and the tools that reach it; commands are taken as the operator would take them."""

    def __init__(self) -> None:
        self.store = MemoryStore(FakeClock(datetime(2026, 1, 1, tzinfo=UTC)))
        self.commands: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.user: str | None = "ada"

    async def _who(self) -> str:
        if self.user is None:
            raise Forbidden("Forbidden", "create selfsubjectreviews: the user may not")
        return self.user

    async def seed(self, obj: dict[str, Any]) -> None:
        await self.store.create(obj, manager="test")
        if obj.get("status"):
            await self.store.apply(
                {k: obj[k] for k in ("apiVersion", "kind", "metadata", "status")},
                manager="operator",
                subresource="status",
            )

    def run(self, *arguments: str, objects: tuple[dict[str, Any], ...] = (), take: bool = True) -> int:
        @asynccontextmanager
        async def connect(target: Target) -> AsyncIterator[Connection]:
            for obj in objects:
                await self.seed(obj)
            if take:
                self.store.on_write.append(self._take)
            yield Connection(self.store, target.namespace or "team", self._who)

        def digest(place: str) -> tuple[str, int]:
            raise Stalled("NotFound", f"{place} does not exist; give a file, a directory or a store URI.")

        return main(Tools(connect=connect, digest=digest), list(arguments))

    def _take(self, verb: str, obj: dict[str, Any]) -> None:
        text = obj["metadata"].get("annotations", {}).get(names.ANNOTATION_COMMAND)
        if text and verb == "patch":
            command = json.loads(text)
            self.commands.append(command)
            self.texts.append(text)
            obj.setdefault("status", {})["commands"] = [command["id"]]
            for entry in self.store._entries.values():  # the operator's own write, seen at the next read
                if entry.obj["metadata"]["name"] == obj["metadata"]["name"]:
                    entry.obj.setdefault("status", {})["commands"] = [command["id"]]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_status_shows_what_serves_and_exits_2_while_not_ready(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    mdep = deployment(
        conditions=[ready("False", "CanaryFailed", "rain-r2 failed 12 of 60 requests")],
        stable={"revision": "aaaa1111", "version": "rain-r1", "replicas": 1, "readyReplicas": 1},
        traffic=[{"revision": "aaaa1111", "weight": 100}],
    )
    assert cluster.run("status", "rain", objects=(mdep,)) == 2
    shown = capsys.readouterr().out
    assert "NotReady: rain-r2 failed 12 of 60 requests" in shown
    assert "stable   rain-r1  revision aaaa1111  100 % of requests  1/1 ready" in shown


def test_status_shows_who_let_a_rollout_go_on(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"by": "ada", "said": "Signature", "weight": 0, "time": "2026-01-01T00:00:00Z"}
    rollout = {"targetRevision": "bbbb2222", "step": 1, "steps": 3, "approvals": [said]}
    cluster.run("status", "rain", objects=(deployment(rollout=rollout),))
    assert "changed inputs approved by ada at 0 %, 2026-01-01T00:00:00Z" in capsys.readouterr().out


def test_status_shows_how_the_predictions_compare(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    compared = {"rows": 90, "stableRows": 900, "verdict": "NotEnough", "reason": "30 more are needed to compare."}
    rollout = {"targetRevision": "bbbb2222", "analysis": {"requests": 90, "predictions": compared}}
    cluster.run("status", "rain", objects=(deployment(rollout=rollout),))
    assert "predictions NotEnough: 30 more are needed to compare." in capsys.readouterr().out


def test_status_says_that_requests_through_a_gateway_are_not_counted(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    route = {"accepted": False, "message": "Gateway edge does not exist in this namespace."}
    cluster.run("status", "rain", objects=(deployment(gateway=route),))
    shown = capsys.readouterr().out
    assert "gateway  not accepted: Gateway edge does not exist in this namespace." in shown
    assert "requests through it are not counted below; metrics decide about a canary" in shown


def test_status_shows_what_became_of_sample_inputs(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = {"requests": 400, "sent": 400, "failures": 2, "first": "answered 500: no", "skew": "9 of 9 answers differ."}
    rollout = {"targetRevision": "bbbb2222", "smoke": {**smoke, "p50Milliseconds": 5, "p95Milliseconds": 9}}
    cluster.run("status", "rain", objects=(deployment(rollout=rollout),))
    said = capsys.readouterr().out
    assert "sample inputs: 2 of 400 requests failed, answered half within 5 ms, 95 % within 9 ms" in said
    assert "first failure: answered 500: no" in said and "9 of 9 answers differ." in said


def test_status_exits_0_when_ready(cluster: Cluster) -> None:
    assert cluster.run("status", "rain", objects=(deployment(conditions=[ready("True", "Serving", "")]),)) == 0


def test_a_missing_deployment_is_named_with_those_that_exist(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cluster.run("status", "snow", objects=(deployment(),)) == 1
    assert "ModelDeployment snow does not exist in namespace team; there are rain." in capsys.readouterr().err


def test_abort_is_bound_to_the_rollouts_revision(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    mdep = deployment(rollout={"targetRevision": "bbbb2222", "step": 1, "steps": 3})
    assert cluster.run("abort", "rain", objects=(mdep,)) == 0
    assert [(c["verb"], c["revision"]) for c in cluster.commands] == [("abort", "bbbb2222")]
    assert "abort of bbbb2222 taken" in capsys.readouterr().out


@pytest.mark.parametrize("user", ["ada", "system:serviceaccount:team:bot", "jürgen@example.org"])
def test_a_command_names_the_user_that_the_cluster_knows_in_the_form_it_checks(cluster: Cluster, user: str) -> None:
    cluster.user = user
    assert cluster.run("promote", "rain", objects=(deployment(rollout={"targetRevision": "bbbb2222"}),)) == 0
    id_ = cluster.commands[0]["id"]
    assert cluster.texts == [f'{{"by":"{user}","verb":"promote","revision":"bbbb2222","id":"{id_}"}}']


def test_an_abort_goes_out_under_the_login_name_where_the_cluster_does_not_tell(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.user = None
    monkeypatch.setenv("LOGNAME", "ann")
    assert cluster.run("abort", "rain", objects=(deployment(rollout={"targetRevision": "bbbb2222"}),)) == 0
    assert cluster.commands[0]["by"] == "ann"
    assert "does not tell your user name, so the command says ann" in capsys.readouterr().err


def test_an_approval_that_the_operator_refuses_is_an_error_in_its_words(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "promote by ada is refused: forbidOwnApproval is set, and Ada <ada@x> wrote the change."
    mdep = deployment(rollout={"targetRevision": "bbbb2222", "refusal": refusal})
    assert cluster.run("promote", "rain", objects=(mdep,)) == 1
    assert capsys.readouterr().err.strip() == f"Error: {refusal}"
    assert cluster.run("abort", "rain") == 0  # an older refusal says nothing of this one


@pytest.mark.parametrize("verb", ["approve", "promote"])
def test_who_promotes_a_canary_that_waits_approves_it_and_passes_no_step_ahead(cluster: Cluster, verb: str) -> None:
    mdep = deployment(rollout={"targetRevision": "bbbb2222", "state": "Approval"})
    assert cluster.run(verb, "rain", objects=(mdep,)) == 0
    assert [c["verb"] for c in cluster.commands] == ["approve"]


def test_approve_without_a_question_is_refused_in_words(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    mdep = deployment(rollout={"targetRevision": "bbbb2222", "state": "Analysing"})
    assert cluster.run("approve", "rain", objects=(mdep,)) == 1
    assert "rain does not wait for approval, so there is nothing to approve" in capsys.readouterr().err
    assert not cluster.commands


def test_promote_without_a_rollout_is_refused_in_words(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.run("promote", "rain", objects=(deployment(),)) == 1
    assert "has no rollout in progress, so there is nothing to promote" in capsys.readouterr().err


def test_retry_takes_the_last_rejected_revision(cluster: Cluster) -> None:
    mdep = deployment(rejected=[{"revision": "cccc3333", "version": "rain-r3", "reason": "CanaryFailed"}])
    assert cluster.run("retry", "rain", objects=(mdep,)) == 0
    assert cluster.commands[0]["revision"] == "cccc3333"


def test_retry_takes_the_expired_revision_that_the_status_tells_to_retry(cluster: Cluster) -> None:
    expired = {"revision": "e5e5e5e5", "version": "rain-r2", "reason": "Expired", "time": "2026-01-01T00:00:00Z"}
    assert cluster.run("retry", "rain", objects=(deployment(expired=expired),)) == 0
    assert cluster.commands[0]["revision"] == "e5e5e5e5"


def test_retry_takes_the_rejected_revision_of_the_version_that_is_named(cluster: Cluster) -> None:
    def entry(revision: str, version: str) -> dict[str, str]:
        return {"revision": revision, "version": version, "reason": "Aborted", "time": "2026-01-01T00:00:00Z"}

    mdep = deployment(rejected=[entry("aaaaaaaa", "rain-r3"), entry("bbbbbbbb", "rain-r2")])
    mdep["spec"]["model"]["version"] = "rain-r2"
    assert cluster.run("retry", "rain", objects=(mdep,)) == 0
    assert cluster.commands[0]["revision"] == "bbbbbbbb"


def test_digest_errors_are_one_sentence(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.run("digest", "nowhere") == 1
    assert capsys.readouterr().err.strip() == "Error: nowhere does not exist; give a file, a directory or a store URI."
