"""The log port: append and read, nothing else. Its weakest implementation shapes it (design 9).

Implementations: `memory` (simulator), `sqlite` (embedded), `kafka` (cluster). One contract suite runs over all.

What is made for every record is a frozen struct: made in a fifth of the time of a frozen dataclass, and the same
otherwise, but for `replace`, which is that of `msgspec.structs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Record(Struct, frozen=True, gc=False):
    """One record to be appended.

    `partition` is explicit: `kernel.log.topics.partition_of(topic, key)` computes it. `headers` hold the CloudEvents
    attributes as UTF-8 text (see `kernel.log.codec`); `value` is the plain protobuf message.
    """

    topic: str
    partition: int
    key: str
    headers: tuple[tuple[str, str], ...]
    value: bytes


class Stored(Struct, frozen=True, gc=False):
    """One record as it stands in the log. `offset` is per topic and partition, from 0, with no meaning beyond order."""

    record: Record
    offset: int
    appended_ms: int


class Position(Struct, frozen=True, gc=False):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class EventLog(Protocol):
    """A partitioned, durable, ordered log.

    Raises `LogUnavailable` when nothing was written and a later try may succeed, `UnknownOutcome` when an append may
    have landed, `LogRefused` when no later try can succeed (full disk, second process on the folder, damaged file,
    recreated topic).
    """

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has; fixed at its creation. `KeyError` for a topic that does not exist."""
        ...

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """Append; durable when it returns. Records of one call for one partition are one atomic batch, in order.

        Across partitions a call may be cut (all or nothing per partition). At most 1 MiB a partition and call, 64 KiB
        a record, else `ValueError`. Calls that run concurrently are ordered per partition in the order of the calls
        that were made from one task.
        """
        ...

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        """Records from `offset` on, oldest first, at most `max_records`.

        Empty when there are none; with `wait_seconds` it waits until at least one is there (woken, not polling) or the
        time is over. An offset below `start_offset` is answered from `start_offset` on.
        """
        ...

    async def end_offset(self, topic: str, partition: int) -> int:
        """The high watermark: the offset that the next record will get, as known by the log when asked."""
        ...

    async def confirmed_end(self, topic: str, partition: int) -> int:
        """As `end_offset`, and certain: whatever anybody was acknowledged, or could read, before this was called stands
        below it.

        A part of a log that is cut off from the rest may answer `end_offset` with an old end; here it is
        `LogUnavailable`. Dearer, so for those only who must not miss a record, like the fence.
        """
        ...

    async def start_offset(self, topic: str, partition: int) -> int:
        """The first offset that is still there."""
        ...

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        """Below this, and from `offset` on, stands nothing that can be read, nor will it: `offset` itself or more.

        More where records were deleted, or where others have left the marks of their transactions (Kafka): what ends in
        such marks ends before `end_offset`, and no read ever gets there.
        """
        ...

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Records below `offset` may go; called only at a claim, by the owner of a ledger. Idempotent."""
        ...

    async def topic_id(self, topic: str) -> str:
        """Identity of this topic in this cluster; a recreated topic has another one."""
        ...

    async def close(self) -> None:
        """Finish what is acknowledged and let go. Idempotent."""
        ...


class AppendsAtEnd(Protocol):
    """What a log on one machine offers beside `EventLog`: one atomic append over several partitions, on a condition.

    An owner that has read its ledger to `end` and appends there knows at once that nothing stands between, so decisions
    and what is derived from them become durable together. A log that cannot (Kafka) is simply not asked.
    """

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        """Append all records, of all their partitions, whole or not at all, if the partition ends at `end`.

        None, and nothing is written, when it is not. Errors are those of `append`; after `UnknownOutcome` the condition
        holds or not at the moment when the append lands.
        """
        ...
