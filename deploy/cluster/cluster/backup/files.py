"""The files of a backup: records of partitions, and the manifest that says what belongs to it.

manifest.json               written last: without it a folder is no backup
kafka/<topic>/<partition>   records, each packed behind its length, compressed
postgres/<table>            rows as COPY writes them
blobs/<2 hex>/<sha256>      bytes
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from kernel.errors import Permanent
from kernel.log.port import Record, Stored

FORMAT = 1
BATCH_BYTES = 512 * 1024
_LENGTH_BYTES = 4


class KeptPartition(msgspec.Struct, frozen=True):
    """One partition: records from offset `start` to below `end`."""

    start: int
    end: int
    sha256: str


class KeptTopic(msgspec.Struct, frozen=True):
    """One topic, with the identity that it had."""

    topic_id: str
    partitions: list[KeptPartition]


class KeptTable(msgspec.Struct, frozen=True):
    """One table."""

    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    made_ms: int
    """When it was begun; what had been accepted by then is in it."""
    topics: Mapping[str, KeptTopic]
    tables: Mapping[str, KeptTable]
    migrations: list[tuple[str, int, str]]
    """Component, number and checksum of each: only the same tables take the rows."""
    blobs: int
    blob_bytes: int


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    offset: int
    appended_ms: int
    key: str
    headers: tuple[tuple[str, str], ...]
    value: bytes


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder a backup."""
    part = folder / "manifest.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    part.rename(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest:
    """`Permanent("no_backup")` when the folder holds none, or one of another format."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise Permanent("no_backup", f"{folder} holds no backup that was finished") from None
    except msgspec.MsgspecError as error:
        raise Permanent("no_backup", f"{folder / 'manifest.json'} is damaged: {error}") from None
    if manifest.format != FORMAT:
        raise Permanent("no_backup", f"the backup has format {manifest.format}, this version reads {FORMAT}")
    return manifest


def partition_file(folder: Path, topic: str, partition: int) -> Path:
    """Where the records of a partition are."""
    return folder / "kafka" / topic / str(partition)


def table_file(folder: Path, table: str) -> Path:
    """Where the rows of a table are."""
    return folder / "postgres" / table


def blob_file(folder: Path, sha256: str) -> Path:
    """Where a blob is."""
    return folder / "blobs" / sha256[:2] / sha256


class RecordsWriter:
    """Writes records into a file. Every method blocks."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = cast("BinaryIO", gzip.GzipFile(path, "wb", compresslevel=1, mtime=0))

    def write(self, records: Iterable[Stored]) -> None:
        """Append them."""
        for stored in records:
            record = stored.record
            packed = _Packed(stored.offset, stored.appended_ms, record.key, record.headers, record.value)
            data = msgspec.msgpack.encode(packed)
            self._file.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
            self._file.write(data)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read_records(path: Path, topic: str, partition: int) -> Iterator[list[Stored]]:
    """The records of a file, half a MiB or less at a time. Blocks."""
    with gzip.open(path, "rb") as file:
        batch: list[Stored] = []
        size = 0
        while length := file.read(_LENGTH_BYTES):
            packed = msgspec.msgpack.decode(file.read(int.from_bytes(length, "big")), type=_Packed)
            record = Record(topic, partition, packed.key, packed.headers, packed.value)
            batch.append(Stored(record, packed.offset, packed.appended_ms))
            size += len(packed.value) + 500
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def digest_of_file(path: Path) -> str:
    """SHA-256 in hex. Blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, manifest: Manifest) -> None:
    """`Permanent("backup_damaged")` names the first file that is missing or has changed. Blocks; reads everything."""
    wanted = {
        partition_file(folder, topic, number): kept.sha256
        for topic, kept_topic in manifest.topics.items()
        for number, kept in enumerate(kept_topic.partitions)
    }
    wanted |= {table_file(folder, table): kept.sha256 for table, kept in manifest.tables.items()}
    blobs = {path: path.name for path in sorted(folder.glob("blobs/*/*"))}
    if len(blobs) != manifest.blobs:
        raise Permanent("backup_damaged", f"{manifest.blobs} blobs were kept, {len(blobs)} are there")
    for path, sha256 in (wanted | blobs).items():
        if not path.exists() or digest_of_file(path) != sha256:
            raise Permanent("backup_damaged", f"{path} is missing or has changed")
