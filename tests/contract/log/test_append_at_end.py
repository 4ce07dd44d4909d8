"""What logs on one machine offer beside the port: one atomic append over several partitions, on a condition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kernel.ids import SystemEntropy
from kernel.log.memory import MemoryLog
from kernel.log.port import Record
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.logs import StillClock

TOPICS = {"ledger": 1, "facts": 2}


def record(topic: str, partition: int, value: bytes) -> Record:
    return Record(topic, partition, "key", (), value)


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryLog | SqliteLog]:
    async with AsyncExitStack() as opened:
        if request.param == "memory":
            yield MemoryLog(TOPICS, StillClock())
            return
        file = await SqliteFile.open(tmp_path / "towpath.db", readers=1)
        opened.push_async_callback(file.close)
        yield await SqliteLog.open(file, TOPICS, StillClock(), SystemEntropy())


async def values(log: MemoryLog | SqliteLog, topic: str, partition: int) -> list[bytes]:
    return [stored.record.value for stored in await log.read(topic, partition, 0)]


async def test_at_the_end_everything_lands_in_all_partitions(log: MemoryLog | SqliteLog) -> None:
    await log.append([record("ledger", 0, b"claim")])
    records = [record("ledger", 0, b"decision"), record("facts", 0, b"a"), record("facts", 1, b"b")]
    positions = await log.append_at_end(records, topic="ledger", partition=0, end=1)
    assert positions is not None
    assert [(p.topic, p.partition, p.offset) for p in positions] == [("ledger", 0, 1), ("facts", 0, 0), ("facts", 1, 0)]
    assert await values(log, "ledger", 0) == [b"claim", b"decision"]
    assert await values(log, "facts", 1) == [b"b"]


@pytest.mark.parametrize("end", [0, 2])
async def test_elsewhere_nothing_is_written_anywhere(log: MemoryLog | SqliteLog, end: int) -> None:
    await log.append([record("ledger", 0, b"another claim")])
    records = [record("ledger", 0, b"decision"), record("facts", 0, b"a")]
    assert await log.append_at_end(records, topic="ledger", partition=0, end=end) is None
    assert await values(log, "ledger", 0) == [b"another claim"]
    assert await values(log, "facts", 0) == []
    assert await log.end_offset("ledger", 0) == 1


async def test_the_condition_may_be_about_a_partition_that_gets_nothing(log: MemoryLog | SqliteLog) -> None:
    assert await log.append_at_end([record("facts", 0, b"a")], topic="ledger", partition=0, end=0) is not None
    assert await values(log, "facts", 0) == [b"a"]
