"""An append counts once it is read back; where its offset says that nothing stands between, that needs no read."""

from __future__ import annotations

import pytest

from kernel.errors import LogRefused, NotOwner
from kernel.log.memory import MemoryLog
from kernel.log.port import Stored
from kernel.processor import Action
from tests.support.processing import Bench, CuttingLog, HandClock
from tests.support.toy_decider import LEDGER, TOPICS, ObjectCodec, asked


class CountingLog(CuttingLog):
    """Knows from where on ledgers were read."""

    def __init__(self, inner: MemoryLog) -> None:
        super().__init__(inner)
        self.ledger_reads: list[int] = []

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        if topic == LEDGER:
            self.ledger_reads.append(offset)
        return await super().read(topic, partition, offset, max_records=max_records, wait_seconds=wait_seconds)


def a_bench() -> tuple[Bench, CountingLog, MemoryLog]:
    clock = HandClock()
    inner = MemoryLog(dict.fromkeys(TOPICS, 1), clock)
    log = CountingLog(inner)
    return Bench(log, ObjectCodec(), clock), log, inner


async def test_where_nothing_stands_between_nothing_is_read() -> None:
    bench, log, inner = a_bench()
    await inner.append([asked(bench.codec, "start")])
    owner = bench.owner()
    while await owner.step() is not Action.APPEND:
        pass
    log.ledger_reads.clear()
    assert await owner.step() is Action.READ_BACK
    assert log.ledger_reads == []
    assert await owner.step() is Action.DERIVE


async def test_what_others_wrote_between_is_read_and_a_claim_among_it_supersedes() -> None:
    bench, log, inner = a_bench()
    await inner.append([asked(bench.codec, "start")])
    owner, other = bench.owner(), bench.owner()
    while await owner.step() is not Action.TAKE_INPUTS:
        pass
    await other.step()
    log.ledger_reads.clear()
    assert await owner.step() is Action.APPEND
    with pytest.raises(NotOwner):
        await owner.step()
    assert log.ledger_reads == [1]


async def test_an_append_that_stands_before_what_was_read_stops_the_owner() -> None:
    bench, _, inner = a_bench()
    await inner.append([asked(bench.codec, "start")])
    owner = bench.owner()
    while await owner.step() is not Action.TAKE_INPUTS:
        pass
    await inner.recreate_topic(LEDGER)
    assert await owner.step() is Action.APPEND
    with pytest.raises(LogRefused, match="lost records: read to 1, appended at 0"):
        await owner.step()
