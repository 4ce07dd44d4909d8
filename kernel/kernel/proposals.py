"""Which partitions of a topic this process should own, as somebody outside proposes it.

A consumer group, a test or nobody may propose: a proposal gives no right. The ledger decides who owns a partition, so
two processes that are proposed the same one for a while do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Proposals:
    """The newest proposal for one topic. All calls on one event loop.

    Whoever proposes may withhold: until the next proposal what is owned may be kept, but nothing is to be claimed.
    """

    def __init__(self, partitions: Iterable[int] = ()) -> None:
        self._now = frozenset(partitions)
        self._withheld = False
        self._changed = asyncio.Event()

    @property
    def now(self) -> frozenset[int]:
        """The partitions proposed; empty when none are."""
        return self._now

    def propose(self, partitions: Iterable[int]) -> None:
        """Take the place of what was proposed before."""
        proposed = frozenset(partitions)
        if proposed != self._now or self._withheld:
            self._now, self._withheld = proposed, False
            self._changed.set()
            self._changed = asyncio.Event()

    def withhold(self) -> None:
        """Nobody stands behind the newest proposal any more, and there is no other yet."""
        self._withheld = True

    async def other_than(self, known: frozenset[int]) -> frozenset[int]:
        """Wait until something else than `known` is proposed; what that is."""
        while self._now == known:
            await self._changed.wait()
        return self._now

    async def not_withheld(self) -> None:
        """Wait until somebody stands behind the newest proposal."""
        while self._withheld:
            await self._changed.wait()
