"""`PostgresDatabase`: the SQL port over a pool of connections to one PostgreSQL server.

Every statement is prepared once per connection. A lone writing statement is its own transaction: one trip to the
server. Several take one trip each, and one for BEGIN and for COMMIT. Isolation is READ COMMITTED: a conditional write
that meets a row under another one's change waits for it and then looks at the row anew.

`COPY table (a, b) FROM STDIN` takes rows as its parameters, the quickest way in for who knows that none of them is
there. Not where others wait for the rows: a client that is paused in the middle of it keeps its locks.

What may hang does so for a bounded time, and whatever the server does to a client that was paused is done by the
server's own clocks: see `Timeouts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeVar, cast

import asyncpg

from kernel.sql.port import Params, Row, Statement
from kernel.sql.postgres.failing import DRIVER_ERRORS, Broken, Failure, failure_of, translated
from kernel.sql.postgres.lending import Lender
from kernel.sql.postgres.wording import changed, copied_into, deleted_from, numbered

T = TypeVar("T")
Ask = Callable[..., Awaitable[list[Row]]]
"""`ask(sql, params)`: the rows that a statement returns, none for one that only writes."""

STATEMENTS_KEPT = 512
"""Prepared statements per connection."""
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
    answer: float | None = 40.0


UNHURRIED = Timeouts(acquire=20.0, statement=0, lock=60.0, idle_in_transaction=60.0, answer=None)
"""For migrations and rebuilds: nobody waits for them by the second, and a machine that is busy must not end them."""


class _Connection(asyncpg.Connection):
    """A connection whose session is never changed by who borrows it, so there is nothing to reset."""

    def get_reset_query(self) -> str:
        return ""

    async def get_ready(self, statements: Iterable[Statement]) -> None:
        """Prepare what is not prepared yet.

        Between preparing and carrying out the driver leaves the server in the middle of a message, where none of its
        time-outs holds: a client that is paused there, in a transaction, would keep its locks for ever.
        """
        for sql in dict.fromkeys(numbered(sql) for sql, params in statements if params and copied_into(sql) is None):
            # A statement may need a table that an earlier one makes; whatever else is wrong with it, it tells itself.
            with suppress(asyncpg.SyntaxOrAccessError):
                await self._get_statement(sql, None)  # type: ignore[attr-defined]  # protected, so not in the stubs


class PostgresDatabase:
    """`Database` on PostgreSQL. Made by `open`, for the event loop that it is opened on."""

    def __init__(
        self,
        lender: Lender,
        connect: Callable[[], Awaitable[_Connection]],
        dsn: str,
        name: str,
        timeouts: Timeouts,
    ) -> None:
        """Use `open`."""
        self._lender = lender
        self._connect = connect
        self._dsn = dsn
        self._name = name
        self._timeouts = timeouts
        self._deleted_from: set[str] = set()

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        pool_max: int = 10,
        schema: str | None = None,
        timeouts: Timeouts | None = None,
        durable: bool = True,
    ) -> PostgresDatabase:
        """Connect once, so that what is wrong is told now; further connections, up to `pool_max`, when they are needed.

        `dsn` is a URL `postgresql://user:password@host:port/database`. `schema` is where names are looked for, and
        where tables are made (several with commas between them); it need not exist yet (`make_schema`). Not `durable`:
        commits do not wait for the disk. Raises `LogUnavailable`, or `LogRefused` when the server takes no such user.
        """
        timeouts = timeouts or Timeouts()
        options = _options(schema, timeouts, durable=durable)

        async def connect() -> _Connection:
            unhurried = {**options, "command_timeout": None}
            connection: _Connection = await asyncpg.connect(dsn, timeout=timeouts.acquire, **unhurried)
            return connection

        name = "PostgreSQL"
        try:
            # Nothing is kept open for nobody: the driver would try that for ever while the server is away.
            pool = await asyncpg.create_pool(
                dsn, min_size=0, max_size=pool_max, init=_prepare, timeout=timeouts.acquire, **options
            )
        except DRIVER_ERRORS as error:
            raise translated(error, name) from error
        lender = Lender(pool, name, most=pool_max, wait_seconds=timeouts.acquire)
        database = cls(lender, connect, dsn, name, timeouts)
        try:
            await database.fetch_one("SELECT 1")
        except BaseException:
            pool.terminate()
            raise
        return database

    @property
    def dialect(self) -> Literal["postgres"]:
        return "postgres"

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        async def query(connection: _Connection) -> list[asyncpg.Record]:
            return await connection.fetch(numbered(sql), *params)

        return [tuple(record) for record in await self._read(query)]

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        async def query(connection: _Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(numbered(sql), *params)

        record = await self._read(query)
        return None if record is None else tuple(record)

    async def execute(self, sql: str, params: Params = ()) -> int:
        async def write(connection: _Connection) -> int:
            async with self._told(connection, committing=True):
                return await _run(connection, sql, params)

        done = await self._with_connection(write)
        self._remember([(sql, params)])
        return done

    async def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        if not rows:
            return 0
        # The server counts only what it returns, and sends nothing else back for a batch.
        counted = f"{numbered(sql)} RETURNING 1"

        async def write(connection: _Connection) -> int:
            async with self._told(connection, committing=True):
                return len(await connection.fetchmany(counted, rows))

        done = await self._with_connection(write)
        self._remember([(sql, ())])
        return done

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        if len(statements) < 2:
            return [await self.execute(*statement) for statement in statements]

        async def write(connection: _Connection) -> list[int]:
            done: list[int] = []
            async with self._told(connection):
                await connection.get_ready(statements)
            async with self._begun(connection), self._told(connection):
                for sql, params in statements:
                    done.append(await _run(connection, sql, params))
                    if guarded and done == [0]:
                        break
            return done

        done = await self._with_connection(write)
        self._remember(statements)
        return done

    @asynccontextmanager
    async def one_transaction(self) -> AsyncIterator[Ask]:
        """A transaction whose statements depend on each other's answers: committed at the end, undone by an error.

        Errors are those of the port. The server ends it when nothing is asked for `Timeouts.idle_in_transaction`.
        """
        async with self._lender.lent() as connection:

            async def ask(sql: str, params: Params = ()) -> list[Row]:
                async with self._told(connection):
                    return [tuple(record) for record in await connection.fetch(numbered(sql), *params)]

            async with self._begun(connection):
                yield ask

    async def beside(self, schema: str) -> PostgresDatabase:
        """The same database for long work at the side: names are looked for in `schema` first.

        Its statements may take any time, and a commit may be lost with the server, though never in parts, until one of
        this object follows it.
        """
        here = await self.fetch_one("SELECT current_schema()")
        path = f"{schema}, {here[0]}" if here else schema
        return await PostgresDatabase.open(self._dsn, schema=path, timeouts=UNHURRIED, durable=False)

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
        await self._lender.close()

    # ---------------------------------------------------------------- connections

    async def _read(self, query: Callable[[_Connection], Awaitable[T]]) -> T:
        async def read(connection: _Connection) -> T:
            try:
                return await query(connection)
            except DRIVER_ERRORS as error:
                raise await self._failed(connection, error) from error

        return await self._with_connection(read)

    async def _with_connection(self, call: Callable[[_Connection], Awaitable[T]]) -> T:
        """What `call` returns. When its connection breaks before anything is written, it has one more try."""
        with suppress(Broken):
            return await self._lender.lend(call)
        return await self._lender.lend(call)

    @asynccontextmanager
    async def _begun(self, connection: _Connection) -> AsyncIterator[None]:
        """BEGIN, and COMMIT or ROLLBACK."""
        async with self._told(connection):
            await connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            with suppress(*DRIVER_ERRORS):  # whose connection is closed has nothing left to undo
                await connection.execute("ROLLBACK")
            raise
        async with self._told(connection, committing=True):
            await connection.execute("COMMIT")

    @asynccontextmanager
    async def _told(self, connection: _Connection, *, committing: bool = False) -> AsyncIterator[None]:
        """Errors as the port tells them."""
        try:
            yield
        except DRIVER_ERRORS as error:
            raise await self._failed(connection, error, committing=committing) from error

    async def _failed(self, connection: _Connection, error: Exception, *, committing: bool = False) -> BaseException:
        """The error as the port tells it. Connections that were cut are not used again, nor are their likes."""
        if failure_of(error) in {Failure.CUT, Failure.UNSENT}:
            await self._lender.cut(connection)
        return translated(error, self._name, committing=committing)

    @asynccontextmanager
    async def _own_connection(self) -> AsyncIterator[_Connection]:
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

    def _remember(self, statements: Iterable[Statement]) -> None:
        self._deleted_from.update(table for sql, _ in statements if (table := deleted_from(sql)))


async def _run(connection: _Connection, sql: str, params: Params) -> int:
    copied = copied_into(sql)
    if copied is None:
        return changed(await connection.execute(numbered(sql), *params))
    table, columns = copied
    try:
        return changed(await connection.copy_records_to_table(table, records=cast("Any", params), columns=columns))
    except asyncio.CancelledError:
        connection.terminate()  # the driver would leave the server waiting for more rows
        raise


async def _prepare(connection: Any) -> None:
    """Sums of whole numbers come as whole numbers, as they do from SQLite."""
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=_number, format="text")


def _number(text: str) -> int | float:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(number)


def _options(schema: str | None, timeouts: Timeouts, *, durable: bool) -> dict[str, Any]:
    settings = {
        "application_name": "towpath",
        "statement_timeout": _ms(timeouts.statement),
        "lock_timeout": _ms(timeouts.lock),
        "idle_in_transaction_session_timeout": _ms(timeouts.idle_in_transaction),
        "client_connection_check_interval": "5s",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
    if not durable:
        settings["synchronous_commit"] = "off"
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
