"""One owner of one partition, as single actions (design 4).

    claim -> restore -> [ take inputs -> append decisions -> read back -> derive ]*  with checkpoints, snapshots between

Each action awaits the log before it changes the owner, so an action that ends in `LogUnavailable` may be repeated, and
a crash, a pause or a cut between any two actions is what the claim rule makes harmless. `step` picks the next action; a
simulator or a test may call the actions itself.

What an owner decides it holds speculatively: its map is ahead of the ledger until the batch is read back. When the
outcome of an append is unknown all of that is thrown away, and a new claim and a restore tell what counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from kernel.building import replace
from kernel.domain.decider import Decider, Event, State, TakenOver, Wake
from kernel.domain.owner import OwnerCheckpointed, OwnerClaimed, OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.errors import LogRefused, NotOwner, UnknownOutcome
from kernel.ids import derived_id
from kernel.log.envelope import Envelope, Message
from kernel.log.limits import RECORD_BYTES_MAX, record_bytes
from kernel.log.port import AppendsAtEnd, Record
from kernel.processor import snapshots
from kernel.processor.appending import Append, Kind
from kernel.processor.deciding import Batch, Decided, Transition, batches
from kernel.processor.deriving import Deriver, Ledger, Outbox
from kernel.processor.feed import InputFeed
from kernel.processor.ledger import Effective, Mark, MarkKey, Restored, names_foreign_claim
from kernel.processor.partition import Partition, filled_state
from kernel.processor.ports import Ports
from kernel.processor.restoring import (
    await_inputs,
    known_messages,
    marks_of_inputs,
    refuse_recreated,
    restore_partition,
)
from kernel.processor.turns import giving_way
from kernel.processor.values import StateValues
from kernel.tracing.context import TraceHeaders

_STUCK_WAKE_MS = 1000
_HEADERS_BYTES = 1024
"""What key and headers of a record weigh at most, roughly, beside its `tracestate`: enough to stay below the bound."""


class Action(StrEnum):
    """What an owner does at a time."""

    CLAIM = "claim"
    RESTORE = "restore"
    TAKE_INPUTS = "take_inputs"
    APPEND = "append"
    READ_BACK = "read_back"
    DERIVE = "derive"
    CHECKPOINT = "checkpoint"
    SNAPSHOT = "snapshot"
    IDLE = "idle"
    DRAINED = "drained"


@dataclass(frozen=True, slots=True)
class _DueWake:
    """A due time that had come at `at_ms`: decided when the inputs are decided up to `ends`, asked for afterwards."""

    at_ms: int
    due_ms: int
    ends: tuple[tuple[str, int], ...]


class Owner:
    """Owns, or tries to own, one partition of `decider`. One task calls it; `drain` and `ring` may come from others.

    With `reads_ahead` inputs are read by background tasks, which `close` ends.
    """

    def __init__(self, decider: Decider, partition: int, ports: Ports, *, reads_ahead: bool = False) -> None:
        self.decider = decider
        self.number = partition
        self.ports = ports
        self._reads_ahead = reads_ahead
        self._values = StateValues(decider.value_types)
        self._lost_claims: frozenset[str] = frozenset()
        self._draining = False
        self._feed: InputFeed | None = None
        self._topic_ids: dict[str, str] = {}
        self.unknown_in_a_row = 0
        """How many appends had an unknown outcome since the last one that had not."""
        self._forget()

    def _forget(self) -> None:
        """Back to the moment before the claim: nothing that was decided or read is trusted any more."""
        self._claim = ""
        self._claim_offset = -1
        self._partition: Partition | None = None
        self._outbox = Outbox()
        self._batches: deque[Batch] = deque()
        self._sent: Append | None = None
        self._wake: _DueWake | None = None
        self._wake_not_before = 0
        self._snapshot: snapshots.Snapshot | None = None
        self._upkeep_next = False

    # what there is to do

    @property
    def partition(self) -> Partition:
        """The partition in memory. Only after a restore."""
        assert self._partition is not None, "not restored"
        return self._partition

    def enabled(self) -> list[Action]:
        """The actions that may be taken now, in any order."""
        if not self._claim:
            return [Action.CLAIM]
        if self._partition is None:
            return [Action.RESTORE]
        derive = [Action.DERIVE] if self._outbox else []
        if self._sent is not None:
            return [Action.READ_BACK, *derive]
        if self._batches:
            return [*derive, Action.APPEND]
        return [*derive, Action.TAKE_INPUTS, Action.CHECKPOINT, Action.SNAPSHOT]

    async def step(self) -> Action:
        """Take the next action and name it; `IDLE` when only an input or a due time can bring more.

        Raises `NotOwner` when another claim stands in the ledger, and what the log raises.
        """
        todo = self.enabled()[0]
        if todo is not Action.TAKE_INPUTS:
            return await self.take(todo)
        if self._draining:
            return Action.DRAINED if self._since_checkpoint == 0 else await self.checkpoint()
        upkeep, self._upkeep_next = self._upkeep_next, False
        if upkeep and (action := await self._upkeep()) is not Action.IDLE:
            return action
        if await self.take_inputs() is Action.IDLE:
            return await self._upkeep()
        self._upkeep_next = True
        return Action.TAKE_INPUTS

    async def take(self, action: Action) -> Action:
        """Take `action`, one of those enabled; what it turned out to be."""
        match action:
            case Action.CLAIM:
                return await self.claim()
            case Action.RESTORE:
                return await self.restore()
            case Action.READ_BACK:
                return await self.read_back()
            case Action.DERIVE:
                return await self.derive_next()
            case Action.APPEND:
                return await self.append_decisions()
            case Action.CHECKPOINT:
                return await self.checkpoint()
            case Action.SNAPSHOT:
                return await self.snapshot_step()
            case _:
                return await self.take_inputs()

    async def _upkeep(self) -> Action:
        if self._checkpoint_pays():
            return await self.checkpoint()
        if self._snapshot is not None or self._snapshot_pays():
            return await self.snapshot_step()
        return Action.IDLE

    # claim and restore

    async def claim(self) -> Action:
        """Append a fresh claim. Nothing is known about the ledger yet."""
        log, decider = self.ports.log, self.decider
        if not self._topic_ids:
            self._topic_ids = {topic: await log.topic_id(topic) for topic in (decider.ledger, *decider.inputs)}
            self._ledger = Ledger(decider.ledger, self._topic_ids[decider.ledger], self.number)
            self._deriver = Deriver(self.ports.codec, self._ledger, log.partitions)
        claim = self.ports.entropy.uuid()
        record = self._own_record(OwnerClaimed(claim, self.ports.owner), claim, self.ports.clock.now_ms())
        sent = await self._append(Append(Kind.CLAIM, (record,), claim))
        if sent is not None:
            self._claim, self._claim_offset = claim, sent.offsets[0]
            self.ports.observer.claimed(decider.name, self.number)
        return Action.CLAIM

    async def restore(self) -> Action:
        """Read the ledger up to our claim, fold it, and decide that the partition was taken over."""
        began = self.ports.clock.boot_ms()
        restored = await restore_partition(self.decider, self._values, self.ports, self._ledger, self._claim_offset)
        await refuse_recreated(self.decider, self.ports, self._topic_ids, self.number, restored)
        await await_inputs(self.decider, self.ports, self.number, restored)
        marks = await marks_of_inputs(self.decider, self.ports, self.number, restored)
        state = await giving_way(filled_state(self.decider, restored.values))
        await self.close()
        self._adopt(restored, state, marks)
        took_ms = self.ports.clock.boot_ms() - began
        behind_ms = self.partition.behind_ms
        self.ports.observer.restored(self.decider.name, self.number, restored.records, took_ms, behind_ms)
        taken_over = self.partition.decide_timeless(TakenOver(), self.partition.now_ms())
        self._queue([taken_over] if taken_over is not None else [])
        return Action.RESTORE

    def _adopt(self, restored: Restored, state: State, marks: dict[MarkKey, Mark]) -> None:
        ports = self.ports
        self._partition = Partition(
            self.decider, ports, self._ledger, topic_ids=self._topic_ids, restored=restored, state=state, marks=marks
        )
        self._partition.use_claim(self._claim)
        for effective in restored.underived:
            self._outbox.put(
                effective.offset, self._deriver.records(effective, self.decider.derive(effective.decision))
            )
        self._tail = self._claim_offset + 1
        self._starts = restored.starts
        self._since_snapshot = restored.records
        self._snapshot_floor = ports.bounds.snapshot_records
        self._since_checkpoint = 0
        self._checkpointed_ms = self._restored_ms = ports.clock.boot_ms()
        self._feed = InputFeed(ports.log, ports.clock, self.number, self._partition.positions)
        if self._reads_ahead:
            self._feed.start()

    async def close(self) -> None:
        """End the background tasks. Idempotent."""
        if self._feed is not None:
            await self._feed.stop()
            self._feed = None

    # inputs and decisions

    async def take_inputs(self) -> Action:
        """Decide what is there: inputs in order, or the due time once the inputs before it are decided."""
        partition, bounds = self.partition, self.ports.bounds
        now_ms = partition.now_ms()
        if self._wake is None:
            self._wake = await self._due_wake(now_ms)
        if self._wake is not None:
            if all(partition.positions[topic] >= end for topic, end in self._wake.ends):
                return self._decide_wake(self._wake)
            now_ms = self._wake.at_ms
        assert self._feed is not None
        taken = await self._feed.take(bounds.batch_records, bounds.batch_bytes)
        if not taken:
            return Action.TAKE_INPUTS if await self._stepped_over_marks() else Action.IDLE
        transitions = partition.decide_inputs(taken, now_ms)
        self._since_checkpoint += len(taken) - sum(1 for transition in transitions if transition.decided)
        self._queue(transitions)
        return Action.TAKE_INPUTS

    async def _due_wake(self, now_ms: int) -> _DueWake | None:
        """The due time that has come, with the high watermarks of all inputs as they stand after `now_ms`."""
        due_ms = self.partition.state.due_ms()
        if due_ms is None or max(due_ms, self._wake_not_before) > now_ms:
            return None
        ends = [(topic, await self.ports.log.end_offset(topic, self.number)) for topic in self.decider.inputs]
        return _DueWake(now_ms, due_ms, tuple(ends))

    async def _stepped_over_marks(self) -> bool:
        """Whether an input that holds up what is due was only behind by what nobody can read."""
        before = dict(self.partition.positions)
        for topic, end in self._wake.ends if self._wake is not None else ():
            if before[topic] < end:
                self.partition.positions[topic] = await self.ports.log.next_offset(topic, self.number, before[topic])
        return before != self.partition.positions

    def _decide_wake(self, wake: _DueWake) -> Action:
        """Decide what is due. A decider that leaves it due without deciding anything is asked again in a second."""
        self._wake = None
        transition = self.partition.decide_timeless(Wake(), wake.at_ms)
        self.ports.observer.woken(self.decider.name, self.number, wake.at_ms - wake.due_ms)
        if transition is None or not transition.decided:
            self._wake_not_before = wake.at_ms + _STUCK_WAKE_MS
        else:
            self._queue([transition])
        return Action.TAKE_INPUTS

    def _queue(self, transitions: Sequence[Transition]) -> None:
        bounds = self.ports.bounds
        self._batches.extend(batches(transitions, bounds.batch_records, bounds.batch_bytes))

    async def append_decisions(self) -> Action:
        """Append the next decided batch as one record batch, with what is derived from it where the log can."""
        batch = self._batches[0]
        if self.ports.at_end is not None and not self._outbox and await self._append_whole(self.ports.at_end, batch):
            return Action.APPEND
        records = tuple(item.record for item in batch.decided)
        self._sent = await self._append(Append(Kind.DECISIONS, records, self._claim, batch))
        if self._sent is not None:
            self._batches.popleft()
        return Action.APPEND

    async def _append_whole(self, log: AppendsAtEnd, batch: Batch) -> bool:
        """Append decisions and derived records as one, where the ledger ends as far as we have read it.

        The condition takes the place of reading back: nothing stands between what was read and the batch. False when
        something does, or when it is too much for one append; then each goes by itself.
        """
        began_ms = self.ports.clock.boot_ms()
        offsets = range(self._tail, self._tail + len(batch.decided))
        derived: list[Record] = []
        size = 0
        for offset, item in zip(offsets, batch.decided, strict=True):
            made = self._deriver.records(_effective(offset, item), item.derived)
            size += sum(len(record.value) for record in made) + len(made) * (_HEADERS_BYTES + len(item.tracestate))
            derived += made
        if size > self.ports.bounds.batch_bytes:
            return False
        records = [*(item.record for item in batch.decided), *derived]
        try:
            positions = await log.append_at_end(
                records, topic=self._ledger.topic, partition=self.number, end=self._tail
            )
        except UnknownOutcome:
            self._count_unknown(Kind.DECISIONS)
            self._lost_claims |= {self._claim}
            self._after_unknown_outcome()
            return True
        if positions is None:
            return False
        self.unknown_in_a_row = 0
        self._batches.popleft()
        self._tail = offsets.stop
        self._since_snapshot += len(offsets)
        self._tell_committed(len(offsets), batch, began_ms)
        self.ports.observer.derived(self.decider.name, self.number, len(derived))
        return True

    # appending and reading back

    async def _append(self, append: Append) -> Append | None:
        """Append to the ledger; None when the outcome is unknown."""
        began_ms = self.ports.clock.boot_ms()
        try:
            positions = await self.ports.log.append(append.records)
        except UnknownOutcome:
            self._count_unknown(append.kind)
            self._lost_claims |= {append.claim}
            self._after_unknown_outcome()
            return None
        self.unknown_in_a_row = 0
        return replace(append, offsets=tuple(position.offset for position in positions), began_ms=began_ms)

    def _count_unknown(self, what: str) -> None:
        self.unknown_in_a_row += 1
        self.ports.observer.append_unknown(self.decider.name, self.number, what)

    def _after_unknown_outcome(self) -> None:
        """What was appended may land now, later or never: only a new claim and a restore settle whether it counts."""
        self._forget()

    async def read_back(self) -> Action:
        """Read the ledger up to our last append, which counts now unless another claim stands before it.

        Raises `NotOwner` then; but a claim that was to begin a snapshot is in force all the same, and restores.
        """
        sent = self._sent
        assert sent is not None
        foreign = await self._read_foreign(sent)
        if self._is_superseded(foreign):
            self._stand_down(sent, foreign)
            return Action.READ_BACK
        if sent.kind is Kind.COMPLETION:
            await self._end_snapshot()
        self._sent = None
        self._tail = sent.offsets[-1] + 1
        self._since_snapshot += len(sent.offsets) + len(foreign)
        self._count(sent)
        return Action.READ_BACK

    async def _read_foreign(self, sent: Append) -> list[Message]:
        """What others wrote between what we have read and our append.

        An append that was acknowledged where our reading ends needs no read: that it stands there is what would be
        read, and nothing stands between. Raises `LogRefused` when it stands before what was read.
        """
        first, offset = sent.offsets[0], self._tail
        if first < offset:
            raise LogRefused(
                f"{self._ledger.topic}/{self.number} has lost records: read to {offset}, appended at {first}"
            )
        foreign: list[Message] = []
        while offset < first:
            records = await self.ports.log.read(
                self._ledger.topic, self.number, offset, max_records=min(first - offset, 500), wait_seconds=1.0
            )
            foreign += known_messages(self.ports.codec, [stored for stored in records if stored.offset < first])
            if records:
                offset = records[-1].offset + 1
        return foreign

    def _is_superseded(self, foreign: Sequence[Message]) -> bool:
        """Whether the append that follows `foreign` does not count."""
        return names_foreign_claim(foreign)

    def _stand_down(self, sent: Append, foreign: Sequence[Message]) -> None:
        """Forget everything, and claim again only if the other claim is a late one of our own."""
        claims = {message.event.claim_id for message in foreign if isinstance(message.event, OwnerClaimed)}
        self._forget()
        if sent.kind is Kind.SNAPSHOT_CLAIM:
            self._claim, self._claim_offset = sent.claim, sent.offsets[0]
        elif not claims <= self._lost_claims:
            raise NotOwner(f"{self._ledger.topic}/{self.number} was claimed by another owner")

    def _count(self, sent: Append) -> None:
        """Act on an append that was read back as effective."""
        if sent.batch is not None:
            self._count_decisions(sent, sent.batch)
        elif sent.kind is Kind.CHECKPOINT:
            self._since_checkpoint = 0
            self._checkpointed_ms = self.ports.clock.boot_ms()
            self.ports.observer.checkpointed(self.decider.name, self.number, dict(self.partition.positions))
        elif sent.kind is Kind.SNAPSHOT_CLAIM:
            self._claim, self._claim_offset = sent.claim, sent.offsets[0]
            self.partition.use_claim(sent.claim)
            self._snapshot = snapshots.begin(self._claim_offset, self.partition.state)
        elif sent.kind is Kind.CHUNKS and self._snapshot is not None:
            self._snapshot = self._snapshot.after(len(sent.offsets))

    def _count_decisions(self, sent: Append, batch: Batch) -> None:
        for offset, item in zip(sent.offsets, batch.decided, strict=True):
            self._outbox.put(offset, self._deriver.records(_effective(offset, item), item.derived))
        self._tell_committed(len(sent.offsets), batch, sent.began_ms)

    def _tell_committed(self, records: int, batch: Batch, began_ms: float) -> None:
        self._since_checkpoint += records
        commit_ms = self.ports.clock.boot_ms() - began_ms
        self.ports.observer.committed(self.decider.name, self.number, batch.transitions, len(batch.decided), commit_ms)
        if asked := [TraceHeaders(item.traceparent, item.tracestate) for item in batch.decided if item.traceparent]:
            self.ports.observer.traced(self.decider.name, self.number, asked, commit_ms)

    # deriving

    async def derive_next(self) -> Action:
        """Append the next derived records. After an unknown outcome the next call begins at the same record."""
        bounds = self.ports.bounds
        records = self._outbox.front(bounds.derive_records, bounds.batch_bytes)
        try:
            await self.ports.log.append(records)
        except UnknownOutcome:
            self._count_unknown("derived")
            return Action.DERIVE
        self.unknown_in_a_row = 0
        self._outbox.acknowledge(len(records))
        self.ports.observer.derived(self.decider.name, self.number, len(records))
        return Action.DERIVE

    def _derived_below(self) -> int:
        """Every decision below this ledger offset is derived and acknowledged for all targets."""
        return self._outbox.derived_below(self._tail)

    # checkpoints and snapshots

    def _checkpoint_pays(self) -> bool:
        bounds = self.ports.bounds
        waited_ms = self.ports.clock.boot_ms() - self._checkpointed_ms
        return self._since_checkpoint >= bounds.checkpoint_records or (
            self._since_checkpoint > 0 and waited_ms >= bounds.checkpoint_seconds * 1000
        )

    async def checkpoint(self) -> Action:
        """Append how far inputs are decided and decisions derived. Only between batches."""
        below = self._derived_below()
        event = OwnerCheckpointed(below, *self.partition.progress(below))
        await self._send_own(Kind.CHECKPOINT, [event])
        return Action.CHECKPOINT

    def _snapshot_pays(self) -> bool:
        """Whether the tail has outgrown the map; the map is counted only once the tail is long enough to ask."""
        if self._since_snapshot <= self._snapshot_floor:
            return False
        if self.ports.clock.boot_ms() - self._restored_ms < self.ports.bounds.snapshot_rest_seconds * 1000:
            return False
        self._snapshot_floor = max(self._snapshot_floor, sum(1 for _ in self.partition.state.items()))
        return self._since_snapshot > self._snapshot_floor

    async def snapshot_step(self) -> Action:
        """Begin a snapshot, append its next chunks or its end. Only between batches; `IDLE` while it must wait."""
        snapshot = self._snapshot
        if snapshot is None:
            await self._begin_snapshot()
        elif not snapshot.is_written:
            await self._append_chunks(snapshot)
        elif snapshots.may_complete(snapshot.start, self._derived_below()):
            progress = self.partition.progress(self._derived_below())
            await self._send_own(Kind.COMPLETION, [OwnerSnapshotCompleted(snapshot.start, *progress)])
        else:
            return Action.IDLE
        return Action.SNAPSHOT

    async def _begin_snapshot(self) -> None:
        """A snapshot begins with a fresh claim: reading may begin there, and what is before it may go."""
        claim = self.ports.entropy.uuid()
        record = self._own_record(OwnerClaimed(claim, self.ports.owner), claim, self.partition.now_ms())
        self._sent = await self._append(Append(Kind.SNAPSHOT_CLAIM, (record,), claim))

    async def _append_chunks(self, snapshot: snapshots.Snapshot) -> None:
        bounds = self.ports.bounds
        chunks = snapshots.next_chunks(
            snapshot,
            self.partition.state,
            self._values,
            reflects=self._tail - 1,
            records_max=bounds.snapshot_step_records,
            bytes_max=bounds.snapshot_step_bytes,
        )
        if not await self._send_own(Kind.CHUNKS, chunks):
            self._give_up_snapshot()

    def _give_up_snapshot(self) -> None:
        """A value that no record can hold: the ledger stays long, and correct. Tried again when it is twice as long."""
        self._snapshot = None
        self._snapshot_floor = 2 * self._since_snapshot
        self.ports.observer.failed(self.decider.name, self.number, "no snapshot is made", "ValueTooLong")

    async def _end_snapshot(self) -> None:
        """The snapshot is whole and effective: hint at it, and keep it and the one before."""
        assert self._snapshot is not None
        start = self._snapshot.start
        kept = (*self._starts[-1:], start)
        await self.ports.hint.set(self._ledger.topic, self.number, start)
        if len(kept) > 1:
            await self.ports.log.delete_before(self._ledger.topic, self.number, kept[0])
        self._starts = kept
        # Its own chunks are as many as the map has keys: counted, they alone would make the next snapshot pay.
        self._since_snapshot = self._tail - start - len(self._snapshot.keys)
        self._snapshot = None
        self._snapshot_floor = self.ports.bounds.snapshot_records

    async def _send_own(self, kind: Kind, events: Sequence[Event]) -> bool:
        """Append records of the owner itself; False when one is too long for the log."""
        now_ms = self.partition.now_ms()
        records = tuple(self._own_record(event, self._claim, now_ms) for event in events)
        if any(record_bytes(record) > RECORD_BYTES_MAX for record in records):
            return False
        self._sent = await self._append(Append(kind, records, self._claim))
        return True

    def _own_record(self, event: Event, claim: str, now_ms: int) -> Record:
        key = event.key if isinstance(event, OwnerSnapshotChunked) else str(self.number)
        envelope = Envelope(id=derived_id(claim, self.ports.entropy.nonce()), time_ms=now_ms, claim=claim)
        return self.ports.codec.encode(
            event, topic=self._ledger.topic, key=key, envelope=envelope, partition=self.number
        )

    # running

    def drain(self) -> None:
        """From here on `step` finishes what is decided, derives it, writes a checkpoint and says `DRAINED`."""
        self._draining = True
        self.ring()

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining

    def ring(self) -> None:
        """End an `await_work`."""
        if self._feed is not None:
            self._feed.bell.set()

    def sleep_ms(self) -> int | None:
        """After an idle step: how long nothing is due; None when only an input brings work."""
        waits = [wait for wait in (self._due_in_ms(), self._rest_ms()) if wait is not None]
        return min(waits, default=None)

    def _due_in_ms(self) -> int | None:
        due_ms = self.partition.state.due_ms()
        if due_ms is None:
            return None
        if self._wake is not None:
            return _STUCK_WAKE_MS
        return max(max(due_ms, self._wake_not_before) - self.partition.now_ms(), 0)

    def _rest_ms(self) -> int | None:
        """How long a snapshot must wait that only the rest after the restore holds up: no input need come for it."""
        if self._snapshot is not None or self._since_snapshot <= self._snapshot_floor:
            return None
        rested_ms = self.ports.clock.boot_ms() - self._restored_ms
        return max(ceil(self.ports.bounds.snapshot_rest_seconds * 1000 - rested_ms), 0)

    async def await_work(self) -> None:
        """Wait for an input or a `ring`. Needs `reads_ahead`, else only `ring` ends it."""
        assert self._feed is not None
        await self._feed.bell.wait()


def _effective(offset: int, item: Decided) -> Effective:
    """The decision `item` as it stands in the ledger at `offset`."""
    return Effective(offset, item.decision, item.id, item.time_ms, item.traceparent, item.tracestate, item.record.value)
