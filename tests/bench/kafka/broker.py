"""A broker of its own and scheduler processes on it, with as many runs as a bench wants, and no other service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.components.kafka import LocalKafka
from cluster.components.process import free_port
from cluster.layout import PARTITIONS
from cluster.parts import Service
from kernel.clock import SystemClock
from kernel.domain.values import Pool, pool_key
from kernel.errors import UnknownType
from kernel.ids import SystemEntropy
from kernel.log.codec import decode
from kernel.log.envelope import Message
from kernel.log.kafka.log import KafkaLog
from kernel.log.kafka.settings import KafkaSettings
from kernel.log.kafka.topics import create_topics
from kernel.log.topics import Topic, partition_of
from tests.bench.asking import Asking
from tests.bench.processes import cpu_ms

_REQUESTS_PER_APPEND = 400
_LOOK_SECONDS = 0.01
_WAIT_SECONDS = 600.0
QUEUE = partition_of(pool_key(Pool.LIGHT), PARTITIONS)
"""Where the tasks of all runs without a page are queued."""


@dataclass(slots=True)
class Grounds:
    """Topics that nobody else uses, and a log on them. `settings` is what processes are told, too."""

    settings: KafkaSettings
    log: KafkaLog
    folder: Path
    broker_pid: int
    partitions: int = PARTITIONS
    asking: Asking = field(init=False)

    def __post_init__(self) -> None:
        self.asking = Asking(SystemClock(), SystemEntropy(), self.partitions)

    async def ask(self, count: int) -> None:
        """Append requests for `count` runs."""
        for begin in range(0, count, _REQUESTS_PER_APPEND):
            numbers = range(begin, min(begin + _REQUESTS_PER_APPEND, count))
            await self.log.append([self.asking.request(number) for number in numbers])

    async def ends(self, topic: Topic) -> list[int]:
        """The end of each partition."""
        return [await self.log.end_offset(topic, partition) for partition in range(self.partitions)]

    async def messages(self, topic: Topic, partition: int, offset: int) -> AsyncIterator[Message]:
        """What stands there now from `offset` on, as far as it is of a known type."""
        while batch := await self.log.read(topic, partition, offset):
            offset = batch[-1].offset + 1
            for stored in batch:
                try:
                    yield decode(stored)
                except UnknownType:
                    continue

    @contextmanager
    def scheduler(self, number: int = 1) -> Iterator[Scheduler]:
        """A scheduler process of that number, started now, killed in the end if it still runs."""
        scheduler = Scheduler(self, number)
        scheduler.service.start()
        try:
            yield scheduler
        finally:
            scheduler.service.kill()


class Scheduler:
    """One scheduler process."""

    def __init__(self, grounds: Grounds, number: int) -> None:
        self.name = f"scheduler-{number}"
        probes = f"127.0.0.1:{free_port()}"
        told = {
            "TOWPATH_KAFKA": grounds.settings.bootstrap,
            "TOWPATH_TOPIC_PREFIX": grounds.settings.prefix,
            "TOWPATH_MEMBER": self.name,
            "TOWPATH_PROBES": probes,
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")} | told
        command = [sys.executable, "-m", "scheduler"]
        self.service = Service(self.name, "", command, environment, grounds.folder / f"{self.name}.log", health=probes)

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        return self.service.pids[0]

    def cpu_ms(self) -> float:
        """What it has used so far."""
        return cpu_ms(self.pid)

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        os.kill(self.pid, number)

    async def ended(self) -> None:
        """Wait for its end."""

        async def is_over() -> bool:
            return not self.service.is_running

        await until(is_over)

    async def ready(self) -> None:
        """Wait until it is a member of its group."""
        await until(lambda: asyncio.to_thread(lambda: self.service.is_ready))


@asynccontextmanager
async def running_broker(folder: Path) -> AsyncIterator[Broker]:
    """Start one node, stop it in the end."""
    kafka = LocalKafka(folder / "kafka")
    await asyncio.to_thread(kafka.start)
    try:
        yield Broker(kafka, folder)
    finally:
        await asyncio.to_thread(kafka.kill)


@dataclass(frozen=True, slots=True)
class Broker:
    """One node."""

    kafka: LocalKafka
    folder: Path

    @property
    def bootstrap(self) -> str:
        """Where it is."""
        return self.kafka.bootstrap

    @property
    def pid(self) -> int:
        """Its process."""
        return next(iter(self.kafka.pids.values()))

    @asynccontextmanager
    async def grounds(self, prefix: str, partitions: int = PARTITIONS) -> AsyncIterator[Grounds]:
        """All topics anew, under a prefix of their own."""
        settings = KafkaSettings(self.bootstrap, prefix)
        await create_topics(settings, partitions=partitions)
        log = await KafkaLog.open(settings, SystemClock())
        try:
            yield Grounds(settings, log, self.folder, self.pid, partitions)
        finally:
            await log.close()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it is so. Raises `TimeoutError` after ten minutes."""
    async with asyncio.timeout(_WAIT_SECONDS):
        while not await is_so():  # noqa: ASYNC110 (other processes tell nobody)
            await asyncio.sleep(_LOOK_SECONDS)
