"""The logs that the owning loop is tested on: a bench is made anew, over an empty log, as often as asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kernel.ids import SystemEntropy
from kernel.log.kafka.log import KafkaLog
from kernel.log.memory import MemoryLog
from kernel.log.port import EventLog
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.components import needs_kafka
from tests.support.crash_points import MakeBench
from tests.support.kafka_topics import TopicSets
from tests.support.processing import Bench, CuttingLog, HandClock
from tests.support.toy_decider import TOPICS, ObjectCodec

_PARTITIONS = dict.fromkeys(TOPICS, 1)


_LOGS = ["memory", "memory as one", "sqlite", "sqlite as one", pytest.param("kafka", marks=needs_kafka)]


@pytest.fixture(params=_LOGS)
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeBench]:
    sets = TopicSets(_PARTITIONS)
    async with AsyncExitStack() as after, AsyncExitStack() as opened:
        after.push_async_callback(sets.delete)
        count = 0

        async def memory(clock: HandClock) -> EventLog:
            return MemoryLog(_PARTITIONS, clock)

        async def sqlite(clock: HandClock) -> EventLog:
            nonlocal count
            count += 1
            file = await SqliteFile.open(tmp_path / str(count) / "towpath.db", readers=1)
            opened.push_async_callback(file.close)
            return await SqliteLog.open(file, _PARTITIONS, clock, SystemEntropy())

        async def kafka(clock: HandClock) -> EventLog:
            log = await KafkaLog.open(await sets.take(), clock, topics=_PARTITIONS)
            opened.push_async_callback(log.close)
            return log

        name, _, as_one = request.param.partition(" as ")
        open_log = {"memory": memory, "sqlite": sqlite, "kafka": kafka}[name]

        async def make_bench() -> Bench:
            await opened.aclose()
            clock = HandClock()
            return Bench(CuttingLog(await open_log(clock)), ObjectCodec(), clock, as_one=bool(as_one))

        yield make_bench


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    """How many points a test moves on at a time: durable logs pay for each commit, so there the variants share them."""
    return 1 if "memory" in request.node.name else 3


@pytest.fixture
async def bench(make: MakeBench) -> Bench:
    return await make()
