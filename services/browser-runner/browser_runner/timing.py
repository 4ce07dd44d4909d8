"""Time limits that follow the clock that was handed in, so that tests need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from kernel.clock import Clock

T = TypeVar("T")


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; `TimeoutError` after `seconds`, when `work` has been cancelled and has ended."""
    until_ms = clock.boot_ms() + seconds * 1000
    return await before(clock, lambda: until_ms, work)


async def before(clock: Clock, until_ms: Callable[[], float], work: Coroutine[Any, Any, T]) -> T:
    """As `within`, up to a moment of the boot clock that `work` may put off while it runs."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done() and (left_ms := until_ms() - clock.boot_ms()) > 0:
            alarm = asyncio.ensure_future(clock.sleep(left_ms / 1000))
            try:
                await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
        if task.done():
            return task.result()
        await _end(task)
        if task.cancelled():
            raise TimeoutError
        return task.result()
    finally:
        await _end(task)


async def _end(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
