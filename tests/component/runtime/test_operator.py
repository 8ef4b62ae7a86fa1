"""The operator's own upkeep on an in-memory API: filling the cache, resync, and what it says when it cannot start."""

from types import SimpleNamespace
from typing import Any

import pytest

from perennial.api import kinds
from perennial.app.main import Ended, Operator, run_operator
from perennial.app.settings import load
from perennial.domain.errors import Invalid, Unavailable
from perennial.runtime.controller import Controller
from perennial.runtime.outcome import Key
from tests.component.runtime.test_loop import Toy
from tests.contract.store_suite import policy
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore
from tests.fakes.world import World


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(FakeClock())


@pytest.fixture
def operator(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("perennial.app.main.KubeStore", lambda access, namespaces: store)
    access: Any = SimpleNamespace(namespace="system")
    made = Operator(load(None, {}), {}, access)
    made.loop.add(Controller(Toy(World()), store, made.cache, FakeClock(), now=lambda: 0.0))
    return made


def woken(operator: Operator) -> list[Key]:
    queue = operator.loop.controllers[0].queue
    keys = []
    while (item := queue.pop_ready()) is not None:
        keys.append(item[0])
        queue.done(item[0])
    return keys


async def test_what_vanished_unseen_is_pruned_and_wakes_who_cared(store: MemoryStore, operator: Operator) -> None:
    owner = await store.create(policy("default"), manager="x")
    child = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "child",
            "namespace": "default",
            "labels": {"app.kubernetes.io/managed-by": "perennial"},
            "ownerReferences": [
                {**{k: owner[k] for k in ("apiVersion", "kind")}, "name": "watch", "controller": True,
                 "uid": owner["metadata"]["uid"]}
            ],
        },
    }  # fmt: skip
    await store.create(child, manager="x")
    await operator.fill()
    assert len(operator.cache.owned_by(owner["metadata"]["uid"])) == 1
    await store.delete(kinds.SERVICE, "default", "child", uid=None)
    await operator.resync()
    assert operator.cache.owned_by(owner["metadata"]["uid"]) == []
    assert woken(operator) == [Key("default", "watch")]


async def test_a_failing_list_prunes_nothing(store: MemoryStore, operator: Operator) -> None:
    await store.create(policy("default"), manager="x")
    await operator.fill()
    store.fail("list", Unavailable("ApiServerError", "down"), times=100)
    await operator.resync()
    assert operator.cache.get(kinds.DRIFT_POLICY, "default", "watch") is not None


async def test_a_resync_looks_at_every_object_again_within_its_period(store: MemoryStore, operator: Operator) -> None:
    await store.create(policy("default"), manager="x")
    await operator.fill()
    await operator.resync()
    due = operator.loop.controllers[0].queue.next_due()
    assert due is not None
    assert 0 <= due <= operator.settings.resync_seconds


async def test_missing_crds_end_the_start_with_what_to_do(store: MemoryStore, operator: Operator) -> None:
    store.fail("list", Invalid("NoSuchKind", "the server could not find the requested resource"))
    with pytest.raises(Ended, match=r"gitsyncs cannot be listed: .*kubectl apply -k manifests"):
        await operator.fill()


async def test_children_without_our_label_are_not_even_listed(store: MemoryStore, operator: Operator) -> None:
    meta = {"name": "other", "namespace": "default"}
    await store.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta}, manager="x")
    await operator.fill()
    assert operator.cache.counts()["Pod"] == 0


async def test_its_own_pods_image_is_the_default_and_the_settings_win(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perennial.app.main.KubeStore", lambda access, namespaces: store)
    access: Any = SimpleNamespace(namespace="system")
    pod = {
        "metadata": {"name": "me", "namespace": "system"},
        "spec": {"containers": [{"name": "operator", "image": "own:1"}]},
    }
    await store.create({"apiVersion": "v1", "kind": "Pod", **pod}, manager="x")
    environ = {"POD_NAME": "me", "POD_NAMESPACE": "system"}
    for said, expected in (({}, "own:1"), ({"PERENNIAL_IMAGE": "said:2"}, "said:2")):
        made = Operator(load(None, said), environ, access)
        await made.find_image()
        assert made.image == expected


def test_a_wrong_option_or_setting_is_said_without_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    assert run_operator(["--nonsense"], {}) == 2
    path = tmp_path / "c.yaml"
    path.write_text("imge: x\n")
    assert run_operator(["--config", str(path)], {}) == 2
    said = capsys.readouterr().err
    assert "No such option" in said
    assert "imge is not a known setting" in said
    assert "Traceback" not in said
