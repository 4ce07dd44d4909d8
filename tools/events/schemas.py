"""JSON Schema of the protobuf JSON mapping: what `MessageToJson` makes of each public message, and an example of it.

Nothing is required and unknown members are allowed, because readers have to live with both: protobuf leaves default
values out, and contracts grow.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto

from tools.events.public import Contracts, PublicEvent, is_repeated

DIALECT = "http://json-schema.org/draft-07/schema#"
Schema = dict[str, Any]

_LONG: Schema = {"type": "string", "pattern": "^-?[0-9]+$", "format": "int64"}
_SCALARS: dict[int, Schema] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptorProto.TYPE_INT64: _LONG,
}
_EVENT_NAME = re.compile(r"^`[a-z_.]+`: ")
_TEXTS = {
    "allowed_domains": ".shop.example", "code": "step_failed", "display_name": "Shop", "inline": '{"steps":[]}',
    "kind": "click", "label": "Code", "login_url": "https://shop.example/login", "message": "it is not there",
    "mime_type": "text/csv", "name": "Collect the orders", "next_name": "Save", "first_name": "Open", "options": "yes",
    "path": "orders[2].open", "pool": "browser", "provider": "shop", "reason": "lapsed", "slug": "shop",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "step_id": "open", "type": "download",
    "step_name": "Open", "answered_by": "00000000-0000-4000-8000-0000000000aa",
}  # fmt: skip
_BOX = b"\x01" + bytes(12) + b"sealed bytes of the value, and their tag"


def component_name(full_name: str) -> str:
    """`contracts.v1.Sealed` as the name of a schema."""
    return full_name.rsplit(".", 1)[-1]


def event_schema(contracts: Contracts, event: PublicEvent) -> Schema:
    """The schema of one event type, whole in itself."""
    used = _used(contracts, event.message)
    definitions = {component_name(name): schema_of(contracts, name, "#/definitions/") for name in used}
    own = definitions.pop(component_name(event.message))
    head = {"$schema": DIALECT, "$id": f"{event.data_schema}:json", "title": event.type}
    return {**head, **own, **({"definitions": definitions} if definitions else {})}


def all_schemas(contracts: Contracts, base: str) -> dict[str, Schema]:
    """The schema of every public message and enum by its name; they name each other below `base`."""
    names = [*contracts.messages, *contracts.enums]
    return {component_name(name): schema_of(contracts, name, base) for name in sorted(names)}


def schema_of(contracts: Contracts, full_name: str, base: str) -> Schema:
    """The schema of one message or enum."""
    about = about_of(contracts, full_name)
    if full_name in contracts.enums:
        return _enum_schema(contracts.enums[full_name], about)
    fields = contracts.messages[full_name].field
    properties = {
        field.json_name: _field_schema(field, contracts.comments[f"{full_name}.{field.name}"], base) for field in fields
    }
    return {"description": about, "type": "object", "properties": properties}


def about_of(contracts: Contracts, full_name: str) -> str:
    """What its proto file says of a message or enum, without the event's own name."""
    return _EVENT_NAME.sub("", contracts.comments[full_name])


def _enum_schema(enum: EnumDescriptorProto, about: str) -> Schema:
    names = [value.name for value in enum.value]
    return {"description": f"{about} Later versions may add values.", "type": "string", "examples": names}


def _field_schema(field: FieldDescriptorProto, about: str, base: str) -> Schema:
    found = _SCALARS.get(field.type)
    item = dict(found) if found else {"$ref": base + component_name(field.type_name)}
    if is_repeated(field):
        return {"description": about, "type": "array", "items": item}
    return {"description": about, **item} if found else {"description": about, "allOf": [item]}


def _used(contracts: Contracts, full_name: str) -> list[str]:
    """A message and all that it is made of."""
    found = [full_name]
    for name in found:
        fields = contracts.messages[name].field if name in contracts.messages else ()
        for field in fields:
            used = field.type_name.removeprefix(".")
            if used and used not in found:
                found.append(used)
    return found


def example_of(contracts: Contracts, full_name: str) -> dict[str, Any]:
    """A believable instance in the JSON mapping; always the same one."""
    return {
        field.json_name: [_example(contracts, field)] if is_repeated(field) else _example(contracts, field)
        for field in contracts.messages[full_name].field
    }


def _example(contracts: Contracts, field: FieldDescriptorProto) -> Any:
    name = field.type_name.removeprefix(".")
    if name:
        return contracts.enums[name].value[-1].name if name in contracts.enums else example_of(contracts, name)
    return _PLAIN[field.type](field.name)


def _text(name: str) -> str:
    if name in {"step_id", "request_id", "blob"} or not name.endswith(("_id", "_ids", "_by", "_of")):
        return {"request_id": example_id(name), "blob": ""}.get(name, _TEXTS.get(name, "text"))
    return example_id(name)


def example_id(name: str) -> str:
    """A fixed id that differs by what it names."""
    return f"00000000-0000-4000-8000-{sum(name.encode()):012x}"


_PLAIN: dict[int, Callable[[str], Any]] = {
    FieldDescriptorProto.TYPE_STRING: _text,
    FieldDescriptorProto.TYPE_BYTES: lambda _name: base64.b64encode(_BOX).decode(),
    FieldDescriptorProto.TYPE_BOOL: lambda _name: True,
    FieldDescriptorProto.TYPE_INT32: lambda _name: 1,
    FieldDescriptorProto.TYPE_INT64: lambda name: "1767225600000" if name.endswith("_ms") else "53",
}
