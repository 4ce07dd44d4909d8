"""Benches for owners over real logs: each is made anew, over an empty log, as often as a test asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from kernel.ids import SystemEntropy
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.crash_points import MakeBench
from tests.support.kafka_topics import TopicSets
from tests.support.processing import Bench, CuttingLog, HandClock
from tests.support.toy_decider import TOPICS, ObjectCodec

PARTITIONS = dict.fromkeys(TOPICS, 1)
OpenLog = Callable[[HandClock], Awaitable[EventLog]]
"""Gives an empty log, and closes the one that it gave before."""


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[OpenLog]:
    """Each log in a file of its own."""
    count = 0
    async with AsyncExitStack() as opened:

        async def open_log(clock: HandClock) -> EventLog:
            nonlocal count
            await opened.aclose()
            count += 1
            file = await SqliteFile.open(folder / str(count) / "towpath.db", readers=1)
            opened.push_async_callback(file.close)
            return await SqliteLog.open(file, PARTITIONS, clock, SystemEntropy())

        yield open_log


@asynccontextmanager
async def kafka(_: Path) -> AsyncIterator[OpenLog]:
    """Each log on topics of its own, which are deleted in the end."""
    sets = TopicSets(PARTITIONS)
    async with AsyncExitStack() as after, AsyncExitStack() as opened:
        after.push_async_callback(sets.delete)

        async def open_log(clock: HandClock) -> EventLog:
            await opened.aclose()
            log = await KafkaLog.open(await sets.take(), clock, topics=PARTITIONS)
            opened.push_async_callback(log.close)
            return log

        yield open_log


LOGS: dict[str, Callable[[Path], AbstractAsyncContextManager[OpenLog]]] = {"kafka": kafka, "sqlite": sqlite}


def benches_over(open_log: OpenLog, *, as_one: bool = False) -> MakeBench:
    """Makes a bench over an empty log; the one before is of no use afterwards."""

    async def make_bench() -> Bench:
        clock = HandClock()
        return Bench(CuttingLog(await open_log(clock)), ObjectCodec(), clock, as_one=as_one)

    return make_bench
