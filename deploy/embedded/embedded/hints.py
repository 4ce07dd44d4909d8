"""What keeps a restart short: where the last snapshot of each ledger starts, and no new snapshots at first."""

from __future__ import annotations

from contextlib import suppress

from kernel.errors import ConstraintViolated, LogRefused, LogUnavailable, UnknownOutcome
from kernel.processor import Bounds
from kernel.sql.port import Database

BOUNDS = Bounds(snapshot_step_records=64, snapshot_step_bytes=65_536, snapshot_rest_seconds=30.0)


class SqlHint:
    """`SnapshotHint` in table `snapshot_hints`. Wrong or lost, it costs time only."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, ledger: str, partition: int) -> int | None:
        try:
            row = await self._db.fetch_one(
                "SELECT start FROM snapshot_hints WHERE ledger = ? AND partition = ?", (ledger, partition)
            )
        except (LogUnavailable, LogRefused):
            return None
        return row[0] if row else None

    async def set(self, ledger: str, partition: int, start: int) -> None:
        with suppress(LogUnavailable, LogRefused, UnknownOutcome, ConstraintViolated):
            await self._db.execute(
                "INSERT INTO snapshot_hints (ledger, partition, start) VALUES (?, ?, ?)"
                " ON CONFLICT (ledger, partition) DO UPDATE SET start = excluded.start",
                (ledger, partition, start),
            )
