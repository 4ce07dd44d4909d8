"""What the gateway forgets by itself: answers kept for repetitions whose day is over."""

from __future__ import annotations

from api_gateway.idempotency import KEPT_MS, IdempotencyStore
from kernel.clock import Clock
from kernel.sql.port import Database

OUTCOME_KEPT_MS = KEPT_MS + 60 * 60 * 1000
"""An hour longer than the idempotency record that leads to it."""


async def sweep(db: Database, clock: Clock) -> None:
    """Delete idempotency records and request outcomes that are too old. Repeatable; call it once an hour."""
    await IdempotencyStore(db, clock).sweep()
    await db.execute("DELETE FROM request_outcomes WHERE time_ms < ?", (clock.now_ms() - OUTCOME_KEPT_MS,))
