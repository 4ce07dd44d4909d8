"""The log in memory, for the simulator: as strict as the durable ones, and able to fail on order.

It outlives the services that use it: `close` ends nothing, so a restarted service finds what was appended. Before each
append the fault policy is asked what goes wrong; without one nothing does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from kernel.clock import Clock
from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.ids import derived_id
from kernel.log.limits import Batches, batches_of, positions_of
from kernel.log.port import Position, Record, Stored
from kernel.log.tail import Tail


class Fault(Enum):
    """What goes wrong with one append."""

    NONE = auto()
    REFUSED = auto()
    """Nothing is written; the caller gets `LogUnavailable`."""
    ANSWER_LOST = auto()
    """It lands; the caller gets `UnknownOutcome`."""
    TIMED_OUT = auto()
    """It stays in flight; the caller gets `UnknownOutcome` at once, and it lands when, or if, the test lets it."""
    DELAYED = auto()
    """It stays in flight, and the caller waits until the test lets it land or drops it."""
    DOUBLED = auto()
    """It lands twice; the caller gets the first positions."""


FaultPolicy = Callable[[Sequence[Record]], Fault]


@dataclass(slots=True, eq=False)
class InFlight:
    """An append that has left its caller and has not reached the log. Settled once, by `land` or `drop`."""

    records: tuple[Record, ...]
    _land: Callable[[], list[Position]]
    _answer: asyncio.Future[list[Position]] | None
    _log: list[InFlight]

    def land(self) -> list[Position]:
        """Write it now; a caller that still waits gets the positions."""
        self._log.remove(self)
        positions = self._land()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(positions)
        return positions

    def drop(self) -> None:
        """Lose it; a caller that still waits gets `UnknownOutcome`."""
        self._log.remove(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(UnknownOutcome("the append was lost on its way"))


class MemoryLog:
    """`EventLog` in memory. `in_flight` holds what the fault policy held back, oldest first."""

    def __init__(self, partitions: Mapping[str, int], clock: Clock, faults: FaultPolicy | None = None) -> None:
        """`partitions` gives the partition count of every topic; `faults` is asked before each append."""
        self.in_flight: list[InFlight] = []
        self.faults = faults
        self._partitions = dict(partitions)
        self._clock = clock
        self._tails = {(topic, index): Tail() for topic, count in partitions.items() for index in range(count)}
        self._creations = dict.fromkeys(partitions, 1)

    def partitions(self, topic: str) -> int:
        return self._partitions[topic]

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """As the port says. The records stand in the log before the caller's task is suspended."""
        if not records:
            return []
        kept, (batches, _) = tuple(records), batches_of(records, self._partitions)
        return await self._send(kept, partial(self._land, kept, batches))

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        """As `AppendsAtEnd` says; in flight, the condition is looked at when it lands."""
        kept, (batches, _) = tuple(records), batches_of(records, self._partitions)

        def land() -> list[Position]:
            return self._land(kept, batches) if self._tails[topic, partition].end == end else []

        return await self._send(kept, land) or None

    async def _send(self, kept: tuple[Record, ...], land: Callable[[], list[Position]]) -> list[Position]:
        match self.faults(kept) if self.faults else Fault.NONE:
            case Fault.REFUSED:
                raise LogUnavailable("refused by the fault policy")
            case Fault.TIMED_OUT:
                self.in_flight.append(InFlight(kept, land, None, self.in_flight))
                raise UnknownOutcome("timed out with the append in flight")
            case Fault.DELAYED:
                answer: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
                self.in_flight.append(InFlight(kept, land, answer, self.in_flight))
                return await answer
            case fault:
                positions = land()
        if fault is Fault.DOUBLED:
            land()
        await asyncio.sleep(0)  # the answer of a real log always lets others run first
        if fault is Fault.ANSWER_LOST:
            raise UnknownOutcome("the answer was lost")
        return positions

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        tail = self._tails[topic, partition]
        found = tail.since(offset, max_records) or []
        if not found and wait_seconds > 0:
            await tail.wait(offset, self._clock, wait_seconds)
            found = tail.since(offset, max_records) or []
        return found

    async def end_offset(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].end

    async def confirmed_end(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].end

    async def start_offset(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].start

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        return max(offset, self._tails[topic, partition].start)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self._tails[topic, partition].delete_before(offset)

    async def topic_id(self, topic: str) -> str:
        return derived_id("memory-topic", topic, str(self._creations[topic]))

    async def recreate_topic(self, topic: str) -> None:
        """Forget every record of `topic` and give it a new identity."""
        self._creations[topic] += 1
        for index in range(self._partitions[topic]):
            self._tails[topic, index].reset()

    async def close(self) -> None:
        """Wake the waiting readers; what was appended stays."""
        for tail in self._tails.values():
            tail.wake()

    def _land(self, records: tuple[Record, ...], batches: Batches) -> list[Position]:
        now = self._clock.now_ms()
        first_offsets = {}
        for stream, batch in batches.items():
            tail = self._tails[stream]
            first_offsets[stream] = first = tail.end
            tail.extend([Stored(record, first + index, now) for index, record in enumerate(batch)])
        return positions_of(records, first_offsets)
