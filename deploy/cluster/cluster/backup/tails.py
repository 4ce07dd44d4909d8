"""What the rules of a cut ask of each record: read out of its headers and, for what owners write, its value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.backup.cut import Partition, Tail
from kernel.domain.owner import OwnerCheckpointed, OwnerClaimed, OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.errors import UnknownType
from kernel.log.codec import decode
from kernel.log.envelope import Cause, Message, Source
from kernel.log.port import Stored

_OwnersWord = OwnerCheckpointed | OwnerSnapshotCompleted
_BY_OWNERS = (OwnerClaimed, OwnerCheckpointed, OwnerSnapshotChunked, OwnerSnapshotCompleted)


def tails_of(records: Iterable[Stored], topics: Mapping[str, str]) -> list[Tail]:
    """The tails of records of one partition, in order. `topics` are names by topic id."""
    found: list[Tail] = []
    last: tuple[Cause, int] | None = None
    for stored in records:
        tail, decided = _tail_of(stored, topics)
        joins = decided is not None and decided == last
        found.append(Tail(tail.offset, tail.needs, tail.derived_below, tail.source, joins_last=joins))
        last = decided
    return found


def _tail_of(stored: Stored, topics: Mapping[str, str]) -> tuple[Tail, tuple[Cause, int] | None]:
    """The tail of a record; and for a decision its cause, with its time where a due time has no other name."""
    try:
        message = decode(stored)
    except UnknownType:
        return Tail(stored.offset), None
    event, envelope = message.event, message.envelope
    if isinstance(event, _OwnersWord):
        return _tail_of_progress(message, event), None
    if isinstance(event, _BY_OWNERS):
        return Tail(stored.offset), None
    if envelope.source is not None:
        return _tail_of_derived(stored.offset, envelope.source, topics), None
    if envelope.cause is not None:
        cause = envelope.cause
        needs = {(cause.topic, cause.partition): cause.offset + 1} if cause.topic else {}
        return Tail(stored.offset, needs), (cause, 0 if cause.topic else envelope.time_ms)
    return Tail(stored.offset), None


def _tail_of_progress(message: Message, event: _OwnersWord) -> Tail:
    """Positions are those of the same partition; the ledger's own says how far everything was derived."""
    here: Partition = (message.topic, message.partition)
    needs = {(at.topic, message.partition): at.offset for at in event.positions if at.topic != message.topic}
    own = [at.offset for at in event.positions if at.topic == message.topic]
    return Tail(message.offset, needs, derived_below=(here, own[0]) if own else None)


def _tail_of_derived(offset: int, source: Source, topics: Mapping[str, str]) -> Tail:
    ledger = topics.get(source.topic_id)
    if ledger is None:
        return Tail(offset)
    decision = ((ledger, source.partition), source.offset)
    return Tail(offset, {decision[0]: source.offset + 1}, source=decision)
