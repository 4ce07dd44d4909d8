"""What the gateway forgets by itself: answers kept for repetitions whose day is over; full rate limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from api_gateway.idempotency import KEPT_MS
from kernel.clock import Clock
from kernel.errors import Temporary, UnknownOutcome
from kernel.sql.port import Database

OUTCOME_KEPT_MS = KEPT_MS + 60 * 60 * 1000
"""An hour longer than the idempotency record that leads to it."""

SWEEP_SECONDS = 3600.0
_log = structlog.get_logger("api_gateway.upkeep")


async def keep_house(tidy: Callable[[], Awaitable[None]], clock: Clock, is_ours: Callable[[], bool]) -> None:
    """`tidy` once an hour while that `is_ours`, until cancelled. What a part that is away stops is done later."""
    while True:
        await clock.sleep(SWEEP_SECONDS)
        if not is_ours():
            continue
        try:
            await tidy()
        except (Temporary, UnknownOutcome) as error:
            _log.warning("upkeep.put_off", error=str(error))


async def sweep(db: Database, clock: Clock) -> None:
    """Delete what is too old: idempotency records, request outcomes, rate limits. Repeatable; call it once an hour."""
    now_ms = clock.now_ms()
    await db.execute("DELETE FROM rate_limits WHERE forget_ms < ?", (now_ms,))
    await db.execute("DELETE FROM idempotency WHERE created_ms < ?", (now_ms - KEPT_MS,))
    await db.execute("DELETE FROM request_outcomes WHERE time_ms < ?", (now_ms - OUTCOME_KEPT_MS,))
