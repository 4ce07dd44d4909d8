"""Ended runs that are old are forgotten: rows, records and blobs; at any moment a rebuild tells whole runs only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api_gateway.migrations import migrations
from api_gateway.projecting import Projector
from api_gateway.projections import catalog
from api_gateway.retention import DAY_MS, Forgetting
from api_gateway.waiting import Waiters
from artifact_store.naming import Naming
from artifact_store.owned_bytes import OwnedBytes
from embedded.retention import Retention
from embedded.tables import MIGRATIONS
from embedded.trimming import Trimming
from embedded.upkeep import Upkeep
from kernel.domain.artifact import ArtifactCreated
from kernel.domain.ids import (
    ArtifactId,
    JobId,
    JobRunId,
    ProviderSlug,
    RequestId,
    SubjectId,
    UserId,
    WorkflowId,
    WorkflowRunId,
)
from kernel.domain.job_run import JobRunCompleted, JobRunCreated, JobRunStarted, RunRequestRejected
from kernel.domain.values import Effect, Failure, Sealed, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunCompleted,
    WorkflowRunCreated,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)
from kernel.errors import LogUnavailable
from kernel.ids import SystemEntropy
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS, Topic, partition_of
from kernel.sql.port import Database, migrate
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from kernel.store.port import PutHeader
from tests.support.eventually import until
from tests.support.reports import TestClock
from tests.support.stores import ACME, GATEWAY, OpenedStore, store_in

KEEP_DAYS = 30
OLD, YOUNG = ["old-1", "old-2", "old-3"], ["young-1", "young-2"]
LIVE = "old-but-live"
DEFINITIONS = {"workflows", "workflow_revisions", "jobs", "providers", "connections", "provider_health"}
OWN_DAYS = {"request_outcomes"}
"""Swept a day after they were written, whoever's they are."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with a few runs, and the housework over it."""

    store: OpenedStore
    log: SqliteLog
    retention: Retention
    subject: SubjectId
    clock: TestClock


def facts_of(run: str, subject: SubjectId, blobs: list[str]) -> list[Any]:
    """A job run with one workflow run that made an artifact of each of `blobs`; a live one has not ended."""
    job_run, id_, workflow = JobRunId(run), WorkflowRunId(f"{run}-w"), WorkflowId("w")
    facts: list[Any] = [
        JobRunCreated(
            job_run, JobId("j"), ACME, subject, Sealed(), (workflow,), (1,), False, UserId("u"), "", RequestId("q")
        ),
        WorkflowRunCreated(
            id_, job_run, workflow, 1, ProviderSlug("p"), ACME, subject, Sealed(), False, UserId("u"), "", 0,
            RequestId(""),
        ),
        JobRunStarted(job_run),
        WorkflowRunStarted(id_, 1),
        WorkflowRunStepFinished(
            id_, 1, "a", "a", "a", "finish", Effect.READ, StepStatus.COMPLETED, 1, 5, 9, SealedBody(), Failure(), "", ""
        ),
        *(
            ArtifactCreated(
                ArtifactId(f"{run}-{n}"), id_, job_run, workflow, ACME, subject, "a", "trace", Sealed(), "m", 1, blob
            )
            for n, blob in enumerate(blobs)
        ),
    ]  # fmt: skip
    if run != LIVE:
        facts += [WorkflowRunCompleted(id_, WorkflowRunStatus.COMPLETED, SealedBody()), JobRunCompleted(job_run)]
    return facts


async def append_run(folder: Folder, run: str, blobs: list[str]) -> None:
    """One append a fact, as time goes by; a refusal between them belongs to nobody."""
    partition = partition_of(run, folder.log.partitions(Topic.JOB_RUNS))
    for sequence, event in enumerate(facts_of(run, folder.subject, blobs), start=1):
        envelope = Envelope(f"{run}-{sequence}", folder.clock.now_ms(), sequence=sequence)
        await folder.log.append([encode(event, topic=Topic.JOB_RUNS, key=run, partition=partition, envelope=envelope)])
        folder.clock.ms += 1000
    nobody = f"{run}-x"
    refusal = RunRequestRejected(RequestId("r"), nobody, "refused", "no")
    envelope = Envelope(f"{run}-refused", folder.clock.now_ms())
    await folder.log.append([encode(refusal, topic=Topic.JOB_RUNS, key=nobody, partition=partition, envelope=envelope)])


def file_of(store: OpenedStore) -> SqliteFile:
    """The file that the store's rows are in, for the log to stand in, too."""
    assert isinstance(store.db, SqliteDatabase)
    return store.db._file


@asynccontextmanager
async def opened(path: Path, how: str = "in process") -> AsyncIterator[Folder]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_in(path, how))
        clock = store.clock
        file = file_of(store) if how == "in process" else await SqliteFile.open(path / "log.db")
        stack.push_async_callback(file.close)
        log = await SqliteLog.open(file, dict.fromkeys(TOPICS, 2), clock, SystemEntropy())
        await migrate(store.db, migrations(store.db.dialect))
        if how == "in process":
            await migrate(store.db, MIGRATIONS)
        naming = Naming(store.inside.bytes, store.db, log, clock)
        retention = Retention(KEEP_DAYS, store.db, log, naming, clock)
        yield Folder(store, log, retention, await store.vault.subject_for(ACME, "customer"), clock)
        await log.close()


async def put(folder: Folder, value: bytes) -> str:
    return (await folder.store.bytes.put_bytes(value, PutHeader(folder.subject, GATEWAY))).sha256


async def live_through(folder: Folder) -> dict[str, str]:
    """Old runs, one that goes on, then young ones; their blobs by name."""
    blobs = {name: await put(folder, name.encode()) for name in ("only-old", "shared", "only-young")}
    for run in (OLD[0], LIVE, *OLD[1:]):
        await append_run(folder, run, [blobs["only-old"], blobs["shared"]])
    folder.clock.ms += (KEEP_DAYS + 1) * DAY_MS
    for run in YOUNG:
        await append_run(folder, run, [blobs["shared"], blobs["only-young"]])
    await project(folder)
    await folder.retention.naming.catch_up()
    return blobs


async def project(folder: Folder, *, anew: bool = False) -> None:
    projector = Projector(folder.log, folder.store.db, Waiters(), folder.clock)
    await (projector.rebuild() if anew else projector.catch_up())


async def rows(db: Database) -> dict[str, list[Any]]:
    return {table.name: sorted(await db.fetch_all(f"SELECT * FROM {table.name}")) for table in catalog.TABLES}


async def runs_told(db: Database) -> dict[str, int]:
    """Each run that any read model knows of, and how many events of it there are."""
    found: dict[str, int] = dict.fromkeys([row[0] for row in await db.fetch_all("SELECT id FROM job_runs")], 0)
    found |= {row[0]: row[1] for row in await db.fetch_all("SELECT root_run_id, count(*) FROM run_events GROUP BY 1")}
    for table in ("steps", "artifacts"):
        whose = await db.fetch_all(f"SELECT DISTINCT workflow_run_id FROM {table}")
        assert {row[0].removesuffix("-w") for row in whose} <= found.keys()
    return found


async def test_old_ended_runs_are_forgotten_and_a_rebuild_tells_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await live_through(folder)
        before = await rows(folder.store.db)
        assert await folder.retention.forget() == len(OLD)
        kept = await rows(folder.store.db)
        assert {row[0] for row in kept["job_runs"]} == {LIVE, *YOUNG}
        assert [row for row in before["run_events"] if row[0] in {LIVE, *YOUNG}] == kept["run_events"]
        await project(folder, anew=True)
        assert await rows(folder.store.db) == kept
        assert await folder.retention.forget() == 0


async def test_nothing_of_a_forgotten_run_stands_in_the_log(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await live_through(folder)
        await folder.retention.forget()
        keys = set()
        for partition in range(folder.log.partitions(Topic.JOB_RUNS)):
            keys |= {stored.record.key for stored in await folder.log.read(Topic.JOB_RUNS, partition, 0)}
        assert not keys & {*OLD, "old-1-x"}
        assert {LIVE, *YOUNG} <= keys
        assert await folder.store.db.fetch_all("SELECT * FROM forgotten_runs") == []
        assert await folder.store.db.fetch_all("SELECT * FROM projected_streams WHERE stream LIKE 'old-_'") == []


async def test_a_blob_goes_with_the_last_run_that_names_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        blobs = await live_through(folder)
        await folder.store.db.execute("DELETE FROM artifacts WHERE job_run_id = ?", (LIVE,))
        await folder.retention.naming.forget([LIVE])
        await folder.retention.forget()
        folder.clock.ms += 2 * DAY_MS
        await folder.store.inside.sweep(folder.clock.now_ms())
        there = {name for name, sha256 in blobs.items() if await folder.store.bytes.stat(sha256) is not None}
        assert there == {"shared", "only-young"}


async def test_a_blob_that_a_new_run_is_about_to_name_outlives_the_run_that_named_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        blobs = await live_through(folder)
        await folder.retention.naming.forget([LIVE])
        await folder.retention.forget()
        await folder.store.inside.sweep(folder.clock.now_ms())
        await append_run(folder, "retry", [blobs["only-old"]])
        await folder.retention.naming.catch_up()
        folder.clock.ms += 2 * DAY_MS
        await folder.store.inside.sweep(folder.clock.now_ms())
        assert await folder.store.bytes.stat(blobs["only-old"]) is not None


@pytest.mark.parametrize("how", ["in process", "on postgres"])
async def test_in_a_cluster_rows_and_blobs_go_and_the_facts_that_stay_bring_nothing_back(
    tmp_path: Path, how: str
) -> None:
    async with opened(tmp_path, how) as folder:
        blobs = await live_through(folder)
        forgetting = Forgetting(KEEP_DAYS, folder.store.db, folder.store.bytes, folder.clock)
        assert await forgetting.forget() == len(OLD)
        assert await forgetting.forget() == 0
        assert sorted(await folder.store.inside.bytes.names_to_forget()) == OLD
        kept = await rows(folder.store.db)
        assert {row[0] for row in kept["job_runs"]} == {LIVE, *YOUNG}
        await project(folder, anew=True)
        assert await rows(folder.store.db) == kept
        await folder.retention.naming.forget([*OLD, LIVE])
        folder.clock.ms += 2 * DAY_MS
        await folder.store.inside.sweep(folder.clock.now_ms())
        there = {name for name, sha256 in blobs.items() if await folder.store.bytes.stat(sha256) is not None}
        assert there == {"shared", "only-young"}


class CrashError(Exception):
    """The process dies before a commit."""


def counting(file: SqliteFile, commits: list[int]) -> Callable[..., Any]:
    """`submit` that takes `commits[0]` jobs and then no more."""
    submit = file.submit

    async def counted(*arguments: Any) -> Any:
        if commits[0] == 0:
            raise CrashError
        commits[0] -= 1
        return await submit(*arguments)

    return counted


async def commits_of_forgetting(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    async with opened(path) as folder:
        await live_through(folder)
        left = [1000]
        with monkeypatch.context() as patch:
            patch.setattr(file_of(folder.store), "submit", counting(file_of(folder.store), left))
            await folder.retention.forget()
        return 1000 - left[0]


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.3, 0.6, 0.9, 0.95, 1.0])
async def test_after_a_crash_between_two_commits_a_rebuild_tells_whole_runs_and_the_rest_goes_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    commits = await commits_of_forgetting(tmp_path / "first", monkeypatch)
    async with opened(tmp_path / "second") as folder:
        await live_through(folder)
        db = folder.store.db
        whole = await runs_told(db)
        with monkeypatch.context() as patch:
            file = file_of(folder.store)
            patch.setattr(file, "submit", counting(file, [int((commits - 1) * share)]))
            with pytest.raises(CrashError):
                await folder.retention.forget()
        await project(folder, anew=True)
        told = await runs_told(db)
        assert told.items() <= whole.items()
        assert {LIVE, *YOUNG} <= told.keys()
        await folder.retention.forget()
        await project(folder, anew=True)
        assert (await runs_told(db)).keys() == {LIVE, *YOUNG}
        assert await db.fetch_all("SELECT * FROM forgotten_runs") == []


async def test_housework_that_finds_the_file_locked_is_done_an_hour_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as folder:
        await live_through(folder)
        db, locked, swept = folder.store.db, [True], list[int]()
        execute, sweep = db.execute, OwnedBytes.sweep

        async def tried(sql: str, params: Any = ()) -> int:
            if sql.startswith("DELETE") and locked:
                locked.clear()
                raise LogUnavailable("locked by another program")
            return await execute(sql, params)

        async def noted(bytes_: OwnedBytes, now_ms: int) -> int:
            swept.append(await sweep(bytes_, now_ms))
            return swept[-1]

        monkeypatch.setattr(db, "execute", tried)
        monkeypatch.setattr(OwnedBytes, "sweep", noted)
        upkeep = Upkeep(
            folder.store.inside, db, folder.clock, folder.retention.naming, Trimming(folder.log, folder.clock),
            folder.retention,
        )  # fmt: skip
        running = asyncio.create_task(upkeep.run())
        try:
            await until(lambda: running.done() or swept)
            assert not running.done()
            assert await db.fetch_all("SELECT 1 FROM job_runs WHERE id = ?", (OLD[0],)) == []
        finally:
            running.cancel()
            await asyncio.wait([running])


def test_every_read_model_is_of_definitions_or_forgotten_with_its_run() -> None:
    of_runs = {"job_runs", "workflow_runs", "steps", "run_events", "artifacts", "input_requests"}
    assert {table.name for table in catalog.TABLES} == DEFINITIONS | OWN_DAYS | of_runs
