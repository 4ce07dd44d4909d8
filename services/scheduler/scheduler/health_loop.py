"""Follows the public facts of one process's own log into the rows of `scheduler.health`, and tells the registry.

The form for a log that has one reader; the cluster has `scheduler.health_app` instead. Each partition is read as facts
come, a second's worth at a time, and what they have changed is written once a second for all of them, with the
positions. Without facts nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from kernel.clock import Clock
from kernel.domain.health_windows import MINUTE_MS, MINUTES_KEPT
from kernel.errors import Temporary, UnknownOutcome
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic
from kernel.sql.port import Database
from scheduler.health_book import HealthBook, Observation

PAUSE_SECONDS = 1.0
"""Between two readings of a partition, and between two writings: what comes meanwhile costs one wake-up."""
READ_WAIT_SECONDS = 30.0
RETRY_SECONDS = 1.0
BATCH_RECORDS_MAX = 200
"""Some milliseconds of counting; then whoever else has work on this event loop goes first."""
TOLD_AT_ONCE_MAX = 500

T = TypeVar("T")

_log = structlog.get_logger("scheduler.health")


class HealthLoop:
    """One per log."""

    def __init__(self, log: EventLog, db: Database, clock: Clock) -> None:
        self._log = log
        self._db = db
        self._clock = clock
        self._book = HealthBook(db, clock)
        self._reached: dict[int, int] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; `LogRefused` in an `ExceptionGroup` when nothing helps."""
        await self._patiently(self._begin)
        async with asyncio.TaskGroup() as group:
            for partition in self._reached:
                group.create_task(self._follow(partition))
            group.create_task(self._write_on())

    async def catch_up(self) -> None:
        """Count, write and tell what is in the log now. Not beside `run`."""
        await self._begin()
        for partition in self._reached:
            while await self._read(partition, 0.0):
                pass
        await self._write()

    # ------------------------------------------------------------ reading

    async def _begin(self) -> None:
        known = await self._book.begin(await self._log.topic_id(Topic.JOB_RUNS))
        for partition in range(self._log.partitions(Topic.JOB_RUNS)):
            self._reached[partition] = known[partition] if partition in known else await self._first_young(partition)
        self._news.set()

    async def _first_young(self, partition: int) -> int:
        """The first record that may still stand in a window, by bisection: the rest need not be read."""
        before_ms = self._clock.now_ms() - MINUTES_KEPT * MINUTE_MS
        low = await self._log.start_offset(Topic.JOB_RUNS, partition)
        high = await self._log.end_offset(Topic.JOB_RUNS, partition)
        while low < high:
            middle = (low + high) // 2
            found = await self._log.read(Topic.JOB_RUNS, partition, middle, max_records=1)
            if found and found[0].appended_ms < before_ms:
                low = max(middle, found[0].offset) + 1
            else:
                high = middle
        return low

    async def _follow(self, partition: int) -> None:
        read = partial(self._read, partition, READ_WAIT_SECONDS)
        while True:
            stored = await self._patiently(read)
            if stored:
                await self._clock.sleep(PAUSE_SECONDS if len(stored) < BATCH_RECORDS_MAX else 0.0)

    async def _read(self, partition: int, wait_seconds: float) -> list[Stored]:
        stored = await self._log.read(
            Topic.JOB_RUNS,
            partition,
            self._reached[partition],
            max_records=BATCH_RECORDS_MAX,
            wait_seconds=wait_seconds,
        )
        if stored:
            await self._book.count(partition, self._reached[partition], stored)
            self._reached[partition] = stored[-1].offset + 1
            if self._book.is_changed:
                self._news.set()
        return stored

    # ------------------------------------------------------------ writing

    async def _write_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._patiently(self._write)
            await self._clock.sleep(PAUSE_SECONDS)

    async def _write(self) -> None:
        observations = await self._book.write()
        for first in range(0, len(observations), TOLD_AT_ONCE_MAX):
            await self._tell(observations[first : first + TOLD_AT_ONCE_MAX], observations[first:])

    async def _tell(self, portion: Sequence[Observation], left: Sequence[Observation]) -> None:
        partitions = self._log.partitions(Topic.REGISTRY_REQUESTS)
        try:
            await self._log.append([told.record(partitions, self._clock.now_ms()) for told in portion])
        except BaseException:
            self._book.untold(left)
            raise
        self._book.told(portion)

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """`act`, again and again while log or database are away; every act here may be repeated."""
        while True:
            try:
                return await act()
            except (Temporary, UnknownOutcome) as error:
                _log.warning("health.retry", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
