"""Databases under test: one factory per implementation of the SQL port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from kernel.sql.port import Database
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Database]:
    file = await SqliteFile.open(folder / "towpath.db")
    try:
        yield SqliteDatabase(file)
    finally:
        await file.close()


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[Database]]] = {"sqlite": sqlite}
"""Each gives an empty database for one test."""
