"""Putting a backup into an empty cluster: new topics, an empty schema, an empty bucket.

Offsets stay what they were. Topics of another cluster have other identities, and whoever finds another one than it has
read by stops: so the identities are exchanged wherever they stand, in what owners say, in the sources of derived
records and in tables. Nothing else changes. Services are started when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from api_gateway.migrations import migrations as gateway_migrations
from artifact_store.tables import migrations as store_migrations
from cluster.backup.files import Manifest, check_files, partition_file, read_manifest, read_records, table_file
from cluster.backup.places import Places
from cluster.backup.saving import Say
from kernel.domain.owner import OwnerCheckpointed, OwnerSnapshotCompleted
from kernel.errors import LogRefused, Permanent
from kernel.log.codec import decode, encode_value
from kernel.log.kafka.refilling import Refiller, refilling
from kernel.log.port import Record, Stored
from kernel.sql.port import Migration, migrate
from kernel.sql.postgres.copying import fill, reading
from kernel.store.port import CHUNK_BYTES

_AT_ONCE = 4
_WITH_IDENTITIES = frozenset({"towpath.owner.checkpointed.v1", "towpath.owner.snapshot_completed.v1"})


async def restore(places: Places, folder: Path, say: Say) -> Manifest:
    """Put the backup in `folder` into the cluster; what it holds. It is repeated into new places when it fails.

    `Permanent`: `no_backup`, `backup_damaged`, `not_empty` (nothing was changed), `backup_of_other_version`.
    """
    manifest = await asyncio.to_thread(read_manifest, folder)
    await asyncio.to_thread(check_files, folder, manifest)
    _refuse_other_version(manifest)
    await _refuse_full(places)
    counts = {topic: len(kept.partitions) for topic, kept in manifest.topics.items()}
    async with refilling(places.kafka, places.clock, counts) as refiller:
        ids = {kept.topic_id: await refiller.log.topic_id(topic) for topic, kept in manifest.topics.items()}
        await _fill_topics(refiller, manifest, folder, ids)
        say(f"{sum(at.end - at.start for kept in manifest.topics.values() for at in kept.partitions)} records")
    await _fill_tables(places, manifest, folder, ids)
    say(f"{sum(table.rows for table in manifest.tables.values())} rows")
    await _put_blobs(places, await asyncio.to_thread(lambda: sorted(folder.glob("blobs/*/*"))))
    say(f"{manifest.blobs} blobs")
    return manifest


def _migrations() -> list[Migration]:
    return [*gateway_migrations("postgres"), *store_migrations("postgres")]


def _refuse_other_version(manifest: Manifest) -> None:
    ours = {(at.component, at.number, at.checksum) for at in _migrations()}
    if ours != {(component, number, checksum) for component, number, checksum in manifest.migrations}:
        text = "its tables are not those of this version: restore with the version that made it, then upgrade"
        raise Permanent("backup_of_other_version", text)


async def _refuse_full(places: Places) -> None:
    async with reading(places.postgres.url, places.postgres.schema) as reader:
        if tables := await reader.tables():
            raise Permanent("not_empty", f"{places.postgres.place} has tables already: {', '.join(tables[:3])}")
    async for page in places.blobs.digests():
        if page:
            raise Permanent("not_empty", "there are blobs already")


# ---------------------------------------------------------------- records


async def _fill_topics(refiller: Refiller, manifest: Manifest, folder: Path, ids: Mapping[str, str]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def refill(topic: str, number: int) -> None:
        kept = manifest.topics[topic].partitions[number]
        async with room:
            records = _translated(partition_file(folder, topic, number), topic, number, ids)
            if await refiller.fill(topic, number, kept.start, records) != kept.end:
                raise LogRefused(f"{topic}/{number} does not end at {kept.end}")

    async with asyncio.TaskGroup() as group:
        for topic, kept in manifest.topics.items():
            for number in range(len(kept.partitions)):
                group.create_task(refill(topic, number))


async def _translated(path: Path, topic: str, number: int, ids: Mapping[str, str]) -> AsyncIterator[Sequence[Stored]]:
    batches = read_records(path, topic, number)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        yield [translated(stored, ids) for stored in batch]


def translated(stored: Stored, ids: Mapping[str, str]) -> Stored:
    """The record with new identities of topics; `ids` are new ones by old ones."""
    record = stored.record
    headers = tuple((name, _source(text, ids) if name == "towpath_source" else text) for name, text in record.headers)
    value = record.value
    if any(name == "ce_type" and text in _WITH_IDENTITIES for name, text in headers):
        value = _progress(stored, ids)
    return Stored(Record(record.topic, record.partition, record.key, headers, value), stored.offset, stored.appended_ms)


def _source(text: str, ids: Mapping[str, str]) -> str:
    """`topic id/partition/offset/index`."""
    topic_id, *place = text.rsplit("/", 3)
    return "/".join((ids.get(topic_id, topic_id), *place))


def _progress(stored: Stored, ids: Mapping[str, str]) -> bytes:
    event = decode(stored).event
    assert isinstance(event, OwnerCheckpointed | OwnerSnapshotCompleted), "only these hold identities"
    positions = tuple(replace(at, topic_id=ids.get(at.topic_id, at.topic_id)) for at in event.positions)
    watermarks = tuple(replace(at, topic_id=ids.get(at.topic_id, at.topic_id)) for at in event.watermarks)
    return encode_value(replace(event, positions=positions, watermarks=watermarks))


# ---------------------------------------------------------------- rows and blobs


async def _fill_tables(places: Places, manifest: Manifest, folder: Path, ids: Mapping[str, str]) -> None:
    db = await places.postgres.open()
    try:
        await migrate(db, _migrations())
    finally:
        await db.close()
    files = {table: table_file(folder, table) for table in manifest.tables}
    filled = await fill(places.postgres.url, places.postgres.schema, files, ids)
    if filled != {table: kept.rows for table, kept in manifest.tables.items()}:
        raise LogRefused("other numbers of rows were taken than were kept")


async def _put_blobs(places: Places, paths: Sequence[Path]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def put(path: Path) -> None:
        async with room:
            size = (await asyncio.to_thread(path.stat)).st_size
            upload_id, now_ms = f"restore.{path.name}", places.clock.now_ms()
            uploaded = await places.blobs.upload(upload_id, 0, _chunks(path), size, now_ms)
            if uploaded.sha256 != path.name:
                raise Permanent("backup_damaged", f"{path} has changed")
            await places.blobs.publish(uploaded)

    async with asyncio.TaskGroup() as group:
        for path in paths:
            group.create_task(put(path))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
