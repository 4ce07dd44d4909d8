"""Waiting for something that other tasks bring about, without saying how long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 30.0
"""How long a test waits for what comes at once on a machine that is not busy. Nothing is proven by it."""


async def until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Let other tasks run until `condition()` holds; `TimeoutError` after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition belongs to code that knows no event of the test's)
            await asyncio.sleep(0.001)


async def idle() -> None:
    """Let every task that is ready run until it waits for something from outside."""
    for _ in range(20):
        await asyncio.sleep(0)
