"""The newest records of one partition in memory, and the readers who wait for more.

Offsets have no gaps, so a record's place is its offset minus that of the first one kept. Everything happens on the
event loop; nothing here blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from kernel.clock import Clock
from kernel.log.port import Stored

RECORD_OVERHEAD_BYTES = 512
"""What key, headers and objects of a record take in memory, roughly."""


@dataclass(slots=True)
class Tail:
    """`start` is the first offset that is still in the log, `first` the first one in memory.

    Past `records_max` records or `bytes_max` bytes the oldest leave the memory; None keeps all.
    """

    start: int = 0
    first: int = 0
    records_max: int | None = None
    bytes_max: int | None = None
    _records: list[Stored] = field(default_factory=list)
    _bytes: int = 0
    _waiting: dict[asyncio.Future[None], int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The offset that the next record will get."""
        return self.first + len(self._records)

    def extend(self, records: Sequence[Stored]) -> None:
        """Take records that follow `end` without a gap, and wake whoever waits."""
        self._records.extend(records)
        self._bytes += _memory_bytes(records)
        end = self.end
        for woken, offset in self._waiting.items():
            if offset < end:
                _release(woken)
        self._shed()

    def since(self, offset: int, records_max: int) -> list[Stored] | None:
        """Records from `offset` on; None when that is older than what is in memory."""
        if offset < self.first:
            return None if self.first > self.start else self.since(self.first, records_max)
        begin = offset - self.first
        return self._records[begin : begin + records_max]

    def delete_before(self, offset: int) -> None:
        """Move `start` up to `offset`, at most to `end`; never back."""
        self.start = max(self.start, min(offset, self.end))
        self._drop(self.start - self.first)

    def shed_before(self, offset: int) -> None:
        """Keep nothing below `offset` in memory; `start` stays: it is to be read from where it is kept."""
        self._drop(min(offset, self.end) - self.first)

    def reset(self) -> None:
        """Begin anew at offset 0, as a topic that was just created."""
        self._records.clear()
        self._bytes = self.first = self.start = 0

    async def wait(self, offset: int, clock: Clock, seconds: float) -> None:
        """Return once a record stands at `offset`, after `seconds`, or at `wake`."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = asyncio.ensure_future(clock.sleep(seconds))
        alarm.add_done_callback(lambda _: _release(woken))
        self._waiting[woken] = offset
        try:
            await woken
        finally:
            del self._waiting[woken]
            alarm.cancel()

    def wake(self) -> None:
        """Let every waiting reader go."""
        for woken in self._waiting:
            _release(woken)

    def _shed(self) -> None:
        """Halve what is over a bound, so that dropping from the front stays cheap per record."""
        if self.records_max is not None and len(self._records) > self.records_max:
            self._drop(len(self._records) - self.records_max // 2)
        while self.bytes_max is not None and self._bytes > self.bytes_max and self._records:
            self._drop((len(self._records) + 1) // 2)

    def _drop(self, count: int) -> None:
        if count <= 0:
            return
        self._bytes -= _memory_bytes(self._records[:count])
        del self._records[:count]
        self.first += count


def _release(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _memory_bytes(records: Sequence[Stored]) -> int:
    return sum(len(stored.record.value) for stored in records) + RECORD_OVERHEAD_BYTES * len(records)
