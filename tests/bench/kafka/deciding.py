"""What one scheduler process does on a broker: hops, transitions, restores, memory; and how soon another one
takes over beside many runs that wait. No other service runs.

A transition is one input that is decided and whose decision is effective. Each run that is asked for is two of them:
its request is decided by `advance`, its task queued by `dispatch`; there is no runner, so all of them wait.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cluster.layout import PARTITIONS
from kernel.clock import SystemClock
from kernel.domain.task import TaskQueued
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import Stored
from kernel.log.topics import TYPES, Topic
from tests.bench.figures import Figure, figure, quantile, tell
from tests.bench.kafka.broker import QUEUE, Broker, Grounds, Scheduler, running_broker, until
from tests.bench.kafka.raw import RawKafka, raw_kafka
from tests.bench.kafka.takeover import SESSION, Takeover, takeover_figure, takeovers
from tests.bench.processes import cpu_ms, pss_mb
from tests.bench.runs import Effort

PRELOADED = 20_000
SOME, MANY = 10_000, 100_000
_TRANSITIONS_A_RUN = 2
_ROUNDS = 5
_KILLS = 3
_SETTLED_RECORDS = 40
"""What checkpoints may add to the ledgers in two seconds."""
_SNAPSHOT_SECONDS = 35
"""A restored owner rests for thirty before its first snapshot."""
_IDLE_SECONDS = 5.0
_QUEUED = f"towpath.{TYPES[TaskQueued].wire}.v1"


async def kafka_hop(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """From an append to its reader, which waits for it, with the log of the product."""
    async with (
        running_broker(folder) as broker,
        broker.grounds("hop") as grounds,
        raw_kafka(broker.bootstrap, 1) as raw,
    ):
        reader = await KafkaLog.open(grounds.settings, SystemClock())
        took: list[float] = []
        chains: list[float] = []
        for number in range(_ROUNDS + 1):
            hops = await _hops_ms(grounds, reader, effort.of(100))
            bare = await raw.chains_ms(effort.of(100))
            if number:  # the first round warms up
                took, chains = took + hops, chains + bare
        await reader.close()
    baseline = ("a bare hop (aiokafka, produce to consume)", quantile(chains, 0.5))
    yield figure("kafka_hop_ms", quantile(took, 0.5), "ms", baseline, len(took), p99_ms=quantile(took, 0.99))


async def _hops_ms(grounds: Grounds, reader: KafkaLog, count: int) -> list[float]:
    record = grounds.asking.request_in(0)
    offset, took = await reader.end_offset(record.topic, 0), []
    for hop in range(count):
        began = perf_counter()
        reading = asyncio.create_task(reader.read(record.topic, 0, offset + hop, wait_seconds=5.0))
        await grounds.log.append([record])
        await reading
        took.append((perf_counter() - began) * 1000)
    return took


async def kafka_transitions(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """How fast one process decides what waits for it, and with what CPU."""
    count = effort.of(PRELOADED)
    async with running_broker(folder) as broker:
        async with broker.grounds("transitions") as grounds:
            await grounds.ask(count)
            with grounds.scheduler() as scheduler:
                done = await _decided(grounds, scheduler, count)
        async with _raw(broker) as raw:
            produced, consumed = await raw.produced(count * 2), await raw.consumed(count * 2)
    transitions = count * _TRANSITIONS_A_RUN
    name = ("bare aiokafka, records in batches of 500", produced.per_s)
    detail = {
        "cpu_ms_per_transition": done.cpu / transitions,
        "broker_cpu_ms_per_transition": done.broker_cpu / transitions,
        "bare_consumed_per_s": consumed.per_s,
        "bare_cpu_ms_per_record": produced.cpu_ms + consumed.cpu_ms,
    }
    yield figure("kafka_transitions_per_s", transitions / done.seconds, "transitions/s", name, transitions, **detail)


@dataclass(frozen=True, slots=True)
class _Done:
    seconds: float
    cpu: float
    broker_cpu: float


async def _decided(grounds: Grounds, scheduler: Scheduler, count: int) -> _Done:
    """From the first claim to the last task in the queue: seconds of the broker's clock, CPU of both processes."""

    async def begun() -> bool:
        return sum(await grounds.ends(Topic.RUN_LEDGER)) > 0

    await until(begun)
    cpu, broker_cpu = scheduler.cpu_ms(), cpu_ms(grounds.broker_pid)
    last_ms = await _queued(grounds, 0, count)
    cpu, broker_cpu = scheduler.cpu_ms() - cpu, cpu_ms(grounds.broker_pid) - broker_cpu
    firsts = [await grounds.log.read(Topic.RUN_LEDGER, partition, 0, max_records=1) for partition in range(PARTITIONS)]
    first_ms = min(stored.appended_ms for found in firsts for stored in found)
    return _Done((last_ms - first_ms) / 1000, cpu, broker_cpu)


async def _queued(grounds: Grounds, offset: int, count: int) -> int:
    """Wait until so many tasks are queued behind `offset` of the ledger; when the last one was, by the broker's clock.

    Only headers are looked at, so that counting costs the machine little.
    """
    last_ms = 0
    while count > 0:
        found = await grounds.log.read(Topic.DISPATCH_LEDGER, QUEUE, offset, max_records=2000, wait_seconds=1.0)
        for stored in found:
            offset = stored.offset + 1
            if _type_of(stored) == _QUEUED:
                count, last_ms = count - 1, stored.appended_ms
    return last_ms


def _type_of(stored: Stored) -> str:
    return dict(stored.record.headers)["ce_type"]


async def kafka_restore(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """How soon a scheduler process decides in every partition again, from its start; with no run, and with some."""
    async with running_broker(folder) as broker, broker.grounds("restore") as grounds:
        bare = _process_seconds()
        empty = await _restored_s(grounds)
        yield figure("kafka_restore_s_at_0", empty, "s", ("Python that imports the same and ends", bare), 1)
        some = effort.of(SOME)
        await _let_wait(grounds, some)
        yield await _restore(grounds, "10k", empty, live=some)


async def kafka_backlog(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """The same beside a hundred thousand runs that wait, the memory that they take, and takeovers on the way there."""
    async with running_broker(folder) as broker, broker.grounds("backlog") as grounds:
        empty = await _restored_s(grounds)
        idle = await _memory_mb(grounds)
        none = await _kills(grounds, effort)
        yield takeover_figure("kafka_takeover_kill_s_at_0", none, SESSION)
        baseline = ("kafka_takeover_kill_s_at_0", quantile([one.decided_s for one in none], 0.5))
        many = effort.many(MANY)
        some = many * SOME // MANY
        await _let_wait(grounds, some)
        yield takeover_figure("kafka_takeover_kill_s_at_10k", await _kills(grounds, effort), baseline, live=some)
        await _let_wait(grounds, many - some)
        yield await _restore(grounds, "100k", empty, live=many)
        memory = await _memory_mb(grounds)
        each = {"live": many, "kb_a_run": (memory - idle) * 1024 / many}
        beside = ("the same process without a run", idle)
        yield figure("kafka_memory_mb_at_100k_waiting", memory, "MB", beside, 1, **each)
        yield takeover_figure("kafka_takeover_kill_s_at_100k", await _kills(grounds, effort), baseline, live=many)


async def _kills(grounds: Grounds, effort: Effort) -> list[Takeover]:
    return (await takeovers(grounds, 1 if effort.quick else _KILLS, signal.SIGKILL))[signal.SIGKILL]


async def _memory_mb(grounds: Grounds) -> float:
    with grounds.scheduler() as scheduler:
        await scheduler.ready()
        await asyncio.sleep(_IDLE_SECONDS)
        return pss_mb(scheduler.pid)


async def _let_wait(grounds: Grounds, count: int) -> None:
    """Let a scheduler queue `count` runs and write its snapshots, and end it."""
    offset = await grounds.log.end_offset(Topic.DISPATCH_LEDGER, QUEUE)
    tell(f"{count} runs are asked for")
    await grounds.ask(count)
    with grounds.scheduler() as scheduler:
        await _queued(grounds, offset, count)
        tell(f"snapshots are awaited: about {_SNAPSHOT_SECONDS} s")
        for _ in range(_SNAPSHOT_SECONDS):  # an owner that nobody asks anything sleeps, and writes none
            await grounds.log.append([grounds.asking.request_in(partition) for partition in range(PARTITIONS)])
            await asyncio.sleep(1.0)
        await _settled(grounds)
        await asyncio.to_thread(scheduler.service.stop)


async def _restore(grounds: Grounds, title: str, empty: float, *, live: int) -> Figure:
    """Start another one beside `live` runs; `empty` is what that took beside none (seconds)."""
    ledgers = sum(await grounds.ends(Topic.RUN_LEDGER)) + await grounds.log.end_offset(Topic.DISPATCH_LEDGER, QUEUE)
    kept = ledgers - await _cut(grounds)
    took = await _restored_s(grounds)
    baseline = ("kafka_restore_s_at_0", empty)
    return figure(f"kafka_restore_s_at_{title}", took, "s", baseline, 1, live=live, ledger_records=kept)


async def _cut(grounds: Grounds) -> int:
    """How many records of the ledgers are gone, behind snapshots."""
    starts = [await grounds.log.start_offset(Topic.RUN_LEDGER, partition) for partition in range(PARTITIONS)]
    return sum(starts) + await grounds.log.start_offset(Topic.DISPATCH_LEDGER, QUEUE)


async def _settled(grounds: Grounds) -> None:
    """Wait until the ledgers grow by checkpoints only."""
    before = 0
    while True:
        now = sum(await grounds.ends(Topic.RUN_LEDGER)) + sum(await grounds.ends(Topic.DISPATCH_LEDGER))
        if now - before < _SETTLED_RECORDS:
            return
        before = now
        await asyncio.sleep(2.0)


async def _restored_s(grounds: Grounds) -> float:
    """Ask for one run in each partition, start a process, and wait until it has planned all of them; then end it."""
    ends = await grounds.ends(Topic.RUN_LEDGER)
    await grounds.log.append([grounds.asking.request_in(partition) for partition in range(PARTITIONS)])
    began_ms = SystemClock().now_ms()
    with grounds.scheduler() as scheduler:
        planned = [await _first_decision_ms(grounds, partition, ends[partition]) for partition in range(PARTITIONS)]
        await scheduler.ready()
        await asyncio.to_thread(scheduler.service.stop)
    return (max(planned) - began_ms) / 1000


async def _first_decision_ms(grounds: Grounds, partition: int, offset: int) -> int:
    """When the first decision at or behind `offset` was appended."""
    while True:
        for stored in await grounds.log.read(Topic.RUN_LEDGER, partition, offset, wait_seconds=1.0):
            if not _type_of(stored).startswith("towpath.owner."):
                return stored.appended_ms
            offset = stored.offset + 1


def _raw(broker: Broker) -> AbstractAsyncContextManager[RawKafka]:
    return raw_kafka(broker.bootstrap, 1)


def _process_seconds() -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", "import scheduler.main"], check=True)
    return perf_counter() - began
