"""How `make test` spreads the tests over the workers of pytest-xdist, shows what runs, and ends when interrupted.

Cluster tests mostly wait. So each worker has a cluster of its own, on which its cluster tests run one after the other,
and files of tests go to whichever worker is free, the longest first. Must not change what a test sees.
"""

import contextlib
import functools
import os
import signal
from shutil import which
from types import FrameType
from typing import Any

import execnet
import pytest
from xdist.scheduler import LoadScopeScheduling

from localcluster import choose
from localcluster.shell import say
from localcluster.using import stop_abandoned
from tests.support.shared import shared_cluster

CLUSTER = "tests on a cluster"
"""All of them, where there is one cluster for all."""
NO_OPERATOR = "tests on a cluster without an operator"
FIRST = (NO_OPERATOR, "tests/cluster/test_loop.py", "tests/cluster/test_rebuilt.py")
"""In this order: what needs a cluster on which no operator was installed yet, and what takes longest."""
PATIENCE = 60.0
"""Seconds that interrupted workers have to stop their clusters."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class GroupScheduling(LoadScopeScheduling):
    """One group after the other, in the order of collection, to the worker that begins the last test that it has."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)

    def _reschedule(self, node: Any) -> None:
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)


def group(nodeid: str) -> str:
    """What stays on one worker: a file, or a group of cluster tests."""
    path = nodeid.partition("::")[0]
    on_cluster = path.startswith(("tests/api/", "tests/cluster/"))
    if on_cluster and one_cluster():
        return CLUSTER
    alone = path.startswith(("tests/api/", "tests/cluster/test_localcluster", "tests/cluster/test_operator_process"))
    return NO_OPERATOR if alone else path


@functools.cache
def one_cluster() -> bool:
    """Whether there is one cluster for all tests, because it is given or costly to make."""
    return bool(os.environ.get(choose.VARIABLE)) or (choose.docker_reachable() and which("kind") is not None)


def rank(item: pytest.Item) -> int:
    """Cluster tests begin first, then the long ones of the others."""
    found = group(item.nodeid)
    if found in FIRST:
        return FIRST.index(found)
    after = ("tests/cluster/", "tests/component/slow/")
    place = next((number for number, folder in enumerate(after) if found.startswith(folder)), len(after))
    return 0 if found == CLUSTER else len(FIRST) + place


def grouped(config: pytest.Config) -> bool:
    """Whether this process hands out groups to workers."""
    return bool(config.getoption("dist", "no") == "loadgroup")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """xdist's own scheduler but for `make test`."""
    return GroupScheduling(config, log) if grouped(config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the order in which they shall begin."""
    if config.getoption("loadgroup", False):
        items.sort(key=rank)


def pytest_configure(config: pytest.Config) -> None:
    """Whoever is told to end ends as after Ctrl-C: by an exception, so that fixtures clean up."""
    for number in ENDING[1:]:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    if grouped(config):
        config.option.loadscopereorder = False
        config.pluginmanager.register(Controller(config))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def pytest_keyboard_interrupt() -> None:
    """Nothing interrupts the cleaning up: execnet, for one, interrupts again after 5 s."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def reason(report: pytest.TestReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).partition("\n")[0][:500]


class Controller:
    """The process that hands out the tests: tells of cluster tests as they go, and has workers stop their clusters."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.pids: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def pytest_xdist_newgateway(self, gateway: execnet.Gateway) -> None:
        """Whom to interrupt."""
        self.pids[gateway.id] = gateway._io.popen.pid

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A line when a cluster test begins."""
        if nodeid.startswith("tests/cluster/"):
            self._tell(f"{nodeid} ...")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """And one when it has ended; for any test at once what failed, since the report comes at the very end."""
        if report.failed:
            self._tell(f"{report.nodeid} FAILED: {reason(report)}")
        if not report.nodeid.startswith("tests/cluster/"):
            return
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "teardown":
            self._tell(f"{report.nodeid} ended after {self.seconds[report.nodeid]:.0f} s")

    def _tell(self, line: str) -> None:
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter._tw.width_of_current_line:  # after the dots of other tests
            reporter._tw.line()
        reporter.write_line(line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Before xdist ends its workers, which gives them 10 s. Clusters of killed workers are stopped here."""
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            say(f"\ninterrupted: workers stop their clusters, for at most {PATIENCE:.0f} s")
            for pid in self.pids.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
        for worker in self.pids:
            stop_abandoned(shared_cluster(worker), PATIENCE)
