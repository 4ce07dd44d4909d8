"""Heartbeats of one runner in one pool: every 2 s, and soon after something has changed.

A heartbeat renews exactly the attempts that it names. `age_ms` tells how long ago the last acknowledged one was *sent*:
 half a lease of silence means that others may already have the work (design 6.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from browser_runner.services import Services
from kernel.domain.task import HeldTask, RunnerHeartbeat
from kernel.domain.values import Pool, pool_key
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.ids import derived_id
from kernel.log.codec import encode
from kernel.log.envelope import Envelope
from kernel.log.topics import Topic, partition_of

INTERVAL_SECONDS = 2.0
SOON_SECONDS = 0.1
"""Changes within this time share a heartbeat; an assignment must be echoed within 4 s only."""
SLOTS_MAX = 500
"""Slots of one runner in one pool: a heartbeat names all that is held, and must fit a record."""
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool of this runner holds right now."""

    slots: int
    draining: bool
    held: tuple[HeldTask, ...]


class Heartbeat:
    """`run` beats until it is cancelled; `soon` asks for the next one."""

    def __init__(self, services: Services, pool: Pool, load: Callable[[], Load]) -> None:
        self._services = services
        self._pool = pool
        self._load = load
        self._key = pool_key(pool)
        self._partition = partition_of(self._key, services.log.partitions(Topic.DISPATCH))
        self._wanted = asyncio.Event()
        self._count = 0
        self._acknowledged_sent_ms = services.clock.boot_ms()

    def soon(self) -> None:
        """Something changed: beat without waiting for the interval."""
        self._wanted.set()

    def age_ms(self) -> float:
        """Time since the last acknowledged heartbeat was sent."""
        return self._services.clock.boot_ms() - self._acknowledged_sent_ms

    async def run(self) -> None:
        """Beat for ever. Raises `LogRefused` when the log will never take another."""
        while True:
            delay = INTERVAL_SECONDS if await self._beat() else _RETRY_SECONDS
            await self._rest(delay)

    async def beat_once(self) -> bool:
        """One heartbeat now; whether the log took it."""
        return await self._beat()

    async def _beat(self) -> bool:
        services, load = self._services, self._load()
        self._wanted.clear()
        self._count += 1
        sent_ms = services.clock.boot_ms()
        now_ms = services.clock.now_ms()
        beat = RunnerHeartbeat(
            services.incarnation, services.host_id, self._pool, services.inbox_partition, load.slots, load.draining,
            load.held, now_ms, services.unsandboxed and self._pool is Pool.BROWSER,
        )  # fmt: skip
        beat_id = derived_id("heartbeat", services.incarnation, self._pool, str(self._count))
        envelope = Envelope(beat_id, now_ms, subject=services.incarnation)
        record = encode(beat, topic=Topic.DISPATCH, key=self._key, envelope=envelope, partition=self._partition)
        try:
            await services.log.append([record])
        except (LogUnavailable, UnknownOutcome):
            return False
        self._acknowledged_sent_ms = sent_ms
        return True

    async def _rest(self, seconds: float) -> None:
        clock = self._services.clock
        alarm = asyncio.ensure_future(clock.sleep(seconds))
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait((alarm, wanted), return_when=asyncio.FIRST_COMPLETED)
            if not alarm.done():
                await clock.sleep(SOON_SECONDS)
        finally:
            alarm.cancel()
            wanted.cancel()
