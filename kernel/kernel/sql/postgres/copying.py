"""Tables as files, as of one moment: what a backup takes out of PostgreSQL and puts into an empty one.

A `TableReader` sees the database as it was when it was opened, whatever is written meanwhile. Files are in the text
format of COPY, which every version of PostgreSQL reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from kernel.errors import LogRefused
from kernel.sql.postgres.failing import DRIVER_ERRORS, translated

_TABLES = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = current_schema() AND c.relkind = 'r' ORDER BY 1"
)
_HAVE_COLUMN = (
    "SELECT table_name FROM information_schema.columns"
    " WHERE table_schema = current_schema() AND column_name = $1 ORDER BY 1"
)
_NAME = "PostgreSQL"


class TableReader:
    """The tables of a schema at one moment."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def tables(self) -> list[str]:
        """The names of all tables."""
        return [row[0] for row in await self._connection.fetch(_TABLES)]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return [tuple(row) for row in await self._connection.fetch(sql)]

    async def write(self, table: str, path: Path) -> int:
        """Write a table into a new file; how many rows that were."""
        done = await self._connection.copy_from_table(table, output=path, schema_name=self._schema)
        return int(done.split()[-1])


@asynccontextmanager
async def reading(url: str, schema: str = "") -> AsyncIterator[TableReader]:
    """The tables as they are at the beginning of the block.

    `LogUnavailable` when the server does not answer, `LogRefused` when it does not let us in.
    """
    async with _connected(url, schema) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # The moment is that of the first query, not that of BEGIN.
        found = await connection.fetchval("SELECT current_schema()")
        yield TableReader(connection, found)


async def fill(url: str, schema: str, files: Mapping[str, Path], topic_ids: Mapping[str, str]) -> dict[str, int]:
    """Put files into the tables of these names, whole or not at all; the rows of each.

    What migrations have put there goes; triggers are silent, for what they would write is in the files, too. Where a
    table says how far a topic was read, the id of the topic becomes the one that `topic_ids` gives for it. `LogRefused`
    when a table is missing.
    """
    async with _connected(url, schema) as connection, connection.transaction():
        found = await connection.fetchval("SELECT current_schema()")
        known = {row[0] for row in await connection.fetch(_TABLES)}
        if missing := sorted(set(files) - known):
            raise LogRefused(f"this version has no table {', '.join(missing)}")
        counts = {}
        for table, path in files.items():
            counts[table] = await _fill_one(connection, found, table, path)
        for table in [row[0] for row in await connection.fetch(_HAVE_COLUMN, "topic_id")]:
            await _rename(connection, table, topic_ids)
        return counts


async def _fill_one(connection: asyncpg.Connection[asyncpg.Record], schema: str, table: str, path: Path) -> int:
    await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await connection.execute(f"DELETE FROM {table}")  # noqa: S608 (a table of ours)
    done = await connection.copy_to_table(table, source=path, schema_name=schema)
    await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    return int(done.split()[-1])


async def _rename(connection: asyncpg.Connection[asyncpg.Record], table: str, topic_ids: Mapping[str, str]) -> None:
    rows: Sequence[tuple[str, str]] = [(new, old) for old, new in topic_ids.items()]
    await connection.executemany(f"UPDATE {table} SET topic_id = $1 WHERE topic_id = $2", rows)  # noqa: S608 (a table of ours)


@asynccontextmanager
async def _connected(url: str, schema: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    settings = {"search_path": schema} if schema else {}
    try:
        connection = await asyncpg.connect(url, server_settings=settings, timeout=10.0)
    except DRIVER_ERRORS as error:
        raise translated(error, _NAME) from error
    try:
        yield connection
    except DRIVER_ERRORS as error:
        raise translated(error, _NAME) from error
    finally:
        connection.terminate()
