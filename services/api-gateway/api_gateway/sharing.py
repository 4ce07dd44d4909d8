"""One read for many who ask for the same at the same time, and none that is older than the question.

While a read is under way, all who come wait for the next one and share it: it begins after they asked, so it sees every
write that was acknowledged before. Who comes alone reads at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReads(Generic[T]):
    """Reads by key. All calls on one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Event] = {}
        self._next: dict[Hashable, asyncio.Task[T]] = {}

    async def read(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask`, or that of somebody else with this key, finds from now on. All who share it share its error."""
        if key not in self._under_way and key not in self._next:
            return await self._now(key, ask)
        shared = self._next.get(key)
        if shared is None:
            shared = self._next[key] = asyncio.create_task(self._after(key, ask))
            shared.add_done_callback(_heard)
        # Whoever is cancelled leaves the read to the others.
        return await asyncio.shield(shared)

    async def _now(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        over = self._under_way[key] = asyncio.Event()
        try:
            return await ask()
        finally:
            del self._under_way[key]
            over.set()

    async def _after(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        if under_way := self._under_way.get(key):
            await under_way.wait()
        del self._next[key]
        return await self._now(key, ask)


def _heard(done: asyncio.Task[T]) -> None:
    """All who waited may be gone; then nobody else asks for the error."""
    if not done.cancelled():
        done.exception()
