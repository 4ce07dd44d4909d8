"""The loop over one log: rows and positions move together, the registry is told, and lives may end anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel import health_rows
from kernel.clock import SystemClock
from kernel.domain.provider_health import ProviderHealthObserved, Verdict, verdict_of
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.port import Position, Record
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS, Topic
from kernel.sql.port import Row, Statement, migrate
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from scheduler.health_loop import HealthLoop
from tests.support.eventually import PATIENCE_SECONDS, until
from tests.support.health_facts import ACME, GUSTO, NOON, completed, failed, record, step, story

PARTITIONS = 2


class CountedDatabase(SqliteDatabase):
    """Counts its transactions, and refuses or loses the answers of the next ones."""

    transactions = 0
    faults: Sequence[Exception] = ()

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        self.transactions += 1
        if not self.faults:
            return await super().transaction(statements, guarded=guarded)
        fault, *self.faults = self.faults
        if isinstance(fault, UnknownOutcome):
            await super().transaction(statements, guarded=guarded)
        raise fault


class FaultyLog:
    """A log whose next appends fail; everything else is the real one's."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.faults = 0
        for name in ("read", "partitions", "end_offset", "start_offset", "topic_id", "delete_before", "close"):
            setattr(self, name, getattr(log, name))

    async def append(self, records: Sequence[Record]) -> list[Position]:
        if self.faults:
            self.faults -= 1
            raise LogUnavailable("away")
        return await self._log.append(records)


@dataclass(slots=True)
class Ground:
    log: SqliteLog
    db: CountedDatabase
    clock: SystemClock

    async def rows(self) -> list[Row]:
        return await self.db.fetch_all("SELECT * FROM provider_outcomes ORDER BY organization_id, provider, partition")

    async def told(self) -> list[ProviderHealthObserved]:
        found = []
        for partition in range(PARTITIONS):
            stored = await self.log.read(Topic.REGISTRY_REQUESTS, partition, 0)
            found += [decode(one).event for one in stored]
        return found

    async def wait_until(self, condition: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await condition():  # noqa: ASYNC110 (rows have no event for a test to wait on)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def ground_in(folder: Path) -> AsyncIterator[Ground]:
    file = await SqliteFile.open(folder / "towpath.db")
    clock = SystemClock()
    log = await SqliteLog.open(file, dict.fromkeys(TOPICS, PARTITIONS), clock, SystemEntropy())
    db = CountedDatabase(file)
    await migrate(db, health_rows.migrations("sqlite"))
    db.transactions = 0
    try:
        yield Ground(log, db, clock)
    finally:
        await log.close()
        await file.close()


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground_in(tmp_path) as opened:
        yield opened


def failures(count: int, *, name: str = "bad", start_ms: int = NOON) -> list[Record]:
    return [
        record(failed("target_missing"), f"{name}-{number}", 1, start_ms + number, partitions=PARTITIONS)
        for number in range(count)
    ]


async def test_facts_become_rows_and_the_registry_hears_of_a_failing_provider(ground: Ground) -> None:
    await ground.log.append(failures(6))
    await HealthLoop(ground.log, ground.db, ground.clock).catch_up()
    (told,) = await ground.told()
    assert (told.organization_id, told.slug, told.observed_ms) == (ACME, GUSTO, NOON + 5)
    assert [window.failed for window in told.windows] == [6, 6, 6]
    assert verdict_of(told.windows) is Verdict.FAILING


async def test_a_new_life_counts_nothing_twice_and_tells_once_more(ground: Ground) -> None:
    await ground.log.append(failures(6))
    await HealthLoop(ground.log, ground.db, ground.clock).catch_up()
    rows = await ground.rows()
    await ground.db.execute("DELETE FROM outcome_positions")  # as if it had died before they were written
    await HealthLoop(ground.log, ground.db, ground.clock).catch_up()
    assert await ground.rows() == rows
    first, second = await ground.told()
    assert first == second


async def test_one_life_and_many_lives_make_the_same_rows(tmp_path: Path) -> None:
    records = story(7, 60, partitions=PARTITIONS)
    folders = [tmp_path / name for name in ("one", "many")]
    for folder in folders:
        folder.mkdir()
    async with ground_in(folders[0]) as one, ground_in(folders[1]) as many:
        await one.log.append(records)
        await HealthLoop(one.log, one.db, one.clock).catch_up()
        for first in range(0, len(records), 13):
            await many.log.append(records[first : first + 13])
            await HealthLoop(many.log, many.db, many.clock).catch_up()
            if first % 2:
                await many.db.execute("DELETE FROM outcome_positions WHERE partition = ?", (first % PARTITIONS,))
        assert await many.rows() == await one.rows() != []


async def test_what_a_failed_write_leaves_is_written_by_the_next_one(ground: Ground) -> None:
    await ground.log.append(failures(3))
    loop = HealthLoop(ground.log, ground.db, ground.clock)
    ground.db.faults = [LogUnavailable("away"), UnknownOutcome("cut"), LogUnavailable("away")]
    running = asyncio.create_task(loop.run())
    await until(lambda: ground.db.transactions >= 3)
    await ground.log.append(failures(3, name="worse", start_ms=NOON + 10))
    await ground.wait_until(ground.told)
    running.cancel()
    (told,) = await ground.told()
    assert told.windows[0].failed == 6


async def test_an_observation_that_did_not_reach_the_log_is_told_again(ground: Ground) -> None:
    await ground.log.append(failures(6))
    log = FaultyLog(ground.log)
    log.faults = 1
    loop = HealthLoop(log, ground.db, ground.clock)  # type: ignore[arg-type]  # delegates by name
    running = asyncio.create_task(loop.run())
    await ground.wait_until(ground.told)
    running.cancel()
    assert log.faults == 0
    assert len(await ground.told()) == 1


async def test_facts_in_a_burst_cost_a_write_a_second_and_silence_costs_none(ground: Ground) -> None:
    running = asyncio.create_task(HealthLoop(ground.log, ground.db, ground.clock).run())
    began = ground.clock.boot_ms()
    for number in range(100):
        await ground.log.append([record(step(20), f"run-{number}", 1, NOON + number, partitions=PARTITIONS)])
    await ground.log.append([record(completed(), "last", 1, NOON + 200, partitions=PARTITIONS)])

    async def counted() -> int:
        rows = await health_rows.rows_of(ground.db, ACME, [GUSTO])
        return sum(sum(tally.steps.values()) + tally.succeeded for row in rows for tally in row.minutes.values())

    async def all_counted() -> bool:
        return await counted() == 101

    await ground.wait_until(all_counted)
    written = ground.db.transactions
    assert written <= (ground.clock.boot_ms() - began) / 1000 + 2
    await asyncio.sleep(1.5)
    assert ground.db.transactions == written
    running.cancel()


async def test_figures_of_another_topic_are_not_mixed_with_those_of_this_one(ground: Ground) -> None:
    await ground.log.append(failures(6))
    await HealthLoop(ground.log, ground.db, ground.clock).catch_up()
    await ground.db.execute("UPDATE outcome_positions SET topic_id = 'another'")
    await ground.db.execute("UPDATE provider_outcomes SET applied = 1000000")
    await HealthLoop(ground.log, ground.db, ground.clock).catch_up()
    rows = await health_rows.rows_of(ground.db, ACME, [GUSTO])
    assert sum(tally.failed for row in rows for tally in row.minutes.values()) == 6
