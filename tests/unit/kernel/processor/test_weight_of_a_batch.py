"""What is derived goes along with its decisions in one append, but only where that stays below the bound of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kernel.log.envelope import Cause, Envelope
from kernel.log.memory import MemoryLog
from kernel.log.port import Position, Record
from tests.support.benches import PARTITIONS
from tests.support.processing import BUSY, Bench, CuttingLog, HandClock, run_to_idle
from tests.support.toy_decider import ASKED, FACTS, NUDGES, Asked, ObjectCodec

LONG = ",".join(f"vendor{number}={'v' * 240}" for number in range(2))
_ROOM = replace(BUSY, batch_bytes=2 * 1024 + len(LONG))
"""For the two records that a start derives, with one long tracestate beside their headers."""


class _Watched(CuttingLog):
    """Remembers which topics were appended to as one."""

    as_one: tuple[str, ...] = ()

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        self.as_one = tuple(record.topic for record in records)
        return await super().append_at_end(records, topic=topic, partition=partition, end=end)


@pytest.mark.parametrize(("tracestate", "goes_along"), [("", True), ("vendor=short", True), (LONG, False)])
async def test_a_long_tracestate_weighs_in_each_record_that_carries_it(tracestate: str, goes_along: bool) -> None:
    clock, codec = HandClock(), ObjectCodec()
    log = _Watched(MemoryLog(PARTITIONS, clock))
    bench = Bench(log, codec, clock, bounds=_ROOM, as_one=True)
    envelope = Envelope("asked", 0, traceparent="parent", tracestate=tracestate, cause=Cause("", 0, 0))
    await log.append([codec.encode(Asked("start"), topic=ASKED, key="A", envelope=envelope, partition=0)])
    await run_to_idle(bench.owner())
    assert (log.as_one[-2:] == (FACTS, NUDGES)) is goes_along
    facts = await bench.read(FACTS)
    assert [fact.envelope.tracestate for fact in facts] == [tracestate]
