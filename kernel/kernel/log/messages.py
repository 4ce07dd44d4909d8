"""Domain events to protobuf messages and back, by equal names.

    dataclass field                         message field
    str, bytes, bool, int and NewTypes      the same
    member FAILED of enum StepStatus        STEP_STATUS_FAILED; None of an optional one is STEP_STATUS_UNSPECIFIED
    nested dataclass                        nested message of the same name
    tuple of any of these                   repeated

This is the hottest code of the platform: every fact passes it several times. So each class gets, on its first use, one
function that writes and one that reads it, made from source as `dataclasses` makes its own.

A field that an old record lacks reads as the protobuf default, an enum as the default of its dataclass field. Unknown
fields are ignored; an enum value without a meaning here is `UnknownType`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, Message

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
from kernel.building import builder_of, made_function
from kernel.errors import LogRefused, UnknownType

_MODULES = (
    *(values_pb2, artifact_pb2, connection_pb2, input_request_pb2, job_pb2, job_run_pb2, provider_pb2, workflow_pb2),
    *(workflow_run_pb2, dispatch_pb2, owner_pb2, plan_pb2, registry_pb2, requests_pb2, run_pb2, task_pb2),
)
_MESSAGES: dict[str, type[Message]] = {
    name: getattr(module, name) for module in _MODULES for name in module.DESCRIPTOR.message_types_by_name
}
_ENUMS = {name: descriptor for module in _MODULES for name, descriptor in module.DESCRIPTOR.enum_types_by_name.items()}
_MANY_FIELDS = 4
_SCALARS = (str, bytes, bool, int)

Write = Callable[[Any, Any], None]
"""(instance, message): fill the message."""
Read = Callable[[Any], Any]
"""message -> instance."""

_CONVERTERS: dict[type, tuple[Write, Read]] = {}


def write_message(event: Any) -> bytes:
    """The protobuf message of `event`, a dataclass with a message of its name; deterministic.

    Raises `KeyError` for a class without a message, `TypeError` or `ValueError` for values that no message can hold.
    """
    cls = type(event)
    message = _MESSAGES[cls.__name__]()
    _converters(cls)[0](event, message)
    return message.SerializeToString()


def read_message(cls: type, value: bytes) -> Any:
    """The instance of `cls` that `value` tells.

    Raises `LogRefused` for damaged bytes, `UnknownType` for an enum value without a meaning here.
    """
    try:
        message = _MESSAGES[cls.__name__].FromString(value)
    except DecodeError as error:
        raise LogRefused(f"a {cls.__name__} in the log is damaged") from error
    return _converters(cls)[1](message)


def message_of(cls: type) -> type[Message]:
    """The generated class for `cls`. Raises `KeyError` when there is none."""
    return _MESSAGES[cls.__name__]


def _converters(cls: type) -> tuple[Write, Read]:
    pair = _CONVERTERS.get(cls)
    if pair is None:
        pair = _CONVERTERS[cls] = _make_converters(cls)
    return pair


def _make_converters(cls: type) -> tuple[Write, Read]:
    differing = {field.name for field in fields(cls)} ^ set(_MESSAGES[cls.__name__].DESCRIPTOR.fields_by_name)
    if differing:
        raise TypeError(f"{cls.__name__} and its message differ in {sorted(differing)}")
    hints = get_type_hints(cls)
    names: dict[str, Any] = {"build": builder_of(cls)}
    writes, reads = [], []
    # Most fields of most events are empty, and need not be written. One of them is in any case: it says of a nested
    # message that it is there.
    is_told = False
    for field in fields(cls):
        write, read = _lines_of(hints[field.name], field, names)
        hint = getattr(hints[field.name], "__supertype__", hints[field.name])
        if hint in _SCALARS and is_told:
            write = f"if event.{field.name} != {hint()!r}: {write}"
        is_told |= hint in _SCALARS
        writes.append(write)
        reads.append(read)
    return (
        made_function(["def write(event, message):", *writes], names),
        made_function(["def read(message):", f"return build({', '.join(reads)})"], names),
    )


def _lines_of(hint: Any, field: Field[Any], names: dict[str, Any]) -> tuple[str, str]:
    """The statement that writes a field and the expression that reads it; `names` gets what they use."""
    name, hint = field.name, getattr(hint, "__supertype__", hint)
    to, of = f"to_{name}", f"of_{name}"
    if get_origin(hint) is tuple:
        return _repeated_lines_of(get_args(hint)[0], field, names)
    if is_dataclass(hint) and isinstance(hint, type):
        names[to], names[of] = _converters(hint)
        read = f"{of}(message.{name})"
        if _is_costly(hint):
            names[f"empty_{name}"] = names[of](_MESSAGES[hint.__name__]())
            read = f"({of}(part) if (part := message.{name}).ByteSize() else empty_{name})"
        return f"{to}(event.{name}, message.{name})", read
    if hint in _SCALARS:
        return f"message.{name} = event.{name}", f"message.{name}"
    names[to], names[of] = _enum_tables(hint, field)
    return f"message.{name} = {to}[event.{name}]", f"{of}[message.{name}]"


def _is_costly(cls: type) -> bool:
    """Whether an empty message of `cls` is better recognized than read: then all of them read as one instance.

    Those are classes with many fields or with lists, nested ones included, whose every field may be absent.
    """
    lists = any(get_origin(hint) is tuple for hint in get_type_hints(cls).values())
    return (lists or len(fields(cls)) >= _MANY_FIELDS) and _may_be_empty(cls)


def _may_be_empty(cls: type) -> bool:
    try:
        _converters(cls)[1](_MESSAGES[cls.__name__]())
    except UnknownType:
        return False
    return True


def _repeated_lines_of(item: Any, field: Field[Any], names: dict[str, Any]) -> tuple[str, str]:
    name, item = field.name, getattr(item, "__supertype__", item)
    to, of = f"to_{name}", f"of_{name}"
    if item in _SCALARS:
        return f"message.{name}.extend(event.{name})", f"tuple(message.{name})"
    names[to], names[of] = _converters(item)
    write = f"for item in event.{name}: {to}(item, message.{name}.add())"
    return write, f"tuple([{of}(item) for item in message.{name}])"


class _Members(dict[int, Any]):
    """Number to member; a number without one raises `UnknownType`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, number: int) -> Any:
        raise UnknownType(f"{self._name} {number}")


def _enum_tables(hint: Any, field: Field[Any]) -> tuple[dict[StrEnum | None, int], _Members]:
    """Member to number, and number to member; UNSPECIFIED is None where the field may be None."""
    optional = NoneType in get_args(hint)
    members = next(arg for arg in get_args(hint) if arg is not NoneType) if optional else hint
    if not (isinstance(members, type) and issubclass(members, StrEnum)):
        raise TypeError(f"{field.name}: {hint} has no place in a message")
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", members.__name__).upper()
    values = _ENUMS[members.__name__].values_by_name
    written: dict[StrEnum | None, int] = {member: values[f"{prefix}_{member.name}"].number for member in members}
    read = _Members(members.__name__)
    read.update({number: member for member, number in written.items()})
    if optional:
        written[None] = 0
        read[0] = None
    elif field.default is not MISSING:
        read[0] = field.default
    return written, read
