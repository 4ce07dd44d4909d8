"""What every hop asks and is answered, as bytes: the library's schemas, asked for each field, take ten times as long.

What the schemas in `wire` say stands here once more, for fetch 13 and produce 13 only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any
from uuid import UUID

_INT = struct.Struct(">i")
_PRODUCE_HEAD = struct.Struct(">hi")
_FETCH_HEAD = struct.Struct(">iiiibii")
_FETCH_PARTITION = struct.Struct(">iiqiqi")
_PRODUCED = struct.Struct(">ihqqq")
_INT_BYTES = 4
_NO_TAGS = b"\0"
_NO_TRANSACTION = b"\0"
_NO_RACK = b"\1"

Topics = Sequence[tuple[UUID, Sequence[Any], Any]]
"""Id, partitions and tags, of which there are none."""


def produce_bytes(acks: int, timeout_ms: int, topics: Topics) -> bytes:
    """A request to append; of each partition number, batch and tags."""
    parts = [_NO_TRANSACTION, _PRODUCE_HEAD.pack(acks, timeout_ms), _length(len(topics))]
    for topic_id, partitions, _ in topics:
        parts += (topic_id.bytes, _length(len(partitions)))
        for number, batch, _ in partitions:
            parts += (_INT.pack(number), _length(len(batch)), batch, _NO_TAGS)
        parts.append(_NO_TAGS)
    parts.append(_NO_TAGS)
    return b"".join(parts)


def fetch_bytes(head: tuple[int, ...], topics: Topics, forgotten: Topics) -> bytes:
    """A request to read; of each partition its six numbers and tags, of each forgotten one its number."""
    parts = [_FETCH_HEAD.pack(*head), _length(len(topics))]
    for topic_id, partitions, _ in topics:
        parts += (topic_id.bytes, _length(len(partitions)))
        for *numbers, _ in partitions:
            parts += (_FETCH_PARTITION.pack(*numbers), _NO_TAGS)
        parts.append(_NO_TAGS)
    parts.append(_length(len(forgotten)))
    for topic_id, partitions, _ in forgotten:
        parts += (topic_id.bytes, _length(len(partitions)), *map(_INT.pack, partitions), _NO_TAGS)
    parts += (_NO_RACK, _NO_TAGS)
    return b"".join(parts)


def produced_topics(reader: Reader) -> list[tuple[UUID, list[tuple[int, int, int]]]]:
    """Of an answer to `produce_bytes`: id of each topic, and number, error code and first offset of its partitions."""
    topics = []
    for _ in range(reader.compact_length()):
        topic_id = UUID(bytes=reader.take(16))
        topics.append((topic_id, [_produced(reader) for _ in range(reader.compact_length())]))
        reader.skip_tags()
    return topics


def _produced(reader: Reader) -> tuple[int, int, int]:
    partition, code, offset, _, _ = reader.unpack(_PRODUCED)
    for _ in range(reader.compact_length()):  # what was wrong with single records
        reader.take(_INT_BYTES)
        reader.take(reader.compact_length())
        reader.skip_tags()
    reader.take(reader.compact_length())  # the error in words
    reader.skip_tags()
    return partition, code, offset


def _length(count: int) -> bytes:
    """Of an array or of bytes: a varint, one more than there are, as nothing at all is 0."""
    count += 1
    if count < 0x80:
        return bytes((count,))
    found = bytearray()
    while count >= 0x80:
        found.append(count & 0x7F | 0x80)
        count >>= 7
    found.append(count)
    return bytes(found)


class Reader:
    """Walks over the bytes of an answer."""

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 0

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        found = form.unpack_from(self._buffer, self._at)
        self._at += form.size
        return found

    def take(self, count: int) -> bytes:
        self._at += count
        return self._buffer[self._at - count : self._at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._buffer[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def compact_length(self) -> int:
        """Of an array or of bytes; nothing at all counts as empty."""
        return max(self.varint() - 1, 0)

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self.take(self.varint())
