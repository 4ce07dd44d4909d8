from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateways import RunningGateway, gateway_in


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A running gateway, empty."""
    async with gateway_in(tmp_path) as running:
        yield running
