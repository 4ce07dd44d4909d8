"""Which records name which blobs: a blob stays as long as one of them does.

A follower reads the topics whose records may refer to blobs (documents, inputs, journals, artifacts), keeps a row for
each pair of a record's key and a digest, and tells the store which digests are named. The rows and how far the follower
came are one commit, so a restart reads on, and of two followers of one partition only one moves it on. When a run is
forgotten its rows go, and digests without any other row are staged bytes again, which the store sweeps.

What names a blob must be read before the blob is swept or a name is forgotten: both wait for `caught_up`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Protocol, get_args, get_type_hints

import structlog

from artifact_store.batches import batches, marks
from kernel.clock import Clock
from kernel.domain.artifact import ArtifactCreated, StagedArtifact
from kernel.domain.values import Document, SealedBody
from kernel.errors import Temporary, UnknownOutcome, UnknownType
from kernel.log.codec import decode
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic
from kernel.sql.port import Database, Statement

NAMING_TOPICS = (Topic.DEFINITIONS, Topic.RUN_LEDGER, Topic.JOB_RUNS)
READ_SECONDS = 30.0
RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_CATCH_UP_SECONDS = 120.0
_UNKEPT_MAX = 5000
"""So many records without names are read again after a restart."""

_log = structlog.get_logger("artifact_store.naming")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
"""A blob is named by its SHA-256 in hex; most records hold none and are not decoded."""
_NAME = "INSERT INTO named_blobs (sha256, name) VALUES (?, ?) ON CONFLICT DO NOTHING"
_REACHED = """
INSERT INTO naming_offsets (topic, partition, topic_id, next_offset) VALUES (?, ?, ?, ?)
ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id, next_offset = excluded.next_offset
WHERE naming_offsets.topic_id <> excluded.topic_id OR naming_offsets.next_offset = ?
"""
"""Moves a partition on, unless somebody else has."""


class Namable(Protocol):
    """What naming tells the bytes."""

    async def mark_named(self, sha256s: Sequence[str]) -> None:
        """Facts name these blobs."""
        ...

    async def forget_names(self, sha256s: Sequence[str]) -> None:
        """No fact names these blobs any more."""
        ...


class Naming:
    """The names of one store. One per process: naming and forgetting take turns."""

    def __init__(self, store: Namable, db: Database, log: EventLog, clock: Clock) -> None:
        self._store = store
        self._db = db
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()
        self._kept: dict[tuple[str, int], int] = {}
        """Next offset by partition, as it was written last."""
        self._read: dict[tuple[str, int], int] = {}
        """Next offset by partition, as it was read last."""

    async def follow(self) -> None:
        """Name until cancelled. A log or a database that is away is asked again and again.

        `LogRefused` in an `ExceptionGroup` when nothing helps.
        """
        self._read.clear()
        async with asyncio.TaskGroup() as group:
            for topic, partition in self._partitions():
                group.create_task(self._follow(topic, partition))

    async def catch_up(self) -> None:
        """Name what is in the log now. Not beside `follow`."""
        for topic, partition in self._partitions():
            offset = await self._position(topic, partition)
            while batch := await self._log.read(topic, partition, offset):
                offset = await self._take(topic, partition, batch)

    async def caught_up(self) -> None:
        """Return once `follow` has named what was in the log at the call.

        `Temporary("naming_behind")` when that takes too long.
        """
        ends = {(topic, at): await self._log.end_offset(topic, at) for topic, at in self._partitions()}
        deadline_ms = self._clock.boot_ms() + _CATCH_UP_SECONDS * 1000
        while any(self._read.get(where, 0) < end for where, end in ends.items()):
            if self._clock.boot_ms() > deadline_ms:
                raise Temporary("naming_behind", "records that may name blobs are not read yet", delay_seconds=60.0)
            await self._clock.sleep(_LOOK_SECONDS)

    async def forget(self, names: Collection[str]) -> None:
        """These keys name nothing any more; what nobody else names is swept with the staged bytes. Repeatable."""
        for part in batches(sorted(names)):
            mine = marks(part)
            only_theirs = (
                f"SELECT DISTINCT sha256 FROM named_blobs AS mine WHERE name IN ({mine}) AND NOT EXISTS"  # noqa: S608 (marks only)
                f" (SELECT 1 FROM named_blobs WHERE sha256 = mine.sha256 AND name NOT IN ({mine}))"
            )
            async with self._turn:
                rows = await self._db.fetch_all(only_theirs, (*part, *part))
                await self._store.forget_names([row[0] for row in rows])
                await self._db.execute(f"DELETE FROM named_blobs WHERE name IN ({mine})", tuple(part))  # noqa: S608 (marks only)

    def _partitions(self) -> list[tuple[Topic, int]]:
        return [(topic, at) for topic in NAMING_TOPICS for at in range(self._log.partitions(topic))]

    async def _follow(self, topic: Topic, partition: int) -> None:
        offset: int | None = None
        has_come, was_empty = False, False
        while True:
            try:
                if offset is None:
                    offset = await self._position(topic, partition)
                self._read[topic, partition] = offset
                # Behind records there are mostly more, or soon: their end is asked for only when none come.
                end = offset if has_come else await self._log.end_offset(topic, partition)
                batch = await self._log.read(topic, partition, offset, wait_seconds=0 if offset < end else READ_SECONDS)
                if batch:
                    offset = await self._take(topic, partition, batch)
                elif was_empty:
                    # Nothing is left of what stood there.
                    offset = max(offset, end)
                has_come = bool(batch)
                # A new leader shows late what it has, and tells its end only afterwards: it is asked for both again.
                was_empty = not batch and offset < end
            except (Temporary, UnknownOutcome) as error:
                # A batch that was committed without an answer has moved the position: `_take` finds that out.
                _log.warning("naming.retry", topic=topic, partition=partition, error=str(error))
                await self._clock.sleep(self._retry_seconds(topic, partition))

    def _retry_seconds(self, topic: Topic, partition: int) -> float:
        """Spread, so that not all partitions ask at once what has just come back."""
        return RETRY_SECONDS * (0.5 + partition / self._log.partitions(topic))

    async def _position(self, topic: Topic, partition: int) -> int:
        """Where to read on; a recreated topic is read from its start."""
        row = await self._db.fetch_one(
            "SELECT next_offset FROM naming_offsets WHERE topic = ? AND partition = ? AND topic_id = ?",
            (topic.value, partition, await self._log.topic_id(topic)),
        )
        offset: int = row[0] if row else 0
        self._kept[topic, partition] = offset
        return offset

    async def _take(self, topic: Topic, partition: int, batch: Sequence[Stored]) -> int:
        """Name what `batch` names; where to read on. A batch that names nothing costs no commit, for a while."""
        offset = batch[-1].offset + 1
        kept = self._kept.get((topic, partition), 0)
        pairs = sorted({(sha256, stored.record.key) for stored in batch for sha256 in _named_by(stored)})
        if not pairs and offset - kept < _UNKEPT_MAX:
            return offset
        reached: Statement = (_REACHED, (topic.value, partition, await self._log.topic_id(topic), offset, kept))
        async with self._turn:
            await self._store.mark_named(sorted({sha256 for sha256, _ in pairs}))
            moved = await self._db.transaction([reached, *((_NAME, pair) for pair in pairs)], guarded=True)
        if moved[0] == 0:
            # Somebody else follows this partition, too, and was first.
            return await self._position(topic, partition)
        self._kept[topic, partition] = offset
        return offset


def _named_by(stored: Stored) -> list[str]:
    if not _DIGEST.search(stored.record.value):
        return []
    try:
        return list(blobs_of(decode(stored).event))
    except UnknownType:
        return []


def blobs_of(event: Any) -> Iterator[str]:
    """Digests of every blob that `event` refers to, wherever in it."""
    match event:
        case SealedBody(blob=blob) | Document(blob=blob):
            if blob:
                yield blob
        case StagedArtifact(sha256=sha256) | ArtifactCreated(sha256=sha256):
            yield sha256
        case tuple():
            for item in event:
                yield from blobs_of(item)
        case _:
            for name in _ways_to_blobs(event.__class__):
                yield from blobs_of(getattr(event, name))


@cache
def _ways_to_blobs(cls: type) -> tuple[str, ...]:
    """The fields of a dataclass behind which a blob may be named, by their annotations."""
    if not is_dataclass(cls):
        return ()
    return tuple(name for name, hint in get_type_hints(cls).items() if _may_name(hint))


def _may_name(hint: Any) -> bool:
    if get_args(hint):
        return any(_may_name(part) for part in get_args(hint))
    return hint in _NAMING or (isinstance(hint, type) and bool(_ways_to_blobs(hint)))


_NAMING: frozenset[type] = frozenset({SealedBody, Document, StagedArtifact, ArtifactCreated})
