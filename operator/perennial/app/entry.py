"""The program `perennial` (also `kubectl-perennial`): sends each command to the part that does it.

Imports a part only when its command runs: the router's agent must not load kopf, nor a person's terminal the router.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PARTS = "operator, router, router-init, envoy, step"


def main() -> int:
    """Run `sys.argv`; the exit code."""
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    if first == "operator":
        from perennial.app.main import run_operator

        return run_operator(arguments[1:])
    if first in ("router", "router-init", "envoy"):
        import perennial.router.main as router

        if first == "envoy":
            return router.exec_envoy(os.environ)
        return router.run_router(os.environ) if first == "router" else router.run_router_init(os.environ)
    if first == "step":
        from perennial.steps.main import run_step

        return run_step(arguments[1] if len(arguments) > 1 else "", os.environ)
    return _command_line(arguments)


def _command_line(arguments: list[str]) -> int:
    from perennial.cli.main import main as run_cli
    from perennial.cli.tools import Connection, Target, Tools

    @asynccontextmanager
    async def connect(target: Target) -> AsyncIterator[Connection]:
        from perennial.adapters.kube import connect_store

        async with connect_store(kubeconfig=target.kubeconfig, context=target.context, user=target.user) as (
            store,
            namespace,
        ):
            yield Connection(store, target.namespace or namespace, store.who)

    def digest(place: str) -> tuple[str, int]:
        from perennial.steps.digest import digest_of

        return digest_of(place, os.environ)

    return run_cli(Tools(connect=connect, digest=digest), arguments)


if __name__ == "__main__":
    sys.exit(main())
