"""Naming and sweeping by several processes over one log and one database: nothing goes that a fact names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifact_store.inprocess import open_local, open_store
from artifact_store.naming import NAMING_TOPICS, Naming
from artifact_store.owned_bytes import STAGED_MS_MAX
from artifact_store.turns import HELD_MS, Turn
from artifact_store.upkeep import Upkeep
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.ids import ArtifactId, JobRunId, SubjectId, WorkflowId, WorkflowRunId
from kernel.domain.values import Sealed
from kernel.errors import LogUnavailable, Temporary, TowpathError, UnknownOutcome
from kernel.ids import SystemEntropy
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic
from kernel.sql.port import Database, Statement
from kernel.store.port import PutHeader
from tests.support.eventually import idle, until
from tests.support.grounds import ground_in
from tests.support.reports import TestClock
from tests.support.stores import ACME, GATEWAY, Tokens

CHANCE = SystemEntropy()


class PacedClock(TestClock):
    """Virtual time that leaves others a moment of the real one."""

    async def sleep(self, seconds: float) -> None:
        self.ms += seconds * 1000
        await asyncio.sleep(0.002)


class SlowLog:
    """A log whose records are not seen before `go_on` is set.

    A partition of `late` has changed its leader since it told its end: it shows nothing until it has told it again.
    """

    def __init__(self, behind: EventLog) -> None:
        self._behind = behind
        self.go_on = asyncio.Event()
        self.late: set[tuple[str, int]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        await self.go_on.wait()
        if (topic, partition) in self.late:
            return []
        return await self._behind.read(
            topic, partition, offset, max_records=max_records, wait_seconds=min(wait_seconds, 0.01)
        )

    async def end_offset(self, topic: str, partition: int) -> int:
        self.late.discard((topic, partition))
        return await self._behind.end_offset(topic, partition)


class LossyDatabase:
    """A database that is cut off in the middle of the next transactions; the answers of half of them are lost."""

    def __init__(self, behind: Database, cuts: int) -> None:
        self._behind = behind
        self.cuts = cuts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        if self.cuts:
            self.cuts -= 1
            raise await self._cut(statements, guarded)
        return await self._behind.transaction(statements, guarded=guarded)

    async def _cut(self, statements: Sequence[Statement], guarded: bool) -> TowpathError:
        match self.cuts % 3:
            case 0:
                return LogUnavailable("cut off before it was sent")
            case 1:
                await self._behind.transaction(statements, guarded=guarded)
        return UnknownOutcome("cut off; the transaction may have been committed")


@dataclass(frozen=True, slots=True)
class Shared:
    """One database, one folder of blobs, one log, and as many processes as a test opens."""

    db: Database
    log: EventLog
    clock: TestClock
    folder: Path

    async def process(self, *, cuts: int = 0) -> tuple[Upkeep, SlowLog]:
        """The housework of one more process; sees the log once its `go_on` is set. Naming is cut off `cuts` times."""
        blobs = await open_local(self.folder / "bytes")
        store = await open_store(
            blobs, self.folder / "keyring.json", self.db, Tokens(), clock=self.clock, entropy=CHANCE
        )
        log = SlowLog(self.log)
        naming = Naming(store.bytes, LossyDatabase(self.db, cuts), log, self.clock)
        turn = Turn("upkeep", CHANCE.uuid(), self.db, self.clock)
        return Upkeep(store, naming, turn, self.clock), log

    async def name(self, run: str, sha256s: Sequence[str], subject: SubjectId) -> None:
        """Facts of a run that name these blobs."""
        for number, sha256 in enumerate(sha256s, 1):
            event = ArtifactCreated(
                ArtifactId(f"{run}-{number}"), WorkflowRunId(f"{run}-w"), JobRunId(run), WorkflowId("w"), ACME, subject,
                "a", "trace", Sealed(), "m", 1, sha256,
            )  # fmt: skip
            envelope = Envelope(f"{run}-{number}", self.clock.now_ms(), sequence=number)
            await self.log.append([encode(event, topic=Topic.JOB_RUNS, key=run, partition=0, envelope=envelope)])


@pytest.fixture(params=["sqlite", "postgres"])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shared]:
    clock = PacedClock()
    clock.ms = 1_800_000_000_000.0
    async with ground_in(tmp_path, clock, database=request.param, log="sqlite") as (db, log):
        yield Shared(db, log, clock, tmp_path)


@asynccontextmanager
async def following(*namings: Naming) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(naming.follow()) for naming in namings]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def put(upkeep: Upkeep, value: bytes) -> tuple[str, SubjectId]:
    subject = await upkeep.store.vault.subject_for(ACME)
    return (await upkeep.store.bytes.put_bytes(value, PutHeader(subject, GATEWAY))).sha256, subject


async def test_a_sweep_waits_for_naming_that_has_fallen_behind(shared: Shared) -> None:
    upkeep, log = await shared.process()
    named, subject = await put(upkeep, b"named")
    unnamed, _ = await put(upkeep, b"unnamed")
    await shared.name("run", [named], subject)
    shared.clock.ms += STAGED_MS_MAX + 1
    async with following(upkeep.naming):
        sweeping = asyncio.create_task(upkeep.sweep())
        await idle()
        assert not sweeping.done()
        log.go_on.set()
        await sweeping
    assert await upkeep.store.bytes.stat(named) == 5
    assert await upkeep.store.bytes.stat(unnamed) is None


async def test_what_a_new_leader_shows_late_is_named_all_the_same(shared: Shared) -> None:
    upkeep, log = await shared.process()
    named, subject = await put(upkeep, b"named")
    await shared.name("run", [named], subject)
    shared.clock.ms += STAGED_MS_MAX + 1
    async with following(upkeep.naming):
        await idle()  # every partition has told its end, and is being read
        log.late = {(topic, at) for topic, at in upkeep.naming._partitions()}
        log.go_on.set()
        await idle()
        await upkeep.sweep()
    assert await upkeep.store.bytes.stat(named) == 5


async def test_a_sweep_is_put_off_when_naming_does_not_get_on(shared: Shared) -> None:
    upkeep, _ = await shared.process()
    named, subject = await put(upkeep, b"named")
    await shared.name("run", [named], subject)
    shared.clock.ms += STAGED_MS_MAX + 1
    async with following(upkeep.naming):
        with pytest.raises(Temporary, match="naming_behind"):
            await upkeep.sweep()
    assert await upkeep.store.bytes.stat(named) == 5


async def test_two_followers_of_one_log_name_each_blob_and_move_on_together(shared: Shared) -> None:
    first, log = await shared.process()
    second, other_log = await shared.process()
    blobs = [await put(first, f"blob {number}".encode()) for number in range(20)]
    log.go_on.set()
    other_log.go_on.set()
    async with following(first.naming, second.naming):
        for number, (sha256, subject) in enumerate(blobs):
            await shared.name(f"run-{number}", [sha256], subject)
        await first.naming.caught_up()
        await second.naming.caught_up()
    assert await shared.db.fetch_all("SELECT count(*) FROM named_blobs") == [(20,)]
    reached = await shared.db.fetch_all("SELECT next_offset FROM naming_offsets WHERE topic = ?", (Topic.JOB_RUNS,))
    assert reached == [(20,)]
    assert await shared.db.fetch_all("SELECT count(*) FROM blob_owners WHERE named = 0") == [(0,)]


async def test_naming_rides_through_a_database_that_is_cut_off_in_the_middle_of_its_commits(shared: Shared) -> None:
    upkeep, log = await shared.process(cuts=9)
    blobs = [await put(upkeep, f"blob {number}".encode()) for number in range(9)]
    log.go_on.set()
    async with following(upkeep.naming) as tasks:
        for number, (sha256, subject) in enumerate(blobs):
            await shared.name(f"run-{number}", [sha256], subject)
            await upkeep.naming.caught_up()
        assert not tasks[0].done()
    assert await shared.db.fetch_all("SELECT count(*) FROM named_blobs") == [(9,)]
    reached = await shared.db.fetch_all("SELECT next_offset FROM naming_offsets WHERE topic = ?", (Topic.JOB_RUNS,))
    assert reached == [(9,)]


async def test_a_follower_that_was_paused_with_a_batch_in_hand_names_nothing_that_was_forgotten(shared: Shared) -> None:
    first, log = await shared.process()
    second, _ = await shared.process()
    sha256, subject = await put(first, b"of a run")
    await shared.name("run", [sha256], subject)
    batch = await shared.log.read(Topic.JOB_RUNS, 0, 0)
    await second.naming._position(Topic.JOB_RUNS, 0)
    log.go_on.set()
    async with following(first.naming):
        await first.store.bytes.unname(["run"])
        await first.sweep()
        assert await second.naming._take(Topic.JOB_RUNS, 0, batch) == 1
    assert await shared.db.fetch_all("SELECT * FROM named_blobs") == []
    assert await first.store.bytes.names_to_forget() == []


async def test_blobs_of_forgotten_runs_go_a_day_later_unless_another_run_names_them(shared: Shared) -> None:
    upkeep, log = await shared.process()
    log.go_on.set()
    alone, subject = await put(upkeep, b"alone")
    both, _ = await put(upkeep, b"both")
    await shared.name("old", [alone, both], subject)
    await shared.name("young", [both], subject)
    async with following(upkeep.naming):
        await upkeep.store.bytes.unname(["old", "old"])
        await upkeep.sweep()
        assert await upkeep.store.bytes.stat(alone) == 5
        shared.clock.ms += STAGED_MS_MAX + 1
        await upkeep.sweep()
    assert await upkeep.store.bytes.stat(alone) is None
    assert await upkeep.store.bytes.stat(both) == 4


async def test_one_process_keeps_house_and_the_next_takes_over(shared: Shared) -> None:
    first, second = (await shared.process())[0].turn, (await shared.process())[0].turn
    assert await first.take()
    assert not await second.take()
    shared.clock.ms += HELD_MS - 1
    assert await first.take()
    shared.clock.ms += HELD_MS + 1
    assert await second.take()
    assert not await first.take()
    await first.give_back()
    assert not await first.take()
    await second.give_back()
    assert await first.take()


async def test_housework_names_and_ends_with_its_process(shared: Shared) -> None:
    upkeep, log = await shared.process()
    log.go_on.set()
    sha256, subject = await put(upkeep, b"named")
    await shared.name("run", [sha256], subject)
    async with AsyncExitStack() as stack:
        running = asyncio.create_task(upkeep.run())
        stack.callback(running.cancel)
        async with asyncio.timeout(10):
            while not await shared.db.fetch_all("SELECT 1 FROM named_blobs"):  # noqa: ASYNC110 (a row of the database)
                await asyncio.sleep(0.01)
    await asyncio.gather(running, return_exceptions=True)
    await until(running.done)
    assert await (await shared.process())[0].turn.take()


def test_the_topics_that_name_blobs_are_those_of_facts_and_of_runs() -> None:
    assert set(NAMING_TOPICS) == {Topic.DEFINITIONS, Topic.RUN_LEDGER, Topic.JOB_RUNS}
