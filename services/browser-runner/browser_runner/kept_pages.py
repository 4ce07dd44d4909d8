"""Pages of ended test runs that stay open for a while, for somebody to look at. They take no slot and reach nothing.

Their way out has ended with their attempt. There are never more than a few: the oldest one makes room.
"""

from __future__ import annotations

import asyncio

from browser_runner.ports import Context
from browser_runner.timing import within
from kernel.clock import Clock

PAGES_MAX = 2
"""Of one runner; each keeps a browser of its own, some 200 MB."""
CLOSE_SECONDS = 10.0
"""A browser that does not close a page by then is left to its pool."""


class KeptPages:
    """Of one runner. `keep` returns at once; `close` before the browsers go."""

    def __init__(self, clock: Clock, *, pages_max: int = PAGES_MAX) -> None:
        self._clock = clock
        self._pages_max = pages_max
        self._kept: dict[Context, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, context: Context, seconds: float) -> None:
        """Close `context` after `seconds`, or as soon as too many are kept."""
        self._kept[context] = asyncio.create_task(self._close_later(context, seconds))
        while len(self._kept) > self._pages_max:
            self._close_soon(next(iter(self._kept)))

    async def close(self) -> None:
        """Close them all, the oldest first."""
        for context in list(self._kept):
            self._close_soon(context)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _close_later(self, context: Context, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._close_soon(context)

    def _close_soon(self, context: Context) -> None:
        self._kept.pop(context).cancel()
        closing = asyncio.create_task(close_context(self._clock, context))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def close_context(clock: Clock, context: Context) -> None:
    """Close a context; one that hangs is given up."""
    try:
        await within(clock, CLOSE_SECONDS, context.close())
    except TimeoutError:
        return
