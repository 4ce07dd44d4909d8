"""Requests as the protocol has them where the client library lacks a version, and what error codes mean to a log.

The library frames, and encodes what is asked seldom (`packing` does the rest); here stand the versions that name topics
by their ids (KIP-516): metadata 12, fetch 13, produce 13. A broker refuses an id that it does not know, so nothing of
ours is ever appended to a recreated topic, nor read on in it. Produce 13 needs a broker of 4.1; an older one is told
the name, and the log watches its metadata. And list offsets 5, which names the epoch of a leader.

Fetches have sessions (KIP-227): a request names only what changed since the last one, and an answer only what is new,
so partitions where nothing happens cost nothing, on either side.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

from kernel.log.kafka.packing import Reader, fetch_bytes, produce_bytes, produced_topics

READ_COMMITTED = 1
_ALL_IN_SYNC = -1
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
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    OUT_OF_ORDER_SEQUENCE = 45
    DUPLICATE_SEQUENCE = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_PRODUCER_ID_MAPPING = 49
    SECURITY_DISABLED = 54
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
        Code.UNKNOWN_TOPIC_ID,
        Code.INCONSISTENT_TOPIC_ID,
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
    """Brokers, and of the named topics identity and leaders. Needs a broker of 2.8 or newer.

    `with_rights`: also what we may do with each.
    """

    API_KEY = 3

    def __init__(self, topics: Sequence[str], *, with_rights: bool = False) -> None:
        self._topics = topics
        self._with_rights = with_rights

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        named: list[tuple[UUID, str, dict[int, bytes]]] = [(_NO_TOPIC_ID, topic, {}) for topic in self._topics]
        return request_struct_class(named, False, self._with_rights, {})


@dataclass(frozen=True, slots=True)
class Lead:
    """Who leads a partition: the node (-1: none), since which epoch, and every node that keeps a copy."""

    node: int
    epoch: int
    copies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """An answer to `MetadataRequest`: addresses by node; of each topic error code, id and leads."""

    cluster_id: str
    nodes: dict[int, tuple[str, int]]
    topics: dict[str, tuple[int, UUID, dict[int, Lead]]]


def metadata_of(response: Any) -> Metadata:
    """What the library has decoded, by name."""
    return Metadata(
        response.cluster_id or "",
        {node: (host, port) for node, host, port, _, _ in response.brokers},
        {
            name: (code, topic_id, {partition[1]: _lead(*partition) for partition in partitions})
            for code, name, topic_id, _, partitions, _, _ in response.topics
        },
    )


def rights_of(response: Any) -> dict[str, int]:
    """What we may do with each topic that is there, as asked `with_rights`: the sum of 2**right."""
    refused = Code.TOPIC_AUTHORIZATION_FAILED
    known = {Code.NONE, refused}
    return {name: 0 if code == refused else rights for code, name, *_, rights, _ in response.topics if code in known}


def _lead(code: int, _partition: int, leader: int, epoch: int, copies: Sequence[int], *_: object) -> Lead:
    return Lead(-1 if code else leader, epoch, tuple(copies))


# list offsets

_LATEST = -1
_UNCOMMITTED = 0


class _EndResponse(Response):
    API_KEY = 2
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32), ("error_code", Int16), ("timestamp", Int64), ("offset", Int64),
                        ("leader_epoch", Int32),
                    ),
                ),
            ),
        ),
    )  # fmt: skip


class _EndStruct(RequestStruct):
    API_KEY = 2
    API_VERSION = 5
    RESPONSE_TYPE = _EndResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("isolation_level", Int8),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("current_leader_epoch", Int32), ("timestamp", Int64))),
            ),
        ),
    )


class EndRequest(Request[_EndStruct]):
    """The high watermark of a partition, from whoever is sure to lead it under `epoch`.

    A broker compares the epoch with the one that it knows itself before it looks whether it leads: a lower one is
    `FENCED_LEADER_EPOCH`, a higher one `UNKNOWN_LEADER_EPOCH`.
    """

    API_KEY = 2

    def __init__(self, topic: str, partition: int, epoch: int) -> None:
        self._topics = [(topic, [(partition, epoch, _LATEST)])]

    def build(self, request_struct_class: type[_EndStruct]) -> _EndStruct:
        return request_struct_class(-1, _UNCOMMITTED, self._topics)


def end_of(answer: Any) -> tuple[int, int]:
    """Error code and offset of an answer to `EndRequest`."""
    ((_, ((_, code, _, offset, _),)),) = answer.topics
    return int(code), int(offset)


# produce

Batches = dict[tuple[str, UUID], list[tuple[int, bytes]]]
"""Partition and bytes, by name and id of the topic."""


class _ProduceResponse(Response):
    API_KEY = 0
    API_VERSION = 13
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", _Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("error_code", Int16), ("offset", Int64), ("timestamp", Int64),
                        ("log_start_offset", Int64),
                        (
                            "record_errors",
                            CompactArray(("index", Int32), ("message", CompactString()), ("tags", TaggedFields)),
                        ),
                        ("error_message", CompactString()), ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )  # fmt: skip

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> _ProduceResponse:
        """Without what nobody asks for."""
        return cls(produced_topics(Reader(data.read() if isinstance(data, BytesIO) else data)), 0, {})


class _ProduceById(RequestStruct):
    API_KEY = 0
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString()),
        ("required_acks", Int16),
        ("timeout", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _Uuid),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("records", CompactBytes), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )

    def encode(self) -> bytes:
        return produce_bytes(self.required_acks, self.timeout, self.topics)


class ProduceRequest(Request[ProduceRequest_v7 | _ProduceById]):
    """Batches, one per partition, to be acknowledged by all replicas in sync within `timeout_ms`."""

    API_KEY = 0

    def __init__(self, batches: Batches, timeout_ms: int) -> None:
        self._batches = batches
        self._timeout_ms = timeout_ms

    def build(self, request_struct_class: type[ProduceRequest_v7 | _ProduceById]) -> ProduceRequest_v7 | _ProduceById:
        if request_struct_class is ProduceRequest_v7:
            named = [(name, parts) for (name, _), parts in self._batches.items()]
            return request_struct_class(None, _ALL_IN_SYNC, self._timeout_ms, named)
        known: list[tuple[Any, ...]] = [
            (topic_id, [(partition, data, {}) for partition, data in parts], {})
            for (_, topic_id), parts in self._batches.items()
        ]
        return request_struct_class(None, _ALL_IN_SYNC, self._timeout_ms, known, {})

    def outcomes(self, answer: Any) -> dict[tuple[str, int], tuple[int, int]]:
        """Error code and first offset by topic name and partition."""
        names: dict[UUID | str, str] = {topic_id: name for name, topic_id in self._batches}
        return {
            (names.get(topic, topic), part): (code, offset)
            for topic, parts, *_ in answer.topics
            for part, code, offset, *_ in parts
        }


# fetch

_ANSWER_HEAD = struct.Struct(">ihi")
_PARTITION_HEAD = struct.Struct(">ihqqq")
_ABORTED = struct.Struct(">qq")
_PREFERRED_BYTES = 4


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition of an answer. `aborted` are (producer id, first offset) of transactions that do not count."""

    topic_id: UUID
    partition: int
    code: int
    high_watermark: int
    aborted: tuple[tuple[int, int], ...]
    records: bytes


class FetchAnswer(Response):
    """`decode` reads the bytes directly: it runs once per hop, and the library's schemas cost more than the hop."""

    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema()

    def __init__(self, code: int, session_id: int, partitions: list[Fetched]) -> None:
        self.code = code
        self.session_id = session_id
        self.partitions = partitions

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> FetchAnswer:
        reader = Reader(data.read() if isinstance(data, BytesIO) else data)
        _, code, session_id = reader.unpack(_ANSWER_HEAD)
        partitions: list[Fetched] = []
        for _ in range(reader.compact_length()):
            topic_id = UUID(bytes=reader.take(16))
            partitions += [_partition(topic_id, reader) for _ in range(reader.compact_length())]
            reader.skip_tags()
        return cls(code, session_id, partitions)


def _partition(topic_id: UUID, reader: Reader) -> Fetched:
    partition, code, high_watermark, _, _ = reader.unpack(_PARTITION_HEAD)
    aborted = []
    for _ in range(reader.compact_length()):
        producer_id, first_offset = reader.unpack(_ABORTED)
        reader.skip_tags()
        aborted.append((producer_id, first_offset))
    reader.take(_PREFERRED_BYTES)
    records = reader.take(reader.compact_length())
    reader.skip_tags()
    return Fetched(topic_id, partition, code, high_watermark, tuple(aborted), records)


class _FetchStruct(RequestStruct):
    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = FetchAnswer
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("current_leader_epoch", Int32), ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32), ("log_start_offset", Int64), ("max_bytes", Int32),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        (
            "forgotten",
            CompactArray(("topic_id", _Uuid), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("rack_id", CompactString()),
        ("tags", TaggedFields),
    )  # fmt: skip

    def encode(self) -> bytes:
        bounds = (self.replica_id, self.max_wait_ms, self.min_bytes, self.max_bytes, self.isolation_level)
        return fetch_bytes((*bounds, self.session_id, self.session_epoch), self.topics, self.forgotten)


Wanted = tuple[int, int, int]
"""Partition, offset, most bytes."""


class FetchRequest(Request[_FetchStruct]):
    """Records that are committed: `least_bytes` of them, or what there is after `wait_ms`.

    Without a session (0, -1) it stands by itself. Needs a broker of 3.1.
    """

    API_KEY = 1

    def __init__(
        self,
        wanted: Mapping[UUID, list[Wanted]],
        *,
        max_bytes: int,
        wait_ms: int = 0,
        least_bytes: int = 1,
        session: tuple[int, int] = (0, -1),
        forgotten: Mapping[UUID, list[int]] | None = None,
    ) -> None:
        topics: list[tuple[Any, ...]] = [
            (topic_id, [(partition, -1, offset, -1, -1, most, {}) for partition, offset, most in partitions], {})
            for topic_id, partitions in wanted.items()
        ]
        left: list[tuple[Any, ...]] = [(topic_id, partitions, {}) for topic_id, partitions in (forgotten or {}).items()]
        bounds = (-1, wait_ms, least_bytes, max_bytes, READ_COMMITTED)
        self._fields: tuple[Any, ...] = (*bounds, *session, topics, left, "", {})

    def build(self, request_struct_class: type[_FetchStruct]) -> _FetchStruct:
        return request_struct_class(*self._fields)
