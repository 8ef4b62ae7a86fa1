"""The order of choice of a cluster."""

from pathlib import Path

import pytest

from localcluster import choose, lifecycle, state
from localcluster.errors import ClusterError


@pytest.fixture(autouse=True)
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "ROOT", tmp_path / "clusters")
    monkeypatch.delenv(choose.VARIABLE, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "context-of-the-user"))
    monkeypatch.setattr(choose, "docker_reachable", lambda: False)
    monkeypatch.setattr(lifecycle, "supported", lambda: "this needs root")


def test_the_named_kubeconfig_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine"
    path.write_text("{}")
    monkeypatch.setenv(choose.VARIABLE, str(path))
    monkeypatch.setattr(choose, "docker_reachable", lambda: pytest.fail("Docker was asked"))
    assert choose.ensure("test") == choose.Cluster(path, "explicit", "", started=False)


def test_a_named_kubeconfig_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choose.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ClusterError, match=r"PERENNIAL_KUBECONFIG names .*gone, which is no file"):
        choose.ensure("test")


def test_kind_comes_before_a_local_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = choose.Cluster(tmp_path / "k", "kind", "test", started=True)
    monkeypatch.setattr(choose, "docker_reachable", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(choose, "_kind", lambda name, gpus: made)
    monkeypatch.setattr(lifecycle, "up", lambda *a, **k: pytest.fail("a local cluster was started"))
    assert choose.ensure("test") == made


def test_a_local_cluster_is_made_when_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "supported", lambda: None)
    monkeypatch.setattr(lifecycle, "up", lambda name, **k: state.create(name, gpus=2, fake_nodes=0, node=True))
    cluster = choose.ensure("test")
    assert (cluster.how, cluster.name, cluster.started) == ("local", "test", True)
    assert cluster.kubeconfig == state.ROOT / "test" / "kubeconfig"


def test_the_error_says_what_to_install() -> None:
    with pytest.raises(ClusterError, match=r"this needs root.*install Docker and kind, or run as root on Linux"):
        choose.ensure("test")
