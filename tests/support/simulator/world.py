"""Time, chance and the outside world of a simulation.

The world keeps one time; every process sees it through a clock of its own, whose wall time may be off by a second. The
site is what runs act on: it remembers every act, so that doubled ones show.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 (a simulation is driven by its seed)
from zlib import crc32

from kernel.errors import LogUnavailable, UnknownOutcome
from kernel.log.memory import MemoryLog
from kernel.log.port import Position, Record, Stored

START_MS = 1_000_000


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class WorldClock:
    """One process's view of the time."""

    world: World
    offset_ms: int = 0

    def now_ms(self) -> int:
        """Wall time; steps when the simulation lets it jump."""
        return self.world.time_ms + self.offset_ms

    def boot_ms(self) -> float:
        """Never jumps."""
        return float(self.world.time_ms)

    async def sleep(self, seconds: float) -> None:
        """Nothing in a simulation sleeps: whoever waits is asked again."""
        raise AssertionError(f"slept {seconds} s")


class SeededEntropy:
    """Chance that repeats."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def uuid(self) -> str:
        """Unique for all practical purposes."""
        return f"{self._random.getrandbits(128):032x}"

    def nonce(self) -> str:
        """128 bits."""
        return f"{self._random.getrandbits(128):032x}"

    def bytes(self, count: int) -> bytes:
        """`count` bytes."""
        return self._random.randbytes(count)

    def fraction(self) -> float:
        """In [0, 1)."""
        return self._random.random()


class Link:
    """A process's way to the log; while it is cut, every call fails and nothing is written.

    `stale` holds partitions whose leader, as this process reaches it, is cut off from the rest of the log, and where
    they end for it: it shows nothing newer, and acknowledges nothing.
    """

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.is_cut = False
        self.stale: dict[tuple[str, int], int] = {}

    async def leave_behind(self, topic: str) -> None:
        """From now on the leaders of `topic` that this process reaches are cut off from the rest."""
        for partition in range(self.log.partitions(topic)):
            self.stale.setdefault((topic, partition), await self.log.end_offset(topic, partition))

    def heal(self) -> None:
        """Everything is reached again."""
        self.is_cut = False
        self.stale.clear()

    def _check(self) -> None:
        if self.is_cut:
            raise LogUnavailable("cut off")

    def partitions(self, topic: str) -> int:
        """As the log."""
        return self.log.partitions(topic)

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """As the log, unless cut."""
        self._check()
        if any((record.topic, record.partition) in self.stale for record in records):
            raise UnknownOutcome("not acknowledged in time")
        return await self.log.append(records)

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        """As the log, unless cut."""
        self._check()
        return await self.log.append_at_end(records, topic=topic, partition=partition, end=end)

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        """As the log without waiting, unless cut."""
        self._check()
        found = await self.log.read(topic, partition, offset, max_records=max_records, wait_seconds=0.0 * wait_seconds)
        end = self.stale.get((topic, partition))
        return found if end is None else [stored for stored in found if stored.offset < end]

    async def end_offset(self, topic: str, partition: int) -> int:
        """As the log, unless cut."""
        self._check()
        end = await self.log.end_offset(topic, partition)
        return min(end, self.stale.get((topic, partition), end))

    async def confirmed_end(self, topic: str, partition: int) -> int:
        """As the log, unless cut; nobody confirms what a leader says that is cut off."""
        self._check()
        if (topic, partition) in self.stale:
            raise LogUnavailable("not known whether it leads")
        return await self.log.confirmed_end(topic, partition)

    async def start_offset(self, topic: str, partition: int) -> int:
        """As the log, unless cut."""
        self._check()
        return await self.log.start_offset(topic, partition)

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        """As the log, unless cut."""
        self._check()
        return await self.log.next_offset(topic, partition, offset)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """As the log, unless cut."""
        self._check()
        await self.log.delete_before(topic, partition, offset)

    async def topic_id(self, topic: str) -> str:
        """As the log."""
        return await self.log.topic_id(topic)

    async def close(self) -> None:
        """Nothing to let go."""


@dataclass
class Site:
    """The web application that the runs act in."""

    acts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(workflow run, step) to how often it happened."""
    answers: Counter[str] = field(default_factory=Counter)
    """Input request to how often its answer was typed."""
    ended: dict[str, str] = field(default_factory=dict)
    """Workflow run to the end that the outside was told."""
    visits: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    codes: Counter[str] = field(default_factory=Counter)
    """Code to how often it was sent."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Workflow run to how many of its codes were refused."""
    shut_out: set[str] = field(default_factory=set)
    """Workflow runs whose last code was refused."""

    def act(self, workflow_run_id: str, step: str) -> None:
        """Something that must not happen twice happens."""
        if workflow_run_id in self.shut_out:
            raise Violation(f"{workflow_run_id} does {step} though its login was refused")
        self.acts[workflow_run_id, step] += 1
        if self.acts[workflow_run_id, step] > 1:
            raise Violation(f"TWO external acts of {workflow_run_id} {step}")
        if workflow_run_id in self.ended:
            raise Violation(f"{workflow_run_id} acts after its end {self.ended[workflow_run_id]}")

    def has_happened(self, workflow_run_id: str, step: str) -> bool:
        """What a check sees."""
        return self.acts[workflow_run_id, step] > 0

    def log_in(self, workflow_run_id: str, step: str, code: str) -> bool:
        """A code is sent: refused up to twice, as the run's id says, then right."""
        self.codes[code] += 1
        if self.codes[code] > 1:
            raise Violation(f"the code of {code} was sent twice")
        if self.refusals[workflow_run_id] < crc32(workflow_run_id.encode()) % 3:
            self.refusals[workflow_run_id] += 1
            self.shut_out.add(workflow_run_id)
            return False
        self.shut_out.discard(workflow_run_id)
        self.act(workflow_run_id, step)
        return True

    def type_answer(self, input_request_id: str) -> None:
        """A one-time code is typed."""
        self.answers[input_request_id] += 1
        if self.answers[input_request_id] > 1:
            raise Violation(f"the answer to {input_request_id} was used twice")


@dataclass
class World:
    """What everything in a simulation shares."""

    random: Random
    time_ms: int = START_MS
    site: Site = field(default_factory=Site)
    trace: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """One line of the story."""
        self.trace.append(f"{(self.time_ms - START_MS) / 1000:8.3f}  {text}")
