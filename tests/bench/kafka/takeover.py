"""How soon another scheduler goes on when one is told to end, or killed. Two processes share the partitions.

Somebody asks for a run in every partition all the time. The time is that from the signal to the first decision which
stands under a claim of the other process, in the last of the partitions that moved; by one clock, as broker, processes
and this one run on one machine.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cluster.layout import PARTITIONS
from kernel.clock import SystemClock
from kernel.domain.owner import OwnerClaimed
from kernel.log.topics import Topic
from scheduler.settings import Settings
from tests.bench.figures import Figure, figure, quantile
from tests.bench.kafka.broker import Grounds, Scheduler, running_broker, until
from tests.bench.kafka.raw import raw_kafka
from tests.bench.runs import Effort

_ROUNDS = 5
_ASK_SECONDS = 0.05
_SETTLE_SECONDS = 3.0
"""A session and a rebalance, so that each round begins in quiet."""


async def kafka_takeover(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """SIGTERM and SIGKILL by turns; the process that ended is started again."""
    took: dict[signal.Signals, list[float]] = {signal.SIGTERM: [], signal.SIGKILL: []}
    async with running_broker(folder) as broker, broker.grounds("takeover") as grounds:
        async with raw_kafka(broker.bootstrap, 1) as raw:
            hop = sorted(await raw.chains_ms(100))[50] / 1000
        with grounds.scheduler(1) as one, grounds.scheduler(2) as two:
            asking = asyncio.create_task(_ask_for_ever(grounds))
            for turn in range(1 if effort.quick else _ROUNDS):
                victim, other = (one, two) if turn % 2 else (two, one)
                for number, seconds in took.items():
                    seconds.append(await _round(grounds, victim, other, number))
            asking.cancel()
    session = Settings().session_ms / 1000
    for number, title, baseline in (
        (signal.SIGTERM, "term", ("a bare hop (aiokafka, produce to consume)", hop)),
        (signal.SIGKILL, "kill", ("the session that has to pass", session)),
    ):
        each = took[number]
        yield figure(
            f"kafka_takeover_{title}_s", quantile(each, 0.5), "s", baseline, len(each), max_s=max(each), min_s=min(each)
        )


async def _ask_for_ever(grounds: Grounds) -> None:
    while True:
        await grounds.log.append([grounds.asking.request_in(partition) for partition in range(PARTITIONS)])
        await asyncio.sleep(_ASK_SECONDS)


async def _round(grounds: Grounds, victim: Scheduler, other: Scheduler, number: signal.Signals) -> float:
    """Seconds until `other` has decided wherever `victim` did."""
    places = [_Place(grounds, partition) for partition in range(PARTITIONS)]

    async def shared() -> bool:
        return {await place.owner() for place in places} == {victim.name, other.name}

    await asyncio.gather(victim.ready(), other.ready())
    await until(shared)
    await asyncio.sleep(_SETTLE_SECONDS)
    moving = [place for place in places if await place.owner() == victim.name]
    began_ms = SystemClock().now_ms()
    victim.send(number)
    moved = [await place.decided_by(other.name) for place in moving]
    await victim.ended()
    victim.service.start()
    return (max(moved) - began_ms) / 1000


@dataclass(slots=True)
class _Place:
    """One partition of the ledger, read on and on."""

    grounds: Grounds
    partition: int
    offset: int = 0
    claim: str = ""
    claimed_by: str = ""

    async def owner(self) -> str:
        """Who has claimed it last."""
        async for message in self.grounds.messages(Topic.RUN_LEDGER, self.partition, self.offset):
            self.offset = message.offset + 1
            if isinstance(message.event, OwnerClaimed):
                self.claim, self.claimed_by = message.event.claim_id, message.event.owner
        return self.claimed_by

    async def decided_by(self, name: str) -> int:
        """Wait for the first effective decision of that process; when it was appended (ms)."""
        while True:
            async for message in self.grounds.messages(Topic.RUN_LEDGER, self.partition, self.offset):
                self.offset = message.offset + 1
                if isinstance(message.event, OwnerClaimed):
                    self.claim, self.claimed_by = message.event.claim_id, message.event.owner
                elif self.claimed_by == name and message.envelope.claim == self.claim:
                    return message.appended_ms
            await asyncio.sleep(0.01)
