"""Logs under test: one factory per implementation, so that the contract suite never names one.

A `LogUnderTest` is a cluster in small: `open` gives a log over the same records each time, as a restarted service would
get it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from kernel.ids import SystemEntropy
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog, Record
from kernel.log.sqlite import SqliteLog
from kernel.sqlite_file import SqliteFile
from tests.support.components import has_kafka, needs_kafka
from tests.support.eventually import until
from tests.support.kafka_topics import KafkaTopics, topics_of_a_test

TOPICS: Mapping[str, int] = {"facts": 4, "ledger": 2}


class StillClock:
    """Time that passes only when the test says so: `sleep` ends at the next `pass_time`, however long it was."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self._sleepers: list[asyncio.Future[None]] = []

    def now_ms(self) -> int:
        return self.now

    def boot_ms(self) -> float:
        return float(self.now)

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def pass_time(self, milliseconds: int) -> None:
        """Move on and end every sleep; returns when there was one."""
        await until(lambda: self._sleepers)
        self.now += milliseconds
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        self._sleepers.clear()


class LogUnderTest(Protocol):
    """One cluster with the topics of `TOPICS`."""

    clock: StillClock

    async def open(self) -> EventLog:
        """A log over this cluster; closes the one that it gave before."""
        ...

    async def recreate(self, topic: str) -> None:
        """Delete `topic` and create it anew."""
        ...


class SqliteUnderTest:
    def __init__(self, folder: Path) -> None:
        self.clock = StillClock()
        self.path = folder / "towpath.db"
        self.file: SqliteFile | None = None
        self.log: SqliteLog | None = None

    async def open(self) -> EventLog:
        await self.close()
        self.file = await SqliteFile.open(self.path)
        self.log = await SqliteLog.open(self.file, TOPICS, self.clock, SystemEntropy())
        return self.log

    async def recreate(self, topic: str) -> None:
        assert self.log is not None
        await self.log.recreate_topic(topic, SystemEntropy())

    async def close(self) -> None:
        if self.log is not None and self.file is not None:
            await self.log.close()
            await self.file.close()


class KafkaUnderTest:
    def __init__(self, topics: KafkaTopics) -> None:
        self.clock = StillClock()
        self.topics = topics
        self.log: KafkaLog | None = None

    async def open(self) -> EventLog:
        await self.close()
        self.log = await KafkaLog.open(self.topics.settings, self.clock, topics=TOPICS)
        return self.log

    async def recreate(self, topic: str) -> None:
        await self.topics.recreate({topic: TOPICS[topic]})

    async def close(self) -> None:
        if self.log is not None:
            await self.log.close()


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[LogUnderTest]:
    under_test = SqliteUnderTest(folder)
    try:
        yield under_test
    finally:
        await under_test.close()


@asynccontextmanager
async def kafka(folder: Path) -> AsyncIterator[LogUnderTest]:
    if not has_kafka():
        pytest.skip(needs_kafka.kwargs["reason"])
    async with topics_of_a_test(TOPICS) as topics:
        under_test = KafkaUnderTest(topics)
        try:
            yield under_test
        finally:
            await under_test.close()


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[LogUnderTest]]] = {
    "kafka": kafka,
    "sqlite": sqlite,
}


def record(key: str, value: bytes = b"value", *, topic: str = "facts", partition: int = 0) -> Record:
    return Record(topic, partition, key, (("ce_id", f"id of {key}"), ("ce_subject", "Gänseblümchen")), value)


async def keys(log: EventLog, topic: str = "facts", partition: int = 0, offset: int = 0) -> list[str]:
    """The keys of everything from `offset` on."""
    found: list[str] = []
    while batch := await log.read(topic, partition, offset):
        found += [stored.record.key for stored in batch]
        offset = batch[-1].offset + 1
    return found
