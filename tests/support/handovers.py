"""Who owned the partitions of a ledger, whose snapshots they began with, and in which shapes those stand.

Read from the ledger itself, under its own rule: a record counts when it names the last claim before it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kernel.domain.owner import OwnerClaimed, OwnerSnapshotChunked, OwnerSnapshotCompleted
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import Topic


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a snapshot: its class, the number of its shape, the names of its fields."""

    kind: str
    shape: int
    names: frozenset[str]


@dataclass(slots=True)
class _Partition:
    next_offset: int = 0
    claim: str = ""
    owner: str = ""
    has_acted: bool = False
    entries: set[Entry] = field(default_factory=set)
    snapshot_of: str = ""


class Handovers:
    """Follows `topic` from its first kept record on, as often as `look` is called."""

    def __init__(self, log: EventLog, topic: Topic) -> None:
        self.taken: set[tuple[str, str]] = set()
        """(whose snapshot was the newest, who took over and went on from it)."""
        self.entries: defaultdict[str, set[Entry]] = defaultdict(set)
        """What stands in the complete snapshots of each owner."""
        self.snapshots: defaultdict[int, list[str]] = defaultdict(list)
        """Who completed the snapshots of a partition, in order."""
        self._log = log
        self._topic = topic
        self._partitions = [_Partition() for _ in range(log.partitions(topic))]

    @property
    def owners(self) -> list[str]:
        """Whose claim is the newest, by partition."""
        return [at.owner for at in self._partitions]

    async def look(self) -> None:
        """Read on to the end."""
        for number, at in enumerate(self._partitions):
            at.next_offset = max(at.next_offset, await self._log.start_offset(self._topic, number))
            while batch := await self._log.read(self._topic, number, at.next_offset):
                at.next_offset = batch[-1].offset + 1
                for message in map(decode, batch):
                    self._take(number, at, message.event, message.envelope.claim)

    def _take(self, number: int, at: _Partition, event: Any, claim: str) -> None:
        if isinstance(event, OwnerClaimed):
            if at.owner != event.owner:
                at.entries = set()
                at.has_acted = False
            at.claim, at.owner = claim, event.owner
            return
        if claim != at.claim:
            return
        if not at.has_acted and at.snapshot_of:
            self.taken.add((at.snapshot_of, at.owner))
        at.has_acted = True
        if isinstance(event, OwnerSnapshotChunked):
            at.entries.add(_entry(event))
        elif isinstance(event, OwnerSnapshotCompleted):
            self.entries[at.owner] |= at.entries
            self.snapshots[number].append(at.owner)
            at.snapshot_of, at.entries = at.owner, set()


def _entry(chunk: OwnerSnapshotChunked) -> Entry:
    names = msgspec.msgpack.decode(chunk.value) if chunk.value else {}
    return Entry(chunk.kind, chunk.shape, frozenset(names))
