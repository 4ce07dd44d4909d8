"""Forgetting ended runs that are older than the setting says: rows, records of the log, blobs.

In this order, each step in small commits and repeatable, so that a crash anywhere only leaves work for the next time:

    rows      a few runs at a time are noted as forgotten and deleted from the read models
    records   the old part of the public topic is read, and what belongs to noted runs is dropped from it
    blobs     what only noted runs have named is handed back to the store's sweep
    notes     of runs of which nothing else is left

What ended runs have left in inputs and ledgers goes by itself (`embedded.trimming`, snapshots).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api_gateway.retention import DAY_MS, PAUSE_SECONDS, forget_all_rows, forget_notes, noted, some_noted
from artifact_store.naming import Naming
from kernel.clock import Clock
from kernel.log.sqlite import OldBatch, SqliteLog
from kernel.log.topics import Topic
from kernel.sql.port import Database

_YOUNG_MAX = 10_000
"""More than the last row of a partition holds, which is left alone."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Ended runs are kept for `days`."""

    days: int
    db: Database
    log: SqliteLog
    naming: Naming
    clock: Clock

    async def forget(self) -> int:
        """Forget what is old now; how many runs that were. Repeatable; returns when all is done."""
        before_ms = self.clock.now_ms() - self.days * DAY_MS
        runs = await forget_all_rows(self.db, self.clock, before_ms)
        staying: set[str] = set()
        if await some_noted(self.db, ""):
            for partition in range(self.log.partitions(Topic.JOB_RUNS)):
                staying |= await self._drop_records(partition, before_ms)
            await self._finish(staying)
        return runs

    async def _drop_records(self, partition: int, before_ms: int) -> set[str]:
        """Drop the records of noted runs; which of these runs have some in the part that stays for now."""
        offset = 0
        while batches := await self.log.old_batches(Topic.JOB_RUNS, partition, offset=offset, before_ms=before_ms):
            gone = await noted(self.db, frozenset().union(*(batch.keys for batch in batches)))
            for batch in batches:
                await self._thin(partition, batch, gone)
            offset = batches[-1].next_offset
            await self.clock.sleep(PAUSE_SECONDS)
        young = await self.log.read(Topic.JOB_RUNS, partition, offset, max_records=_YOUNG_MAX)
        return await noted(self.db, {stored.record.key for stored in young})

    async def _thin(self, partition: int, batch: OldBatch, gone: set[str]) -> None:
        """Records without a number go, too: refusals, which belong to no run and answer nobody after a day."""

        def goes(key: str, headers: Sequence[tuple[str, str]]) -> bool:
            return key in gone or not any(name == "ce_sequence" for name, _ in headers)

        if batch.keys:
            await self.log.drop(Topic.JOB_RUNS, partition, batch.first_offset, goes)

    async def _finish(self, staying: set[str]) -> None:
        after = ""
        while runs := await some_noted(self.db, after):
            after = runs[-1]
            done = [run for run in runs if run not in staying]
            await self.naming.forget(done)
            await forget_notes(self.db, done)
            await self.clock.sleep(PAUSE_SECONDS)
