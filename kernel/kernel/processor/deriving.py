"""What leaves a partition: records for other topics, in ledger order, each naming the decision that it repeats.

Derived records wait in an outbox until they are acknowledged. A call takes from its front and removes what was
acknowledged; after an unknown outcome the next call therefore begins at the first unacknowledged record, and since a
receiver drops what is not above its watermark, what lands twice or late changes nothing (design 4.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kernel.domain.decider import Derived
from kernel.ids import derived_id
from kernel.log.envelope import Envelope, Source
from kernel.log.limits import record_bytes
from kernel.log.port import Record
from kernel.log.topics import TOPICS, Topic, partition_of
from kernel.processor.ledger import Effective
from kernel.processor.ports import Codec

_PUBLIC = frozenset(topic.value for topic, row in TOPICS.items() if row.public)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Identity of the ledger partition that records are derived from."""

    topic: Topic | str
    topic_id: str
    partition: int


class Deriver:
    """Makes the records of effective decisions."""

    def __init__(self, codec: Codec, ledger: Ledger, partitions: Callable[[str], int]) -> None:
        self._codec = codec
        self._ledger = ledger
        self._partitions = partitions

    def records(self, effective: Effective, derived: Sequence[Derived]) -> list[Record]:
        """The records of one decision, in the order of `Decider.derive`."""
        return [self._record(effective, index, item) for index, item in enumerate(derived)]

    def _record(self, effective: Effective, index: int, item: Derived) -> Record:
        decision, ledger = effective.decision, self._ledger
        envelope = Envelope(
            id=derived_id(effective.id, str(index)),
            time_ms=effective.time_ms,
            subject=decision.subject,
            sequence=decision.sequence if item.topic in _PUBLIC else 0,
            organization_id=decision.organization_id,
            correlation_id=decision.correlation_id,
            causation_id=effective.id,
            traceparent=effective.traceparent,
            source=Source(ledger.topic_id, ledger.partition, effective.offset, index),
            tracestate=effective.tracestate,
        )
        partition = item.partition
        if partition is None:
            partition = partition_of(item.key, self._partitions(item.topic))
        value = effective.value if item.event is decision.event else b""  # most of them repeat it
        return self._codec.encode(
            item.event, topic=item.topic, key=item.key, envelope=envelope, partition=partition, value=value
        )


class Outbox:
    """Derived records that are not acknowledged yet, with the ledger offsets of their decisions."""

    def __init__(self, waiting: Iterable[tuple[int, Record]] = ()) -> None:
        self._waiting: deque[tuple[int, Record]] = deque(waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __copy__(self) -> Outbox:
        return Outbox(self._waiting)

    def put(self, offset: int, records: Iterable[Record]) -> None:
        """The records of the decision at ledger `offset`, which is above all before."""
        self._waiting.extend((offset, record) for record in records)

    def front(self, records_max: int, bytes_max: int) -> list[Record]:
        """The next records to append in one call, at least one if any waits."""
        batch: list[Record] = []
        size = 0
        for _, record in self._waiting:
            size += record_bytes(record)
            if batch and (len(batch) >= records_max or size > bytes_max):
                break
            batch.append(record)
        return in_ledger_order(batch)

    def acknowledge(self, count: int) -> None:
        """The first `count` records are durable."""
        for _ in range(count):
            self._waiting.popleft()

    def derived_below(self, tail: int) -> int:
        """Every decision below this ledger offset is derived and acknowledged; `tail` is where the ledger ends."""
        return self._waiting[0][0] if self._waiting else tail


def in_ledger_order(records: list[Record]) -> list[Record]:
    """The order in which derived records are appended: that of their decisions, as they wait."""
    return records
