"""How soon another scheduler goes on when one is told to end, or killed. Two processes share the partitions.

Somebody asks for a run in every partition all the time. Who ends is the one that has the queue, the dearest partition.
The time is that from the signal to the first decision which stands under a claim of the other process, in the last of
the partitions that moved; by one clock, as broker, processes and this one run on one machine.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.layout import PARTITIONS
from kernel.clock import SystemClock
from kernel.domain.owner import OwnerClaimed
from kernel.log.topics import Topic
from scheduler.settings import Settings
from tests.bench.figures import Figure, figure, quantile
from tests.bench.kafka.broker import QUEUE, Grounds, Scheduler, running_broker, until
from tests.bench.kafka.raw import raw_kafka
from tests.bench.runs import Effort

_ROUNDS = 5
_ASK_SECONDS = 0.05
_SETTLE_SECONDS = 3.0
"""A session and a rebalance, so that each round begins in quiet."""


async def kafka_takeover(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
    """SIGTERM and SIGKILL by turns; the process that ended is started again."""
    async with running_broker(folder) as broker, broker.grounds("takeover") as grounds:
        async with raw_kafka(broker.bootstrap, 1) as raw:
            hop = sorted(await raw.chains_ms(100))[50] / 1000
        took = await takeovers(grounds, 1 if effort.quick else _ROUNDS, signal.SIGTERM, signal.SIGKILL)
    baseline = ("a bare hop (aiokafka, produce to consume)", hop)
    yield takeover_figure("kafka_takeover_term_s", took[signal.SIGTERM], baseline)
    yield takeover_figure("kafka_takeover_kill_s", took[signal.SIGKILL], SESSION)


SESSION = ("the session that has to pass", Settings().session_ms / 1000)


@dataclass(frozen=True, slots=True)
class Takeover:
    """Seconds from the signal until the other had claimed, and until it had decided, in the last partition."""

    claimed_s: float
    decided_s: float


def takeover_figure(name: str, took: Sequence[Takeover], baseline: tuple[str, float], **detail: float) -> Figure:
    """The median of the rounds and their extremes; `detail` says how much of the median went before the claims."""
    each = [one.decided_s for one in took]
    detail |= {"claimed_s": quantile([one.claimed_s for one in took], 0.5), "max_s": max(each), "min_s": min(each)}
    return figure(name, quantile(each, 0.5), "s", baseline, len(each), **detail)


async def takeovers(grounds: Grounds, rounds: int, *numbers: signal.Signals) -> dict[signal.Signals, list[Takeover]]:
    """So many by each signal in turn, beside whatever waits on these grounds already."""
    took: dict[signal.Signals, list[Takeover]] = {number: [] for number in numbers}
    async with _pair(grounds) as pair:
        for _ in range(rounds):
            for number, each in took.items():
                each.append(await pair.takeover(number))
    return took


@asynccontextmanager
async def _pair(grounds: Grounds) -> AsyncIterator[_Pair]:
    run_ends = await grounds.ends(Topic.RUN_LEDGER)
    queue_end = await grounds.log.end_offset(Topic.DISPATCH_LEDGER, QUEUE)
    runs = [_Place(grounds, Topic.RUN_LEDGER, partition, run_ends[partition]) for partition in range(PARTITIONS)]
    queue = _Place(grounds, Topic.DISPATCH_LEDGER, QUEUE, queue_end)
    with grounds.scheduler(1) as one, grounds.scheduler(2) as two:
        asking = asyncio.create_task(_ask_for_ever(grounds))
        try:
            yield _Pair({one.name: one, two.name: two}, runs, queue)
        finally:
            asking.cancel()


async def _ask_for_ever(grounds: Grounds) -> None:
    while True:
        await grounds.log.append([grounds.asking.request_in(partition) for partition in range(PARTITIONS)])
        await asyncio.sleep(_ASK_SECONDS)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two schedulers by name, the places where runs are decided, and that where all their tasks are queued."""

    members: dict[str, Scheduler]
    runs: list[_Place]
    queue: _Place

    async def takeover(self, number: signal.Signals) -> Takeover:
        """Signal the one that has the queue, wait until the other has decided wherever it did, start it again."""
        places = [*self.runs, self.queue]

        async def shared() -> bool:
            await asyncio.gather(*(place.look() for place in places))
            return {place.owner for place in places} == set(self.members) and all(place.decided_ms for place in places)

        await asyncio.gather(*(member.ready() for member in self.members.values()))
        await until(shared)
        await asyncio.sleep(_SETTLE_SECONDS)
        await until(shared)
        victim = self.members[self.queue.owner]
        (other,) = set(self.members) - {victim.name}
        moving = [place for place in places if place.owner == victim.name]
        began_ms = SystemClock().now_ms()
        victim.send(number)
        await asyncio.gather(*(place.decided_by(other) for place in moving))
        claimed_ms = max(place.claimed_ms for place in moving)
        decided_ms = max(place.decided_ms for place in moving)
        await victim.ended()
        victim.service.start()
        return Takeover((claimed_ms - began_ms) / 1000, (decided_ms - began_ms) / 1000)


@dataclass(slots=True)
class _Place:
    """One partition of a ledger, read on and on from `offset`."""

    grounds: Grounds
    topic: Topic
    partition: int
    offset: int
    claim: str = ""
    owner: str = ""
    """Who has claimed it last."""
    claimed_ms: int = 0
    decided_ms: int = 0
    """When that claim, and the first decision under it, were appended; 0 before."""

    async def look(self) -> None:
        """Read what has come."""
        async for message in self.grounds.messages(self.topic, self.partition, self.offset):
            self.offset = message.offset + 1
            if isinstance(message.event, OwnerClaimed):
                self.claim, self.owner = message.event.claim_id, message.event.owner
                self.claimed_ms, self.decided_ms = message.appended_ms, 0
            elif not self.decided_ms and message.envelope.claim == self.claim:
                self.decided_ms = message.appended_ms

    async def decided_by(self, name: str) -> None:
        """Wait until a claim of that process is the last one, and something stands there under it."""
        while not (self.owner == name and self.decided_ms):
            await asyncio.sleep(0.01)
            await self.look()
