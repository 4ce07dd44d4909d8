"""What outsiders may read: every public event type with its topic, its message and what the proto files say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from kernel.log.codec import data_schema
from kernel.log.messages import message_of
from kernel.log.topics import TOPICS, TYPES, Topic, Writer
from tools.protos import describe

PACKAGE = "contracts.v1"
_MESSAGES, _FIELDS, _ENUMS, _VALUES = 4, 2, 5, 2
"""Numbers of `message_type`, `field`, `enum_type`, `value` in their descriptors: the steps of a comment's path."""


@dataclass(frozen=True, slots=True)
class PublicEvent:
    """One event type in one public topic."""

    type: str
    """`ce_type`, such as `towpath.job_run.created.v1`."""
    topic: Topic
    message: str
    """Full name of its message."""
    data_schema: str
    writer: Writer


@dataclass(frozen=True, slots=True)
class Contracts:
    """Proto files: messages and enums by full name, and the comment above each of their parts."""

    files: tuple[FileDescriptorProto, ...]
    messages: dict[str, DescriptorProto]
    enums: dict[str, EnumDescriptorProto]
    comments: dict[str, str]
    """By full name; a field or value stands below its message or enum."""


def public_events() -> list[PublicEvent]:
    """In the order of the table, one topic after the other."""
    return [
        PublicEvent(
            f"towpath.{row.wire}.v1", topic, message_of(cls).DESCRIPTOR.full_name, data_schema(cls), row.topics[topic]
        )
        for topic, about in TOPICS.items()
        if about.public
        for cls, row in TYPES.items()
        if topic in row.topics
    ]


def public_contracts() -> Contracts:
    """Everything of `contracts.v1`, read from the proto files."""
    return _contracts([file for file in describe().file if file.package == PACKAGE])


def all_contracts() -> Contracts:
    """Everything, what our services say to each other included."""
    return _contracts(describe().file)


def _contracts(files: Iterable[FileDescriptorProto]) -> Contracts:
    contracts = Contracts(tuple(files), {}, {}, {})
    for file in contracts.files:
        contracts.messages.update({f"{file.package}.{message.name}": message for message in file.message_type})
        contracts.enums.update({f"{file.package}.{enum.name}": enum for enum in file.enum_type})
        contracts.comments.update(_comments(file))
    return contracts


def descriptor_set(contracts: Contracts) -> bytes:
    """The files as one `FileDescriptorSet`, each behind those that it imports, without comments; deterministic."""
    by_name = {file.name: file for file in contracts.files}
    ordered: dict[str, FileDescriptorProto] = {}

    def put(name: str) -> None:
        for imported in by_name[name].dependency:
            put(imported)
        ordered.setdefault(name, by_name[name])

    for name in sorted(by_name):
        put(name)
    found = FileDescriptorSet()
    for file in ordered.values():
        found.file.add().CopyFrom(file)
        found.file[-1].ClearField("source_code_info")
    return found.SerializeToString(deterministic=True)


def is_repeated(field: FieldDescriptorProto) -> bool:
    """Whether a field holds a list."""
    return field.label == FieldDescriptorProto.LABEL_REPEATED


def _comments(file: FileDescriptorProto) -> dict[str, str]:
    names = dict(_names(file))
    return {
        names[tuple(location.path)]: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if tuple(location.path) in names
    }


def _names(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """The full name behind each path that may carry a comment."""
    for index, message in enumerate(file.message_type):
        name = f"{file.package}.{message.name}"
        yield (_MESSAGES, index), name
        yield from (((_MESSAGES, index, _FIELDS, at), f"{name}.{part.name}") for at, part in enumerate(message.field))
    for index, enum in enumerate(file.enum_type):
        name = f"{file.package}.{enum.name}"
        yield (_ENUMS, index), name
        yield from (((_ENUMS, index, _VALUES, at), f"{name}.{value.name}") for at, value in enumerate(enum.value))
