"""The cluster that the tests of one process share: one for each worker of pytest-xdist, `test` without workers."""

import os

WORKER = "PYTEST_XDIST_WORKER"


def shared_cluster(worker: str | None = None) -> str:
    """Its name, for `localcluster.using`; `worker`: of that worker in place of this process."""
    worker = worker or os.environ.get(WORKER)
    return f"test-{worker}" if worker else "test"
