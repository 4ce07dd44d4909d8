"""Making a backup while everything works.

    1. Rows of read models, as of now: they were made from facts, and go on from where they were.
    2. The ends of all partitions, twice; one cut in between (`cluster.backup.cut`).
    3. Rows of vault, keys and owners of blobs, as of now: what a record in the cut names is there.
    4. The records below the cut, the rows of both moments, the blobs.

So after a restore the read models are behind the log, never ahead of it, and the vault is ahead of it, never behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.backup.cut import Partition, Window, greatest_cut
from cluster.backup.files import (
    FORMAT,
    KeptPartition,
    KeptTable,
    KeptTopic,
    Manifest,
    RecordsWriter,
    blob_file,
    digest_of_file,
    partition_file,
    table_file,
    write_manifest,
)
from cluster.backup.places import Places
from cluster.backup.tails import tails_of
from kernel.domain.owner import OwnerSnapshotCompleted
from kernel.errors import Permanent, UnknownType
from kernel.log.codec import decode
from kernel.log.kafka.log import KafkaLog
from kernel.log.port import EventLog, Stored
from kernel.log.topics import TOPICS, Topic
from kernel.sql.postgres.copying import TableReader, reading

VAULT_TABLES = frozenset(
    {
        "api_keys", "blob_owners", "blob_removals", "code_windows", "credential_guards", "secrets", "sessions",
        "subjects", "vault_audit",
    }
)  # fmt: skip
"""What no record tells, and what records point to: taken behind the cut. All other tables are taken before it."""
_LEFT_OUT = frozenset({"schema_migrations", "schema_oldest", "store_turns", "rate_limits"})
"""Made anew by whoever needs them."""
_MIGRATIONS = "SELECT component, number, checksum FROM schema_migrations ORDER BY 1, 2"
_COPIES_AT_ONCE = 8
_READ_RECORDS = 2000
_TRIES = 3

Say = Callable[[str], None]


async def save(places: Places, folder: Path, say: Say) -> Manifest:
    """Write a backup into `folder`, which is empty or does not exist; what it holds.

    `Permanent("folder_not_empty")`; what the log, the database and the blobs raise; `Permanent("backup_overtaken")`
    when a ledger was cut faster than it could be copied: begin again.
    """
    await asyncio.to_thread(_make_empty, folder)
    made_ms = places.clock.now_ms()
    log = await KafkaLog.open(places.kafka, places.clock)
    try:
        async with reading(places.postgres.url, places.postgres.schema) as before:
            cut = await find_cut(log)
            async with reading(places.postgres.url, places.postgres.schema) as behind:
                say(f"one cut through {len(cut)} partitions")
                topics = await _save_topics(log, cut, folder, say)
                tables = await _save_tables(before, behind, folder, say)
                migrations = await before.rows(_MIGRATIONS)
            blobs, blob_bytes = await _save_blobs(places, folder)
            say(f"{blobs} blobs of {blob_bytes} bytes")
    finally:
        await log.close()
    manifest = Manifest(
        format=FORMAT, made_ms=made_ms, topics=topics, tables=tables, migrations=[(*row,) for row in migrations],
        blobs=blobs, blob_bytes=blob_bytes,
    )  # fmt: skip
    await asyncio.to_thread(write_manifest, folder, manifest)
    return manifest


def _make_empty(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Permanent("folder_not_empty", f"{folder} is not empty")
    for name in ("kafka", "postgres", "blobs"):
        (folder / name).mkdir()


async def find_cut(log: EventLog) -> dict[Partition, int]:
    """The end of each partition in one cut that lies behind this call."""
    partitions = [(topic.value, number) for topic in Topic for number in range(log.partitions(topic))]
    begins = await _ends(log, partitions)
    ledgers = [where for where in partitions if TOPICS[Topic(where[0])].ledger]
    ends = await _ends(log, ledgers)
    ends |= await _ends(log, [where for where in partitions if where not in ends])
    topics = {await log.topic_id(topic): topic.value for topic in Topic}
    windows = {}
    for where in partitions:
        records = await _between(log, where, begins[where], ends[where])
        windows[where] = Window(begins[where], ends[where], tails_of(records, topics))
    return greatest_cut(windows)


async def _ends(log: EventLog, partitions: Sequence[Partition]) -> dict[Partition, int]:
    ends = await asyncio.gather(*(log.end_offset(*where) for where in partitions))
    return dict(zip(partitions, ends, strict=True))


async def _between(log: EventLog, where: Partition, begin: int, end: int) -> list[Stored]:
    found: list[Stored] = []
    while begin < end and (batch := await log.read(*where, begin, max_records=_READ_RECORDS)):
        found += [stored for stored in batch if stored.offset < end]
        begin = batch[-1].offset + 1
    return found


# ---------------------------------------------------------------- records


async def _save_topics(log: KafkaLog, cut: dict[Partition, int], folder: Path, say: Say) -> dict[str, KeptTopic]:
    """Ledgers first: they are cut behind snapshots while we copy."""
    kept: dict[str, KeptTopic] = {}
    for topic in sorted(Topic, key=lambda topic: not TOPICS[topic].ledger):
        room = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def copy(number: int, topic: Topic = topic, room: asyncio.Semaphore = room) -> KeptPartition:
            async with room:
                return await _save_partition(log, topic, number, cut[topic.value, number], folder)

        partitions = await asyncio.gather(*(copy(number) for number in range(log.partitions(topic))))
        kept[topic.value] = KeptTopic(await log.topic_id(topic), list(partitions))
        say(f"{sum(at.end - at.start for at in partitions)} records of {topic.value}")
    return kept


async def _save_partition(log: EventLog, topic: Topic, number: int, end: int, folder: Path) -> KeptPartition:
    path = partition_file(folder, topic, number)
    for _ in range(_TRIES):
        start = min(await log.start_offset(topic, number), end)
        copied = await _Copy(log, topic, number, path).run(start, end)
        if copied is not None and (copied or start == 0 or not TOPICS[topic].ledger):
            return KeptPartition(start, end, await asyncio.to_thread(digest_of_file, path))
    raise Permanent("backup_overtaken", f"{topic}/{number} lost its oldest records while it was copied; begin again")


class _Copy:
    """Copies one partition into a file."""

    def __init__(self, log: EventLog, topic: Topic, number: int, path: Path) -> None:
        self._log = log
        self._topic = topic
        self._number = number
        self._path = path

    async def run(self, offset: int, end: int) -> bool | None:
        """Copy; None when old records went meanwhile, else whether a whole snapshot is among them."""
        start, restores = offset, False
        writer = await asyncio.to_thread(RecordsWriter, self._path)
        try:
            while offset < end:
                batch = await self._log.read(self._topic, self._number, offset, max_records=_READ_RECORDS)
                if not batch or batch[0].offset != offset:
                    return None
                batch = [stored for stored in batch if stored.offset < end]
                restores = restores or any(_ends_snapshot(stored, start) for stored in batch)
                await asyncio.to_thread(writer.write, batch)
                offset = batch[-1].offset + 1
        finally:
            await asyncio.to_thread(writer.close)
        return restores


def _ends_snapshot(stored: Stored, start: int) -> bool:
    if ("ce_type", "towpath.owner.snapshot_completed.v1") not in stored.record.headers:
        return False
    try:
        event = decode(stored).event
    except UnknownType:
        return False
    return isinstance(event, OwnerSnapshotCompleted) and event.start >= start


# ---------------------------------------------------------------- rows and blobs


async def _save_tables(before: TableReader, behind: TableReader, folder: Path, say: Say) -> dict[str, KeptTable]:
    kept: dict[str, KeptTable] = {}
    for table in await before.tables():
        if table not in _LEFT_OUT:
            path = table_file(folder, table)
            rows = await (behind if table in VAULT_TABLES else before).write(table, path)
            kept[table] = KeptTable(rows, await asyncio.to_thread(digest_of_file, path))
    say(f"{sum(table.rows for table in kept.values())} rows of {len(kept)} tables")
    return kept


async def _save_blobs(places: Places, folder: Path) -> tuple[int, int]:
    """All blobs that are there now, which are all that a record in the cut names; how many, and their bytes."""
    room = asyncio.Semaphore(_COPIES_AT_ONCE)

    async def copy(sha256: str) -> int | None:
        async with room:
            return await _save_blob(places, sha256, blob_file(folder, sha256))

    sizes: list[int] = []
    seen: set[str] = set()
    async for page in places.blobs.digests():
        fresh = sorted(set(page) - seen)
        seen.update(fresh)
        sizes += [size for size in await asyncio.gather(*map(copy, fresh)) if size is not None]
    return len(sizes), sum(sizes)


async def _save_blob(places: Places, sha256: str, path: Path) -> int | None:
    """Its size; None when it went meanwhile."""
    await asyncio.to_thread(path.parent.mkdir, exist_ok=True)
    size = 0
    try:
        with path.open("wb") as file:
            async for chunk in places.blobs.read(sha256, 0, None):
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
    except Permanent:
        await asyncio.to_thread(path.unlink)
        return None
    return size
