"""What a ledger means: which of its records are effective, and what a partition is after them. Pure.

A record is effective if and only if the last claim before it is the one that it names (design 4.2). `LedgerFold` reads
a ledger from a claim on, in order, and keeps of it what a new owner needs:

    the map              of each key the chunk that reflects the highest offset, then that key's decisions above it
    positions, marks     the highest of checkpoints, snapshots and, for positions, the causes of decisions
    what to derive       the decisions from `derived_below` on
    now                  the last time that anything effective was decided at

Each rule is a function of its own, so that a test can switch it off and see the net tear.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from kernel.domain.decider import Decider, Decision
from kernel.domain.owner import (
    InputPosition,
    OwnerCheckpointed,
    OwnerClaimed,
    OwnerSnapshotChunked,
    OwnerSnapshotCompleted,
    Watermark,
)
from kernel.errors import LogRefused
from kernel.log.envelope import Envelope, Message, Source
from kernel.processor.turns import InTurns, ends_turn
from kernel.processor.values import StateValues

Mark = tuple[int, int]
"""(offset, index) of a derived record in its source ledger."""
MarkKey = tuple[str, str, int]
"""Input topic, id of the source ledger's topic, its partition."""


# rules


def is_effective(claim: str, last_claim: str | None) -> bool:
    """A record that names `claim` counts after `last_claim`, None when no claim was read yet."""
    return claim == last_claim


def moves_positions(effective: bool) -> bool:  # noqa: FBT001 (the rule is about this one bit)
    """Whether the cause of a decision counts as decided."""
    return effective


def carries_progress(effective: bool) -> bool:  # noqa: FBT001 (the rule is about this one bit)
    """Whether a checkpoint or the end of a snapshot is believed."""
    return effective


def replaces(new_offset: int, old_offset: int) -> bool:
    """Whether a chunk that reflects `new_offset` is taken instead of one that reflects `old_offset`."""
    return new_offset >= old_offset


def is_above_chunk(offset: int, chunk_offset: int) -> bool:
    """Whether a decision at `offset` is still to be folded onto a value that reflects `chunk_offset`."""
    return offset > chunk_offset


def is_new(source: Source, mark: Mark | None) -> bool:
    """Whether a derived record stands above what was accepted from its source."""
    return mark is None or (source.offset, source.index) > mark


def names_foreign_claim(messages: Iterable[Message]) -> bool:
    """Whether another owner has claimed the ledger in `messages`, none of which is ours."""
    return any(isinstance(message.event, OwnerClaimed) for message in messages)


# the fold


class Effective(Struct, frozen=True):
    """An effective decision: where it stands, what it is, and the parts of its envelope that its records inherit.

    `value` is that of its record, where it is at hand.
    """

    offset: int
    decision: Decision
    id: str
    time_ms: int
    traceparent: str
    tracestate: str = ""
    value: bytes = b""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far inputs are decided (next offset by topic) and accepted (mark by source), and when last."""

    positions: dict[str, int]
    watermarks: dict[MarkKey, Mark]
    now_ms: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition as the ledger tells it.

    `carried` is the progress that checkpoints and snapshots state, `positions` the same with the causes of decisions
    after them. `starts` are the claims that begin the complete snapshots which were read, oldest first. `records`
    counts the ledger since the last of them, without a chunk for each key.
    """

    values: dict[str, Any]
    carried: Progress
    positions: dict[str, int]
    topic_ids: dict[str, str]
    derived_below: int
    underived: tuple[Effective, ...]
    now_ms: int
    starts: tuple[int, ...]
    records: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    at: int
    reflects: int
    kind: str
    value: bytes
    shape: int


class LedgerFold:
    """Reads the messages of a ledger partition in order, from offset `base` up to the reader's own claim."""

    def __init__(self, base: int) -> None:
        self._base = base
        self._claim: str | None = None
        self._chunks: dict[str, _Chunk] = {}
        self._decisions: list[Message] = []
        self._carried = Progress({}, {}, 0)
        self._positions: dict[str, int] = {}
        self._topic_ids: dict[str, str] = {}
        self._derived_below = base
        self._starts: list[int] = []
        self._now_ms = 0
        self._next = base

    def add(self, message: Message) -> None:
        """Fold one message. Raises `LogRefused` when the ledger has seen two topics of one name."""
        self._next = message.offset + 1
        event, claim = message.event, message.envelope.claim
        if isinstance(event, OwnerClaimed):
            self._claim = event.claim_id
            return
        effective = is_effective(claim, self._claim)
        match event:
            case OwnerSnapshotChunked():
                if effective:
                    self._add_chunk(message.offset, event)
            case OwnerSnapshotCompleted():
                if carries_progress(effective) and event.start >= self._base:
                    self._carry(event, event.start)
                    self._begin_at(event.start)
            case OwnerCheckpointed():
                if carries_progress(effective):
                    self._carry(event, event.derived_below)
            case _:
                if moves_positions(effective):
                    self._advance(message)
                if effective:
                    self._decisions.append(message)
                    self._now_ms = max(self._now_ms, message.envelope.time_ms)

    def finish(self, decider: Decider, values: StateValues) -> InTurns[Restored | None]:
        """The partition after all messages; None when they begin after offset 0 without a complete snapshot."""
        if self._base > 0 and not self._starts:
            return None
        start = self._starts[-1] if self._starts else 0
        held = yield from self._read_chunks(values)
        underived = yield from self._fold_decisions(decider, held)
        return Restored(
            values=held,
            carried=self._carried,
            positions=dict(self._positions),
            topic_ids=dict(self._topic_ids),
            derived_below=self._derived_below,
            underived=tuple(underived),
            now_ms=self._now_ms,
            starts=tuple(self._starts),
            records=self._next - start - (len(self._chunks) if self._starts else 0),
        )

    def _add_chunk(self, at: int, event: OwnerSnapshotChunked) -> None:
        old = self._chunks.get(event.key)
        if old is None or replaces(event.offset, old.reflects):
            self._chunks[event.key] = _Chunk(at, event.offset, event.kind, event.value, event.shape)

    def _begin_at(self, start: int) -> None:
        """Forget what stands before the last complete snapshot: it holds every key that was alive there."""
        self._starts.append(start)
        if start > self._base:
            self._chunks = {key: chunk for key, chunk in self._chunks.items() if chunk.at >= start}
            self._decisions = [message for message in self._decisions if message.offset >= start]

    def _carry(self, event: OwnerCheckpointed | OwnerSnapshotCompleted, derived_below: int) -> None:
        self._derived_below = max(self._derived_below, derived_below)
        for position in event.positions:
            self._carry_position(position)
        for mark in event.watermarks:
            raise_mark(self._carried.watermarks, mark_key(mark), (mark.offset, mark.index))
        self._now_ms = max(self._now_ms, event.now_ms)

    def _carry_position(self, position: InputPosition) -> None:
        known = self._topic_ids.setdefault(position.topic, position.topic_id)
        if known != position.topic_id:
            raise LogRefused(f"{position.topic} was recreated: positions name {known} and {position.topic_id}")
        for positions in (self._carried.positions, self._positions):
            positions[position.topic] = max(positions.get(position.topic, 0), position.offset)

    def _advance(self, message: Message) -> None:
        cause = message.envelope.cause
        if cause is not None and cause.topic:
            self._positions[cause.topic] = max(self._positions.get(cause.topic, 0), cause.offset + 1)

    def _read_chunks(self, values: StateValues) -> InTurns[dict[str, Any]]:
        """The map as the chunks hold it."""
        held: dict[str, Any] = {}
        for number, (key, chunk) in enumerate(self._chunks.items(), 1):
            value = values.read(chunk.kind, chunk.value, chunk.shape)
            if value is not None:
                held[key] = value
            if ends_turn(number):
                yield
        return held

    def _fold_decisions(self, decider: Decider, held: dict[str, Any]) -> InTurns[list[Effective]]:
        """Fold each decision onto the keys of `held` whose chunk is below it; those that are still to be derived."""
        underived = []
        for number, message in enumerate(self._decisions, 1):
            offset, decision = message.offset, decision_of(message)
            for key in decider.touches(decision):
                chunk = self._chunks.get(key)
                if is_above_chunk(offset, chunk.reflects if chunk is not None else -1):
                    value = decider.evolve(key, held.get(key), decision)
                    if value is not None:
                        held[key] = value
                    else:
                        held.pop(key, None)
            if offset >= self._derived_below:
                underived.append(_effective(offset, decision, message.envelope))
            if ends_turn(number):
                yield
        return underived


def decision_of(message: Message) -> Decision:
    """The decision that a ledger record holds."""
    envelope = message.envelope
    return Decision(
        message.event,
        message.key,
        envelope.sequence,
        envelope.subject,
        envelope.organization_id,
        envelope.correlation_id,
    )


def _effective(offset: int, decision: Decision, envelope: Envelope) -> Effective:
    return Effective(offset, decision, envelope.id, envelope.time_ms, envelope.traceparent, envelope.tracestate)


def mark_key(mark: Watermark) -> MarkKey:
    return mark.input_topic, mark.topic_id, mark.partition


def raise_mark(marks: dict[MarkKey, Mark], key: MarkKey, mark: Mark) -> None:
    """Set the mark of `key` unless a higher one stands there."""
    marks[key] = max(marks.get(key, mark), mark)
