"""Which partitions of a topic this process should own, as somebody outside proposes it.

A consumer group, a test or nobody may propose: a proposal gives no right. The ledger decides who owns a partition, so
two processes that are proposed the same one for a while do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Proposals:
    """The newest proposal for one topic. All calls on one event loop."""

    def __init__(self, partitions: Iterable[int] = ()) -> None:
        self._now = frozenset(partitions)
        self._changed = asyncio.Event()

    @property
    def now(self) -> frozenset[int]:
        """The partitions proposed; empty when none are."""
        return self._now

    def propose(self, partitions: Iterable[int]) -> None:
        """Take the place of what was proposed before."""
        proposed = frozenset(partitions)
        if proposed != self._now:
            self._now = proposed
            self._changed.set()
            self._changed = asyncio.Event()

    async def other_than(self, known: frozenset[int]) -> frozenset[int]:
        """Wait until something else than `known` is proposed; what that is."""
        while self._now == known:
            await self._changed.wait()
        return self._now
