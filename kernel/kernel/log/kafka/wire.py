"""Requests as the protocol has them where the client library lacks a version, and what error codes mean to a log.

The library encodes and frames; here stand metadata with topic ids (version 12) and fetches with sessions (version 11,
KIP-227): in a session a request names only what changed since the last one, and an answer only what is new, so
partitions where nothing happens cost nothing, on either side.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

READ_COMMITTED = 1
_NO_TOPIC_ID = UUID(int=0)


class Code(IntEnum):
    """Error codes of the protocol that a log meets."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    REPLICA_NOT_AVAILABLE = 9
    COORDINATOR_LOADING = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    OUT_OF_ORDER_SEQUENCE = 45
    DUPLICATE_SEQUENCE = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_PRODUCER_ID_MAPPING = 49
    STORAGE = 56
    UNKNOWN_PRODUCER_ID = 59
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    UNKNOWN_TOPIC_ID = 100
    INCONSISTENT_TOPIC_ID = 103
    FETCH_SESSION_TOPIC_ID = 106


ELSEWHERE = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER,
        Code.REPLICA_NOT_AVAILABLE,
        Code.STORAGE,
        Code.FENCED_LEADER_EPOCH,
        Code.UNKNOWN_LEADER_EPOCH,
    }
)
"""Nothing was done, and the metadata is stale: ask who leads, and try there."""
LATER = ELSEWHERE | {
    Code.COORDINATOR_LOADING,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_COORDINATOR,
    Code.NOT_ENOUGH_REPLICAS,
    Code.OFFSET_NOT_AVAILABLE,
    Code.THROTTLING_QUOTA_EXCEEDED,
}
"""Nothing was done, and the same may succeed soon."""
MAYBE_DONE = frozenset({Code.REQUEST_TIMED_OUT, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND})
"""The leader has appended it, and whether it stays is not known; the same batch may be sent again."""
PRODUCER_LOST = frozenset(
    {
        Code.OUT_OF_ORDER_SEQUENCE,
        Code.DUPLICATE_SEQUENCE,
        Code.INVALID_PRODUCER_EPOCH,
        Code.INVALID_PRODUCER_ID_MAPPING,
        Code.UNKNOWN_PRODUCER_ID,
        Code.PRODUCER_FENCED,
    }
)
"""The broker does not know our sequence (any more), so it cannot say what became of the batch."""


def name_of(code: int) -> str:
    """What people call an error code."""
    try:
        return Code(code).name.lower()
    except ValueError:
        return f"error {code}"


# metadata


class _Uuid(AbstractType[UUID]):
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_NODES = CompactArray(Int32)


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16), ("name", CompactString()), ("topic_id", _Uuid), ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                        ("replicas", _NODES), ("isr", _NODES), ("offline", _NODES), ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32), ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class _MetadataRequest(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class MetadataRequest(Request[_MetadataRequest]):
    """Brokers, and of the named topics identity and leaders. Needs a broker of 2.8 or newer."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        named: list[tuple[UUID, str, dict[int, bytes]]] = [(_NO_TOPIC_ID, topic, {}) for topic in self._topics]
        return request_struct_class(named, False, False, {})


@dataclass(frozen=True, slots=True)
class Metadata:
    """An answer to `MetadataRequest`: addresses by node; of each topic error code, id and leaders (-1: none)."""

    cluster_id: str
    nodes: dict[int, tuple[str, int]]
    topics: dict[str, tuple[int, UUID, dict[int, int]]]


def metadata_of(response: Any) -> Metadata:
    """What the library has decoded, by name."""
    return Metadata(
        response.cluster_id or "",
        {node: (host, port) for node, host, port, _, _ in response.brokers},
        {
            name: (code, topic_id, {partition[1]: -1 if partition[0] else partition[2] for partition in partitions})
            for code, name, topic_id, _, partitions, _, _ in response.topics
        },
    )


# fetch

_ANSWER_HEAD = struct.Struct(">ihi")
_PARTITION_HEAD = struct.Struct(">ihqqq")
_INT = struct.Struct(">i")
_SHORT = struct.Struct(">h")
_ABORTED = struct.Struct(">qq")


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition of an answer. `aborted` are (producer id, first offset) of transactions that do not count."""

    topic: str
    partition: int
    code: int
    high_watermark: int
    log_start: int
    aborted: tuple[tuple[int, int], ...]
    records: bytes


class FetchAnswer(Response):
    """`decode` reads the bytes directly: it runs once per hop, and the library's schemas cost more than the hop."""

    API_KEY = 1
    API_VERSION = 11
    SCHEMA = Schema()

    def __init__(self, code: int, session_id: int, partitions: list[Fetched]) -> None:
        self.code = code
        self.session_id = session_id
        self.partitions = partitions

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> FetchAnswer:
        buffer = data.read() if isinstance(data, BytesIO) else data
        _, code, session_id = _ANSWER_HEAD.unpack_from(buffer)
        at = _ANSWER_HEAD.size
        partitions: list[Fetched] = []
        (topics,) = _INT.unpack_from(buffer, at)
        at += 4
        for _ in range(topics):
            (length,) = _SHORT.unpack_from(buffer, at)
            topic = buffer[at + 2 : at + 2 + length].decode()
            (count,) = _INT.unpack_from(buffer, at + 2 + length)
            at += 6 + length
            for _ in range(count):
                fetched, at = _partition(topic, buffer, at)
                partitions.append(fetched)
        return cls(code, session_id, partitions)


def _partition(topic: str, buffer: bytes, at: int) -> tuple[Fetched, int]:
    partition, code, high_watermark, _, log_start = _PARTITION_HEAD.unpack_from(buffer, at)
    (count,) = _INT.unpack_from(buffer, at + _PARTITION_HEAD.size)
    at += _PARTITION_HEAD.size + 4
    aborted = tuple(_ABORTED.unpack_from(buffer, at + _ABORTED.size * index) for index in range(max(count, 0)))
    at += _ABORTED.size * len(aborted) + 4  # the preferred replica is not asked for
    (length,) = _INT.unpack_from(buffer, at)
    at += 4
    end = at + max(length, 0)
    return Fetched(topic, partition, code, high_watermark, log_start, aborted, buffer[at:end]), end


class _FetchStruct(FetchRequest_v11):
    RESPONSE_TYPE = FetchAnswer


Wanted = tuple[int, int, int]
"""Partition, offset, most bytes."""


class FetchRequest(Request[_FetchStruct]):
    """Records that are committed. Without a session (0, -1) it stands by itself."""

    API_KEY = 1

    def __init__(
        self,
        wanted: dict[str, list[Wanted]],
        *,
        max_bytes: int,
        wait_ms: int = 0,
        session: tuple[int, int] = (0, -1),
        forgotten: dict[str, list[int]] | None = None,
    ) -> None:
        self._arguments = (wanted, max_bytes, wait_ms, session, forgotten or {})

    def build(self, request_struct_class: type[_FetchStruct]) -> _FetchStruct:
        wanted, max_bytes, wait_ms, (session_id, session_epoch), forgotten = self._arguments
        topics = [
            (topic, [(partition, -1, offset, -1, most) for partition, offset, most in partitions])
            for topic, partitions in wanted.items()
        ]
        return request_struct_class(
            -1, wait_ms, 1, max_bytes, READ_COMMITTED, session_id, session_epoch, topics, list(forgotten.items()), ""
        )
