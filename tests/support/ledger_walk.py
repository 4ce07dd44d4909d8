"""Every interleaving of two real owners on a small instance: crashes, pauses, lost answers, late landings.

The walk drives `kernel.processor.Owner` itself, one action at a time, breadth first, so the trace of a violation is a
shortest one. A world is a stage (log, what is in flight, how many claims there were) and two owners; it is copied
before each move. Owners that are not moved are paused, so pauses need no move of their own. Deciding and appending are
one move: between them an owner changes nothing that others see.

After every move: the effective decisions are a prefix of what deciding each input once gives, no reader of a derived
topic can see a gap, every derived record is true, and a map in memory equals the fold of the ledger. At every end an
undisturbed owner must be able to finish.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kernel.domain.owner import OwnerClaimed
from kernel.errors import LogRefused, NotOwner, UnknownOutcome
from kernel.log.port import Position, Record, Stored
from kernel.processor import Action, Bounds, Owner, Ports
from kernel.processor.feed import InputFeed
from kernel.processor.ledger import decision_of
from tests.support.processing import CountingEntropy, Cut, HandClock
from tests.support.toy_decider import ASKED, FACTS, LEDGER, NUDGES, TOPICS, Did, ObjectCodec, ToyDecider

_DERIVED_TOPICS = (FACTS, NUDGES)
_STEPS_TO_FINISH = 400


class Violation(AssertionError):
    """What went wrong, and the moves that led to it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How often each thing may happen in one walk."""

    claims: int = 2
    crashes: int = 1
    lost: int = 0
    late: int = 0
    late_derived: int = 0
    checkpoints: int = 0
    snapshots: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """A small instance: inputs of one topic, and what may happen."""

    inputs: tuple[Record, ...]
    budget: Budget
    batch_records: int = 1


@dataclass(slots=True)
class _Stage:
    """What outlives owners: kept records by topic, where each topic starts, appends in flight, claims so far."""

    records: dict[str, list[Stored]]
    starts: dict[str, int]
    hints: dict[tuple[str, int], int]
    in_flight: tuple[tuple[Record, ...], ...] = ()
    claims: int = 0

    def copy(self) -> _Stage:
        records = {topic: list(kept) for topic, kept in self.records.items()}
        return _Stage(records, dict(self.starts), dict(self.hints), self.in_flight, self.claims)


class StageLog:
    """`EventLog` and snapshot hint of the world that is on stage; nothing ever waits. `cut` spoils one append."""

    def __init__(self) -> None:
        self.stage = _Stage({}, {}, {})
        self.cut: Cut | None = None

    def partitions(self, topic: str) -> int:
        assert topic in TOPICS
        return 1

    async def append(self, records: Sequence[Record]) -> list[Position]:
        cut, self.cut = self.cut, None
        if cut is Cut.LATE:
            by_topic: dict[str, list[Record]] = {}
            for record in records:
                by_topic.setdefault(record.topic, []).append(record)
            self.stage.in_flight += tuple(tuple(batch) for batch in by_topic.values())
            raise UnknownOutcome("in flight")
        positions = self.land(records)
        if cut is Cut.ANSWER_LOST:
            raise UnknownOutcome("the answer is lost")
        return positions

    def land(self, records: Sequence[Record]) -> list[Position]:
        positions = []
        for record in records:
            kept = self.stage.records[record.topic]
            offset = self.stage.starts[record.topic] + len(kept)
            kept.append(Stored(record, offset, 0))
            positions.append(Position(record.topic, record.partition, offset))
        return positions

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        begin = max(offset - self.stage.starts[topic], 0)
        return self.stage.records[topic][begin : begin + max_records]

    async def end_offset(self, topic: str, partition: int) -> int:
        return self.stage.starts[topic] + len(self.stage.records[topic])

    async def confirmed_end(self, topic: str, partition: int) -> int:
        return await self.end_offset(topic, partition)

    async def start_offset(self, topic: str, partition: int) -> int:
        return self.stage.starts[topic]

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        return max(offset, self.stage.starts[topic])

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        start = self.stage.starts[topic]
        if offset > start:
            del self.stage.records[topic][: offset - start]
            self.stage.starts[topic] = offset

    async def topic_id(self, topic: str) -> str:
        if topic not in TOPICS:
            raise KeyError(topic)
        return topic

    async def close(self) -> None:
        pass

    async def get(self, ledger: str, partition: int) -> int | None:
        return self.stage.hints.get((ledger, partition))

    async def set(self, ledger: str, partition: int, start: int) -> None:
        self.stage.hints[ledger, partition] = start


class _StageEntropy(CountingEntropy):
    """Numbers claims by those of the world that is on stage."""

    def __init__(self, log: StageLog) -> None:
        super().__init__()
        self._log = log

    def uuid(self) -> str:
        self._log.stage.claims += 1
        return f"claim {self._log.stage.claims}"


@dataclass(slots=True)
class World:
    """`truth` is what was ever effective, also what is deleted by now."""

    stage: _Stage
    owners: tuple[Owner | None, Owner | None]
    budget: Budget
    truth: tuple[tuple[int, Stored], ...] = ()
    claim: str = ""
    seen: int = 0


@dataclass(slots=True)
class Walk:
    """One exhaustive walk; `states` and `moves` say how large it was."""

    instance: Instance
    codec: ObjectCodec
    decider: ToyDecider = field(default_factory=lambda: ToyDecider(ASKED))
    states: int = 0
    moves: int = 0
    log: StageLog = field(default_factory=StageLog)
    _ports: Ports | None = None
    _expected: list[Did] = field(default_factory=list)

    # the walk

    def run(self, states_max: int = 1_000_000) -> None:
        """Visit every state. Raises `Violation` with a shortest trace."""
        bounds = Bounds(batch_records=self.instance.batch_records, snapshot_step_records=1)
        self._ports = Ports(self.log, self.codec, HandClock(), _StageEntropy(self.log), hint=self.log, bounds=bounds)
        first = self._first_world()
        self._expected = self._each_input_once(first)
        origin: dict[Any, tuple[Any, str]] = {self._print(first): (None, "")}
        queue = deque([(first, self._print(first))])
        while queue:
            world, key = queue.popleft()
            self.states += 1
            assert self.states <= states_max, "the instance is larger than planned"
            last = ""
            try:
                for label, moved in self._moves(world):
                    last = label
                    self.moves += 1
                    self._check(moved)
                    moved_key = self._print(moved)
                    if moved_key not in origin:
                        origin[moved_key] = (key, label)
                        queue.append((moved, moved_key))
                if not last:
                    last = "an undisturbed owner goes on"
                    self._finish(world)
            except Violation as violation:
                raise Violation(
                    f"{violation}\n{_trace(origin, key)}\n  then {last} (or the move after it)"
                ) from violation

    def _first_world(self) -> World:
        stage = _Stage({topic: [] for topic in TOPICS}, dict.fromkeys(TOPICS, 0), {})
        self.log.stage = stage
        self.log.land(self.instance.inputs)
        return World(stage, (None, None), self.instance.budget)

    def _each_input_once(self, first: World) -> list[Did]:
        """What one undisturbed owner decides."""
        world = self._copy(first)
        self._run_alone(world)
        self._follow(world)
        return [self._event(stored) for _, stored in world.truth]

    def _copy(self, world: World) -> World:
        owners = tuple(self._copy_owner(owner) for owner in world.owners)
        copied = World(world.stage.copy(), (owners[0], owners[1]), world.budget, world.truth, world.claim, world.seen)
        self.log.stage = copied.stage
        self.log.cut = None
        return copied

    def _copy_owner(self, owner: Owner | None) -> Owner | None:
        if owner is None:
            return None
        made = copy.copy(owner)
        made._batches = deque(owner._batches)
        made._outbox = copy.copy(owner._outbox)
        if owner._partition is not None:
            partition = made._partition = copy.copy(owner._partition)
            partition.positions = dict(owner._partition.positions)
            partition._marks = dict(owner._partition._marks)
            partition.state = copy.copy(owner._partition.state)
            made._feed = InputFeed(self.log, made.ports.clock, 0, partition.positions)
        return made

    # moves

    def _moves(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._landings(world)
        for slot in (0, 1):
            owner = world.owners[slot]
            if slot == 1 and owner is None and world.owners[0] is None:
                continue
            if owner is None:
                yield from self._new_owner(world, slot)
                continue
            if world.budget.crashes:
                moved = self._copy(world)
                moved.budget = replace(moved.budget, crashes=world.budget.crashes - 1)
                yield f"owner {slot} crashes", _without(moved, slot)
            for action in owner.enabled():
                yield from self._act(world, slot, action)

    def _landings(self, world: World) -> Iterator[tuple[str, World]]:
        for index, batch in enumerate(world.stage.in_flight):
            if batch in world.stage.in_flight[:index]:
                continue
            moved = self._copy(world)
            moved.stage.in_flight = world.stage.in_flight[:index] + world.stage.in_flight[index + 1 :]
            self.log.land(batch)
            yield f"in flight, now landed: {self._tell(batch)}", moved

    def _new_owner(self, world: World, slot: int) -> Iterator[tuple[str, World]]:
        alive = any(owner is not None and owner._claim in {"", world.claim} for owner in world.owners)
        if alive and not world.budget.claims:
            return
        moved = self._copy(world)
        moved.budget = replace(moved.budget, claims=max(world.budget.claims - 1, 0))
        assert self._ports is not None
        owner = Owner(self.decider, 0, self._ports)
        moved.owners = (owner, moved.owners[1]) if slot == 0 else (moved.owners[0], owner)
        yield from self._act(moved, slot, Action.CLAIM)

    def _act(self, world: World, slot: int, action: Action) -> Iterator[tuple[str, World]]:
        budget = _paid(world.budget, world.owners[slot], action)
        if budget is None:
            return
        label = f"owner {slot}: {action}"
        moved, cut_taken = self._take(world, slot, action, budget, None)
        if moved is None:
            return
        yield f"{label} {self._tell_last(world, moved)}", moved
        if not cut_taken:
            return
        if budget.lost:
            lost, _ = self._take(world, slot, action, replace(budget, lost=budget.lost - 1), Cut.ANSWER_LOST)
            if lost is not None:
                yield f"{label}, the answer is lost", lost
        late = budget.late_derived if action is Action.DERIVE else budget.late
        if late:
            name = "late_derived" if action is Action.DERIVE else "late"
            held, _ = self._take(world, slot, action, replace(budget, **{name: late - 1}), Cut.LATE)
            if held is not None:
                yield f"{label}, it stays in flight", held

    def _take(
        self, world: World, slot: int, action: Action, budget: Budget, cut: Cut | None
    ) -> tuple[World | None, bool]:
        """The world after the action, None when it did nothing; and whether the action appends."""
        moved = self._copy(world)
        moved.budget = budget
        owner = moved.owners[slot]
        assert owner is not None
        before = sum(len(kept) for kept in moved.stage.records.values()) + sum(moved.stage.starts.values())
        self.log.cut = cut
        try:
            taken = _drive(owner.take(action))
            if action is Action.TAKE_INPUTS and owner._batches:
                taken = _drive(owner.append_decisions())
        except NotOwner:
            return _without(moved, slot), False
        except (LogRefused, AssertionError) as error:
            if moved.claim == owner._claim or not owner._claim:
                raise Violation(f"{action} fails: {error}") from error
            return _without(moved, slot), False
        self.log.cut = None
        if taken is Action.IDLE:
            return None, False
        after = sum(len(kept) for kept in moved.stage.records.values()) + sum(moved.stage.starts.values())
        return moved, after > before

    # checks

    def _check(self, world: World) -> None:
        self._follow(world)
        decided = [self._event(stored) for _, stored in world.truth]
        if decided != self._expected[: len(decided)]:
            raise Violation(f"decided {decided}, each input once gives {self._expected}")
        for topic in _DERIVED_TOPICS:
            self._check_derived(world, topic)
        for owner in world.owners:
            if owner is not None and owner._claim == world.claim and owner._partition is not None:
                self._check_map(world, owner)

    def _follow(self, world: World) -> None:
        """Read the ledger on under the claim rule; what is effective stays so, deleted or not."""
        base = world.stage.starts[LEDGER]
        for stored in world.stage.records[LEDGER][max(world.seen - base, 0) :]:
            message = self.codec.decode(stored)
            if isinstance(message.event, OwnerClaimed):
                world.claim = message.event.claim_id
            elif message.envelope.claim == world.claim and isinstance(message.event, Did):
                world.truth += ((stored.offset, stored),)
            world.seen = stored.offset + 1

    def _check_derived(self, world: World, topic: str) -> None:
        index = _DERIVED_TOPICS.index(topic)
        due = [(offset, index) for offset, _ in world.truth]
        accepted: list[tuple[int, int]] = []
        told: dict[str, int] = {}
        for stored in world.stage.records[topic]:
            message = self.codec.decode(stored)
            source = message.envelope.source
            assert source is not None
            place = (source.offset, source.index)
            if place not in due:
                raise Violation(f"derived but not effective: {message.event} from {place}")
            if not accepted or place > accepted[-1]:
                accepted.append(place)
                if accepted != due[: len(accepted)]:
                    raise Violation(f"GAP at the watermark of {topic}: accepted {accepted} of {due}")
            if topic == FACTS:
                number = message.envelope.sequence
                if number > told.get(message.key, 0) + 1:
                    raise Violation(f"GAP in the sequence of {message.key}: {number} after {told.get(message.key, 0)}")
                told[message.key] = max(number, told.get(message.key, 0))

    def _check_map(self, world: World, owner: Owner) -> None:
        """Only when nothing is decided ahead: the map is what the ledger means."""
        if owner._batches or owner._sent is not None:
            return
        things: dict[str, Any] = {}
        for _, stored in world.truth:
            message = self.codec.decode(stored)
            value = self.decider.evolve(message.key, things.get(message.key), decision_of(message))
            things.pop(message.key, None)
            if value is not None:
                things[message.key] = value
        held = dict(owner.partition.state.items())
        if held != things:
            raise Violation(f"the map is {held}, the ledger says {things}")

    def _finish(self, world: World) -> None:
        last = self._copy(world)
        try:
            self._run_alone(last)
        except (LogRefused, AssertionError) as error:
            raise Violation(f"nobody can finish: {error}") from error
        self._check(last)
        if len(last.truth) != len(self._expected):
            raise Violation(f"only {len(last.truth)} of {len(self._expected)} decisions can be reached")
        for topic in _DERIVED_TOPICS:
            sources = {self.codec.decode(stored).envelope.source for stored in last.stage.records[topic]}
            if len(sources) != len(self._expected):
                raise Violation(f"{topic} is told {len(sources)} of {len(self._expected)} decisions")

    def _run_alone(self, world: World) -> None:
        assert self._ports is not None
        self.log.stage = world.stage
        owner = Owner(self.decider, 0, self._ports)
        for _ in range(_STEPS_TO_FINISH):
            if _drive(owner.step()) is Action.IDLE:
                return
        raise Violation("an undisturbed owner does not come to an end")

    # telling

    def _event(self, stored: Stored) -> Any:
        return self.codec.decode(stored).event

    def _tell(self, records: Sequence[Record]) -> str:
        return ", ".join(f"{record.topic} {self.codec.decode(Stored(record, 0, 0)).event}" for record in records)

    def _tell_last(self, before: World, after: World) -> str:
        new = [
            stored.record
            for topic, kept in after.stage.records.items()
            for stored in kept
            if stored.offset >= before.stage.starts[topic] + len(before.stage.records[topic])
        ]
        return self._tell(new)

    def _print(self, world: World) -> Any:
        """What tells two worlds apart."""
        stage = world.stage
        records = tuple(
            (topic, stage.starts[topic], tuple(stored.record.value for stored in kept))
            for topic, kept in stage.records.items()
            if topic != ASKED
        )
        in_flight = tuple(sorted(tuple(record.value for record in batch) for batch in stage.in_flight))
        owners = tuple(sorted(map(_print_owner, world.owners)))
        return (
            records,
            in_flight,
            owners,
            world.budget,
            world.claim,
            len(world.truth),
            stage.claims,
            tuple(stage.hints.values()),
        )


def _drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise AssertionError("an action waits for something that is not there")


def _without(world: World, slot: int) -> World:
    world.owners = (None, world.owners[1]) if slot == 0 else (world.owners[0], None)
    return world


def _paid(budget: Budget, owner: Owner | None, action: Action) -> Budget | None:
    """The budget after an action; None when it is spent."""
    if action is Action.CHECKPOINT:
        return replace(budget, checkpoints=budget.checkpoints - 1) if budget.checkpoints else None
    if action is Action.SNAPSHOT and owner is not None and owner._snapshot is None:
        return replace(budget, snapshots=budget.snapshots - 1) if budget.snapshots else None
    return budget


def _print_owner(owner: Owner | None) -> str:
    if owner is None:
        return ""
    partition = owner._partition
    memory: Any = ()
    if partition is not None:
        memory = (
            sorted(partition.positions.items()),
            sorted(partition._marks.items()),
            sorted(partition.state.items()),
            owner._tail,
            owner._starts,
        )
    return repr(
        (
            owner._claim,
            owner._claim_offset,
            memory,
            [[item.record.value for item in batch.decided] for batch in owner._batches],
            owner._sent and (owner._sent.kind, owner._sent.offsets),
            [(offset, record.value) for offset, record in owner._outbox._waiting],
            owner._snapshot,
            sorted(owner._lost_claims),
        )
    )


def _trace(origin: dict[Any, tuple[Any, str]], key: Any) -> str:
    labels = []
    while key is not None:
        key, label = origin[key]
        labels.append(label)
    return "\n".join(f"  {number}. {label}" for number, label in enumerate(labels[-2::-1], 1))
