"""Between domain events and records: protobuf values, CloudEvents 1.0 headers in binary mode.

Events are frozen dataclasses, messages are generated; equal names are mapped. What has to be known about a class is
worked out once, on its first use, into a `_Plan`; encoding and decoding then move whole tuples of attributes at a time.

    dataclass field                         message field
    str, bytes, bool, int and NewTypes      the same
    StrEnum member FAILED of StepStatus     STEP_STATUS_FAILED; None of an optional enum is STEP_STATUS_UNSPECIFIED
    nested dataclass                        nested message of the same name
    tuple of any of these                   repeated

A reader steps over what it does not know: unknown fields are ignored, an unknown type or enum value is `UnknownType`. A
field that an old record lacks reads as the protobuf default, an enum as the default of its dataclass field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from contracts.internal import dispatch_pb2, owner_pb2, plan_pb2, registry_pb2, requests_pb2, run_pb2, task_pb2
from contracts.v1 import (
    artifact_pb2,
    connection_pb2,
    input_request_pb2,
    job_pb2,
    job_run_pb2,
    provider_pb2,
    values_pb2,
    workflow_pb2,
    workflow_run_pb2,
)
from kernel.domain.decider import Event
from kernel.errors import LogRefused, UnknownType
from kernel.log.envelope import Cause, Envelope, Message, Source
from kernel.log.port import Record, Stored
from kernel.log.topics import TYPES

_MODULES = (
    values_pb2, artifact_pb2, connection_pb2, input_request_pb2, job_pb2, job_run_pb2, provider_pb2, workflow_pb2,
    workflow_run_pb2, dispatch_pb2, owner_pb2, plan_pb2, registry_pb2, requests_pb2, run_pb2, task_pb2,
)  # fmt: skip
_MESSAGES: dict[str, type[ProtoMessage]] = {
    name: getattr(module, name) for module in _MODULES for name in module.DESCRIPTOR.message_types_by_name
}
_CLASSES: dict[str, type] = {row.wire: cls for cls, row in TYPES.items()}
_CE_TYPES: dict[str, type] = {f"towpath.{row.wire}.v1": cls for cls, row in TYPES.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

Convert = Callable[[Any], Any]


# one class


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one dataclass is moved; `writes` and `reads` name only the fields that need more than copying."""

    cls: type
    message: type[ProtoMessage]
    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    """All fields at once, of an instance or of a message."""
    writes: tuple[tuple[str, Convert], ...]
    reads: tuple[tuple[int, Convert], ...]

    def to_mapping(self, instance: Any) -> dict[str, Any]:
        """What the message's constructor takes; nested messages as mappings."""
        mapping = dict(zip(self.names, self.values(instance), strict=True))
        for name, write in self.writes:
            mapping[name] = write(mapping[name])
        return mapping

    def to_instance(self, message: Any) -> Any:
        """The dataclass that `message` tells. Raises `UnknownType` for an enum value without a meaning here."""
        if not self.reads:
            return self.cls(*self.values(message))
        values = list(self.values(message))
        for index, read in self.reads:
            values[index] = read(values[index])
        return self.cls(*values)


_PLANS: dict[type, _Plan] = {}


def _plan(cls: type) -> _Plan:
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _make_plan(cls)
    return plan


def _make_plan(cls: type) -> _Plan:
    message = _MESSAGES[cls.__name__]
    hints = get_type_hints(cls)
    own = fields(cls)
    names = tuple(field.name for field in own)
    if set(names) != set(message.DESCRIPTOR.fields_by_name):
        missing = set(names) ^ set(message.DESCRIPTOR.fields_by_name)
        raise TypeError(f"{cls.__name__} and its message differ in {sorted(missing)}")
    converters = [_converters(hints[field.name], field) for field in own]
    return _Plan(
        cls,
        message,
        names,
        _all_of(names),
        tuple((field.name, pair[0]) for field, pair in zip(own, converters, strict=True) if pair),
        tuple((index, pair[1]) for index, pair in enumerate(converters) if pair),
    )


def _all_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """An `attrgetter` that gives a tuple for one name, too."""
    if len(names) > 1:
        return attrgetter(*names)
    only = attrgetter(*names)
    return lambda instance: (only(instance),)


def _converters(hint: Any, field: Field[Any]) -> tuple[Convert, Convert] | None:
    """How a value of `hint` is written and read; None when it is the same on both sides."""
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) is tuple:
        return _tuple_converters(_converters(get_args(hint)[0], field))
    if NoneType in get_args(hint):
        member = next(arg for arg in get_args(hint) if arg is not NoneType)
        return _enum_converters(member, None)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum_converters(hint, field.default)
    if is_dataclass(hint) and isinstance(hint, type):
        plan = _plan(hint)
        return plan.to_mapping, plan.to_instance
    if hint not in {str, bytes, bool, int}:
        raise TypeError(f"{field.name}: {hint} has no place in a message")
    return None


def _tuple_converters(items: tuple[Convert, Convert] | None) -> tuple[Convert, Convert]:
    if items is None:
        return _same, tuple
    write, read = items
    return (lambda values: [write(value) for value in values]), (lambda values: tuple(map(read, values)))


def _same(value: Any) -> Any:
    return value


def _enum_converters(members: type[StrEnum], absent: Any) -> tuple[Convert, Convert]:
    """`absent` is what an UNSPECIFIED value reads as; `MISSING` when it has no meaning."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", members.__name__).upper()
    module = next(module for module in _MODULES if members.__name__ in module.DESCRIPTOR.enum_types_by_name)
    numbers = module.DESCRIPTOR.enum_types_by_name[members.__name__].values_by_name
    written: dict[StrEnum | None, int] = {member: numbers[f"{prefix}_{member.name}"].number for member in members}
    read: dict[int, StrEnum | None] = {number: member for member, number in written.items()}
    if absent is None:
        written[None] = 0
    if absent is not MISSING:
        read[0] = absent
    return written.__getitem__, _EnumReader(members.__name__, read).__getitem__


class _EnumReader(dict[int, Any]):
    """Number to member; a number without one raises `UnknownType`."""

    def __init__(self, name: str, members: Mapping[int, Any]) -> None:
        super().__init__(members)
        self._name = name

    def __missing__(self, number: int) -> Any:
        raise UnknownType(f"{self._name} {number}")


# values


def encode_value(event: Event) -> bytes:
    """The protobuf message of `event`, never empty.

    Raises `ValueError` for an event without any id, `KeyError` for a class without a message, and `TypeError` or
    `ValueError` for values that no message can hold.
    """
    plan = _plan(type(event))
    value = plan.message(**plan.to_mapping(event)).SerializeToString()
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
    return _read_value(cls, value)


def _read_value(cls: type, value: bytes) -> Event:
    plan = _plan(cls)
    try:
        message = plan.message.FromString(value)
    except DecodeError as error:
        raise LogRefused(f"a record of {TYPES[cls].wire} is damaged") from error
    return plan.to_instance(message)


# records


_FIXED: dict[tuple[type, str], tuple[tuple[str, str], ...]] = {}


def _fixed_headers(cls: type, topic: str) -> tuple[tuple[str, str], ...]:
    headers = _FIXED.get((cls, topic))
    if headers is None:
        headers = _FIXED[cls, topic] = _make_fixed_headers(cls, topic)
    return headers


def _make_fixed_headers(cls: type, topic: str) -> tuple[tuple[str, str], ...]:
    """What all records of a class in a topic share. Raises `ValueError` for a class that does not stand there."""
    row = TYPES[cls]
    writer = row.topics.get(topic)  # type: ignore[call-overload]  # a Topic equals its text
    if writer is None:
        raise ValueError(f"{row.wire} does not stand in {topic}")
    return (
        ("content-type", "application/protobuf"),
        ("ce_specversion", "1.0"),
        ("ce_type", f"towpath.{row.wire}.v1"),
        ("ce_source", f"/towpath/{writer.value}"),
    )


_OPTIONAL = (
    "ce_subject",
    "ce_organizationid",
    "ce_correlationid",
    "ce_causationid",
    "ce_traceparent",
    "towpath_claim",
)
_optional_of = attrgetter("subject", "organization_id", "correlation_id", "causation_id", "traceparent", "claim")


@lru_cache(maxsize=256)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _time_text(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second_text(seconds)}.{rest:03d}Z"


def _time_ms(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def encode(event: Event, *, topic: str, key: str, envelope: Envelope, partition: int) -> Record:
    """The record of `event`. Pure; the same arguments make the same bytes.

    Raises `ValueError` when the type does not stand in `topic` (the table of `kernel.log.topics`), and what
    `encode_value` raises.
    """
    headers = [
        *_fixed_headers(type(event), topic),
        ("ce_id", envelope.id),
        ("ce_time", _time_text(envelope.time_ms)),
        *[pair for pair in zip(_OPTIONAL, _optional_of(envelope), strict=True) if pair[1]],
    ]
    if key:
        headers.append(("ce_partitionkey", key))
    if envelope.sequence:
        headers.append(("ce_sequence", str(envelope.sequence)))
    if envelope.cause is not None:
        headers.append(("towpath_cause", _join(envelope.cause)))
    if envelope.source is not None:
        headers.append(("towpath_source", _join(envelope.source)))
    return Record(topic, partition, key, tuple(headers), encode_value(event))


def decode(stored: Stored) -> Message:
    """The message that a record tells.

    Raises `UnknownType` for a type or enum value that this version does not know (a reader steps over it; the position
    is in `stored`), `LogRefused` for damaged bytes or headers.
    """
    record = stored.record
    headers = dict(record.headers)
    cls = _CE_TYPES.get(headers.get("ce_type", ""))
    if cls is None:
        raise UnknownType(headers.get("ce_type", ""))
    event = _read_value(cls, record.value)
    try:
        envelope = _envelope(headers.get, headers["ce_id"], _time_ms(headers["ce_time"]))
    except (KeyError, ValueError) as error:
        where = f"{record.topic}/{record.partition}/{stored.offset}"
        raise LogRefused(f"the headers of the record at {where} are damaged") from error
    return Message(
        record.topic, record.partition, stored.offset, record.key, event, envelope, stored.appended_ms
    )  # fmt: skip


def _envelope(header: Callable[[str, str], str], id_: str, time_ms: int) -> Envelope:
    cause, source = header("towpath_cause", ""), header("towpath_source", "")
    return Envelope(
        id_,
        time_ms,
        header("ce_subject", ""),
        int(header("ce_sequence", "0")),
        header("ce_organizationid", ""),
        header("ce_correlationid", ""),
        header("ce_causationid", ""),
        header("ce_traceparent", ""),
        header("towpath_claim", ""),
        _cause(cause) if cause else None,
        _source(source) if source else None,
    )


def _join(place: Cause | Source) -> str:
    """The fields with a slash between; a name that holds one itself is no trouble, it comes first."""
    if isinstance(place, Cause):
        return f"{place.topic}/{place.partition}/{place.offset}"
    return f"{place.topic_id}/{place.partition}/{place.offset}/{place.index}"


def _cause(text: str) -> Cause:
    topic, partition, offset = text.rsplit("/", 2)
    return Cause(topic, int(partition), int(offset))


def _source(text: str) -> Source:
    topic_id, partition, offset, index = text.rsplit("/", 3)
    return Source(topic_id, int(partition), int(offset), int(index))
