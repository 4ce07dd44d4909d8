"""The housework of a store that several processes share: one of them names blobs, forgets names and sweeps.

Whose turn it is stands in a row. A sweep begins only when everything that was in the log at that moment has been read,
so nothing goes that a fact names, however far naming had fallen behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from artifact_store.inprocess import Store
from artifact_store.naming import Naming
from artifact_store.turns import Turn
from kernel.clock import Clock
from kernel.errors import TowpathError

RENEW_SECONDS = 5.0
FIRST_SWEEP_SECONDS = 300.0
"""After a start: late enough to leave it alone."""
_ORPHANS_EVERY = 24
"""Sweeps between two that read the names of all blobs."""

_log = structlog.get_logger("artifact_store.upkeep")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The housework of one process."""

    store: Store
    naming: Naming
    turn: Turn
    clock: Clock
    sweep_seconds: float = 3600.0

    async def run(self) -> None:
        """Work while it is this process's turn, until cancelled; then give the turn back."""
        try:
            while True:
                if await self._is_ours():
                    await self._work()
                await self.clock.sleep(RENEW_SECONDS)
        finally:
            with contextlib.suppress(TowpathError):
                await self.turn.give_back()

    async def _is_ours(self) -> bool:
        try:
            return await self.turn.take()
        except TowpathError as error:
            _log.warning("upkeep.turn_unknown", error=str(error))
            return False

    async def _work(self) -> None:
        """Until the turn is another's."""
        _log.info("upkeep.begun")
        working = [asyncio.create_task(self.naming.follow()), asyncio.create_task(self._sweep_for_ever())]
        try:
            while await self._is_ours():
                await self.clock.sleep(RENEW_SECONDS)
                for task in working:
                    if task.done():
                        task.result()
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            _log.info("upkeep.ended")

    async def _sweep_for_ever(self) -> None:
        sweeps = 0
        await self.clock.sleep(min(FIRST_SWEEP_SECONDS, self.sweep_seconds))
        while True:
            try:
                await self.sweep(orphans=sweeps % _ORPHANS_EVERY == 0)
                sweeps += 1
            except TowpathError as error:
                _log.warning("upkeep.put_off", error=str(error))
            await self.clock.sleep(self.sweep_seconds)

    async def sweep(self, *, orphans: bool = True) -> int:
        """Forget what was asked to be forgotten, and delete what nobody names; how many things went.

        `Temporary("naming_behind")` when naming, which must be running, has not read what there is.
        """
        now_ms = self.clock.now_ms()
        asked = await self.store.bytes.names_to_forget()
        await self.naming.caught_up()
        await self.naming.forget(asked)
        await self.store.bytes.unnamed(asked)
        gone = await self.store.sweep(now_ms, orphans=orphans)
        _log.info("store.swept", gone=gone, names_forgotten=len(asked))
        return gone
