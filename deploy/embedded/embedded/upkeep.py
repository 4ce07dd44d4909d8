"""The housework: facts name their blobs, what was never named goes after a day, and what has expired goes too.

A follower reads the topics whose records may refer to blobs (documents, inputs, journals, artifacts) and tells the
store which are named. It begins anew at every start: naming twice changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import structlog

from api_gateway.upkeep import sweep as sweep_gateway
from artifact_store.inprocess import Store
from kernel.clock import Clock
from kernel.domain.artifact import ArtifactCreated, StagedArtifact
from kernel.domain.values import Document, SealedBody
from kernel.errors import LogUnavailable, Temporary, UnknownType
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from kernel.sql.port import Database

NAMING_TOPICS = (Topic.DEFINITIONS, Topic.RUN_LEDGER, Topic.JOB_RUNS)
SWEEP_SECONDS = 3600.0
READ_SECONDS = 30.0

_log = structlog.get_logger("embedded.upkeep")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
"""A blob is named by its SHA-256 in hex; most records hold none and are not decoded."""


async def keep_up(store: Store, db: Database, log: EventLog, clock: Clock) -> None:
    """Name and sweep until cancelled."""
    async with asyncio.TaskGroup() as group:
        for topic in NAMING_TOPICS:
            for partition in range(log.partitions(topic)):
                group.create_task(_follow(store, log, clock, topic, partition))
        group.create_task(_sweep(store, db, clock))


async def _follow(store: Store, log: EventLog, clock: Clock, topic: Topic, partition: int) -> None:
    offset = 0
    while True:
        try:
            batch = await log.read(topic, partition, offset, wait_seconds=READ_SECONDS)
            named: set[str] = set()
            for stored in batch:
                offset = stored.offset + 1
                if not _DIGEST.search(stored.record.value):
                    continue
                try:
                    named.update(blobs_of(decode(stored).event))
                except UnknownType:
                    continue
            if named:
                await store.bytes.mark_named(sorted(named))
        except (LogUnavailable, Temporary) as error:
            _log.warning("naming.retry", topic=topic, partition=partition, error=str(error))
            await clock.sleep(1.0)


async def _sweep(store: Store, db: Database, clock: Clock) -> None:
    while True:
        await clock.sleep(SWEEP_SECONDS)
        await sweep_gateway(db, clock)
        gone = await store.sweep(clock.now_ms())
        _log.info("store.swept", gone=gone)


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
