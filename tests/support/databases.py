"""Databases under test: one factory per implementation of the SQL port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from kernel.sql.port import Database
from kernel.sql.postgres import PostgresDatabase
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from tests.support.components import has_postgres, postgres_url, unique_name


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Database]:
    file = await SqliteFile.open(folder / "towpath.db")
    try:
        yield SqliteDatabase(file)
    finally:
        await file.close()


@asynccontextmanager
async def postgres(_: Path) -> AsyncIterator[Database]:
    async with schema_of_its_own() as (url, schema):
        database = await PostgresDatabase.open(url, schema=schema)
        try:
            yield database
        finally:
            await database.close()


@asynccontextmanager
async def schema_of_its_own() -> AsyncIterator[tuple[str, str]]:
    """The server's URL, and the name of an empty schema that is gone afterwards, with everything in it."""
    if not has_postgres():
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    url, schema = await asyncio.to_thread(postgres_url), unique_name()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {schema}")
        yield url, schema
    finally:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.close()


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[Database]]] = {
    "postgres": postgres,
    "sqlite": sqlite,
}
"""Each gives an empty database for one test."""
