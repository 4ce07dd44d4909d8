"""Which records name which blobs: a blob stays as long as one of them does.

A follower reads the topics whose records may refer to blobs (documents, inputs, journals, artifacts), keeps a row for
each pair of a record's key and a digest, and tells the store which digests are named. The rows and how far the follower
came are one commit, so a restart reads on. When a run is forgotten its rows go, and digests without any other row are
staged bytes again, which the store sweeps.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import structlog

from artifact_store.inprocess import Store
from kernel.clock import Clock
from kernel.domain.artifact import ArtifactCreated, StagedArtifact
from kernel.domain.values import Document, SealedBody
from kernel.errors import LogUnavailable, Temporary, UnknownType
from kernel.log.codec import decode
from kernel.log.port import EventLog, Stored
from kernel.log.topics import Topic
from kernel.sql.port import Database, Statement

NAMING_TOPICS = (Topic.DEFINITIONS, Topic.RUN_LEDGER, Topic.JOB_RUNS)
READ_SECONDS = 30.0
_MARKS_MAX = 500
_UNKEPT_MAX = 5000
"""So many records without names are read again after a restart."""

_log = structlog.get_logger("embedded.naming")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
"""A blob is named by its SHA-256 in hex; most records hold none and are not decoded."""
_NAME = "INSERT INTO blob_names (sha256, name) VALUES (?, ?) ON CONFLICT DO NOTHING"
_REACHED = (
    "INSERT INTO naming_positions (topic, partition, topic_id, next_offset) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (topic, partition) DO UPDATE SET topic_id = excluded.topic_id, next_offset = excluded.next_offset"
)


class Naming:
    """The names of one folder. One per process: naming and forgetting take turns."""

    def __init__(self, store: Store, db: Database, log: EventLog, clock: Clock) -> None:
        self._store = store
        self._db = db
        self._log = log
        self._clock = clock
        self._turn = asyncio.Lock()
        self._kept: dict[tuple[str, int], int] = {}
        """Next offset by partition, as it was written last."""

    async def follow(self) -> None:
        """Name until cancelled."""
        async with asyncio.TaskGroup() as group:
            for topic in NAMING_TOPICS:
                for partition in range(self._log.partitions(topic)):
                    group.create_task(self._follow(topic, partition))

    async def catch_up(self) -> None:
        """Name what is in the log now. Not beside `follow`."""
        for topic in NAMING_TOPICS:
            for partition in range(self._log.partitions(topic)):
                offset = await self._position(topic, partition)
                while batch := await self._log.read(topic, partition, offset):
                    offset = await self._take(topic, partition, batch)

    async def forget(self, names: Collection[str]) -> None:
        """These keys name nothing any more; what nobody else names is swept with the staged bytes. Repeatable."""
        ordered = sorted(names)
        for begin in range(0, len(ordered), _MARKS_MAX):
            part = tuple(ordered[begin : begin + _MARKS_MAX])
            marks = ", ".join("?" * len(part))
            only_theirs = (
                f"SELECT DISTINCT sha256 FROM blob_names AS mine WHERE name IN ({marks}) AND NOT EXISTS"  # noqa: S608 (marks only)
                f" (SELECT 1 FROM blob_names WHERE sha256 = mine.sha256 AND name NOT IN ({marks}))"
            )
            async with self._turn:
                rows = await self._db.fetch_all(only_theirs, (*part, *part))
                await self._store.bytes.forget_names([row[0] for row in rows])
                await self._db.execute(f"DELETE FROM blob_names WHERE name IN ({marks})", part)  # noqa: S608 (marks only)

    async def _follow(self, topic: Topic, partition: int) -> None:
        offset: int | None = None
        while True:
            try:
                if offset is None:
                    offset = await self._position(topic, partition)
                batch = await self._log.read(topic, partition, offset, wait_seconds=READ_SECONDS)
                if batch:
                    offset = await self._take(topic, partition, batch)
            except (LogUnavailable, Temporary) as error:
                _log.warning("naming.retry", topic=topic, partition=partition, error=str(error))
                await self._clock.sleep(1.0)

    async def _position(self, topic: Topic, partition: int) -> int:
        """Where to read on; a recreated topic is read from its start."""
        row = await self._db.fetch_one(
            "SELECT next_offset FROM naming_positions WHERE topic = ? AND partition = ? AND topic_id = ?",
            (topic.value, partition, await self._log.topic_id(topic)),
        )
        offset: int = row[0] if row else 0
        self._kept[topic, partition] = offset
        return offset

    async def _take(self, topic: Topic, partition: int, batch: Sequence[Stored]) -> int:
        """Name what `batch` names; where to read on. A batch that names nothing costs no commit, for a while."""
        offset = batch[-1].offset + 1
        unkept = offset - self._kept.get((topic, partition), 0)
        pairs = sorted({(sha256, stored.record.key) for stored in batch for sha256 in _named_by(stored)})
        if pairs or unkept >= _UNKEPT_MAX:
            reached = (topic.value, partition, await self._log.topic_id(topic), offset)
            statements: list[Statement] = [*((_NAME, pair) for pair in pairs), (_REACHED, reached)]
            async with self._turn:
                await self._store.bytes.mark_named(sorted({sha256 for sha256, _ in pairs}))
                await self._db.transaction(statements)
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
