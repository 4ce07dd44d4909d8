"""The log of the embedded form: records in the one SQLite file, durable by the writer's group commit.

All records that one commit brings to a partition stand in one row, as a msgpack array of (key, headers, value) with a
CRC-32, found through an index on (stream, first offset). The rows lie in the order of their commits, so a commit
dirties the last page of the table and one index page per partition; against a table clustered by (stream, offset) this
measured the same for one partition a commit and up to a quarter faster for many, and a row per batch spares the price
of a row per record.

Offsets are handed out by the writer's thread from memory and read from the file at the start. The newest records of
each partition stay in memory, so readers who keep up never touch SQL; others go through the reader pool. In this file
derived records may share the commit of others; nobody can see that from outside.

Single records of old batches can be dropped (retention): their places in the array become nil, offsets stay, and a row
without records goes. The last row of a partition is left alone, because it tells where the partition ends.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import cast

import msgspec

from kernel.clock import Clock
from kernel.errors import LogRefused
from kernel.ids import Entropy
from kernel.log.limits import Batches, batches_of, positions_of
from kernel.log.port import Position, Record, Stored
from kernel.log.tail import Tail
from kernel.sqlite_file import SqliteFile, Transaction

READ_BYTES_MAX = 4 * 1024 * 1024
ROW_BYTES = 128 * 1024
ROWS_DELETED_AT_ONCE = 100
ROWS_PER_STATEMENT = 50

LAYOUTS = (
    (
        "CREATE TABLE log_topics (topic TEXT PRIMARY KEY, topic_id TEXT NOT NULL, partitions INTEGER NOT NULL)",
        """CREATE TABLE log_streams (stream INTEGER PRIMARY KEY, topic TEXT NOT NULL REFERENCES log_topics,
             partition INTEGER NOT NULL, start_offset INTEGER NOT NULL, UNIQUE (topic, partition))""",
        """CREATE TABLE log_batches (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first_offset INTEGER NOT NULL,
             records INTEGER NOT NULL, appended_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX log_batches_by_offset ON log_batches (stream, first_offset)",
    ),
)
"""The file's layouts by number; see `SqliteFile.upgrade`."""

_INSERT = "INSERT INTO log_batches (stream, first_offset, records, appended_ms, crc, body) VALUES "
_SELECT = (
    "SELECT first_offset, appended_ms, crc, body FROM log_batches WHERE stream = ?1 AND first_offset >= coalesce("
    "(SELECT max(first_offset) FROM log_batches WHERE stream = ?1 AND first_offset <= ?2), 0) ORDER BY first_offset"
)
_LAST = (
    "SELECT s.topic, s.partition, s.stream, s.start_offset, max(s.start_offset, coalesce((SELECT first_offset + records"
    " FROM log_batches b WHERE b.stream = s.stream ORDER BY first_offset DESC LIMIT 1), 0)) FROM log_streams s"
)
_DELETE = (
    "DELETE FROM log_batches WHERE id IN (SELECT id FROM log_batches WHERE stream = ?1 AND first_offset < ?2"
    " AND first_offset + records <= ?2 ORDER BY first_offset LIMIT ?3)"
)

_OLD = (
    "SELECT first_offset, records, appended_ms, crc, body FROM log_batches WHERE stream = ?1 AND first_offset >= ?2"
    " AND first_offset < (SELECT max(first_offset) FROM log_batches WHERE stream = ?1) ORDER BY first_offset"
)

_Header = tuple[str, str]
_Packed = tuple[str, tuple[_Header, ...], bytes]
_decoder = msgspec.msgpack.Decoder(list[_Packed | None])
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class _Stream:
    """One partition of one topic as the file numbers it."""

    topic: str
    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class _Landing:
    """Where and when the batches of one call were written."""

    batches: Batches
    first_offsets: dict[tuple[str, int], int]
    appended_ms: int


@dataclass(frozen=True, slots=True)
class OldBatch:
    """A row of a partition that may be thinned out: its place, and the keys of the records that it still has."""

    first_offset: int
    next_offset: int
    keys: frozenset[str]


class _Staged:
    """What one transaction adds to the log: collected job by job, written in one go before the commit."""

    def __init__(self, ends: Mapping[int, int], appended_ms: int) -> None:
        self.appended_ms = appended_ms
        self.ends = dict(ends)
        self._firsts: dict[int, int] = {}
        self._records: dict[int, list[_Packed]] = {}

    def take(self, stream: int, batch: Sequence[Record]) -> int:
        """Give `batch` its place; its first offset."""
        first = self.ends[stream]
        self.ends[stream] = first + len(batch)
        self._firsts.setdefault(stream, first)
        self._records.setdefault(stream, []).extend((record.key, record.headers, record.value) for record in batch)
        return first

    def rows(self) -> Iterator[tuple[int, int, int, int, int, bytes]]:
        for stream, records in self._records.items():
            offset = self._firsts[stream]
            for part in _parts(records):
                body = _encoder.encode(part)
                yield stream, offset, len(part), self.appended_ms, zlib.crc32(body), body
                offset += len(part)


class SqliteLog:
    """`EventLog` in a `SqliteFile`. Made by `open`; the file is closed by whoever opened it."""

    def __init__(
        self, file: SqliteFile, clock: Clock, topic_ids: dict[str, str], partitions: Mapping[str, int], tails: _Tails
    ) -> None:
        """Use `open`."""
        self._file = file
        self._clock = clock
        self._topic_ids = topic_ids
        self._partitions = partitions
        self._streams = {(stream.topic, stream.partition): stream for stream in tails}
        self._tails = {(stream.topic, stream.partition): tail for stream, tail in tails.items()}
        self._ends = {stream.number: tail.end for stream, tail in tails.items()}
        """Touched by the writer's thread only."""
        self._closed = False

    @classmethod
    async def open(
        cls,
        file: SqliteFile,
        partitions: Mapping[str, int],
        clock: Clock,
        entropy: Entropy,
        *,
        tail_records_max: int = 1000,
        tail_bytes_max: int = 1024 * 1024,
    ) -> SqliteLog:
        """Create the topics that are missing and find where each partition ends.

        `tail_records_max` and `tail_bytes_max` bound what is kept in memory per partition. Raises `LogRefused` when a
        topic has another number of partitions than asked for, or a newer version wrote the file.
        """
        await file.upgrade(LAYOUTS)
        wanted = {topic: (count, entropy.uuid()) for topic, count in partitions.items()}
        await file.submit(partial(_create_topics, wanted))
        topic_ids, last = await file.read(_load)
        tails = {
            _Stream(topic, partition, number): Tail(start, end, tail_records_max, tail_bytes_max)
            for topic, partition, number, start, end in last
            if topic in partitions
        }
        return cls(file, clock, topic_ids, dict(partitions), tails)

    def partitions(self, topic: str) -> int:
        return self._partitions[topic]

    async def append(self, records: Sequence[Record]) -> list[Position]:
        """As the port says; all partitions of one call are one transaction: all or nothing."""
        self._refuse_when_closed()
        if not records:
            return []
        batches, _ = batches_of(records, self._partitions)
        landing = await self._file.submit(partial(self._stage, batches), self._land)
        return positions_of(records, landing.first_offsets)

    async def append_at_end(
        self, records: Sequence[Record], *, topic: str, partition: int, end: int
    ) -> list[Position] | None:
        """As `AppendsAtEnd` says: the writer looks at the condition inside the transaction."""
        self._refuse_when_closed()
        batches, _ = batches_of(records, self._partitions)
        stage = partial(self._stage_at_end, batches, self._streams[topic, partition], end)
        landing = await self._file.submit(stage, self._land)
        return positions_of(records, landing.first_offsets) if landing.batches else None

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int = 500, wait_seconds: float = 0.0
    ) -> list[Stored]:
        """As the port says; at most about 4 MiB at once."""
        self._refuse_when_closed()
        tail = self._tails[topic, partition]
        found = tail.since(offset, max_records)
        if not found and found is not None and wait_seconds > 0:
            await tail.wait(offset, self._clock, wait_seconds)
            self._refuse_when_closed()
            found = tail.since(offset, max_records)
        if found is not None:
            return found
        stream = self._streams[topic, partition]
        return await self._file.read(partial(_read, stream, max(offset, tail.start), max_records))

    async def end_offset(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].end

    async def confirmed_end(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].end

    async def start_offset(self, topic: str, partition: int) -> int:
        return self._tails[topic, partition].start

    async def next_offset(self, topic: str, partition: int, offset: int) -> int:
        return max(offset, self._tails[topic, partition].start)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """As the port says. The rows go in small commits between those of others; freed pages are used again."""
        tail = self._tails[topic, partition]
        number = self._streams[topic, partition].number
        start = min(offset, tail.end)
        deleted = await self._file.submit(partial(_delete, number, start), lambda _: tail.delete_before(start))
        while deleted == ROWS_DELETED_AT_ONCE:
            deleted = await self._file.submit(partial(_delete, number, start))

    async def old_batches(
        self, topic: str, partition: int, *, offset: int, before_ms: int, at_most: int = 20
    ) -> list[OldBatch]:
        """Batches from `offset` on whose records were appended before `before_ms`, oldest first; never the last one."""
        self._refuse_when_closed()
        return await self._file.read(partial(_old, self._streams[topic, partition], offset, before_ms, at_most))

    async def drop(
        self, topic: str, partition: int, first_offset: int, goes: Callable[[str, Sequence[_Header]], bool]
    ) -> None:
        """Drop the records of an old batch for which `goes(key, headers)`: they are never read again. Repeatable."""
        self._refuse_when_closed()
        stream, tail = self._streams[topic, partition], self._tails[topic, partition]
        await self._file.submit(partial(_drop, stream, first_offset, goes), tail.shed_before)

    async def topic_id(self, topic: str) -> str:
        return self._topic_ids[topic]

    async def recreate_topic(self, topic: str, entropy: Entropy) -> None:
        """Forget every record of `topic` and give it a new identity. For an operator; not while it is in use."""
        topic_id = entropy.uuid()
        numbers = [stream.number for stream in self._streams.values() if stream.topic == topic]

        def forget(transaction: Transaction) -> None:
            for number in numbers:
                transaction.connection.execute("DELETE FROM log_batches WHERE stream = ?", (number,))
            transaction.connection.execute("UPDATE log_streams SET start_offset = 0 WHERE topic = ?", (topic,))
            transaction.connection.execute("UPDATE log_topics SET topic_id = ? WHERE topic = ?", (topic_id, topic))
            self._staged(transaction).ends.update(dict.fromkeys(numbers, 0))

        def forgotten(_: None) -> None:
            self._topic_ids[topic] = topic_id
            for partition in range(self._partitions[topic]):
                self._tails[topic, partition].reset()

        await self._file.submit(forget, forgotten)

    async def close(self) -> None:
        """Let the waiting readers go; later calls raise `LogRefused`. The file stays open. Idempotent."""
        self._closed = True
        for tail in self._tails.values():
            tail.wake()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise LogRefused("the log is closed")

    def _land(self, landing: _Landing) -> None:
        for stream, batch in landing.batches.items():
            first = landing.first_offsets[stream]
            self._tails[stream].extend(
                [Stored(record, first + index, landing.appended_ms) for index, record in enumerate(batch)]
            )

    # Below runs in the writer's thread.

    def _stage(self, batches: Batches, transaction: Transaction) -> _Landing:
        staged = self._staged(transaction)
        first_offsets = {stream: staged.take(self._streams[stream].number, batch) for stream, batch in batches.items()}
        return _Landing(batches, first_offsets, staged.appended_ms)

    def _stage_at_end(self, batches: Batches, stream: _Stream, end: int, transaction: Transaction) -> _Landing:
        staged = self._staged(transaction)
        if staged.ends[stream.number] != end:
            return _Landing({}, {}, staged.appended_ms)
        return self._stage(batches, transaction)

    def _staged(self, transaction: Transaction) -> _Staged:
        if (staged := transaction.scratch.get(self)) is not None:
            return cast("_Staged", staged)
        begun = _Staged(self._ends, self._clock.now_ms())
        transaction.scratch[self] = begun
        transaction.before_commit.append(lambda: _insert(transaction, begun))
        transaction.after_commit.append(lambda: self._ends.update(begun.ends))
        return begun


_Tails = Mapping[_Stream, Tail]


def _parts(records: list[_Packed]) -> Iterator[list[_Packed]]:
    """Cut so that a part's values are about `ROW_BYTES`: a reader decodes whole rows."""
    begin = size = 0
    for index, (_, _, value) in enumerate(records):
        size += len(value)
        if size > ROW_BYTES:
            yield records[begin : index + 1]
            begin, size = index + 1, 0
    if begin < len(records):
        yield records[begin:]


def _insert(transaction: Transaction, staged: _Staged) -> None:
    """Few statements of many rows: each one lets go of the interpreter, and a busy event loop is slow to return it."""
    rows = list(staged.rows())
    for begin in range(0, len(rows), ROWS_PER_STATEMENT):
        part = rows[begin : begin + ROWS_PER_STATEMENT]
        transaction.connection.execute(_INSERT + ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(part)), [*chain(*part)])


def _create_topics(wanted: Mapping[str, tuple[int, str]], transaction: Transaction) -> None:
    execute = transaction.connection.execute
    for topic, (count, topic_id) in wanted.items():
        found = execute("SELECT partitions FROM log_topics WHERE topic = ?", (topic,)).fetchone()
        if found is None:
            execute("INSERT INTO log_topics (topic, topic_id, partitions) VALUES (?, ?, ?)", (topic, topic_id, count))
            for partition in range(count):
                execute("INSERT INTO log_streams (topic, partition, start_offset) VALUES (?, ?, 0)", (topic, partition))
        elif found[0] != count:
            raise LogRefused(f"topic {topic} has {found[0]} partitions, not {count}; their number is fixed at creation")


def _load(connection: sqlite3.Connection) -> tuple[dict[str, str], list[tuple[str, int, int, int, int]]]:
    return dict(connection.execute("SELECT topic, topic_id FROM log_topics")), connection.execute(_LAST).fetchall()


def _delete(stream: int, offset: int, transaction: Transaction) -> int:
    execute = transaction.connection.execute
    execute("UPDATE log_streams SET start_offset = ?1 WHERE stream = ?2 AND start_offset < ?1", (offset, stream))
    return execute(_DELETE, (stream, offset, ROWS_DELETED_AT_ONCE)).rowcount


def _read(stream: _Stream, offset: int, max_records: int, connection: sqlite3.Connection) -> list[Stored]:
    """Run in a reader's thread; rows are taken until there are enough records or bytes."""
    stored: list[Stored] = []
    size = 0
    cursor = connection.execute(_SELECT, (stream.number, offset))
    for first, appended_ms, crc, body in cursor:
        _check(stream, first, crc, body)
        for place, packed in enumerate(_decoder.decode(body), first):
            if packed is not None and place >= offset and len(stored) < max_records:
                key, headers, value = packed
                stored.append(Stored(Record(stream.topic, stream.partition, key, headers, value), place, appended_ms))
        size += len(body)
        if len(stored) >= max_records or (stored and size >= READ_BYTES_MAX):
            break
    cursor.close()
    return stored


def _check(stream: _Stream, first: int, crc: int, body: bytes) -> None:
    if zlib.crc32(body) != crc:
        raise LogRefused(f"a batch of {stream.topic}/{stream.partition} at offset {first} is damaged; restore a backup")


def _old(stream: _Stream, offset: int, before_ms: int, at_most: int, connection: sqlite3.Connection) -> list[OldBatch]:
    """Run in a reader's thread; it stops at the first young row."""
    found: list[OldBatch] = []
    cursor = connection.execute(_OLD, (stream.number, offset))
    for first, records, appended_ms, crc, body in cursor:
        if appended_ms >= before_ms or len(found) == at_most:
            break
        _check(stream, first, crc, body)
        keys = frozenset(packed[0] for packed in _decoder.decode(body) if packed is not None)
        found.append(OldBatch(first, first + records, keys))
    cursor.close()
    return found


def _drop(stream: _Stream, first: int, goes: Callable[[str, Sequence[_Header]], bool], transaction: Transaction) -> int:
    """Run in the writer's thread; the offset behind the batch, 0 when it is gone already."""
    execute = transaction.connection.execute
    place = (stream.number, first)
    row = execute("SELECT records, crc, body FROM log_batches WHERE stream = ? AND first_offset = ?", place).fetchone()
    if row is None:
        return 0
    records, crc, body = row
    _check(stream, first, crc, body)
    packed = _decoder.decode(body)
    kept = [None if one is None or goes(one[0], one[1]) else one for one in packed]
    if not any(kept):
        execute("DELETE FROM log_batches WHERE stream = ? AND first_offset = ?", place)
    elif kept != packed:
        body = _encoder.encode(kept)
        execute(
            "UPDATE log_batches SET crc = ?, body = ? WHERE stream = ? AND first_offset = ?",
            (zlib.crc32(body), body, *place),
        )
    return int(first + records)
