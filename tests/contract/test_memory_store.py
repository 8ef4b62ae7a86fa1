"""The in-memory store keeps the contract of `ObjectStore`."""

import pytest

from tests.contract.store_suite import StoreSuite
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(FakeClock())

    @pytest.fixture
    def namespace(self) -> str:
        return "default"
