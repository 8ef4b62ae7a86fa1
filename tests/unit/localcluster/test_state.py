"""The record of clusters on disk."""

import json
from pathlib import Path

import pytest

from localcluster import state
from localcluster.errors import ClusterError


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "ROOT", tmp_path / "clusters")
    return tmp_path / "clusters"


def make(name: str) -> state.State:
    return state.create(name, gpus=2, fake_nodes=0, node=True)


def test_a_recorded_cluster_is_found_again_by_name(root: Path) -> None:
    made = make("one")
    assert state.load("one") == made
    assert state.names() == ["one"]
    assert (root / "one").stat().st_mode & 0o777 == 0o700


def test_each_cluster_gets_an_index_of_its_own_and_a_removed_one_is_used_again(root: Path) -> None:
    assert [make(name).index for name in ("a", "b", "c")] == [0, 1, 2]
    (root / "b" / "state.json").unlink()
    assert make("d").index == 1


def test_no_cluster_is_none_and_required_says_how_to_make_one() -> None:
    assert state.load("none") is None
    with pytest.raises(ClusterError, match="up --name none"):
        state.require("none")


def test_a_broken_record_is_named(root: Path) -> None:
    make("bad")
    (root / "bad" / "state.json").write_text('{"name": "bad"')
    with pytest.raises(ClusterError, match=r"bad/state\.json cannot be read"):
        state.load("bad")


def test_a_kubeconfig_of_ours_leads_to_its_cluster_and_another_to_none(root: Path, tmp_path: Path) -> None:
    made = make("one")
    assert state.by_kubeconfig(made.layout.kubeconfig) == made
    assert state.by_kubeconfig(tmp_path / "kubeconfig") is None
    assert state.by_kubeconfig(root / "one" / "other") is None


def test_the_record_is_replaced_whole(root: Path) -> None:
    made = make("one")
    made.ready = True
    made.save()
    assert json.loads((root / "one" / "state.json").read_text())["ready"] is True
    assert [p.name for p in (root / "one").iterdir()] == ["state.json"]


def test_refuses_a_directory_of_somebody_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ClusterError, match="belongs to another user"):
        make("one")


def test_a_forgotten_lock_can_be_taken_again(root: Path) -> None:
    with state.lock("x"):
        state.forget_lock("x")
    with state.lock("x"):
        assert (root / ".locks" / "x").exists()
