"""A hundred thousand runs that wait: does the next one start as fast, and how long does a restart take?

The real deciders over the real log in one file, in this process; a model of a runner holds all slots. What is timed is
the way from the report that ends a run to the assignment of the next one, and, after everything was closed, the way
from opening the file to the first assignment to a new runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from api_gateway.migrations import migrations as gateway_migrations
from artifact_store.tables import migrations as store_migrations
from embedded.collecting import Collecting
from embedded.hints import BOUNDS, SqlHint
from embedded.tables import MIGRATIONS
from kernel.clock import SystemClock
from kernel.ids import SystemEntropy
from kernel.log import codec
from kernel.log.sqlite import SqliteLog
from kernel.log.topics import TOPICS
from kernel.processor import Ports, QuietObserver, run_decider
from kernel.sql.port import migrate
from kernel.sql.sqlite import SqliteDatabase
from kernel.sqlite_file import SqliteFile
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from tests.bench.asking import Asking
from tests.bench.figures import Figure, figure, quantile, tell
from tests.bench.model_runner import ModelRunner, model_runner
from tests.bench.raw import RawCommits
from tests.bench.runs import Effort

QUEUED = 100_000
FEW = 50
PARTITIONS = 4
SLOTS = 8
_REQUESTS_PER_APPEND = 400
_SETTLED_RECORDS = 40
"""What heartbeats and checkpoints may add to the ledgers in a second."""
_REPORTING = 4
"""Commits from a report to the next assignment: report, end, settled, assigned."""


class _Counting(QuietObserver):
    """How many decisions of dispatch stand in its ledger."""

    def __init__(self) -> None:
        self.dispatched = 0
        self._collecting = Collecting(2 * PARTITIONS)

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:
        self._collecting.restored()

    def committed(self, decider: str, partition: int, inputs: int, decisions: int, commit_ms: float) -> None:
        if decider == Dispatch.name:
            self.dispatched += decisions


@dataclass(slots=True)
class _Scheduler:
    """The deciders at work over one file."""

    log: SqliteLog
    counting: _Counting
    clock: SystemClock = field(default_factory=SystemClock)
    entropy: SystemEntropy = field(default_factory=SystemEntropy)
    asking: Asking = field(init=False)

    def __post_init__(self) -> None:
        self.asking = Asking(self.clock, self.entropy, PARTITIONS)

    async def ask(self, count: int) -> None:
        """Ask for `count` runs and wait until all of them are queued."""
        wanted = self.counting.dispatched + count
        for begin in range(0, count, _REQUESTS_PER_APPEND):
            numbers = range(begin, min(begin + _REQUESTS_PER_APPEND, count))
            await self.log.append([self.asking.request(number) for number in numbers])
        while self.counting.dispatched < wanted:  # noqa: ASYNC110 (nothing tells of it but a count)
            await asyncio.sleep(0.05)

    async def settle(self) -> None:
        """Wait until the snapshots that a burst leads to are written: the ledgers grow by heartbeats only."""
        ledgers = [(topic, part) for topic, row in TOPICS.items() if row.ledger for part in range(PARTITIONS)]
        grown, before = _SETTLED_RECORDS, 0
        while grown >= _SETTLED_RECORDS:
            await asyncio.sleep(1.0)
            now = sum([await self.log.end_offset(topic, part) for topic, part in ledgers])
            grown, before = now - before, now


@asynccontextmanager
async def _scheduler(folder: Path) -> AsyncIterator[_Scheduler]:
    async with AsyncExitStack() as stack:
        file = await SqliteFile.open(folder / "backlog.sqlite")
        stack.push_async_callback(file.close)
        clock, entropy = SystemClock(), SystemEntropy()
        log = await SqliteLog.open(file, dict.fromkeys(TOPICS, PARTITIONS), clock, entropy)
        stack.push_async_callback(log.close)
        counting = _Counting()
        db = SqliteDatabase(file)
        await migrate(db, [*gateway_migrations(db.dialect), *store_migrations(db.dialect), *MIGRATIONS])
        ports = Ports(log, codec, clock, entropy, hint=SqlHint(db), observer=counting, bounds=BOUNDS, at_end=log)
        stop = asyncio.Event()
        owners = [asyncio.create_task(run_decider(decider, ports, stop)) for decider in (Advance(), Dispatch())]
        try:
            yield _Scheduler(log, counting)
        finally:
            stop.set()
            await asyncio.gather(*owners)


def _runner(scheduler: _Scheduler) -> AbstractAsyncContextManager[ModelRunner]:
    return model_runner(scheduler.log, scheduler.asking, PARTITIONS, SLOTS)


async def _next_starts_ms(runner: ModelRunner, rounds: int) -> list[float]:
    took = []
    for _ in range(rounds):
        began = perf_counter()
        await runner.end()
        await runner.take()
        took.append((perf_counter() - began) * 1000)
    return took


async def backlog(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Start beside few queued runs, behind a burst of many, beside them once it has settled; then a restart."""
    queued, rounds = effort.many(QUEUED), 40
    async with _scheduler(folder) as scheduler, _runner(scheduler) as runner:
        await scheduler.ask(FEW + rounds + SLOTS)
        for _ in range(SLOTS):
            await runner.take()
        idle = await _next_starts_ms(runner, rounds)
        tell(f"{queued} runs are asked for")
        await scheduler.ask(queued)
        raw_commits = RawCommits(folder)
        chains = raw_commits.chains_ms(rounds, _REPORTING)
        raw_commits.close()
        burst = await _next_starts_ms(runner, rounds)
        await scheduler.settle()
        busy = await _next_starts_ms(runner, rounds)
    raw = (f"{_REPORTING} SQLite commits (FULL) one after another", quantile(chains, 0.5))
    yield figure("start_ms_idle", quantile(idle, 0.5), "ms", raw, rounds, queued=FEW)
    beside = ("start_ms_idle", quantile(idle, 0.5))
    yield figure("start_ms_behind_a_burst_of_100k", quantile(burst, 0.5), "ms", beside, rounds, queued=queued)
    yield figure("start_ms_at_100k_queued", quantile(busy, 0.5), "ms", beside, rounds, queued=queued)
    began = perf_counter()
    async with _scheduler(folder) as scheduler, _runner(scheduler) as runner:
        await runner.take()
        took = perf_counter() - began
    size = (folder / "backlog.sqlite").stat().st_size
    read = ("reading the file once", await asyncio.to_thread(_read_seconds, folder / "backlog.sqlite"))
    yield figure("restart_s_at_100k_live", took, "s", read, 1, live=queued, file_mb=size / 1e6)


def _read_seconds(path: Path) -> float:
    began = perf_counter()
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return perf_counter() - began
