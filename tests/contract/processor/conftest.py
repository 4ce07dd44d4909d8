"""The logs that the owning loop is tested on: a bench is made anew, over an empty log, as often as asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel.log.memory import MemoryLog
from kernel.log.port import EventLog
from tests.support.benches import LOGS, PARTITIONS, OpenLog, benches_over
from tests.support.components import needs_kafka
from tests.support.crash_points import MakeBench
from tests.support.processing import Bench, HandClock

_LOGS = ["memory", "memory as one", "sqlite", "sqlite as one", pytest.param("kafka", marks=needs_kafka)]


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[OpenLog]:
    async def open_log(clock: HandClock) -> EventLog:
        return MemoryLog(PARTITIONS, clock)

    yield open_log


@pytest.fixture(params=_LOGS)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeBench]:
    name, _, as_one = request.param.partition(" as ")
    async with {**LOGS, "memory": _memory}[name](tmp_path) as open_log:
        yield benches_over(open_log, as_one=bool(as_one))


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    """How many points a test moves on at a time: durable logs pay for each commit, so there the variants share them."""
    return 1 if "memory" in request.node.name else 3


@pytest.fixture
async def bench(make: MakeBench) -> Bench:
    return await make()
