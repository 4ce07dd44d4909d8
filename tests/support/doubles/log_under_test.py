"""The log in memory under the contract suite of all logs, so that it may stand in for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kernel.log.memory import MemoryLog
from kernel.log.port import EventLog
from tests.support.logs import TOPICS, LogUnderTest, StillClock


class MemoryUnderTest:
    def __init__(self) -> None:
        self.clock = StillClock()
        self.log = MemoryLog(TOPICS, self.clock)

    async def open(self) -> EventLog:
        await self.log.close()
        return self.log

    async def recreate(self, topic: str) -> None:
        await self.log.recreate_topic(topic)


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[LogUnderTest]:
    yield MemoryUnderTest()
