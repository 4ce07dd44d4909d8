"""The health process of the cluster under test, its ground, and facts that flow meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251 (stories are drawn by the seed)
from typing import IO, Any

from kernel import health_rows
from kernel.clock import SystemClock
from kernel.domain.health_windows import MINUTE_MS
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import admin
from kernel.log.port import EventLog, Record
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS, Topic
from kernel.sql.port import Database, Row, migrate
from kernel.sql.postgres import PostgresDatabase
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from scheduler.health_loop import HealthLoop
from tests.support.databases import schema_of_its_own
from tests.support.health_facts import ACME, GUSTO, NOON, RIVAL, TOAST, Fact, completed, failed, record, step
from tests.support.kafka_topics import topics_of_a_test
from tests.support.registry import Registry

COMMAND = (sys.executable, "-m", "scheduler", "health")
PARTITIONS = 4
PHASE_MS = 20 * MINUTE_MS
"""Between two phases: longer than the window that decides, so that each phase is judged by itself."""
PLACES = ((ACME, GUSTO), (ACME, TOAST), (RIVAL, GUSTO))

Story = dict[tuple[str, str], list[str]]
"""By organization and provider, what the registry decided, in order."""


async def rows_in(db: Database) -> list[Row]:
    """Every row with its position, as it stands."""
    return await db.fetch_all("SELECT * FROM provider_outcomes ORDER BY organization_id, provider, partition")


async def decided_in(log: EventLog) -> Story:
    """What the registry makes of all that it was told."""
    story: Story = {}
    for partition in range(PARTITIONS):
        registry, offset = Registry(), 0
        while stored := await log.read(Topic.REGISTRY_REQUESTS, partition, offset):
            offset = stored[-1].offset + 1
            for one in stored:
                for fact in registry.facts(decode(one).event):
                    story.setdefault((fact.organization_id, fact.slug), []).append(type(fact).__name__)
    return story


@dataclass(slots=True)
class HealthProcess:
    """`python -m scheduler health` as a member of its group."""

    member: str
    environment: dict[str, str]
    output: IO[str]
    _process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        environment = {**os.environ, **self.environment, "TOWPATH_MEMBER": self.member}
        folder, out = Path(self.output.name).parent, self.output
        self._process = subprocess.Popen(COMMAND, env=environment, cwd=folder, stdout=out, stderr=out, text=True)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def end(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None


@dataclass(slots=True)
class Ground:
    """A cluster as far as health needs one, and all that was appended to it."""

    settings: KafkaSettings
    log: KafkaLog
    db: PostgresDatabase
    environment: dict[str, str]
    folder: Path
    appended: list[Record] = field(default_factory=list)
    _processes: list[HealthProcess] = field(default_factory=list)

    def process(self, member: str) -> HealthProcess:
        output = (self.folder / f"{member}.log").open("a")
        made = HealthProcess(member, self.environment, output)
        self._processes.append(made)
        return made

    async def append(self, records: Sequence[Record]) -> None:
        await self.log.append(records)
        self.appended += records

    async def positions(self) -> dict[int, int]:
        """How far each partition is written."""
        return await health_rows.positions(self.db)

    async def ends(self) -> dict[int, int]:
        found = {part: await self.log.end_offset(Topic.JOB_RUNS, part) for part in range(PARTITIONS)}
        return {part: offset for part, offset in found.items() if offset}

    async def committed(self) -> dict[int, int]:
        """How far the group has committed."""
        async with admin(self.settings) as connection:
            found = await connection.list_consumer_group_offsets(f"{self.settings.prefix}.health")
        return {place.partition: offset.offset for place, offset in found.items() if offset.offset >= 0}

    async def until(self, condition: Callable[[], Awaitable[object]], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 (other processes have no event for a test to wait on)
                await asyncio.sleep(0.05)

    async def all_written(self) -> bool:
        return await self.positions() == await self.ends()

    def close(self) -> None:
        for process in self._processes:
            if process.is_running():
                process.signal(signal.SIGCONT)
                process.kill()
            process.output.close()


@asynccontextmanager
async def ground_in(folder: Path) -> AsyncIterator[Ground]:
    """Topics and tables of one test on the shared servers; all processes are gone at the end."""
    partitions = {topic.value: PARTITIONS for topic in TOPICS}
    async with topics_of_a_test(partitions) as topics, schema_of_its_own() as (url, schema):
        environment = {
            "TOWPATH_KAFKA": topics.settings.bootstrap,
            "TOWPATH_TOPIC_PREFIX": topics.settings.prefix,
            "TOWPATH_POSTGRES_URL": url,
            "TOWPATH_POSTGRES_SCHEMA": schema,
        }
        log = await KafkaLog.open(topics.settings, SystemClock())
        db = await PostgresDatabase.open(url, schema=schema)
        await migrate(db, health_rows.migrations(db.dialect))
        ground = Ground(topics.settings, log, db, environment, folder)
        try:
            yield ground
        finally:
            ground.close()
            await db.close()
            await log.close()


class Flow:
    """Facts that keep coming, by a seed: in one phase all runs fail for the site's reasons, in the next none does.

    A few steps are late, by minutes or by more than the longest window; some runs end for reasons of their own.
    """

    def __init__(self, ground: Ground, seed: int) -> None:
        self._ground = ground
        self._chance = Random(seed)
        self._now_ms = NOON
        self._runs = 0
        self._task: asyncio.Task[None] | None = None
        self.is_bad = False

    def begin(self, *, bad: bool) -> None:
        """Append until `end`."""
        self.is_bad, self._now_ms = bad, self._now_ms + PHASE_MS
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """No more facts; every place had enough of them in this phase."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._ground.append([one for place in PLACES for _ in range(8) for one in self._records(place)])

    async def _run(self) -> None:
        while True:
            records = [one for _ in range(3) for one in self._records(self._chance.choice(PLACES))]
            await asyncio.shield(asyncio.ensure_future(self._ground.append(records)))
            await asyncio.sleep(0.03)

    def _records(self, place: tuple[Any, Any]) -> list[Record]:
        """The facts of one run, seconds apart."""
        organization, provider = place
        chance, records = self._chance, []
        self._runs += 1
        facts: list[Fact] = [step(chance.randrange(5, 9_000), provider=provider) for _ in range(chance.randrange(3))]
        facts.append(self._end(provider))
        for sequence, fact in enumerate(facts, start=1):
            self._now_ms += chance.randrange(400)
            late_ms = (
                chance.choice((0, 0, 0, 0, 0, 0, 0, 2, 25, 90)) * MINUTE_MS if isinstance(fact, type(step(1))) else 0
            )
            run = f"run-{self._runs}"
            time_ms = self._now_ms - late_ms
            records.append(record(fact, run, sequence, time_ms, partitions=PARTITIONS, organization=organization))
        return records

    def _end(self, provider: Any) -> Fact:
        login = self._chance.random() < 0.3
        if self._chance.random() < 0.2:
            return failed(self._chance.choice(("login_rejected", "runner_lost")), provider=provider, login=login)
        if self.is_bad:
            return failed(self._chance.choice(("target_missing", "step_timeout")), provider=provider, login=login)
        return completed(provider=provider, login=login)


async def embedded_run(folder: Path, records: Sequence[Record], chance: Random) -> tuple[list[Row], Story]:
    """Rows and decisions of the embedded form after the same facts, which it reads in stretches drawn by `chance`."""
    file = await SqliteFile.open(folder / "towpath.db")
    clock, db = SystemClock(), SqliteDatabase(file)
    log = await SqliteLog.open(file, dict.fromkeys(TOPICS, PARTITIONS), clock, SystemEntropy())
    await migrate(db, health_rows.migrations("sqlite"))
    try:
        first = 0
        while first < len(records):
            last = first + chance.randrange(1, 150)
            await log.append(records[first:last])
            await HealthLoop(log, db, clock).catch_up()
            first = last
        return await rows_in(db), await decided_in(log)
    finally:
        await log.close()
        await file.close()
