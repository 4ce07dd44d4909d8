"""The one writer of the embedded file: what jobs share, and what they are spared of each other."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kernel.clock import SystemClock
from kernel.errors import ConstraintViolated, LogRefused
from kernel.ids import SystemEntropy
from kernel.log.sqlite import SqliteLog
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile, Transaction
from tests.support.logs import TOPICS, keys, record


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    file = await SqliteFile.open(tmp_path / "towpath.db", queue_jobs_max=50)
    await SqliteDatabase(file).execute("CREATE TABLE notes (name TEXT PRIMARY KEY)")
    yield file
    await file.close()


def note(transaction: Transaction, name: str) -> str:
    transaction.connection.execute("INSERT INTO notes (name) VALUES (?)", (name,))
    return name


async def notes(file: SqliteFile) -> list[str]:
    rows = await file.read(lambda connection: connection.execute("SELECT name FROM notes ORDER BY rowid").fetchall())
    return [name for (name,) in rows]


class Gate:
    """A job that keeps the writer busy until it is opened, so that what follows gathers into one transaction."""

    job: asyncio.Task[None]

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._open = threading.Event()

    @classmethod
    async def closed_in(cls, file: SqliteFile) -> Gate:
        gate = cls()
        gate.job = asyncio.create_task(file.submit(gate._hold))
        await asyncio.to_thread(gate._entered.wait, 10)
        return gate

    def open(self) -> None:
        self._open.set()

    def _hold(self, _: Transaction) -> None:
        self._entered.set()
        self._open.wait(10)


async def test_jobs_that_gather_during_a_commit_share_the_next_one(file: SqliteFile) -> None:
    transactions: list[Transaction] = []
    gate = await Gate.closed_in(file)
    jobs = [asyncio.create_task(file.submit(transactions.append)) for _ in range(20)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(gate.job, *jobs)
    assert len(transactions) == 20
    assert len({id(transaction) for transaction in transactions}) == 1


async def test_a_job_that_raises_is_rolled_back_alone(file: SqliteFile) -> None:
    def break_after_writing(transaction: Transaction) -> None:
        note(transaction, "of the broken job")
        raise RuntimeError("broken")

    gate = await Gate.closed_in(file)
    jobs = [
        asyncio.create_task(file.submit(lambda transaction: note(transaction, "a"))),
        asyncio.create_task(file.submit(break_after_writing)),
        asyncio.create_task(file.submit(lambda transaction: note(transaction, "a"))),
        asyncio.create_task(file.submit(lambda transaction: note(transaction, "b"))),
    ]
    await asyncio.sleep(0)
    gate.open()
    first, broken, double, last = await asyncio.gather(*jobs, return_exceptions=True)
    assert (first, last) == ("a", "b")
    assert isinstance(broken, RuntimeError)
    assert isinstance(double, ConstraintViolated)
    assert await notes(file) == ["a", "b"]


async def test_records_are_appended_once_beside_a_job_that_raises(file: SqliteFile) -> None:
    log = await SqliteLog.open(file, TOPICS, SystemClock(), SystemEntropy())
    await file.submit(lambda transaction: note(transaction, "a"))
    gate = await Gate.closed_in(file)
    appends = [asyncio.create_task(log.append([record(f"k{n}")])) for n in range(3)]
    broken = asyncio.create_task(file.submit(lambda transaction: note(transaction, "a")))
    appends += [asyncio.create_task(log.append([record(f"k{n}")])) for n in range(3, 6)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.wait([broken, *appends])
    assert isinstance(broken.exception(), ConstraintViolated)
    assert [append.result()[0].offset for append in appends] == list(range(6))
    assert await keys(log) == [f"k{n}" for n in range(6)]


async def test_an_append_that_nobody_waits_for_any_more_still_reaches_the_readers(file: SqliteFile) -> None:
    log = await SqliteLog.open(file, TOPICS, SystemClock(), SystemEntropy())
    gate = await Gate.closed_in(file)
    reader = asyncio.create_task(log.read("facts", 0, 0, wait_seconds=60))
    append = asyncio.create_task(log.append([record("a")]))
    await asyncio.sleep(0)
    append.cancel()
    await asyncio.sleep(0)
    gate.open()
    assert [stored.record.key for stored in await reader] == ["a"]
    assert append.cancelled()
    await log.append([record("b")])
    assert await keys(log) == ["a", "b"]


async def test_a_full_queue_makes_submitters_wait_and_keeps_their_order(file: SqliteFile) -> None:
    gate = await Gate.closed_in(file)
    jobs = [asyncio.create_task(file.submit(lambda t, n=n: note(t, str(n)))) for n in range(200)]  # type: ignore[misc]
    for _ in range(5):
        await asyncio.sleep(0)
    assert file._queue.qsize() == 49
    gate.open()
    await asyncio.gather(*jobs)
    assert await notes(file) == [str(n) for n in range(200)]


async def test_closing_commits_what_is_queued_and_refuses_what_comes_after(file: SqliteFile) -> None:
    gate = await Gate.closed_in(file)
    jobs = [asyncio.create_task(file.submit(lambda t, n=n: note(t, str(n)))) for n in range(10)]  # type: ignore[misc]
    await asyncio.sleep(0)
    closing = asyncio.create_task(file.close())
    await asyncio.sleep(0)
    with pytest.raises(LogRefused, match="is closed"):
        await file.submit(lambda transaction: note(transaction, "late"))
    gate.open()
    await closing
    assert [job.result() for job in jobs] == [str(n) for n in range(10)]
    with pytest.raises(LogRefused, match="is closed"):
        await file.read(lambda connection: None)
    await file.close()
    again = await SqliteFile.open(file.path)
    assert await notes(again) == [str(n) for n in range(10)]
    await again.close()


async def test_a_clean_close_leaves_one_file(file: SqliteFile) -> None:
    await file.submit(lambda transaction: note(transaction, "a"))
    await file.close()
    assert {path.name for path in file.path.parent.iterdir()} == {"towpath.db", "towpath.lock"}


async def test_readers_cannot_write(file: SqliteFile) -> None:
    with pytest.raises(LogRefused, match="readonly"):
        await file.read(lambda connection: connection.execute("INSERT INTO notes VALUES ('a')"))


async def test_a_glance_at_few_rows_takes_no_thread(file: SqliteFile) -> None:
    threads: set[str] = set()

    def query(connection: sqlite3.Connection) -> int:
        threads.add(threading.current_thread().name)
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])

    await file.submit(lambda transaction: note(transaction, "one"))
    assert [await file.glance(query) for _ in range(1000)] == [1] * 1000
    assert threads == {threading.current_thread().name}


async def test_a_glance_that_takes_long_goes_on_in_a_thread_and_holds_up_nobody(file: SqliteFile) -> None:
    threads: list[str] = []
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) FROM n"

    def query(connection: sqlite3.Connection) -> int:
        threads.append(threading.current_thread().name)
        return int(connection.execute(numbers).fetchone()[0])

    assert await file.glance(query) == 100_000
    here, elsewhere = threads
    assert here == threading.current_thread().name
    assert elsewhere.startswith("sqlite-reader")


async def test_a_glance_sees_every_commit_that_was_acknowledged(file: SqliteFile) -> None:
    for count in range(1, 20):
        await file.submit(lambda transaction, count=count: note(transaction, str(count)))  # type: ignore[misc]
        assert len(await SqliteDatabase(file).fetch_all("SELECT name FROM notes")) == count


async def test_a_mistake_in_the_sql_is_the_callers_own(file: SqliteFile) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await file.submit(lambda transaction: transaction.connection.execute("DELETE FROM nowhere"))
    await file.submit(lambda transaction: note(transaction, "and harms nobody"))


async def test_commits_are_synced_and_deletes_overwrite(file: SqliteFile) -> None:
    def pragmas(transaction: Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        return [transaction.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await file.submit(pragmas) == ["wal", 2, 1, 1]


async def test_layouts_are_numbered_and_applied_once(file: SqliteFile) -> None:
    first = ("CREATE TABLE one (a)",)
    await file.upgrade([first])
    await file.upgrade([first, ("CREATE TABLE two (a)", "INSERT INTO two VALUES (1)")])
    await file.upgrade([first, ("CREATE TABLE two (a)", "INSERT INTO two VALUES (1)")])
    assert await file.read(lambda connection: connection.execute("SELECT count(*) FROM two").fetchone()) == (1,)
    with pytest.raises(LogRefused, match="layout 2"):
        await file.upgrade([first])
