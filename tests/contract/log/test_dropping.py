"""Records dropped out of old batches: never read again; offsets, the end and everything else stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.log.port import Record
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile

FUTURE_MS = 10**15


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteLog]:
    file = await SqliteFile.open(folder / "log.db")
    try:
        log = await SqliteLog.open(file, {"t": 1}, SystemClock(), SystemEntropy())
        yield log
        await log.close()
    finally:
        await file.close()


async def three_batches(log: SqliteLog) -> None:
    for keys in ("aab", "aa", "ba"):
        await log.append([Record("t", 0, key, (("h", "x"),), key.encode()) for key in keys])


async def drop(log: SqliteLog, key: str) -> None:
    offset = 0
    while batches := await log.old_batches("t", 0, offset=offset, before_ms=FUTURE_MS, at_most=1):
        for batch in batches:
            await log.drop("t", 0, batch.first_offset, lambda found, _: found == key)
        offset = batches[-1].next_offset


async def found(log: SqliteLog, offset: int = 0) -> list[tuple[int, str]]:
    return [(stored.offset, stored.record.key) for stored in await log.read("t", 0, offset)]


@pytest.mark.parametrize("again", [False, True])
async def test_what_is_dropped_is_gone_and_the_rest_keeps_its_place(tmp_path: Path, *, again: bool) -> None:
    async with opened(tmp_path) as log:
        await three_batches(log)
        await drop(log, "a")
        if again:
            await drop(log, "a")
        assert await found(log) == [(2, "b"), (5, "b"), (6, "a")]
        assert await found(log, 3) == [(5, "b"), (6, "a")]
    async with opened(tmp_path) as log:
        assert await found(log) == [(2, "b"), (5, "b"), (6, "a")]
        assert await log.end_offset("t", 0) == 7
        assert await log.append([Record("t", 0, "c", (), b"")])
        assert await found(log, 6) == [(6, "a"), (7, "c")]


async def test_young_batches_and_the_last_one_are_not_offered(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await three_batches(log)
        assert await log.old_batches("t", 0, offset=0, before_ms=0) == []
        old = await log.old_batches("t", 0, offset=0, before_ms=FUTURE_MS)
        assert [(batch.first_offset, batch.next_offset, set(batch.keys)) for batch in old] == [
            (0, 3, {"a", "b"}),
            (3, 5, {"a"}),
        ]
