"""The emulator that these tests share, in cells as the catalogue has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from queuekit_integration.faults.sqs import SqsStub
from queuekit_integration.harness import cell
from queuekit_integration.harnesses.sqs import SqsFifoHarness, SqsHarness
from queuekit_integration.servers import close_servers


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    close_servers()


@pytest.fixture
def h() -> Iterator[SqsHarness]:
    """Return a cell with standard queues."""
    with cell(SqsHarness) as made:
        assert isinstance(made, SqsHarness)
        yield made


@pytest.fixture
def fifo() -> Iterator[SqsFifoHarness]:
    """Return a cell with FIFO queues."""
    with cell(SqsFifoHarness) as made:
        assert isinstance(made, SqsFifoHarness)
        yield made


@pytest.fixture
def stub(h: SqsHarness) -> Iterator[SqsStub]:
    """Return a proxy that answers as the service does on bad days."""
    with h.stub() as made:
        yield made
