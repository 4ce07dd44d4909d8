from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec import structs
from structlog.testing import capture_logs

from api_gateway.projecting import PUBLIC_TOPICS, Projector
from api_gateway.projections import catalog
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
)  # fmt: skip
from kernel.errors import LogRefused, LogUnavailable
from kernel.ids import derived_id
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog
from kernel.log.topics import Topic, partition_of
from kernel.sql.port import Database
from kernel.sql.postgres import PostgresDatabase
from tests.integration.gateway.conftest import PARTITIONS
from tests.support.eventually import until
from tests.support.grounds import recreate

ACME = OrganizationId("acme")


def life(run: str) -> list[Any]:
    """All facts of one workflow run that stands alone."""
    id_ = WorkflowRunId(run)
    created = WorkflowRunCreated(
        id_, "", WorkflowId("w"), 1, ProviderSlug("p"), ACME, SubjectId("s"), Sealed(), False, UserId("u"), "", 0,  # type: ignore[arg-type]  # no job run
        RequestId(derived_id("request", run)),
    )  # fmt: skip
    step = WorkflowRunStepFinished(
        id_, 1, "a", "a", "doing_a", "finish", Effect.READ, StepStatus.COMPLETED, 1, 5, 9, SealedBody(), Failure(), "",
        "",
    )  # fmt: skip
    return [
        created,
        WorkflowRunStarted(id_, 1),
        step,
        WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody()),
    ]


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


async def everything(db: Database) -> dict[str, list[Any]]:
    """All rows of all read models."""
    found = {}
    for table in catalog.TABLES:
        rows = await db.fetch_all(f"SELECT * FROM {table.name}")
        found[table.name] = sorted(rows, key=repr)
    return found


def projector(log: EventLog, db: Database, waiters: Waiters | None = None) -> Projector:
    return Projector(log, db, waiters or Waiters(), SystemClock())


async def test_rows_follow_the_facts(db: Database, log: EventLog) -> None:
    for run in ("r1", "r2", "r3"):
        await say(log, run, life(run))
    assert await projector(log, db).catch_up() == 12
    assert await projector(log, db).lag() == 0
    rows = await db.fetch_all("SELECT status, attempt, current_name, completed_ms FROM workflow_runs")
    assert rows == [("completed", 1, "doing_a", 1004)] * 3


async def test_a_repeated_fact_changes_nothing_even_when_it_comes_late(db: Database, log: EventLog) -> None:
    await say(log, "r1", life("r1"))
    await projector(log, db).catch_up()
    before = await everything(db)
    await say(log, "r1", life("r1"))
    await projector(log, db).catch_up()
    assert await everything(db) == before


async def test_facts_that_come_twice_in_one_batch_count_once(db: Database, log: EventLog) -> None:
    await say(log, "r1", life("r1"))
    await say(log, "r1", life("r1")[:3])
    await projector(log, db).catch_up()
    assert await db.fetch_all("SELECT status FROM workflow_runs") == [("completed",)]


async def test_a_fact_of_a_newer_build_is_stepped_over_and_leaves_no_gap(db: Database, log: EventLog) -> None:
    created, *others = life("r1")
    await say(log, "r1", [created])
    partition = partition_of("r1", 2)
    known = (await log.read(Topic.JOB_RUNS, partition, 0))[0].record
    telling = {"ce_type": "towpath.workflow_run.dreamt.v1", "ce_sequence": "2", "ce_id": "r1-2"}
    headers = tuple((name, telling.get(name, text)) for name, text in known.headers)
    await log.append([structs.replace(known, headers=headers)])
    await say(log, "r1", others, first=3)
    with capture_logs() as lines:
        await projector(log, db).catch_up()
    assert [line["event"] for line in lines] == ["facts.unknown_type"]
    assert await db.fetch_all("SELECT status FROM workflow_runs") == [("completed",)]
    assert await db.fetch_all("SELECT sequence FROM projected_streams") == [(5,)]


async def test_a_partition_that_ends_too_early_is_said_and_not_asked_without_rest(db: Database, log: EventLog) -> None:
    await say(log, "r1", life("r1"))
    ends = {
        (topic, at): await log.end_offset(topic, at) for topic in PUBLIC_TOPICS for at in range(log.partitions(topic))
    }
    place = (Topic.JOB_RUNS, partition_of("r1", 2))
    async with asyncio.timeout(20):
        with pytest.raises(ExceptionGroup) as errors:
            await projector(log, db).catch_up({**ends, place: ends[place] + 1})
    assert errors.group_contains(LogUnavailable, match="does not reach 5 yet")
    assert await projector(log, db).catch_up(ends) == 0, "what was there is projected"


async def test_a_rebuild_ends_in_the_same_rows(db: Database, log: EventLog) -> None:
    for run in ("r1", "r2"):
        for number, event in enumerate(life(run), start=1):
            await say(log, run, [event], number)
            await projector(log, db).catch_up()
    before = await everything(db)
    assert await projector(log, db).rebuild() == 8
    assert await everything(db) == before


async def test_two_projectors_project_each_fact_once(db: Database, log: EventLog) -> None:
    waiters = Waiters()
    told: list[int] = []
    waiters.told = lambda facts: told.append(len(facts))  # type: ignore[method-assign]  # the test listens
    one, other = projector(log, db, waiters), projector(log, db, waiters)
    await say(log, "r1", life("r1"))
    partition = partition_of("r1", 2)
    slow = await other._follower(Topic.JOB_RUNS, partition)
    batch = await other._read(slow, 0.0)
    await one.catch_up()
    assert await other._apply(slow, batch) is False
    assert told == [4]


@pytest.mark.parametrize("ground", ["cluster"], indirect=True)  # SQLite has one writer: nothing is side by side
async def test_partitions_that_are_projected_side_by_side_do_not_wait_for_each_other(
    db: Database, log: EventLog
) -> None:
    runs = [f"r{number}" for number in range(40)]
    for number in range(4):
        for run in runs if number % 2 else reversed(runs):
            await say(log, run, life(run)[number : number + 1], number + 1)
    lines = [projector(log, db) for _ in PARTITIONS]
    followers = [await line._follower(Topic.JOB_RUNS, partition) for partition, line in enumerate(lines)]
    async with asyncio.timeout(10):
        batches = [await line._read(one, 0.0) for line, one in zip(lines, followers, strict=True)]
        applied = [line._apply(one, batch) for line, one, batch in zip(lines, followers, batches, strict=True)]
        assert await asyncio.gather(*applied) == [True, True]
    parts = await db.fetch_all("SELECT part, sum(number) FROM workflow_run_counts GROUP BY part ORDER BY part")
    assert [part for part, _ in parts] == ["0", "1"]
    assert sum(number for _, number in parts) == 40


_WAITING = "SELECT pid FROM pg_locks WHERE relation = to_regclass('projection_positions') AND NOT granted"
_HELD = "SELECT relation::regclass::TEXT FROM pg_locks WHERE pid = ? AND locktype = 'relation' AND granted"


@pytest.mark.parametrize("ground", ["cluster"], indirect=True)  # where rebuilt tables are swapped in under load
@pytest.mark.parametrize("batches", [0, 8], ids=["at first", "with a plan that the server keeps"])
async def test_who_locks_the_positions_stops_a_batch_before_it_holds_any_other_table(
    db: PostgresDatabase, log: EventLog, batches: int
) -> None:
    line = projector(log, db)
    one = await line._follower(Topic.JOB_RUNS, 0)
    *others, last = [run for run in (f"r{number}" for number in range(99)) if partition_of(run, 2) == 0][: batches + 1]
    async with asyncio.timeout(20), db.one_transaction() as ask:
        for run in others:
            await say(log, run, life(run))
            assert await line._apply(one, await line._read(one, 0.0))
            await ask("SELECT 'this connection is somebody else''s'")
        await ask("LOCK TABLE projection_positions IN ACCESS EXCLUSIVE MODE")
        await say(log, last, life(last))
        applying = asyncio.create_task(line._apply(one, await line._read(one, 0.0)))
        while not (waiting := await ask(_WAITING)):  # noqa: ASYNC110 (the server tells it nobody)
            await asyncio.sleep(0.01)
        held = {table for (table,) in await ask(_HELD, waiting[0])}
    assert not held & {*(table.name for table in catalog.TABLES), "projected_streams", "forgotten_runs"}
    assert await applying


async def test_a_run_that_is_being_forgotten_is_passed_over_from_its_first_fact_on(db: Database, log: EventLog) -> None:
    await db.execute("INSERT INTO forgotten_runs (root_run_id) VALUES ('r1')")
    for run in ("r1", "r2"):
        await say(log, run, life(run))
    await projector(log, db).catch_up()
    assert await db.fetch_all("SELECT id FROM workflow_runs") == [("r2",)]
    assert await projector(log, db).lag() == 0


async def test_what_later_facts_do_not_name_stays_as_it_was(db: Database, log: EventLog) -> None:
    created, started, finished, completed = life("r1")
    line = projector(log, db)
    for number, event in enumerate([created, started, finished, completed], start=1):
        await say(log, "r1", [event], number)
        await line.catch_up()
    found = await db.fetch_all(
        "SELECT status, attempt, current_name, updated_ms, completed_ms, input_request_id FROM workflow_runs"
    )
    assert found == [("completed", 1, "doing_a", 1004, 1004, "")]


async def test_a_waiter_is_told_after_its_row_is_there(db: Database, log: EventLog) -> None:
    waiters = Waiters()
    with waiters.outcome(derived_id("request", "r1")) as outcome:
        await say(log, "r1", life("r1")[:1])
        await projector(log, db, waiters).catch_up()
        fact = outcome.result()
    assert (fact.key, fact.sequence, fact.wire) == ("r1", 1, "workflow_run.created")
    assert await db.fetch_all("SELECT id FROM workflow_runs") == [("r1",)]


async def test_a_recreated_topic_is_refused(db: Database, log: EventLog) -> None:
    await projector(log, db).catch_up()
    await recreate(log, Topic.JOB_RUNS)
    with pytest.raises(ExceptionGroup) as raised:
        await projector(log, db).catch_up()
    refused, _ = raised.value.split(LogRefused)
    assert refused is not None
    assert "recreated" in str(refused.exceptions[0])


async def _ends(log: EventLog) -> list[int]:
    return [await log.end_offset(Topic.DEFINITIONS, partition) for partition in range(2)]


@pytest.mark.parametrize("ground", ["cluster"], indirect=True)  # nobody else writes to a log in a file
async def test_a_projector_has_caught_up_behind_the_marks_of_a_foreign_transaction(db: Database, log: KafkaLog) -> None:
    await say(log, "r1", life("r1"))
    settings = log._settings
    foreign = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, transactional_id=settings.prefix)
    await foreign.start()
    await foreign.begin_transaction()
    for topic, count in PARTITIONS.items():
        for partition in range(count):
            await foreign.send_and_wait(settings.broker_topic(topic), b"", b"nobody reads this", partition=partition)
    await foreign.abort_transaction()
    await foreign.stop()
    async with asyncio.timeout(20):
        while await _ends(log) != [2, 2]:  # noqa: ASYNC110 (an abort is confirmed before its marks stand)
            await asyncio.sleep(0.01)
    projector = Projector(log, db, Waiters(), SystemClock())
    running = asyncio.create_task(projector.run())
    await until(lambda: projector.is_caught_up)
    running.cancel()
    assert len((await everything(db))["workflow_runs"]) == 1
