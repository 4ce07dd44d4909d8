"""The one file of the embedded form, and its one writer.

Log and SQL read models share this file. All writing is done by one thread on one connection. A job is a function of a
`Transaction`; the writer takes whatever is queued, runs it in one transaction, commits with one fsync and hands all the
answers back in one hop (group commit). It never waits for more: an idle file commits a lone job at once, and while that
commit is under way the next batch gathers by itself.

A job that raises is taken out alone: the transaction is rolled back and its jobs are run again, each behind a
savepoint, so the usual case pays for none. Hence **a job may run twice** and may touch nothing but its transaction.

The writer shares the interpreter with the event loop. Under load a loop of short turns can keep a thread from the
interpreter lock for seconds (measured: 17 s with the default switch interval of 5 ms), so `open` lowers the interval of
the process to `SWITCH_SECONDS`.

Pragmas of the writer, and why:

    journal_mode=WAL        readers never wait for the writer; a commit is one sequential write and one fsync
    synchronous=FULL        the fsync: what is acknowledged survives a loss of power
    secure_delete=ON        deleted bytes are overwritten (erasure); free pages are used again
    wal_autocheckpoint=1000 4 MiB: after the first round the WAL is overwritten in place, which is faster than growing
    cache_size=16 MiB       the inner pages of every index stay in memory
    foreign_keys=ON         declared references hold
    trusted_schema=OFF      a planted view or trigger in the file calls no function with side effects
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kernel.errors import ConstraintViolated, LogRefused, LogUnavailable, TowpathError, UnknownOutcome
from kernel.sqlite_guard import FolderLock, LeftBehind, left_behind, refuse_lost_commits

T = TypeVar("T")

APPLICATION_ID = 0x546F7770
JOBS_PER_COMMIT_MAX = 1000
SWITCH_SECONDS = 0.0001
GLANCE_STEPS_MAX = 5000
"""Steps of SQLite's virtual machine: about a quarter of a millisecond, the price of a hop to a thread and back."""
_SCRUB_TRIES = 5

_WRITER_PRAGMAS = (
    "synchronous=FULL",
    "secure_delete=ON",
    "wal_autocheckpoint=1000",
    "cache_size=-16384",
    "foreign_keys=ON",
    "trusted_schema=OFF",
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ENVIRONMENT = _DAMAGE | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for a misuse that never reached SQLite."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_of_the_file(error: Exception) -> bool:
    """Whether the file or the disk is at fault, which concerns the whole transaction, and not one job's own mistake."""
    return isinstance(error, sqlite3.Error) and _code(error) in _ENVIRONMENT


def translate(error: sqlite3.Error, path: Path) -> Exception:
    """The error that callers know, or `error` itself when it is a mistake in the SQL."""
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return LogRefused(
                f"no space left for {path}: nothing was written; writes are taken again once there is space"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return LogUnavailable(f"{path} is locked by another program; nothing was written")
        case code if code in _DAMAGE:
            return LogRefused(f"{path} is damaged ({error}); restore the folder from a backup")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return LogRefused(f"{path} cannot be used ({error}); check the disk and the rights of the folder")
        case sqlite3.SQLITE_CONSTRAINT:
            return ConstraintViolated(str(error))
        case _:
            return error


class Transaction:
    """What a job may touch. `scratch` is memory that lives as long as the transaction, keyed by its user."""

    __slots__ = ("after_commit", "before_commit", "connection", "scratch")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.scratch: dict[object, Any] = {}
        self.before_commit: list[Callable[[], None]] = []
        """Run by the writer after the last job, inside the transaction; an error here refuses the whole transaction."""
        self.after_commit: list[Callable[[], None]] = []
        """Run by the writer once the commit is durable; must not raise."""


@dataclass(slots=True)
class _Job:
    run: Callable[[Transaction], Any]
    landed: Callable[[Any], None] | None
    done: asyncio.Future[Any]


@dataclass(slots=True)
class _Result:
    value: Any = None
    error: Exception | None = None


class _JobRaisedError(Exception):
    """A job of an unguarded transaction raised; the transaction has to be rolled back and run again."""


class _TooLongError(Exception):
    """A query has used up its steps on the event loop; it has read, and changed nothing."""


@dataclass(slots=True)
class _Readers:
    """A pool of threads, each with its own read-only connection."""

    path: Path
    busy_seconds: float
    pool: ThreadPoolExecutor
    local: threading.local = field(default_factory=threading.local)
    """`connection` per thread; that of the event loop's thread has a budget of steps, those of the pool have none."""
    opened: list[sqlite3.Connection] = field(default_factory=list)
    ticks: int = 0

    def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Called in a thread of the pool."""
        try:
            connection = getattr(self.local, "connection", None) or self._connect()
            return query(connection)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def glance(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Called on the event loop. Raises `_TooLongError` when the query takes more steps than a glance may."""
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.set_progress_handler(self._is_too_long, GLANCE_STEPS_MAX)
        self.ticks = 0
        try:
            return query(connection)
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise _TooLongError from error
            raise translate(error, self.path) from error

    def _is_too_long(self) -> bool:
        # SQLite counts on over the uses of a cached statement, so the first tick may belong to earlier ones.
        self.ticks += 1
        return self.ticks > 1

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=self.busy_seconds,
            isolation_level=None,
            check_same_thread=False,  # closed by whoever closes the file
        )
        self.local.connection = connection
        self.opened.append(connection)
        return connection

    def close(self) -> None:
        self.pool.shutdown()
        for connection in self.opened:
            connection.close()


class SqliteFile:
    """The open file: `submit` for writing, `read` for reading. Made by `open`, on the event loop that will use it."""

    def __init__(
        self, path: Path, lock: FolderLock, connection: sqlite3.Connection, readers: _Readers, queue_jobs_max: int
    ) -> None:
        """Use `open`."""
        self.path = path
        self.alone: dict[str, asyncio.Lock] = {}
        """Who works alone in this file, by the name of the work; see `kernel.sql.port.Database.alone`."""
        self._lock = lock
        self._connection = connection
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(queue_jobs_max)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._broken = ""
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(
        cls, path: Path, *, busy_seconds: float = 2.0, readers: int = 2, queue_jobs_max: int = 4000
    ) -> SqliteFile:
        """Lock the folder of `path`, check what a crash left, open or create the file.

        `busy_seconds` is how long a write waits for another program's lock. At most `queue_jobs_max` jobs are queued;
        further submitters wait. Raises `LogRefused` (second process, damage, not our file) or `LogUnavailable`.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(path.parent)
        except OSError as error:
            raise LogRefused(f"the folder {path.parent} cannot be used: {error}") from error
        try:
            connection = await asyncio.to_thread(_open_writer, path, busy_seconds)
        except BaseException:
            lock.release()
            raise
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        pool = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="sqlite-reader")
        return cls(path, lock, connection, _Readers(path, busy_seconds, pool), queue_jobs_max)

    async def submit(self, job: Callable[[Transaction], T], landed: Callable[[T], None] | None = None) -> T:
        """Run `job` in the writer's next transaction; its result, once that is durable.

        Jobs run in the order of submission. `job` may run twice before it is committed. `landed(result)` is called on
        the event loop in commit order, before the caller resumes and even if the caller was cancelled meanwhile; it
        must not raise. Waits while the queue is full.

        Raises what the job raised (nothing of that job was written; a broken constraint as `ConstraintViolated`),
        `LogUnavailable` (locked, nothing was written), `LogRefused` (full or damaged, nothing was written; a full disk
        is tried anew by the next job), `UnknownOutcome` (the commit itself failed: every later job is refused until the
        file is opened again).
        """
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise LogRefused(f"{self.path} is closed")
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(job, landed, done))
        return await done

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run `query` on a read-only connection in a reader thread; it sees every commit acknowledged before the call.

        Each statement has its own snapshot. Raises `LogUnavailable`, `LogRefused`, and SQLite's error for wrong SQL.
        """
        if self._closed:
            raise LogRefused(f"{self.path} is closed")
        return await self._loop.run_in_executor(self._readers.pool, self._readers.run, query)

    async def glance(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """As `read`, for queries that mostly find a few rows by an index: tried on the event loop first.

        A query that needs more than `GLANCE_STEPS_MAX` (at most twice that) is broken off and run again in a reader
        thread, so `query` may run twice, and a long one holds up the loop no longer than a short one.
        """
        if self._closed:
            raise LogRefused(f"{self.path} is closed")
        try:
            return self._readers.glance(query)
        except _TooLongError:
            return await self.read(query)

    async def upgrade(self, layouts: Sequence[Sequence[str]]) -> None:
        """Bring the file to layout number `len(layouts)`; `layouts[n]` leads from n to n + 1, kept in `user_version`.

        Raises `LogRefused` when the file has a higher number: a newer Towpath wrote it.
        """

        def job(transaction: Transaction) -> None:
            execute = transaction.connection.execute
            found: int = execute("PRAGMA user_version").fetchone()[0]
            if found > len(layouts):
                raise LogRefused(
                    f"{self.path} has layout {found}, this version knows {len(layouts)}; use a newer Towpath"
                )
            for statements in layouts[found:]:
                for statement in statements:
                    execute(statement)
            execute(f"PRAGMA user_version={len(layouts)}")

        await self.submit(job)

    async def check(self) -> None:
        """Read the whole file and raise `LogRefused` at the first damaged page. Takes seconds a gigabyte."""

        def query(connection: sqlite3.Connection) -> str:
            return str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])

        if (found := await self.read(query)) != "ok":
            raise LogRefused(f"{self.path} is damaged ({found}); restore the folder from a backup")

    async def scrub(self) -> None:
        """Fold the WAL into the file and empty it, so that no deleted value stays behind in an old frame.

        Raises `LogUnavailable` when readers held it for longer than a few busy times.
        """
        if self._closed:
            raise LogRefused(f"{self.path} is closed")
        await asyncio.to_thread(self._truncate_wal)

    def _truncate_wal(self) -> None:
        # The writer's own connection is always inside a transaction while it works; a checkpoint needs one that is not.
        connection = sqlite3.connect(self.path, timeout=self._readers.busy_seconds, isolation_level=None)
        try:
            for _ in range(_SCRUB_TRIES):
                busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                if not busy:
                    return
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            connection.close()
        raise LogUnavailable(f"readers hold the write-ahead log of {self.path}")

    async def close(self) -> None:
        """Commit what is queued, fold the WAL into the file, unlock the folder. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._writer.join()
        self._readers.close()
        self._connection.close()
        self._lock.release()

    # Below runs in the writer's thread.

    def _write(self) -> None:
        open_for_work = True
        while open_for_work:
            jobs, open_for_work = self._take()
            if jobs:
                results = self._commit(jobs)
                self._loop.call_soon_threadsafe(self._deliver, jobs, results)

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for one job, take what else is queued; False with the last ones of a closed file."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == JOBS_PER_COMMIT_MAX or self._queue.empty():
                return jobs, True
            job = self._queue.get()
        return jobs, False

    def _commit(self, jobs: Sequence[_Job]) -> list[_Result]:
        if self._broken:
            return [_Result(error=LogRefused(self._broken)) for _ in jobs]
        try:
            with suppress(_JobRaisedError):
                return self._attempt(jobs, self._run)
            return self._attempt(jobs, self._run_guarded)
        except Exception as error:  # noqa: BLE001 (the edge of the thread: a writer that dies silently hangs everyone)
            self._broken = f"the writer of {self.path} failed ({error!r}); restart to go on"
            return [_Result(error=UnknownOutcome(self._broken)) for _ in jobs]

    def _attempt(self, jobs: Sequence[_Job], run: Callable[[_Job, Transaction], _Result]) -> list[_Result]:
        """One transaction of `jobs`. `_JobRaisedError`: `run` does not guard, a job raised, all is rolled back."""
        transaction = Transaction(self._connection)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [run(job, transaction) for job in jobs]
            for hook in transaction.before_commit:
                hook()
        except sqlite3.Error as error:
            self._rollback()
            return [_Result(error=translate(error, self.path)) for _ in jobs]
        except _JobRaisedError:
            self._rollback()
            raise
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            return [_Result(error=self._failed_commit(error)) for _ in jobs]
        for hook in transaction.after_commit:
            hook()
        return results

    def _run(self, job: _Job, transaction: Transaction) -> _Result:
        try:
            return _Result(value=job.run(transaction))
        except Exception as error:
            if _is_of_the_file(error):
                raise
            raise _JobRaisedError from error

    def _run_guarded(self, job: _Job, transaction: Transaction) -> _Result:
        self._connection.execute("SAVEPOINT job")
        try:
            result = _Result(value=job.run(transaction))
        except Exception as error:
            if _is_of_the_file(error):
                raise
            self._connection.execute("ROLLBACK TO job")
            result = _Result(error=translate(error, self.path) if isinstance(error, sqlite3.Error) else error)
        self._connection.execute("RELEASE job")
        return result

    def _failed_commit(self, error: sqlite3.Error) -> TowpathError:
        """A full disk and a lock stop SQLite before the commit mark is written; behind anything else it may stand."""
        known = translate(error, self.path)
        if _code(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY} and isinstance(known, TowpathError):
            return known
        self._broken = f"a commit to {self.path} failed ({error}); check the disk and restart"
        return UnknownOutcome(self._broken)

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # Back on the event loop.

    def _deliver(self, jobs: Sequence[_Job], results: Sequence[_Result]) -> None:
        for job, result in zip(jobs, results, strict=True):
            self._slots.release()
            if result.error is None and job.landed is not None:
                job.landed(result.value)
            if job.done.done():
                continue
            if result.error is None:
                job.done.set_result(result.value)
            else:
                job.done.set_exception(result.error)


def _open_writer(path: Path, busy_seconds: float) -> sqlite3.Connection:
    try:
        found = left_behind(path)
        if found is not None:
            _check_recovery(found)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # the WAL takes over these rights
    except OSError as error:
        raise LogRefused(f"{path} cannot be opened: {error}") from error
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        _claim_file(connection, path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that a later crash finds no older frames
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translate(error, path) from error
        raise
    return connection


def _check_recovery(found: LeftBehind) -> None:
    """Let a read-only connection recover the WAL: when it closes, it folds and deletes nothing."""
    with closing(sqlite3.connect(f"{found.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise translate(error, found.path) from error
        refuse_lost_commits(found)


def _claim_file(connection: sqlite3.Connection, path: Path) -> None:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID:
        if application or tables:
            raise LogRefused(f"{path} is a database of another program")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode=WAL")
