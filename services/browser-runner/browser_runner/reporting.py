"""The reports of one attempt: numbered without a gap, written in order by one task that batches what has queued.

A report is *said* at once and *acknowledged* when it is durable. Mere reads go on without waiting; whoever is about to
do something that depends on them waits (design 7). A write of unknown outcome is repeated with the same numbers: the
reader drops what it has seen. Nothing here ever skips a number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from browser_runner.ports import StepFailed
from kernel.clock import Clock
from kernel.domain.task import Report, TaskAssigned
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.ids import derived_id
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.limits import BATCH_BYTES_MAX, record_bytes
from kernel.log.port import EventLog, Position, Record
from kernel.log.topics import Topic, partition_of

REPORT_BYTES_MAX = 56 * 1024
"""Below what the log takes: `advance` repeats a report inside of its own records."""
_RETRY_SECONDS_MAX = 1.0
_BATCH_RECORDS_MAX = 200

Ticket = asyncio.Future[int]
"""Resolves to the offset of a report once it is durable."""


class Reporter:
    """Writes for one attempt. `say` must be called from one task at a time; `close` ends the writer."""

    def __init__(self, log: EventLog, clock: Clock, assigned: TaskAssigned) -> None:
        self._log = log
        self._clock = clock
        self._root_run_id = assigned.root_run_id
        self._who = {
            "task_id": assigned.task_id,
            "root_run_id": assigned.root_run_id,
            "workflow_run_id": assigned.workflow_run_id,
            "token": assigned.token,
        }
        self._token = assigned.token
        self._organization_id = assigned.request.organization_id
        self._partition = partition_of(assigned.root_run_id, log.partitions(Topic.TASK_REPORTS))
        self._number = 0
        self._queue: list[tuple[Record, Ticket]] = []
        self._last: Ticket | None = None
        self._writer: asyncio.Task[None] | None = None

    def say(self, report_type: Callable[..., Report], **fields: Any) -> Ticket:
        """Queue a report of this attempt: `fields` are what is its own. Returns at once.

        `StepFailed("report_too_long")` for one that the log would refuse; nothing is said then.
        """
        number = self._number + 1
        report = report_type(**self._who, number=number, **fields)
        envelope = Envelope(
            derived_id("report", self._token.nonce, str(number)),
            self._clock.now_ms(),
            subject=report.workflow_run_id,
            organization_id=self._organization_id,
            correlation_id=self._root_run_id,
        )
        record = encode(
            report, topic=Topic.TASK_REPORTS, key=self._root_run_id, envelope=envelope, partition=self._partition
        )
        if record_bytes(record) > REPORT_BYTES_MAX:
            raise StepFailed("report_too_long", "what is to be told of this step is longer than a report may be")
        self._number = number
        ticket: Ticket = asyncio.get_running_loop().create_future()
        self._queue.append((record, ticket))
        self._last = ticket
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return ticket

    async def acknowledged(self) -> None:
        """Return when everything said so far is durable; raises what ended the writer."""
        if self._last is not None:
            await asyncio.shield(self._last)

    async def close(self) -> None:
        """Stop writing; what is not durable yet is given up. Idempotent."""
        if self._writer is not None:
            self._writer.cancel()
            with suppress(asyncio.CancelledError):
                await self._writer
        for _, ticket in self._queue:
            ticket.cancel()
        self._queue.clear()

    async def _write(self) -> None:
        while self._queue:
            batch = self._next_batch()
            try:
                positions = await self._append([record for record, _ in batch])
            except Exception as error:  # noqa: BLE001 (an edge: whatever it is, whoever waits must hear of it)
                for _, ticket in self._queue:
                    if not ticket.done():
                        ticket.set_exception(error)
                        ticket.exception()
                self._queue.clear()
                return
            del self._queue[: len(batch)]
            for (_, ticket), position in zip(batch, positions, strict=True):
                if not ticket.done():
                    ticket.set_result(position.offset)

    def _next_batch(self) -> list[tuple[Record, Ticket]]:
        size, count = 0, 0
        for record, _ in self._queue[:_BATCH_RECORDS_MAX]:
            size += len(record.value) + 2048
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
        return self._queue[:count]

    async def _append(self, records: list[Record]) -> list[Position]:
        delay = 0.05
        while True:
            try:
                return await self._log.append(records)
            except (LogUnavailable, UnknownOutcome):
                await self._clock.sleep(delay)
                delay = min(delay * 2, _RETRY_SECONDS_MAX)
