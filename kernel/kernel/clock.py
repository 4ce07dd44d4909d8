"""The only file that reads a clock. Everything else is handed a `Clock`."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the services see it. Units are in the names; nothing here raises."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970, UTC; may step."""
        ...

    def boot_ms(self) -> float:
        """CLOCK_BOOTTIME in milliseconds: monotonic, counts suspension of the machine; origin is arbitrary."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251 (this is the one door)

    def boot_ms(self) -> float:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
