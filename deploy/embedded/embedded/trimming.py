"""What was asked and reported goes from the log once it is decided and a day old.

Public facts stay, and ledgers shorten themselves by their snapshots. Inputs are different: nobody reads them again
once their decider has stated, effectively, that it has decided them. They are kept for a day all the same, for the
fences of attempts that are under way and for whoever looks into a fault. What goes is always the oldest part of a
partition, assignments before the lapses behind them: a fence can only lose what would open it.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernel.clock import Clock
from kernel.log.port import EventLog
from kernel.log.topics import Topic

KEPT_MS = 24 * 3600 * 1000


class Trimming:
    """Knows how far each input is decided. `decided` is told by the owners of this process."""

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._decided: dict[tuple[str, int], int] = {}

    def decided(self, partition: int, positions: Mapping[str, int]) -> None:
        """The owner of these inputs will never read them below `positions` again, nor will any owner after it."""
        self._decided.update({(topic, partition): offset for topic, offset in positions.items()})

    async def trim(self) -> int:
        """Delete what is decided and old; how many records that were. Repeatable, in small commits."""
        trimmed = 0
        before_ms = self._clock.now_ms() - KEPT_MS
        for (topic, partition), decided in list(self._decided.items()):
            trimmed += await self._trim(topic, partition, decided, before_ms)
        for partition in range(self._log.partitions(Topic.RUNNER_INBOX)):
            # A runner reads its inbox from its own start on; nobody decides it.
            end = await self._log.end_offset(Topic.RUNNER_INBOX, partition)
            trimmed += await self._trim(Topic.RUNNER_INBOX, partition, end, before_ms)
        return trimmed

    async def _trim(self, topic: str, partition: int, decided: int, before_ms: int) -> int:
        start = await self._log.start_offset(topic, partition)
        offset = await self._first_young(topic, partition, start, decided, before_ms)
        if offset > start:
            await self._log.delete_before(topic, partition, offset)
        return offset - start

    async def _first_young(self, topic: str, partition: int, low: int, high: int, before_ms: int) -> int:
        """The first offset of [low, high) that was appended at `before_ms` or later, by bisection; else `high`."""
        while low < high:
            middle = (low + high) // 2
            found = await self._log.read(topic, partition, middle, max_records=1)
            if found and found[0].appended_ms < before_ms:
                low = middle + 1
            else:
                high = middle
        return low
