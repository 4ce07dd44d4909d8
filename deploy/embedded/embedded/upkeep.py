"""The housework: blobs are named and swept, what has expired goes, and so does what the settings say is old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from api_gateway.upkeep import sweep as sweep_gateway
from artifact_store.inprocess import Store
from artifact_store.naming import Naming
from embedded.retention import Retention
from embedded.trimming import Trimming
from kernel.clock import Clock
from kernel.errors import Temporary
from kernel.sql.port import Database

FIRST_SWEEP_SECONDS = 300.0
"""After a start: late enough to leave it alone, soon enough for a platform that never runs for long."""
SWEEP_SECONDS = 3600.0

_log = structlog.get_logger("embedded.upkeep")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """All housework of one platform."""

    store: Store
    db: Database
    clock: Clock
    naming: Naming
    trimming: Trimming
    retention: Retention | None
    """None: ended runs are kept for ever."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.naming.follow())
            group.create_task(self._sweep())

    async def _sweep(self) -> None:
        wait_seconds = FIRST_SWEEP_SECONDS
        while True:
            await self.clock.sleep(wait_seconds)
            wait_seconds = SWEEP_SECONDS
            try:
                await self._tidy()
            except Temporary as error:
                _log.warning("upkeep.put_off", error=str(error))

    async def _tidy(self) -> None:
        """All that is due. Every part is repeatable, so whatever stops it is made up for the next time."""
        await sweep_gateway(self.db, self.clock)
        await self.naming.caught_up()
        forgotten = 0 if self.retention is None else await self.retention.forget()
        trimmed = await self.trimming.trim()
        await self.naming.caught_up()
        gone = await self.store.sweep(self.clock.now_ms())
        _log.info("store.swept", gone=gone, runs_forgotten=forgotten, records_trimmed=trimmed)
