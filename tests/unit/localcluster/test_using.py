"""Who stops a cluster when its users end without doing so."""

import fcntl
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from localcluster import using

NAME = "left"


@dataclass
class Machine:
    """A cluster in whatever state, and what was stopped."""

    users: Path
    ready: bool | None = None
    stopped: list[str] = field(default_factory=list)

    def load(self, name: str) -> SimpleNamespace | None:
        """Its record, None when it never was."""
        return None if self.ready is None else SimpleNamespace(name=name, ready=self.ready)

    def down(self, name: str) -> bool:
        """It is stopped."""
        self.stopped.append(name)
        self.ready = None
        return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(using.KEEP, raising=False)
    made = Machine(tmp_path / "perennial" / "locks" / f"users-{NAME}")
    made.users.parent.mkdir(parents=True)
    monkeypatch.setattr(using.state, "load", made.load)
    monkeypatch.setattr(using.lifecycle, "down", made.down)
    return made


def test_a_cluster_whose_users_were_killed_is_stopped(machine: Machine) -> None:
    machine.users.write_text("local\n")
    machine.ready = True
    using.stop_abandoned(NAME, 0)
    assert machine.stopped == [NAME]
    assert machine.users.read_text() == ""


def test_a_cluster_that_was_half_made_is_stopped(machine: Machine) -> None:
    machine.ready = False
    using.stop_abandoned(NAME, 0)
    assert machine.stopped == [NAME]


def test_a_cluster_that_no_user_made_is_left_alone(machine: Machine) -> None:
    machine.ready = True
    using.stop_abandoned(NAME, 0)
    assert machine.stopped == []


def test_a_cluster_that_is_to_be_kept_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(using.KEEP, "1")
    machine.users.write_text("local\n")
    machine.ready = True
    using.stop_abandoned(NAME, 0)
    assert machine.stopped == []


def test_a_cluster_that_somebody_uses_is_left_to_them(machine: Machine) -> None:
    machine.users.write_text("local\n")
    machine.ready = True
    with machine.users.open() as user:
        fcntl.flock(user, fcntl.LOCK_SH)
        using.stop_abandoned(NAME, 0)
    assert machine.stopped == []
    assert machine.users.read_text() == "local\n"
