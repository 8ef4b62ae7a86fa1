"""The host is brought back to what it was before the first cluster."""

from pathlib import Path

import pytest

from localcluster import host
from localcluster.addresses import Addresses


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that plays the host's."""
    (tmp_path / "inotify").write_text("128\n")
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(host, "INOTIFY", tmp_path / "inotify")
    monkeypatch.setattr(host, "FIXED", (tmp_path / "there", tmp_path / "absent"))
    monkeypatch.setattr(host, "NAMED_NETWORKS", tmp_path / "netns")
    monkeypatch.setattr(host, "CNI_RESULTS", tmp_path / "results")
    monkeypatch.setattr(host, "POD_LOG_LINKS", tmp_path / "links")
    return tmp_path


def test_the_limit_and_the_made_directories_are_put_back(machine: Path) -> None:
    host.note_before(machine / "memory")
    assert int((machine / "inotify").read_text()) == host.INOTIFY_NEEDED
    (machine / "absent" / "made").mkdir(parents=True)
    host.note_before(machine / "memory")  # a second cluster sees a changed host and must not note that
    host.restore_before(machine / "memory")
    assert int((machine / "inotify").read_text()) == 128
    assert sorted(p.name for p in machine.iterdir()) == ["inotify", "there"]


def test_a_limit_that_is_high_enough_is_left(machine: Path) -> None:
    (machine / "inotify").write_text("100000\n")
    host.note_before(machine / "memory")
    assert int((machine / "inotify").read_text()) == 100000


def test_only_the_notes_and_links_of_this_cluster_are_removed(machine: Path) -> None:
    (machine / "results").mkdir()
    (machine / "links").mkdir()
    for name in ("perennial-a-1f-eth0", "cni-loopback-1f-lo", "perennial-b-2f-eth0", "cni-loopback-2f-lo"):
        (machine / "results" / name).touch()
    (machine / "links" / "ours").symlink_to("/state/a/pod-logs/x")
    (machine / "links" / "theirs").symlink_to("/var/log/pods/x")
    host.remove_cni_results(Addresses("a", 0))
    host.remove_pod_log_links(Path("/state/a/pod-logs"))
    assert sorted(p.name for p in (machine / "results").iterdir()) == ["cni-loopback-2f-lo", "perennial-b-2f-eth0"]
    assert [p.name for p in (machine / "links").iterdir()] == ["theirs"]


def test_the_link_is_removed_before_the_namespace_that_would_take_it_along(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Addresses("a", 0)
    removed: list[tuple[str, ...]] = []
    monkeypatch.setattr(host, "network_namespace", lambda at: machine / "there")
    monkeypatch.setattr(host, "succeeds", lambda argv: not removed)
    monkeypatch.setattr(host, "run", lambda argv: removed.append(tuple(argv)))
    host.remove_network(at)
    assert removed == [("ip", "link", "delete", at.host_veth), ("ip", "netns", "delete", at.namespace)]
