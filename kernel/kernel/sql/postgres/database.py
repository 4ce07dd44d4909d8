"""`PostgresDatabase`: the SQL port over a pool of connections to one PostgreSQL server.

Every statement is prepared once per connection. A lone writing statement is its own transaction: one trip to the
server. Several take one trip each, and one for BEGIN and for COMMIT. Isolation is READ COMMITTED: a conditional write
that meets a row under another one's change waits for it and then looks at the row anew.

What may hang does so for a bounded time, and whatever the server does to a client that was paused is done by the
server's own clocks: see `Timeouts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import asyncpg

from kernel.errors import LogRefused, LogUnavailable
from kernel.sql.port import Params, Row, Statement
from kernel.sql.postgres.failing import DRIVER_ERRORS, Failure, failure_of, translated
from kernel.sql.postgres.wording import changed, deleted_from, numbered

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

T = TypeVar("T")

STATEMENTS_KEPT = 512
"""Prepared statements per connection."""
_READ_TRIES = 2
_LOCK_CLASS = 0x746F77
"""First half of the key of each advisory lock of Towpath."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. The server holds `statement`, `lock` and `idle_in_transaction`; `answer` is for one that hangs."""

    acquire: float = 5.0
    """For a free connection, and to make it."""
    statement: float = 30.0
    lock: float = 10.0
    idle_in_transaction: float = 5.0
    """After that the locks of a paused process are taken from it."""
    answer: float = 40.0


class _Connection(asyncpg.Connection):
    """A connection whose session is never changed by who borrows it, so there is nothing to reset."""

    def get_reset_query(self) -> str:
        return ""


class PostgresDatabase:
    """`Database` on PostgreSQL. Made by `open`, for the event loop that it is opened on."""

    def __init__(self, pool: Pool, connect: Callable[[], Awaitable[Connection]], name: str, timeouts: Timeouts) -> None:
        """Use `open`."""
        self._pool = pool
        self._connect = connect
        self._name = name
        self._timeouts = timeouts
        self._deleted_from: set[str] = set()
        self._closed = False

    @classmethod
    async def open(
        cls, dsn: str, *, pool_max: int = 10, schema: str | None = None, timeouts: Timeouts | None = None
    ) -> PostgresDatabase:
        """Connect once, so that what is wrong is told now; further connections, up to `pool_max`, when they are needed.

        `dsn` is a URL `postgresql://user:password@host:port/database`. `schema` is where names are looked for, and
        where tables are made (several with commas between them); it need not exist yet (`make_schema`). Raises
        `LogUnavailable`, or `LogRefused` when the server takes neither user nor database.
        """
        timeouts = timeouts or Timeouts()
        options = _options(schema, timeouts)

        async def connect() -> Connection:
            unhurried = {**options, "command_timeout": None}
            connection: Connection = await asyncpg.connect(dsn, timeout=timeouts.acquire, **unhurried)
            return connection

        name = "PostgreSQL"
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=1, max_size=pool_max, init=_prepare, timeout=timeouts.acquire, **options
            )
        except DRIVER_ERRORS as error:
            raise translated(error, name) from error
        return cls(pool, connect, name, timeouts)

    @property
    def dialect(self) -> Literal["postgres"]:
        return "postgres"

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        async def query(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(numbered(sql), *params)

        return [tuple(record) for record in await self._read(query)]

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        async def query(connection: Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(numbered(sql), *params)

        record = await self._read(query)
        return None if record is None else tuple(record)

    async def execute(self, sql: str, params: Params = ()) -> int:
        async with self._borrowed() as connection, self._told(connection, committing=True):
            done = await self._run(connection, sql, params)
        self._remember([(sql, params)])
        return done

    async def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        if not rows:
            return 0
        # The server counts only what it returns, and sends nothing else back for a batch.
        counted = f"{numbered(sql)} RETURNING 1"
        async with self._borrowed() as connection, self._told(connection, committing=True):
            done = len(await connection.fetchmany(counted, rows))
        self._remember([(sql, ())])
        return done

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        if len(statements) < 2:
            return [await self.execute(*statement) for statement in statements]
        done: list[int] = []
        async with self._borrowed() as connection:
            async with self._told(connection):
                await connection.execute("BEGIN")
                for sql, params in statements:
                    done.append(await self._run(connection, sql, params))
                    if guarded and done == [0]:
                        break
            async with self._told(connection, committing=True):
                await connection.execute("COMMIT")
        self._remember(statements)
        return done

    async def scrub(self) -> None:
        """Vacuum the tables that this object has deleted from: their pages let go of the rows, and are used again.

        Copies remain in the write-ahead log until the server recycles it, and in its backups.
        """
        tables, self._deleted_from = self._deleted_from, set()
        if not tables:
            return
        try:
            async with self._own_connection() as connection:
                for table in sorted(tables):
                    async with self._told(connection):
                        await connection.execute(f"VACUUM {table}")
        except BaseException:
            self._deleted_from |= tables
            raise

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """A session's advisory lock, by the schema and `name`, on a connection of its own."""
        async with self._own_connection() as connection:
            async with self._told(connection):
                key = "hashtext(current_schema() || ':' || $1)"
                await connection.execute(f"SELECT pg_advisory_lock({_LOCK_CLASS}, {key})", name)
            yield

    async def make_schema(self, name: str) -> None:
        """Make the schema `name` unless it is there; takes the right to do so. May be called by two at once."""
        lock = ("SELECT pg_advisory_xact_lock(?::int, hashtext(?))", (_LOCK_CLASS, name))
        await self.transaction([lock, (f'CREATE SCHEMA IF NOT EXISTS "{name}"', ())])

    async def close(self) -> None:
        """End all connections; calls that are under way have a moment to end. Idempotent."""
        self._closed = True
        try:
            async with asyncio.timeout(self._timeouts.acquire):
                await self._pool.close()
        except (TimeoutError, *DRIVER_ERRORS):
            self._pool.terminate()

    # ---------------------------------------------------------------- connections

    async def _read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """A query that writes nothing; a connection that was cut costs a second try, on a fresh one."""
        for _ in range(_READ_TRIES - 1):
            with suppress(LogUnavailable):
                return await self._asked(query)
        return await self._asked(query)

    async def _asked(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._borrowed() as connection, self._told(connection):
            return await query(connection)

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        if self._closed:
            raise LogRefused(f"{self._name} is closed")
        try:
            connection = await self._pool.acquire(timeout=self._timeouts.acquire)
        except DRIVER_ERRORS as error:
            raise translated(error, self._name) from error
        try:
            yield connection
        finally:
            with suppress(*DRIVER_ERRORS):  # it is closed by then, and the pool will make another
                await self._pool.release(connection)

    @asynccontextmanager
    async def _told(self, connection: Connection, *, committing: bool = False) -> AsyncIterator[None]:
        """Errors as the port tells them. Connections that were cut are not used again, nor are their likes."""
        try:
            yield
        except DRIVER_ERRORS as error:
            if failure_of(error) is Failure.CUT:
                connection.terminate()
                await self._pool.expire_connections()
            raise translated(error, self._name, committing=committing) from error

    @asynccontextmanager
    async def _own_connection(self) -> AsyncIterator[Connection]:
        """One outside of the pool, whose statements may take any time."""
        try:
            connection = await self._connect()
        except DRIVER_ERRORS as error:
            raise translated(error, self._name) from error
        try:
            async with self._told(connection):
                await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            yield connection
        finally:
            connection.terminate()

    async def _run(self, connection: Connection, sql: str, params: Params) -> int:
        return changed(await connection.execute(numbered(sql), *params))

    def _remember(self, statements: Iterable[Statement]) -> None:
        self._deleted_from.update(table for sql, _ in statements if (table := deleted_from(sql)))


async def _prepare(connection: Connection) -> None:
    """Sums of whole numbers come as whole numbers, as they do from SQLite."""
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text")


def _number(text: str) -> int | float:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(number)


def _options(schema: str | None, timeouts: Timeouts) -> dict[str, Any]:
    settings = {
        "application_name": "towpath",
        "statement_timeout": _ms(timeouts.statement),
        "lock_timeout": _ms(timeouts.lock),
        "idle_in_transaction_session_timeout": _ms(timeouts.idle_in_transaction),
        "client_connection_check_interval": "5s",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
    if schema is not None:
        settings["search_path"] = schema
    return {
        "connection_class": _Connection,
        "command_timeout": timeouts.answer,
        "statement_cache_size": STATEMENTS_KEPT,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 0,
        "server_settings": settings,
    }


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
