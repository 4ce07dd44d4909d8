"""Read models rebuilt beside those that are served: under load, without a wrong answer, and after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from api_gateway import rebuilding
from api_gateway.migrations import migrations
from api_gateway.projecting import Projector
from api_gateway.projections import catalog
from api_gateway.rebuilding import rebuild_beside
from api_gateway.retention import forget_notes, forget_rows, noted
from api_gateway.waiting import Waiters
from kernel.clock import SystemClock
from kernel.domain.ids import OrganizationId, ProviderSlug, RequestId, SubjectId, UserId, WorkflowId, WorkflowRunId
from kernel.domain.values import Effect, Failure, Sealed, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.errors import LogUnavailable, Permanent
from kernel.ids import derived_id
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import Migration, migrate
from kernel.sql.postgres import PostgresDatabase
from tests.support.components import needs_kafka, needs_postgres
from tests.support.databases import schema_of_its_own
from tests.support.eventually import until
from tests.support.grounds import kafka_log, recreate

pytestmark = [needs_kafka, needs_postgres]
PARTITIONS = {Topic.JOB_RUNS.value: 4, Topic.DEFINITIONS.value: 4}
ACME = OrganizationId("acme")
STEPS = 3
COUNTS = "SELECT (SELECT coalesce(sum(number), 0) FROM workflow_run_counts), (SELECT count(*) FROM workflow_runs)"
SHAPE = """
SELECT 'index', indexname, replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = to_regnamespace(current_schema())
UNION ALL SELECT 'trigger', tgname, replace(pg_get_triggerdef(t.oid), current_schema() || '.', '') FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = to_regnamespace(current_schema())
UNION ALL SELECT 'column', table_name || '.' || column_name,
  concat_ws(' ', ordinal_position, data_type, is_nullable, column_default)
  FROM information_schema.columns WHERE table_schema = current_schema()
ORDER BY 1, 2, 3
"""


@pytest.fixture
async def db() -> AsyncIterator[PostgresDatabase]:
    async with schema_of_its_own() as (url, schema):
        db = await PostgresDatabase.open(url, schema=schema)
        await migrate(db, migrations(db.dialect))
        yield db
        await db.execute(f"DROP SCHEMA IF EXISTS {schema}_next CASCADE")
        await db.close()


def life(run: str) -> list[Any]:
    """All facts of one workflow run that stands alone."""
    id_ = WorkflowRunId(run)
    created = WorkflowRunCreated(
        id_, "", WorkflowId("w"), 1, ProviderSlug("p"), ACME, SubjectId("s"), Sealed(), False, UserId("u"), "", 0,  # type: ignore[arg-type]  # no job run
        RequestId(derived_id("request", run)),
    )  # fmt: skip
    steps = [
        WorkflowRunStepFinished(
            id_, 1, f"s{n}", f"s{n}", "doing", "finish", Effect.READ, StepStatus.COMPLETED, 1, 5, 9, SealedBody(),
            Failure(), "", "",
        )
        for n in range(STEPS)
    ]  # fmt: skip
    return [
        created,
        WorkflowRunStarted(id_, 1),
        *steps,
        WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody()),
    ]


class ForgettingLog:
    """The real log, of whose records those of some runs are gone already, as if retention had been there.

    A partition of `late` has a new leader, which shows nothing until it has told where the partition ends.
    """

    def __init__(self, inner: KafkaLog) -> None:
        self.inner = inner
        self.dropped: set[str] = set()
        self.late: set[tuple[str, int]] = set()
        self.append, self.partitions, self.topic_id = inner.append, inner.partitions, inner.topic_id
        self.start_offset, self.next_offset = inner.start_offset, inner.next_offset
        self.confirmed_end, self.delete_before, self.close = inner.confirmed_end, inner.delete_before, inner.close

    async def end_offset(self, topic: str, partition: int) -> int:
        self.late.discard((topic, partition))
        return await self.inner.end_offset(topic, partition)

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        if (topic, partition) in self.late:
            return []
        bounds: dict[str, Any] = {"max_records": max_records, "wait_seconds": wait_seconds}
        while found := await self.inner.read(topic, partition, offset, **bounds):
            if left := [stored for stored in found if stored.record.key not in self.dropped]:
                return left
            offset = found[-1].offset + 1
        return []


@pytest.fixture
async def log() -> AsyncIterator[ForgettingLog]:
    """An empty log on Kafka."""
    async with kafka_log(SystemClock(), PARTITIONS) as opened:
        yield ForgettingLog(opened)


async def say(log: EventLog, run: str, events: list[Any], first: int = 1) -> None:
    partition = partition_of(run, PARTITIONS[Topic.JOB_RUNS.value])
    await log.append(
        [
            encode(
                event, topic=Topic.JOB_RUNS, key=run, partition=partition,
                envelope=Envelope(f"{run}-{number}", 1000 + number, sequence=number),
            )
            for number, event in enumerate(events, start=first)
        ]
    )  # fmt: skip


async def fill(log: EventLog, db: PostgresDatabase, runs: int) -> None:
    """Let a number of ended runs stand in the log, and project them."""
    await asyncio.gather(*(say(log, f"old-{number}", life(f"old-{number}")) for number in range(runs)))
    await Projector(log, db, Waiters(), SystemClock()).catch_up()


async def everything(db: PostgresDatabase) -> dict[str, list[Any]]:
    """All rows of all that is rebuilt; of the cells what they add up to."""
    tables = [name for name in rebuilding.TABLES if not name.endswith("_counts")]
    found = {name: sorted(await db.fetch_all(f"SELECT * FROM {name}"), key=repr) for name in tables}
    counts = "SELECT organization_id, workflow_id, test_mode, status, sum(number) FROM workflow_run_counts"
    cells = await db.fetch_all(f"{counts} GROUP BY 1, 2, 3, 4 HAVING sum(number) <> 0")
    return {**found, "cells": sorted(cells)}


async def test_a_rebuild_ends_in_the_same_rows_in_tables_of_the_same_shape(
    db: PostgresDatabase, log: ForgettingLog
) -> None:
    await fill(log, db, 50)
    rows, shape = await everything(db), await db.fetch_all(SHAPE)
    assert await rebuild_beside(log, db, SystemClock()) == 50 * len(life(""))
    assert await everything(db) == rows
    assert await db.fetch_all(SHAPE) == shape
    await say(log, "new", life("new"))
    await Projector(log, db, Waiters(), SystemClock()).catch_up()
    assert await db.fetch_one(COUNTS) == (51, 51)


async def test_rows_that_were_wrong_are_right_again(db: PostgresDatabase, log: ForgettingLog) -> None:
    await fill(log, db, 20)
    right = await everything(db)
    await db.execute("UPDATE workflow_runs SET current_name = 'wrong', status = 'failed'")
    await db.execute("DELETE FROM steps")
    await db.execute("UPDATE workflow_run_counts SET number = 7")
    await rebuild_beside(log, db, SystemClock())
    assert await everything(db) == right


async def test_a_rebuild_misses_nothing_that_a_new_leader_shows_late(db: PostgresDatabase, log: ForgettingLog) -> None:
    await fill(log, db, 20)
    rows = await everything(db)

    def change_leaders(_line: str) -> None:
        log.late = {(Topic.JOB_RUNS, partition) for partition in range(PARTITIONS[Topic.JOB_RUNS.value])}

    await rebuild_beside(log, db, SystemClock(), tell=change_leaders)
    assert await everything(db) == rows


async def test_what_somebody_else_projects_at_the_same_time_is_not_taken_for_done(
    db: PostgresDatabase, log: ForgettingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(log, db, 20)
    ends = {(Topic.JOB_RUNS, at): await log.end_offset(Topic.JOB_RUNS, at) for at in range(4)}
    ends |= {(Topic.DEFINITIONS, at): 0 for at in range(4)}
    await db.execute("UPDATE projection_positions SET next_offset = 0")
    slow = Projector(log, db, Waiters(), SystemClock(), batch_records=1)
    read = slow._read

    async def overtaken(*of: Any) -> list[Stored]:
        found = await read(*of)
        await db.execute("UPDATE projection_positions SET next_offset = next_offset + 1")
        return found

    monkeypatch.setattr(slow, "_read", overtaken)
    with pytest.raises(ExceptionGroup) as raised:
        await slow.catch_up(ends)
    assert raised.group_contains(LogUnavailable)


class Load:
    """Runs that come all the time, their projection, and readers who know what must be there."""

    def __init__(self, db: PostgresDatabase, log: ForgettingLog) -> None:
        self.db, self.log = db, log
        self.done: list[str] = []
        self.forgotten: set[str] = set()
        self.looks = 0

    async def write(self) -> None:
        """Run after run, fact by fact; a run is done when whoever waits for it is told so."""
        waiters, number = Waiters(), 0
        projecting = asyncio.create_task(Projector(self.log, self.db, waiters, SystemClock()).run())
        try:
            while True:
                runs = [f"new-{number + n}" for n in range(8)]
                await asyncio.gather(*(self._live(waiters, run) for run in runs))
                number += 8
        finally:
            projecting.cancel()
            with suppress(asyncio.CancelledError):
                await projecting

    async def _live(self, waiters: Waiters, run: str) -> None:
        with waiters.stream(run) as changed:
            for sequence, event in enumerate(life(run), start=1):
                changed.clear()
                await say(self.log, run, [event], sequence)
                await asyncio.wait_for(changed.wait(), 20)
        self.done.append(run)

    async def read(self) -> None:
        """Whatever was there once is there now, and numbers fit the rows they count."""
        seen = 0
        while True:
            for run in self.done[-20:]:
                row = await self.db.fetch_one(
                    "SELECT status, (SELECT count(*) FROM steps WHERE workflow_run_id = id), (SELECT count(*) FROM"
                    " run_events WHERE root_run_id = id) FROM workflow_runs WHERE id = ?",
                    (run,),
                )
                assert row == ("completed", STEPS, STEPS + 3), run
            gone = len(self.forgotten)
            counted, there = await self.db.fetch_one(COUNTS) or (0, 0)
            assert counted == there
            assert there + len(self.forgotten) + 1 >= seen, "one may be going at this moment"
            seen = there + gone
            for run in list(self.forgotten)[:5]:
                assert await self.db.fetch_one("SELECT status FROM workflow_runs WHERE id = ?", (run,)) is None
            self.looks += 1

    async def forget(self) -> None:
        """Old runs are forgotten one after the other, wholly, while there are any: rows, records, note."""
        oldest = "SELECT id FROM workflow_runs WHERE id LIKE 'old%' ORDER BY id LIMIT 1"
        while found := await self.db.fetch_one(oldest):
            run: str = found[0]
            await self.db.execute("UPDATE workflow_runs SET completed_ms = 5 WHERE id = ?", (run,))
            await forget_rows(self.db, 10)
            if run in await noted(self.db, [run]):
                self.forgotten.add(run)
                self.log.dropped.add(run)
                await forget_notes(self.db, [run])
            await asyncio.sleep(0.02)


async def beside(load: Load, work: Callable[[], Any]) -> None:
    """`work` while the load runs; an error of any of it is an error."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part()) for part in (load.write, load.read, load.read, load.forget)]
        await until(lambda: len(load.done) >= 16, 60)
        await work()
        behind = len(load.done)
        await until(lambda: len(load.done) >= behind + 16, 60)
        for task in tasks:
            task.cancel()


async def test_under_load_nobody_reads_anything_wrong_and_forgotten_runs_stay_away(
    db: PostgresDatabase, log: ForgettingLog
) -> None:
    await fill(log, db, 300)
    load = Load(db, log)

    async def work() -> None:
        for _ in range(3):
            await rebuild_beside(load.log, db, SystemClock())

    await beside(load, work)
    assert load.looks > 10
    assert load.forgotten


async def test_killed_at_any_moment_it_is_begun_again_and_goes_on(
    db: PostgresDatabase, log: ForgettingLog, monkeypatch: Any
) -> None:
    monkeypatch.setattr(rebuilding, "BATCH_RECORDS", 50)
    await fill(log, db, 200)
    load = Load(db, log)
    taken: list[int] = []

    async def work() -> None:
        for moment in range(12):
            one = asyncio.create_task(rebuild_beside(load.log, db, SystemClock()))
            await asyncio.wait([one], timeout=0.05 * moment)
            if not one.cancel():
                taken.append(one.result())
            await asyncio.wait([one])
        taken.append(await rebuild_beside(load.log, db, SystemClock()))

    await beside(load, work)
    assert await db.fetch_all("SELECT 1 FROM pg_namespace WHERE nspname = current_schema() || '_next'") == []


async def test_what_was_filled_by_a_killed_rebuild_is_not_projected_again(
    db: PostgresDatabase, log: ForgettingLog
) -> None:
    await fill(log, db, 100)
    lines: list[str] = []

    class KilledError(Exception):
        pass

    def killed(line: str) -> None:
        lines.append(line)
        if "indexes" in line:
            raise KilledError

    with pytest.raises(KilledError):
        await rebuild_beside(log, db, SystemClock(), tell=killed)
    assert await rebuild_beside(log, db, SystemClock()) == 0
    assert await db.fetch_one(COUNTS) == (100, 100)


async def test_two_at_once_work_one_after_the_other(db: PostgresDatabase, log: ForgettingLog) -> None:
    await fill(log, db, 20)
    facts = 20 * len(life(""))
    assert await asyncio.gather(*(rebuild_beside(log, db, SystemClock()) for _ in range(2))) == [facts, facts]


async def test_tables_of_a_recreated_topic_are_rebuilt_from_the_new_one(
    db: PostgresDatabase, log: ForgettingLog
) -> None:
    await fill(log, db, 20)
    await recreate(log.inner, Topic.JOB_RUNS)
    anew = await KafkaLog.open(log.inner._settings, SystemClock(), topics=PARTITIONS)
    await say(anew, "new", life("new"))
    assert await rebuild_beside(anew, db, SystemClock()) == len(life(""))
    await Projector(anew, db, Waiters(), SystemClock()).catch_up()
    await anew.close()
    assert await db.fetch_all("SELECT id FROM workflow_runs") == [("new",)]


NOTES = Migration("newer", 1, "notes", ("ALTER TABLE job_runs ADD COLUMN note TEXT NOT NULL DEFAULT 'new'",))


async def test_a_rebuild_that_was_begun_before_a_newer_build_added_a_column_begins_anew(
    db: PostgresDatabase, log: ForgettingLog
) -> None:
    await fill(log, db, 20)

    class KilledError(Exception):
        pass

    def killed(line: str) -> None:
        if "indexes" in line:
            raise KilledError

    with pytest.raises(KilledError):
        await rebuild_beside(log, db, SystemClock(), tell=killed)
    await migrate(db, [NOTES])
    assert await rebuild_beside(log, db, SystemClock()) == 20 * len(life(""))
    await db.fetch_all("SELECT note FROM job_runs")


async def test_a_rebuild_is_given_up_when_the_tables_are_migrated_before_the_swap(
    db: PostgresDatabase, log: ForgettingLog, monkeypatch: Any
) -> None:
    await fill(log, db, 20)
    finish = rebuilding._Rebuild._finish

    async def finish_late(rebuild: Any) -> None:
        await finish(rebuild)
        await migrate(db, [NOTES])

    monkeypatch.setattr(rebuilding._Rebuild, "_finish", finish_late)
    with pytest.raises(Permanent, match="begin again") as refusal:
        await rebuild_beside(log, db, SystemClock())
    assert refusal.value.code == "schema_changed"
    assert await rebuild_beside(log, db, SystemClock()) == 20 * len(life(""))
    await db.fetch_all("SELECT note FROM job_runs")


async def test_a_schema_of_somebody_else_is_left_alone(db: PostgresDatabase, log: ForgettingLog) -> None:
    ((schema,),) = await db.fetch_all("SELECT current_schema()")
    await db.execute(f"CREATE SCHEMA {schema}_next")
    await fill(log, db, 1)
    with pytest.raises(Permanent, match="schema_taken"):
        await rebuild_beside(log, db, SystemClock())


def test_everything_that_is_projected_is_rebuilt() -> None:
    assert {table.name for table in catalog.TABLES} < set(rebuilding.TABLES)
