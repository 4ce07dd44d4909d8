"""Between domain events and records: protobuf values (`kernel.log.messages`), CloudEvents 1.0 headers in binary mode.

| Header | Content | Present |
|---|---|---|
| `content-type` | `application/protobuf` | always |
| `ce_specversion` | `1.0` | always |
| `ce_type` | `towpath.<wire name>.v1` | always |
| `ce_source` | `/towpath/<writer>` | always |
| `ce_dataschema` | `urn:towpath:<full name of the message>` | on public topics |
| `ce_id`, `ce_time` | id of the record; RFC 3339 with milliseconds, UTC | always |
| `ce_partitionkey` | the key of the record | with a key |
| `ce_subject`, `ce_organizationid`, `ce_traceparent` | as in `Envelope` | if set |
| `ce_correlationid`, `ce_causationid` | as in `Envelope` | if set |
| `ce_tracestate` | as in `Envelope` | if set, beside `ce_traceparent` |
| `ce_sequence` | gapless per key and public topic, from 1 | on public topics |
| `towpath_claim`, `towpath_cause` | the claim; `topic/partition/offset` of the input | in ledgers |
| `towpath_source` | `topic id/partition/offset/index` of the decision | in derived records |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from kernel.domain.decider import Event
from kernel.errors import LogRefused, UnknownType
from kernel.log.envelope import Cause, Envelope, Message, Source
from kernel.log.messages import message_of, read_message, write_message
from kernel.log.port import Record, Stored
from kernel.log.topics import TOPICS, TYPES, Topic

_CLASSES: dict[str, type] = {row.wire: cls for cls, row in TYPES.items()}
_CE_TYPES: dict[str, type] = {f"towpath.{row.wire}.v1": cls for cls, row in TYPES.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OUR_TIME_CHARS = len("2026-01-31T23:59:59.999Z")
_MILLISECOND = timedelta(milliseconds=1)

_FixedHeaders = tuple[tuple[str, str], ...]
_FIXED: dict[tuple[type, str], _FixedHeaders] = {}


def encode_value(event: Event) -> bytes:
    """The protobuf message of `event`, never empty.

    Raises `ValueError` for an event without any id, `KeyError` for a class without a message, and `TypeError` or
    `ValueError` for values that no message can hold.
    """
    value = write_message(event)
    if not value:
        raise ValueError(f"{event!r} would be an empty record, which reads as a deletion")
    return value


def decode_value(wire_type: str, value: bytes) -> Event:
    """The event behind `value`. `wire_type` is the dotted name, such as `job_run.created`.

    Raises `UnknownType` for what a newer version wrote, `LogRefused` for damaged bytes.
    """
    cls = _CLASSES.get(wire_type)
    if cls is None:
        raise UnknownType(wire_type)
    return read_message(cls, value)


def encode(event: Event, *, topic: str, key: str, envelope: Envelope, partition: int, value: bytes = b"") -> Record:
    """The record of `event`. Pure; the same arguments make the same bytes. `value` is that of another record of it.

    Raises `ValueError` when the type does not stand in `topic` (the table of `kernel.log.topics`), and what
    `encode_value` raises.
    """
    fixed = _FIXED.get((type(event), topic)) or _fixed_headers(type(event), topic)
    headers = [*fixed, ("ce_id", envelope.id), ("ce_time", _time_text(envelope.time_ms))]
    put = headers.append  # without a loop over names: each record has a dozen headers, and this is half of its price
    if envelope.subject:
        put(("ce_subject", envelope.subject))
    if envelope.organization_id:
        put(("ce_organizationid", envelope.organization_id))
    if envelope.correlation_id:
        put(("ce_correlationid", envelope.correlation_id))
    if envelope.causation_id:
        put(("ce_causationid", envelope.causation_id))
    if envelope.traceparent:
        put(("ce_traceparent", envelope.traceparent))
        if envelope.tracestate:
            put(("ce_tracestate", envelope.tracestate))
    if envelope.claim:
        put(("towpath_claim", envelope.claim))
    if key:
        put(("ce_partitionkey", key))
    if envelope.sequence:
        put(("ce_sequence", str(envelope.sequence)))
    if envelope.cause is not None:
        put(("towpath_cause", _cause_text(envelope.cause)))
    if envelope.source is not None:
        put(("towpath_source", _source_text(envelope.source)))
    return Record(topic, partition, key, tuple(headers), value or encode_value(event))


def decode(stored: Stored) -> Message:
    """The message that a record tells.

    Raises `UnknownType` for a type or enum value that this version does not know (a reader steps over it; the position
    is in `stored`), `LogRefused` for damaged bytes or headers.
    """
    record = stored.record
    headers = dict(record.headers)
    wire_type = headers.get("ce_type", "")
    cls = _CE_TYPES.get(wire_type)
    if cls is None:
        raise UnknownType(wire_type)
    envelope = _read_envelope(stored, headers)
    event = read_message(cls, record.value)
    return Message(record.topic, record.partition, stored.offset, record.key, event, envelope, stored.appended_ms)


def read_envelope(stored: Stored) -> Envelope:
    """What stands around an event, also of one whose type this version does not know. `LogRefused`: damaged."""
    return _read_envelope(stored, dict(stored.record.headers))


def _read_envelope(stored: Stored, headers: dict[str, str]) -> Envelope:
    try:
        return _envelope(headers)
    except (KeyError, ValueError) as error:
        record = stored.record
        where = f"{record.topic}/{record.partition}/{stored.offset}"
        raise LogRefused(f"the headers of the record at {where} are damaged") from error


def _fixed_headers(cls: type, topic: str) -> _FixedHeaders:
    """What all records of a class in a topic share; kept, as every record asks for it."""
    row = TYPES[cls]
    writer = next((writer for name, writer in row.topics.items() if name == topic), None)
    if writer is None:
        raise ValueError(f"{row.wire} does not stand in {topic}")
    headers: _FixedHeaders = (
        ("content-type", "application/protobuf"),
        ("ce_specversion", "1.0"),
        ("ce_type", f"towpath.{row.wire}.v1"),
        ("ce_source", f"/towpath/{writer.value}"),
    )
    if TOPICS[Topic(topic)].public:
        headers = (*headers, ("ce_dataschema", data_schema(cls)))
    _FIXED[cls, topic] = headers
    return headers


def data_schema(cls: type) -> str:
    """`ce_dataschema` of an event class: names its message, wherever its definition is read from."""
    return f"urn:towpath:{message_of(cls).DESCRIPTOR.full_name}"


def _envelope(headers: dict[str, str]) -> Envelope:
    get = headers.get
    cause, source = get("towpath_cause"), get("towpath_source")
    traceparent = get("ce_traceparent", "")
    return Envelope(
        headers["ce_id"],
        _time_ms(headers["ce_time"]),
        get("ce_subject", ""),
        int(get("ce_sequence", 0)),
        get("ce_organizationid", ""),
        get("ce_correlationid", ""),
        get("ce_causationid", ""),
        traceparent,
        get("towpath_claim", ""),
        _cause(cause) if cause else None,
        _source(source) if source else None,
        get("ce_tracestate", "") if traceparent else "",
    )


@lru_cache(maxsize=256)
def _time_text(milliseconds: int) -> str:
    """Asked for once for all that is decided together."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second_text(seconds)}.{rest:03d}Z"


def _time_ms(text: str) -> int:
    """Of our own form the second is looked up: records that are read together were mostly written together."""
    if len(text) == _OUR_TIME_CHARS and text[19] == "." and text[23] == "Z":
        return _second_ms(text[:19]) + int(text[20:23])
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=256)
def _second_ms(text: str) -> int:
    return (datetime.fromisoformat(f"{text}+00:00") - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _cause_text(cause: Cause) -> str:
    return f"{cause.topic}/{cause.partition}/{cause.offset}"


def _cause(text: str) -> Cause:
    topic, partition, offset = text.rsplit("/", 2)
    return Cause(topic, int(partition), int(offset))


def _source_text(source: Source) -> str:
    return f"{source.topic_id}/{source.partition}/{source.offset}/{source.index}"


def _source(text: str) -> Source:
    topic_id, partition, offset, index = text.rsplit("/", 3)
    return Source(topic_id, int(partition), int(offset), int(index))
