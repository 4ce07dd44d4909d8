"""The SQL port over the embedded file: short reads at once, long ones on the reader pool, writes by the one writer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Literal, cast

from kernel.sql.port import Params, Row, Statement
from kernel.sqlite_file import SqliteFile, Transaction


class SqliteDatabase:
    """`Database` in a `SqliteFile`, shared with the log: its writes ride in the same commits."""

    def __init__(self, file: SqliteFile) -> None:
        """`file` is closed by whoever opened it."""
        self._file = file

    @property
    def dialect(self) -> Literal["sqlite"]:
        return "sqlite"

    async def fetch_all(self, sql: str, params: Params = ()) -> list[Row]:
        def query(connection: sqlite3.Connection) -> list[Row]:
            return connection.execute(sql, params).fetchall()

        return await self._file.glance(query)

    async def fetch_one(self, sql: str, params: Params = ()) -> Row | None:
        def query(connection: sqlite3.Connection) -> Row | None:
            cursor = connection.execute(sql, params)
            row = cursor.fetchone()
            cursor.close()  # ends the read; an open one would hold back the checkpoint
            return cast("Row | None", row)

        return await self._file.glance(query)

    async def execute(self, sql: str, params: Params = ()) -> int:
        return (await self.transaction([(sql, params)]))[0]

    async def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        def job(transaction: Transaction) -> int:
            return max(transaction.connection.executemany(sql, rows).rowcount, 0)

        return await self._file.submit(job)

    async def transaction(self, statements: Sequence[Statement], *, guarded: bool = False) -> list[int]:
        def job(transaction: Transaction) -> list[int]:
            changed: list[int] = []
            for sql, params in statements:
                changed.append(max(transaction.connection.execute(sql, params).rowcount, 0))
                if guarded and changed == [0]:
                    break
            return changed

        return await self._file.submit(job)

    def alone(self, name: str) -> asyncio.Lock:
        """The folder has one process, so its event loop knows all who are inside."""
        return self._file.alone.setdefault(name, asyncio.Lock())

    async def scrub(self) -> None:
        await self._file.scrub()

    async def close(self) -> None:
        """Nothing is held besides the file."""
