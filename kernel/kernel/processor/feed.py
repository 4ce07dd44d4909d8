"""The inputs of one partition, read ahead: one waiter per input topic fills a bounded buffer and rings a bell.

An idle partition costs nothing: its waiters sleep in `EventLog.read`, which is woken and does not poll. Without `start`
there are no waiters and `take` reads what is there by itself, which lets a test step an owner without a background.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from kernel.clock import Clock
from kernel.errors import Temporary
from kernel.log.port import EventLog, Stored

_READ_AHEAD_RECORDS = 1000
_WAIT_SECONDS = 60.0


class _Inbox:
    """One topic: what was read and not taken yet, and where to read on."""

    def __init__(self, topic: str, offset: int) -> None:
        self.topic = topic
        self.next_offset = offset
        self.records: deque[Stored] = deque()
        self.room = asyncio.Event()

    def fill(self, records: Iterable[Stored]) -> None:
        for stored in records:
            if stored.offset >= self.next_offset:
                self.records.append(stored)
                self.next_offset = stored.offset + 1


class InputFeed:
    """Reads the input topics of `partition` from `positions` (topic to offset) on; each in order, by turns."""

    def __init__(self, log: EventLog, clock: Clock, partition: int, positions: dict[str, int]) -> None:
        self.bell = asyncio.Event()
        self._log = log
        self._clock = clock
        self._partition = partition
        self._inboxes = [_Inbox(topic, offset) for topic, offset in positions.items()]
        self._waiters: list[asyncio.Task[None]] = []
        self._first = 0

    def start(self) -> None:
        """Begin to read ahead. Needs `stop`."""
        self._waiters = [asyncio.create_task(self._read_ahead(inbox)) for inbox in self._inboxes]
        for waiter in self._waiters:
            waiter.add_done_callback(lambda _: self.bell.set())

    async def stop(self) -> None:
        """Let the waiters go. Idempotent."""
        for waiter in self._waiters:
            waiter.cancel()
        if self._waiters:
            await asyncio.gather(*self._waiters, return_exceptions=True)

    async def take(self, records_max: int, bytes_max: int) -> list[Stored]:
        """What is there now, within the bounds, at least one record if there is any. Does not wait for more.

        Raises what a waiter's read has raised, and without waiters what a read raises.
        """
        self.bell.clear()
        for waiter in self._waiters:
            if waiter.done():
                waiter.result()
        if not self._waiters:
            await self._read_now(records_max)
        taken: list[Stored] = []
        size = 0
        for inbox in self._inboxes[self._first :] + self._inboxes[: self._first]:
            while inbox.records and len(taken) < records_max and (size < bytes_max or not taken):
                size += len(inbox.records[0].record.value)
                taken.append(inbox.records.popleft())
            inbox.room.set()
        self._first = (self._first + 1) % max(len(self._inboxes), 1)
        return taken

    async def _read_now(self, records_max: int) -> None:
        for inbox in self._inboxes:
            if not inbox.records:
                inbox.fill(
                    await self._log.read(inbox.topic, self._partition, inbox.next_offset, max_records=records_max)
                )

    async def _read_ahead(self, inbox: _Inbox) -> None:
        while True:
            try:
                records = await self._log.read(
                    inbox.topic, self._partition, inbox.next_offset, wait_seconds=_WAIT_SECONDS
                )
            except Temporary as error:
                await self._clock.sleep(max(error.delay_seconds, 0.05))
                continue
            if records:
                inbox.fill(records)
                self.bell.set()
            while len(inbox.records) >= _READ_AHEAD_RECORDS:
                inbox.room.clear()
                await inbox.room.wait()
