"""What `make test` keeps on one worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import choose
from tests import conftest
from tests.conftest import CLUSTER, FIRST, NO_OPERATOR, group

FOLDER = Path(__file__).parents[1] / "cluster"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cluster is given, no Docker is there; what is remembered of the machine is forgotten before and after."""
    monkeypatch.delenv(choose.VARIABLE, raising=False)
    monkeypatch.setattr(choose, "docker_reachable", lambda: False)
    conftest.one_cluster.cache_clear()
    yield
    conftest.one_cluster.cache_clear()


def cluster_groups() -> dict[str, str]:
    """The group of each file of cluster tests."""
    return {path.name: group(f"tests/cluster/{path.name}::test") for path in FOLDER.glob("test_*.py")}


def test_cluster_tests_go_by_file_to_the_cluster_of_whichever_worker_is_free() -> None:
    assert group("tests/cluster/test_loop.py::test_x[a::b]") == "tests/cluster/test_loop.py"


def test_tests_that_need_a_cluster_without_an_operator_begin_together_before_one_is_installed() -> None:
    assert FIRST[0] == NO_OPERATOR
    assert group("tests/api/test_rules.py::test_x") == NO_OPERATOR
    alone = {name for name, found in cluster_groups().items() if found == NO_OPERATOR}
    assert alone == {"test_localcluster.py", "test_operator_process.py"}


def test_what_begins_first_exists() -> None:
    assert set(FIRST) <= set(cluster_groups().values())


def test_other_tests_go_by_file() -> None:
    assert group("tests/unit/domain/test_x.py::test_y") == "tests/unit/domain/test_x.py"


def test_one_given_cluster_is_used_by_one_test_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choose.VARIABLE, "/some/kubeconfig")
    assert {*cluster_groups().values(), group("tests/api/test_rules.py::test_x")} == {CLUSTER}


def test_a_kind_cluster_is_shared_as_a_given_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "docker_reachable", lambda: True)
    monkeypatch.setattr(conftest, "which", lambda _name: "/usr/bin/kind")
    assert {*cluster_groups().values(), group("tests/api/test_rules.py::test_x")} == {CLUSTER}
