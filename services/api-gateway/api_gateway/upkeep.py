"""What the gateway forgets by itself: answers kept for repetitions whose day is over; full rate limits."""

from __future__ import annotations

from api_gateway.idempotency import KEPT_MS
from kernel.clock import Clock
from kernel.sql.port import Database

OUTCOME_KEPT_MS = KEPT_MS + 60 * 60 * 1000
"""An hour longer than the idempotency record that leads to it."""


async def sweep(db: Database, clock: Clock) -> None:
    """Delete what is too old: idempotency records, request outcomes, rate limits. Repeatable; call it once an hour."""
    now_ms = clock.now_ms()
    await db.execute("DELETE FROM rate_limits WHERE forget_ms < ?", (now_ms,))
    await db.execute("DELETE FROM idempotency WHERE created_ms < ?", (now_ms - KEPT_MS,))
    await db.execute("DELETE FROM request_outcomes WHERE time_ms < ?", (now_ms - OUTCOME_KEPT_MS,))
