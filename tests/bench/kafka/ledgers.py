"""How long ledgers become beside the live state that they tell: while runs come and go, and when it is quiet again.

One scheduler process, topics of one partition, as what bounds a ledger does so for each partition by itself. Runs come
once the owners have rested from their restore, as they write snapshots from then on only. A model of a runner ends runs
as fast as they are assigned; some are left waiting. What is compared are the records between start
and end of a ledger with those of one snapshot of its state, written as its owner would write them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from kernel.clock import SystemClock
from kernel.domain.decider import Decider
from kernel.domain.owner import OwnerClaimed, OwnerSnapshotChunked
from kernel.errors import LogRefused, NotOwner
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.log.envelope import Envelope
from kernel.log.limits import record_bytes
from kernel.log.topics import Topic
from kernel.processor import Ports
from kernel.processor.deriving import Ledger
from kernel.processor.restoring import restore_partition
from kernel.processor.values import StateValues
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from scheduler.main import BOUNDS
from tests.bench.figures import Figure, figure, tell
from tests.bench.kafka.broker import Grounds, running_broker
from tests.bench.model_runner import ModelRunner, model_runner
from tests.bench.runs import Effort

RUNS, WAITING = 12_000, 6000
SLOTS = 96
_FILLED = SLOTS - SLOTS // 16
"""One slot of sixteen is kept for an organization that has few."""
_SETTLED_RECORDS = 40
"""What heartbeats and checkpoints may add to the ledgers in two seconds."""


async def kafka_ledger_factor(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Of both ledgers of a scheduler; behind a burst of runs, and settled."""
    runs, waiting = effort.many(RUNS), effort.of(WAITING)
    async with running_broker(folder) as broker, broker.grounds("ledgers", partitions=1) as grounds:
        with grounds.scheduler() as scheduler:
            await scheduler.ready()
            tell(f"the owners rest for {BOUNDS.snapshot_rest_seconds:.0f} s")
            await asyncio.sleep(BOUNDS.snapshot_rest_seconds)
            async with model_runner(grounds.log, grounds.asking, grounds.partitions, SLOTS) as runner:
                tell(f"{runs} runs come and go, {waiting} stay")
                await _come_and_go(grounds, runner, runs, waiting)
                async for one in _figures(grounds, "behind_a_burst"):
                    yield one
                tell("the ledgers settle")
                await _settle(grounds)
                async for one in _figures(grounds, "settled"):
                    yield one


async def _figures(grounds: Grounds, title: str) -> AsyncIterator[Figure]:
    for decider in (Advance(), Dispatch()):
        size = await _measured(grounds, decider)
        while size is None:
            tell("the owner deleted what was read: once more")
            size = await _measured(grounds, decider)
        snapshot = ("one snapshot of the live state", size.live / 1000)
        detail = {"keys": size.keys, "deleted_records": size.deleted}
        yield figure(f"kafka_{decider.ledger}_kb_{title}", size.ledger / 1000, "kB", snapshot, size.records, **detail)


async def _come_and_go(grounds: Grounds, runner: ModelRunner, runs: int, waiting: int) -> None:
    """At the end the runner holds what it has slots for, and so many wait."""
    asking = asyncio.create_task(grounds.ask(runs + _FILLED + waiting))
    ended = 0
    while ended < runs:
        taken = await runner.take(SLOTS)
        taken = min(taken, runs - ended)
        await runner.end(taken)
        ended += taken
    while runner.holds < _FILLED:
        await runner.take(SLOTS)
    await asking


async def _settle(grounds: Grounds) -> None:
    """Let an owner write what it is about to: one that nobody asks anything sleeps, and writes no snapshot."""
    grown, before = _SETTLED_RECORDS, 0
    while grown >= _SETTLED_RECORDS:
        await grounds.log.append([grounds.asking.request_in(0)])
        await asyncio.sleep(2.0)
        now = sum([(await grounds.ends(topic))[0] for topic in (Topic.RUN_LEDGER, Topic.DISPATCH_LEDGER)])
        grown, before = now - before, now


@dataclass(frozen=True, slots=True)
class _Size:
    """Bytes of the ledger and of one snapshot of its state, records that stand and that are gone, keys of the state."""

    ledger: int
    live: int
    records: int
    deleted: int
    keys: int


async def _measured(grounds: Grounds, decider: Decider) -> _Size | None:
    """None when its owner, who goes on, has deleted meanwhile what a state is told by that ends where we looked."""
    log, topic = grounds.log, decider.ledger
    start, end = await log.start_offset(topic, 0), await log.end_offset(topic, 0)
    offset, ledger, records = start, 0, 0
    claim = Envelope("", 0)
    while offset < end:
        for stored in await log.read(topic, 0, offset, max_records=1000):
            ledger, records, offset = ledger + record_bytes(stored.record), records + 1, stored.offset + 1
            message = codec.decode(stored)
            if isinstance(message.event, OwnerClaimed):
                claim = message.envelope
    values = StateValues(decider.value_types)
    ports = Ports(log, codec, SystemClock(), SystemEntropy(), hint=log.snapshot_hint(), bounds=BOUNDS)
    try:
        restored = await restore_partition(decider, values, ports, Ledger(topic, await log.topic_id(topic), 0), end - 1)
    except (LogRefused, NotOwner):
        return None
    chunks = [OwnerSnapshotChunked(key, end, *values.write(value)) for key, value in restored.values.items()]
    live = [
        codec.encode(chunk, topic=topic, key=chunk.key, envelope=claim, partition=0) for chunk in chunks
    ]  # fmt: skip
    return _Size(ledger, sum(map(record_bytes, live)), records, start, len(chunks))
