"""A `task_reports` topic in memory whose answers a test can hold back, fail and count."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kernel.domain.decider import Event
from kernel.errors import LogUnavailable
from kernel.log.port import Position, Record, Stored
from kernel.log.topics import Topic
from tests.support.reports import ROOT, TestClock, record


class ReportsLog:
    """An `EventLog` with the one topic. `hold` stops every question about the end until `release`."""

    def __init__(self, clock: TestClock, partitions: int = 4) -> None:
        self.clock = clock
        self.stored: list[list[Stored]] = [[] for _ in range(partitions)]
        self.starts = [0] * partitions
        self.marks = 0
        """Behind the last record of each partition stands so much that no reader sees."""
        self.asked_ends: list[int] = []
        self.read_records = 0
        self.is_down = False
        self.is_cut_off = False
        """It answers, but nobody can say whether with the end of today."""
        self.is_quiet = False
        """Whoever waits for a record waits in vain, and the clock goes on."""
        self._free = asyncio.Event()
        self._free.set()
        self._grown = asyncio.Event()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def put(self, event: Event, root_run_id: str = ROOT) -> int:
        """Append one event about `root_run_id` now; its offset."""
        written = record(event, root_run_id, self.clock, partitions=len(self.stored))
        offset = len(self.stored[written.partition])
        self.stored[written.partition].append(Stored(written, offset, self.clock.now_ms()))
        self._grown.set()
        self._grown = asyncio.Event()
        return offset

    def partitions(self, topic: str) -> int:
        assert topic == Topic.TASK_REPORTS
        return len(self.stored)

    async def append(self, records: Sequence[Record]) -> list[Position]:
        raise NotImplementedError

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        self._check()
        offset = max(offset, self.starts[partition])
        if wait_seconds and offset >= len(self.stored[partition]):
            await (self.clock.sleep(wait_seconds) if self.is_quiet else self._grown.wait())
        found = self.stored[partition][offset : offset + min(max_records, 3)]
        self.read_records += len(found)
        return found

    async def end_offset(self, topic: str, partition: int) -> int:
        self.asked_ends.append(partition)
        end = len(self.stored[partition]) + self.marks
        await self._free.wait()
        await asyncio.sleep(0)
        self._check()
        return end

    async def confirmed_end(self, topic: str, partition: int) -> int:
        end = await self.end_offset(topic, partition)
        if self.is_cut_off:
            raise LogUnavailable("not known whether it leads")
        return end

    async def start_offset(self, topic: str, partition: int) -> int:
        self._check()
        return self.starts[partition]

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        self._check()
        end = len(self.stored[partition])
        return max(offset, self.starts[partition], end + self.marks if offset >= end else 0)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.starts[partition] = offset

    async def topic_id(self, topic: str) -> str:
        return "reports"

    async def close(self) -> None:
        self.release()

    def _check(self) -> None:
        if self.is_down:
            raise LogUnavailable("down")
