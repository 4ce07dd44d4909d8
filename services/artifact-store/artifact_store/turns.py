"""Whose turn some work is, among processes over one database: a row that its holder renews.

Only thrift depends on it: two that believe it is theirs do work twice that may be done twice.
"""

from __future__ import annotations

from kernel.clock import Clock
from kernel.sql.port import Database

HELD_MS = 15_000
"""How long a holder that renews nothing keeps others out."""

_TAKE = """
INSERT INTO store_turns (name, holder, until_ms) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
WHERE store_turns.holder = excluded.holder OR store_turns.until_ms < ?
"""


class Turn:
    """One kind of work; `holder` is the process, random."""

    def __init__(self, name: str, holder: str, db: Database, clock: Clock) -> None:
        self._name = name
        self._holder = holder
        self._db = db
        self._clock = clock

    async def take(self) -> bool:
        """Take or renew it; False when it is another's."""
        now_ms = self._clock.now_ms()
        return await self._db.execute(_TAKE, (self._name, self._holder, now_ms + HELD_MS, now_ms)) == 1

    async def give_back(self) -> None:
        """Let the next one have it at once. Repeatable."""
        await self._db.execute(
            "UPDATE store_turns SET until_ms = 0 WHERE name = ? AND holder = ?", (self._name, self._holder)
        )
