"""A cluster is thrown away after the loop and another one made: repository, artifact store and Secrets are all that
comes back. Both servers run on the host, their directories outside of any cluster."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.gitserver.server import GitServer, create_repository
from examples.rain.demo import servers
from examples.rain.demo.stage import SYSTEM, Stage, Timeline, build_images, install
from localcluster import choose, lifecycle, state
from localcluster.binaries import binary
from localcluster.using import Running
from perennial.adapters.kube import connect_store
from perennial.api import kinds
from tests.cluster.conftest import READY
from tests.cluster.operator import BAD, Recorder, ShortLoop, make_namespace, play
from tests.support.s3_server import s3_server

NAME = "rebuilt"
NAMESPACE = "team"
GIT_PORT, S3_PORT = 8080, 7070


class HostedLoop(ShortLoop):
    """The short loop with its servers on the host."""

    host: str

    async def serve(self) -> None:
        """They already run."""

    def connect(self) -> None:
        """Services of the usual names without selectors, and the credentials."""
        self.stage.apply(*servers.secrets(), *service("git", 80, self.host, GIT_PORT))
        self.stage.apply(*service("s3", S3_PORT, self.host, S3_PORT))


def service(name: str, port: int, address: str, target: int) -> list[dict[str, Any]]:
    """A Service that leads to an address outside of the cluster."""
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": port}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": target}],
            "endpoints": [{"addresses": [address]}],
        },
    ]


@contextmanager
def hosted(folder: Path, host: str) -> Iterator[None]:
    """Both servers on an address of the host, with what is in the folder."""
    create_repository(folder / "git", "rain")
    git = GitServer((host, GIT_PORT), folder / "git", credentials=(servers.USER, servers.PASSWORD))
    git.start()
    try:
        keys = servers.ACCESS_KEY, servers.SECRET_KEY
        with s3_server(binary("versitygw"), folder / "s3", host, S3_PORT, *keys):
            yield
    finally:
        git.shutdown()
        git.server_close()


@asynccontextmanager
async def new_cluster(folder: Path) -> AsyncIterator[HostedLoop]:
    """A cluster that did not exist before, with the operator installed and the servers beside it."""
    made = lifecycle.up(NAME, gpus=0)
    try:
        running = Running(made.layout.kubeconfig, "local", NAME)
        timeline = Timeline()
        tags = build_images(running, timeline, ("perennial", "trivial"))
        with hosted(folder, made.addresses.host_ip):
            async with connect_store(kubeconfig=str(running.kubeconfig)) as (store, _):
                install(Stage(running, store, timeline, SYSTEM, tags))
                running.kubectl("-n", SYSTEM, *READY, timeout=200)
                stage = Stage(running, store, timeline, NAMESPACE, tags)
                make_namespace(stage)
                loop = HostedLoop(stage, stage)
                loop.host = made.addresses.host_ip
                yield loop
    finally:
        lifecycle.down(NAME)


@pytest.mark.skipif(
    bool(os.environ.get(choose.VARIABLE)) or choose.docker_reachable() or lifecycle.supported() is not None,
    reason="throws clusters away, so it needs a machine on which the driver makes them itself",
)
async def test_a_rebuilt_cluster_repeats_nothing(tmp_path: Path) -> None:
    assert state.load(NAME) is None, f"a cluster {NAME!r} is there already; `python -m localcluster down --name {NAME}`"
    async with new_cluster(tmp_path) as loop:
        before = await play(loop, None)
        assert (before["promoted"], before["rejected"], before["triggers"]) == (2, [BAD], ["Promoted"])
        version = (await loop.deployment())["status"]["stable"]["version"]
        commits = await loop.stage.git_log("%H")
    async with new_cluster(tmp_path) as loop:
        recorder = Recorder(loop.stage)
        async with recorder.recording():
            loop.connect()
            loop.stage.apply(yaml.safe_load(loop.sync()))
            assert await loop.stage.wait("the rebuilt deployment to serve", lambda: loop.serving(None), 240) == version
            await loop.stage.wait("the rebuilt loop to come to rest", loop.settled, 60)
        made = recorder.counts()
        assert not [name for name in made if name.startswith("Job ") and "-run-" in name], "nothing is trained again"
        revisions = {name: n for name, n in made.items() if name.startswith("Deployment loop-rev")}
        assert revisions == {"Deployment loop-rev-ID": 1}, "the rejected version is never tried"
        policy = await loop.stage.store.get(kinds.DRIFT_POLICY, NAMESPACE, "loop-predictions") or {}
        assert not policy.get("status", {}).get("activeTrigger")
        assert await loop.stage.git_log("%H") == commits
