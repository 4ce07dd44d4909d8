"""Which runners are there, and how busy are they? Read from their heartbeats, kept in memory, for explanations only.

Every gateway follows the `dispatch` topic from its end on and decodes nothing but heartbeats. Nothing is decided by
what is kept here: `dispatch` decides, by its own reading of the same records.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from kernel.clock import Clock
from kernel.domain.task import RunnerHeartbeat
from kernel.domain.values import Pool
from kernel.errors import LogUnavailable
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import TYPES, Topic

FRESH_MS = 10_000
"""A runner beats every 2 s; one that was not heard of for this long is counted no more."""
READ_WAIT_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""Between two reads: under load many records come at once, and nothing here is in a hurry."""
_TYPE = f"towpath.{TYPES[RunnerHeartbeat].wire}.v1"
_log = structlog.get_logger("api_gateway.runner_slots")


@dataclass(frozen=True, slots=True)
class PoolSlots:
    """One pool as its runners tell it; pages that wait for a person take no slot."""

    runners: int
    slots: int
    busy: int


class RunnerSlots:
    """What the newest heartbeats say. All calls on one event loop."""

    def __init__(self) -> None:
        self._beats: dict[tuple[str, Pool], tuple[float, RunnerHeartbeat]] = {}
        self._since_ms: float | None = None

    def begin(self, now_ms: float) -> None:
        """Heartbeats are followed from now on."""
        self._since_ms = now_ms

    def heard(self, beat: RunnerHeartbeat, now_ms: float) -> None:
        """A runner is alive; `now_ms` is the time of this process's monotonic clock."""
        self._beats[beat.incarnation, beat.pool] = (now_ms, beat)

    def of(self, pool: Pool, now_ms: float) -> PoolSlots | None:
        """The pool at `now_ms`; None as long as a runner may be there that has not been heard yet."""
        self._beats = {key: kept for key, kept in self._beats.items() if now_ms - kept[0] <= FRESH_MS}
        beats = [beat for (_, its), (_, beat) in self._beats.items() if its is pool and not beat.draining]
        if not beats and (self._since_ms is None or now_ms - self._since_ms < FRESH_MS):
            return None
        busy = sum(not held.waiting for beat in beats for held in beat.held)
        return PoolSlots(len(beats), sum(beat.slots for beat in beats), busy)

    def unsandboxed_hosts(self, now_ms: float) -> list[str]:
        """Hosts whose runners have browsers that are not in their sandbox."""
        fresh = [beat for heard_ms, beat in self._beats.values() if now_ms - heard_ms <= FRESH_MS]
        return sorted({beat.host_id for beat in fresh if beat.unsandboxed})


async def follow_runners(slots: RunnerSlots, log: EventLog, clock: Clock) -> None:
    """Follow the heartbeats of all pools until cancelled."""
    slots.begin(clock.boot_ms())
    async with asyncio.TaskGroup() as group:
        for partition in range(log.partitions(Topic.DISPATCH)):
            group.create_task(_follow(slots, log, clock, partition))


async def _follow(slots: RunnerSlots, log: EventLog, clock: Clock, partition: int) -> None:
    offset: int | None = None
    while True:
        try:
            if offset is None:
                offset = await log.end_offset(Topic.DISPATCH, partition)
            for stored in await log.read(Topic.DISPATCH, partition, offset, wait_seconds=READ_WAIT_SECONDS):
                offset = stored.offset + 1
                if dict(stored.record.headers).get("ce_type") == _TYPE:
                    slots.heard(decode(stored).event, clock.boot_ms())
        except LogUnavailable as error:
            _log.warning("runner_slots.retry", partition=partition, error=str(error))
        await clock.sleep(PAUSE_SECONDS)
