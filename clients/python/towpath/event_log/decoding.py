"""A record of any Towpath topic as plain data; pure.

Messages are made from descriptors that come with this package, not from generated classes, so nothing has to be
compiled. A type that is younger than this package decodes to nothing but its headers: readers step over it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as a broker delivers it. `appended_ms` is the broker's time, milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: Mapping[str, str]
    value: bytes
    appended_ms: int = 0

    @property
    def type(self) -> str:
        """The event type without prefix and version: `job_run.created`; empty without a header for it."""
        return self.headers.get("ce_type", "").removeprefix("towpath.").removesuffix(".v1")

    @property
    def sequence(self) -> int:
        """Gapless per key in a public topic, from 1; 0 for what is no part of a history."""
        return int(self.headers.get("ce_sequence", 0))


@cache
def message_class(ce_type: str) -> type[Message] | None:
    """The class of a type such as `towpath.job_run.created.v1`; None for one that this package does not know."""
    name = _types().get(ce_type)
    return GetMessageClass(_pool().FindMessageTypeByName(name)) if name else None


def message_of(record: LogRecord) -> Message | None:
    """The message in the record; None for an unknown type, an empty value or damaged bytes."""
    cls = message_class(record.headers.get("ce_type", ""))
    if cls is None or not record.value:
        return None
    try:
        return cls.FromString(record.value)
    except DecodeError:
        return None


def data_of(message: Message) -> Json:
    """The message in the protobuf JSON mapping, camelCase; values that are absent or zero are left out."""
    return json_format.MessageToDict(message)


@cache
def _types() -> dict[str, str]:
    found: dict[str, str] = json.loads((files("towpath.event_log") / "types.json").read_text())
    return found


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    descriptors = FileDescriptorSet.FromString((files("towpath.event_log") / "descriptors.pb").read_bytes())
    for file in descriptors.file:
        pool.Add(file)
    return pool
