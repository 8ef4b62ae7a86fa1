"""A GitSync controller on an in-memory cluster and a real Git server over smart HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.adapters.git import GitRepositories, GitSettings
from perennial.api import kinds
from perennial.controllers.git_sync import GitSyncController, GitSyncSettings
from perennial.domain.decision import JsonObject
from perennial.ports import GitRepository
from tests.fakes.world import World
from tests.support.git_server import GitServer, Person, create_repository
from tests.support.owned_store import OwnedStore

PERIOD = 60.0


class Bench:
    """Everything a test of one GitSync needs. `git` may be replaced by a wrapper before `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare = create_repository(folder / "srv", "rain")
        self.server = GitServer(("127.0.0.1", 0), folder / "srv")
        self.server.start()
        self.person = Person(self.bare)
        self.repositories = GitRepositories(GitSettings(folder / "cache", workers=2, allow_insecure=True))
        self.git: GitRepository = self.repositories
        self.world = self.new_world()

    def new_world(self) -> World:
        """An empty cluster with the controller in it."""
        world = World()
        store = OwnedStore(world.clock, on_event=None)
        store.on_event, store.on_write = world.store.on_event, world.store.on_write
        world.store = store
        settings = GitSyncSettings(jitter=lambda: 0.5)
        world.add(lambda w: GitSyncController(w.store, w.cache, w.events, w.clock, settings, self.git))
        return world

    def manifest(self, **spec: Any) -> JsonObject:
        """The GitSync object `rain`."""
        return {
            "apiVersion": "perennial.dev/v1alpha1",
            "kind": "GitSync",
            "metadata": {"name": "rain", "namespace": "default"},
            "spec": {"url": self.server.url("rain"), "ref": {"branch": "main"}, "prune": True, "path": "app"} | spec,
        }

    async def start(self, **spec: Any) -> World:
        """Apply the GitSync and let it settle."""
        await self.world.person(self.manifest(**spec))
        await self.world.settle()
        return self.world

    async def push(self, files: dict[str, str | None], message: str = "change") -> str:
        """Commit as a person and let the GitSync find it."""
        commit = self.person.push(files, message)
        await self.poll()
        return commit

    async def poll(self) -> None:
        """Let one period pass."""
        await self.world.run_for(PERIOD + 1)

    def sync(self) -> JsonObject:
        """The GitSync object."""
        return self.world.obj(kinds.GIT_SYNC, "rain")

    def status(self) -> JsonObject:
        """Its status."""
        return self.sync()["status"]

    def condition(self, type_: str) -> JsonObject:
        """One of its conditions; {} when absent."""
        return next((c for c in self.status()["conditions"] if c["type"] == type_), {})

    def exists(self, kind: kinds.Kind, name: str) -> bool:
        """Whether the object is in the cluster."""
        return any(obj["metadata"]["name"] == name for obj in self.world.store.all(kind))

    def close(self) -> None:
        """Stop the server and the git workers."""
        self.server.shutdown()
        self.server.server_close()
        self.repositories.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A fresh bench."""
    made = Bench(tmp_path)
    yield made
    made.close()


def config_map(name: str, value: str = "1", **metadata: Any) -> str:
    """A ConfigMap manifest."""
    extra = "".join(f"  {key}: {value}\n" for key, value in metadata.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{extra}data:\n  value: '{value}'\n"


def deployment(name: str = "rain", version: str | None = None, **extra: str) -> str:
    """A ModelDeployment manifest with a comment in it."""
    line = f"    version: {version}   # written back\n" if version else ""
    more = "".join(f"  {key}: {value}\n" for key, value in extra.items())
    return (
        f"apiVersion: perennial.dev/v1alpha1\nkind: ModelDeployment\nmetadata:\n  name: {name}\nspec:\n"
        f"  # what serves\n  model:\n    name: rain\n{line}    updatePolicy: Git\n{more}"
    )
