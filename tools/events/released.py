"""What was released of the event contract, kept in one file that only grows.

An entry is a line of what a reader relies on: of a field its number, type and JSON name, of an event type its topic,
message and source, of a header its shape. Beside it stands `released.pb`, the descriptors of the first release, which
`buf breaking` compares with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from tools.events.public import Contracts, PublicEvent, is_repeated

RELEASED = Path(__file__).resolve().parents[2] / "tests/contract/events/released.json"
Kept = dict[str, dict[str, str]]


def found(contracts: Contracts, events: list[PublicEvent], asyncapi: dict[str, Any]) -> Kept:
    """The contract as it is now."""
    messages = {name: {f.name: _field(f) for f in message.field} for name, message in contracts.messages.items()}
    enums = {name: {value.name: str(value.number) for value in enum.value} for name, enum in contracts.enums.items()}
    types = {
        event.type: {"topic": event.topic.value, "message": event.message, "source": f"/towpath/{event.writer}"}
        for event in events
    }
    headers = asyncapi["components"]["schemas"]["CloudEventsHeaders"]
    shapes = {name: _header(name, shape, headers["required"]) for name, shape in headers["properties"].items()}
    return {**messages, **enums, **types, "headers": shapes}


def breaks(kept: Kept, now: Kept) -> list[str]:
    """What a reader of the released contract would trip over, one sentence each."""
    return [
        f"{name}.{part} was {told} and is {now.get(name, {}).get(part, 'gone')}"
        for name, parts in sorted(kept.items())
        for part, told in sorted(parts.items())
        if now.get(name, {}).get(part) != told
    ]


def _field(field: FieldDescriptorProto) -> str:
    label = "repeated " if is_repeated(field) else ""
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{field.number} {label}{field.type_name.removeprefix('.') or scalar} {field.json_name}"


def _header(name: str, shape: dict[str, Any], required: list[str]) -> str:
    presence = "always" if name in required else "if set"
    rule = shape.get("const") or shape.get("pattern") or shape["type"]
    return f"{presence}: {rule}"
