"""A bench for owners: a clock and entropy that are told, a log that cuts on order, and what an outside reader sees.

The outside reader knows nothing of the processor: it applies the claim rule in its own words, and compares ledger and
derived topics with what the inputs must lead to when each is decided exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, cast

from kernel.domain.owner import OwnerClaimed
from kernel.errors import NotOwner, UnknownOutcome
from kernel.log.envelope import Message
from kernel.log.port import AppendsAtEnd, EventLog, Position, Record, Stored
from kernel.processor import Action, Bounds, Owner, Parked, Ports, QuietObserver
from kernel.processor.ledger import decision_of
from tests.support.toy_decider import FACTS, LEDGER, NUDGES, Did, ObjectCodec, ToyDecider

START_MS = 1_000_000


class HandClock:
    """Stands still until `advance`; sleepers wake in order of their time."""

    def __init__(self) -> None:
        self.wall_ms = START_MS
        self._boot_ms = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self.wall_ms

    def boot_ms(self) -> float:
        return self._boot_ms

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._boot_ms + seconds * 1000, woken))
        await woken

    def advance(self, milliseconds: int) -> None:
        """Let time pass, and wake whoever slept so long."""
        self.wall_ms += milliseconds
        self._boot_ms += milliseconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._boot_ms]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._boot_ms]
        for _, woken in sorted(due, key=lambda sleeper: sleeper[0]):
            if not woken.done():
                woken.set_result(None)


class CountingEntropy:
    """Counts instead of drawing."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def uuid(self) -> str:
        self.count += 1
        return f"claim {self.count}"

    def nonce(self) -> str:
        return f"nonce of {self.count}"

    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def fraction(self) -> float:
        return 0.5


class Cut(StrEnum):
    """What happens to one append whose caller gets `UnknownOutcome`."""

    ANSWER_LOST = "it landed"
    FIRST_TARGET = "it landed in its first partition only"
    DROPPED = "it never lands"
    LATE = "it lands later"


class CuttingLog:
    """A log whose appends are cut on order; everything else is passed on to `inner`.

    `cuts` names appends by their number, from 0, in the order of the calls. `late` holds what lands on `land`. Where a
    topic is in `marks`, each of its partitions ends in so many places that no reader sees.
    """

    def __init__(self, inner: EventLog) -> None:
        self.inner = inner
        self.cuts: dict[int, Cut] = {}
        self.marks: dict[str, int] = {}
        self.appends = 0
        self.late: list[Callable[[], Awaitable[object]]] = []

    async def append(self, records: Sequence[Record]) -> list[Position]:
        cut = self.cuts.get(self.appends)
        self.appends += 1
        if cut is Cut.DROPPED:
            raise UnknownOutcome("dropped")
        if cut is Cut.LATE:
            self.late.append(partial(self.inner.append, list(records)))
            raise UnknownOutcome("in flight")
        if cut is Cut.FIRST_TARGET:
            first = records[0].topic, records[0].partition
            records = [record for record in records if (record.topic, record.partition) == first]
        positions = await self.inner.append(records)
        if cut is not None:
            raise UnknownOutcome("the answer is lost")
        return positions

    async def land(self) -> None:
        """Let everything that is in flight land, oldest first."""
        while self.late:
            await self.late.pop(0)()

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        """As `append`, where `inner` offers it; whole or not at all, so a cut between targets is a lost answer."""
        inner = cast("AppendsAtEnd", self.inner)
        cut = self.cuts.get(self.appends)
        self.appends += 1
        send = partial(inner.append_at_end, list(records), topic=topic, partition=partition, end=end)
        if cut is Cut.DROPPED:
            raise UnknownOutcome("dropped")
        if cut is Cut.LATE:
            self.late.append(send)
            raise UnknownOutcome("in flight")
        positions = await send()
        if cut is not None:
            raise UnknownOutcome("the answer is lost")
        return positions

    def partitions(self, topic: str) -> int:
        return self.inner.partitions(topic)

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        return await self.inner.read(topic, partition, offset, max_records=max_records, wait_seconds=wait_seconds)

    async def end_offset(self, topic: str, partition: int) -> int:
        return await self.inner.end_offset(topic, partition) + self.marks.get(topic, 0)

    async def confirmed_end(self, topic: str, partition: int) -> int:
        return await self.inner.confirmed_end(topic, partition)

    async def start_offset(self, topic: str, partition: int) -> int:
        return await self.inner.start_offset(topic, partition)

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        if offset >= await self.inner.end_offset(topic, partition):
            return max(offset, await self.end_offset(topic, partition))
        return await self.inner.next_offset(topic, partition, offset)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        await self.inner.delete_before(topic, partition, offset)

    async def topic_id(self, topic: str) -> str:
        return await self.inner.topic_id(topic)

    async def close(self) -> None:
        await self.inner.close()


class MemoryHint:
    """Remembers in memory."""

    def __init__(self) -> None:
        self.starts: dict[tuple[str, int], int] = {}

    async def get(self, ledger: str, partition: int) -> int | None:
        return self.starts.get((ledger, partition))

    async def set(self, ledger: str, partition: int, start: int) -> None:
        self.starts[ledger, partition] = start


class Watcher(QuietObserver):
    """Remembers what a test asks about."""

    def __init__(self) -> None:
        self.parked_records: list[Parked] = []
        self.failures: list[str] = []
        self.late_ms: list[int] = []
        self.unknown: list[str] = []
        self.restores = 0
        self.stand_downs = 0
        self.transitions = 0

    def parked(self, decider: str, partition: int, record: Parked) -> None:
        self.parked_records.append(record)

    def failed(self, decider: str, partition: int, what: str, error: str) -> None:
        self.failures.append(f"{what}: {error}")

    def woken(self, decider: str, partition: int, late_ms: int) -> None:
        self.late_ms.append(late_ms)

    def append_unknown(self, decider: str, partition: int, what: str) -> None:
        self.unknown.append(what)

    def restored(self, decider: str, partition: int, records: int, took_ms: float, clock_step_ms: int) -> None:
        self.restores += 1

    def stood_down(self, decider: str, partition: int) -> None:
        self.stand_downs += 1

    def committed(self, decider: str, partition: int, inputs: int, decisions: int, commit_ms: float) -> None:
        self.transitions += inputs


BUSY = Bounds(batch_records=2, checkpoint_records=4, snapshot_records=6, snapshot_step_records=1)
"""Bounds under which a few inputs bring checkpoints, snapshots and deletion."""


@dataclass(slots=True)
class Bench:
    """One ledger partition and everything around it."""

    log: CuttingLog
    codec: ObjectCodec
    clock: HandClock = field(default_factory=HandClock)
    decider: ToyDecider = field(default_factory=ToyDecider)
    entropy: CountingEntropy = field(default_factory=CountingEntropy)
    hint: MemoryHint = field(default_factory=MemoryHint)
    watcher: Watcher = field(default_factory=Watcher)
    bounds: Bounds = BUSY
    as_one: bool = False
    """Decisions and what is derived from them are appended as one."""

    def ports(self) -> Ports:
        return Ports(
            log=self.log,
            codec=self.codec,
            clock=self.clock,
            entropy=self.entropy,
            owner="bench",
            hint=self.hint,
            observer=self.watcher,
            bounds=self.bounds,
            at_end=self.log if self.as_one else None,
        )

    def owner(self) -> Owner:
        return Owner(self.decider, 0, self.ports())

    async def ledger(self) -> list[Message]:
        return await self.read(LEDGER)

    async def read(self, topic: str) -> list[Message]:
        records = await self.log.read(topic, 0, 0, max_records=100_000)
        return [self.codec.decode(stored) for stored in records]


async def run_to_idle(owner: Owner, steps_max: int = 10_000) -> int:
    """Step until there is nothing to do; how many actions that took, the idle one apart."""
    for taken in range(steps_max):
        if await owner.step() in {Action.IDLE, Action.DRAINED}:
            return taken
    raise AssertionError(f"the owner is busy after {steps_max} actions")


async def run_steps(owner: Owner, count: int) -> None:
    """That many actions, fewer when it idles or stands down."""
    for _ in range(count):
        try:
            if await owner.step() is Action.IDLE:
                return
        except NotOwner:
            return


def effective(ledger: Iterable[Message]) -> list[Message]:
    """The claim rule in an outsider's words: what names the last claim before it."""
    current, found = None, []
    for message in ledger:
        if isinstance(message.event, OwnerClaimed):
            current = message.event.claim_id
        elif message.envelope.claim == current:
            found.append(message)
    return found


def decisions(ledger: Iterable[Message]) -> list[Message]:
    return [message for message in effective(ledger) if isinstance(message.event, Did)]


def by_sequence(facts: Iterable[Message]) -> dict[str, list[Did]]:
    """What an outsider keeps: per key each sequence once. Raises on a gap or when one number tells two stories."""
    kept: dict[str, list[Did]] = {}
    for message in facts:
        told = kept.setdefault(message.key, [])
        number = message.envelope.sequence
        assert number <= len(told) + 1, f"GAP: {message.key} tells {number} after {len(told)}"
        if number == len(told) + 1:
            told.append(message.event)
        else:
            assert told[number - 1] == message.event, f"{message.key} tells {number} twice: {message.event}"
    return kept


def by_watermark(records: Iterable[Message]) -> list[Did]:
    """What a receiving decider accepts from one source: what stands above (offset, index)."""
    mark, accepted = (-1, -1), []
    for message in records:
        source = message.envelope.source
        assert source is not None
        if (source.offset, source.index) > mark:
            mark = (source.offset, source.index)
            accepted.append(message.event)
    return accepted


def by_key(messages: Iterable[Message]) -> dict[str, list[Did]]:
    stories: dict[str, list[Did]] = {}
    for message in messages:
        stories.setdefault(message.key, []).append(message.event)
    return stories


async def check_outside(bench: Bench, expected: dict[str, list[Did]]) -> None:
    """Nothing lost, nothing doubled: the facts, the nudges and, as far as it is kept, the ledger tell `expected`."""
    facts = by_sequence(await bench.read(FACTS))
    assert facts == expected, f"facts {facts}"
    nudges = by_watermark(await bench.read(NUDGES))
    wanted = sorted((did for dids in expected.values() for did in dids), key=repr)
    assert sorted(nudges, key=repr) == wanted, f"nudges {nudges}"
    for key, kept in by_key(decisions(await bench.ledger())).items():
        assert kept == expected[key][len(expected[key]) - len(kept) :], f"ledger of {key}: {kept}"


def map_of(owner: Owner) -> dict[str, Any]:
    return dict(owner.partition.state.items())


def fold(decider: ToyDecider, ledger: Iterable[Message]) -> dict[str, Any]:
    """The map that an undeleted ledger means, folded from its first record."""
    things: dict[str, Any] = {}
    for message in decisions(ledger):
        value = decider.evolve(message.key, things.get(message.key), decision_of(message))
        if value is None:
            things.pop(message.key, None)
        else:
            things[message.key] = value
    return things
