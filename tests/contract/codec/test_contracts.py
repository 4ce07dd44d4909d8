"""The proto files against the rules for them: commented, additive, in the right package."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from kernel.log.messages import message_of
from kernel.log.topics import TOPICS, TYPES

PROTOS = Path(__file__).resolve().parents[3] / "protos"
MESSAGE, ENUM, SERVICE = 4, 5, 6
"""Field numbers of `message_type`, `enum_type`, `service` in a FileDescriptorProto: the first step of a path."""


@pytest.fixture(scope="module")
def files() -> list[FileDescriptorProto]:
    """All proto files with their comments."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "contracts").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors"
        include = Path(grpc_tools.__file__).parent / "_proto"
        options = [f"-I{PROTOS}", f"-I{include}", f"--descriptor_set_out={target}", "--include_source_info"]
        assert protoc.main(["protoc", *options, *sources]) == 0
        return list(FileDescriptorSet.FromString(target.read_bytes()).file)


def commented(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(location.path): location.leading_comments + location.trailing_comments
        for location in file.source_code_info.location
    }


def declared(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path and name of everything that needs a comment."""
    groups: list[tuple[int, Any, str]] = [
        (MESSAGE, file.message_type, "field"), (ENUM, file.enum_type, "value"), (SERVICE, file.service, "method"),
    ]  # fmt: skip
    for group, things, part in groups:
        for index, thing in enumerate(things):
            yield (group, index), thing.name
            for place, member in enumerate(getattr(thing, part)):
                yield (group, index, 2, place), f"{thing.name}.{member.name}"


def test_every_message_field_and_value_is_commented(files: list[FileDescriptorProto]) -> None:
    bare = [
        f"{file.name}: {name}"
        for file in files
        for path, name in declared(file)
        if len(commented(file).get(path, "").strip()) < len("Why.")
    ]
    assert not bare


def test_messages_stand_at_the_top_of_their_file(files: list[FileDescriptorProto]) -> None:
    nested = [m.name for file in files for m in file.message_type if m.nested_type or m.enum_type]
    assert not nested, "nested declarations escape the comment check"


def test_enums_begin_with_unspecified_and_carry_their_name(files: list[FileDescriptorProto]) -> None:
    for enum in (enum for file in files for enum in file.enum_type):
        prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
        assert prefix.replace("_", "").lower() == enum.name.lower()
        assert all(value.name.startswith(prefix) for value in enum.value)


def test_numbers_and_types_only_grow(files: list[FileDescriptorProto]) -> None:
    kept: dict[str, dict[str, str]] = json.loads((PROTOS / "field_numbers.json").read_text())
    found = {
        f"{file.package}.{thing.name}": {member.name: member.number for member in getattr(thing, part)}
        for file in files
        for things, part in ((file.message_type, "field"), (file.enum_type, "value"))
        for thing in things
    }
    for name, fields in kept.items():
        for field, number in fields.items():
            assert found[name][field] == int(number.split()[0]), f"{name}.{field}"


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: TYPES[cls].wire)
def test_an_event_is_public_if_one_of_its_topics_is(cls: type) -> None:
    public = any(TOPICS[topic].public for topic in TYPES[cls].topics)
    assert message_of(cls).DESCRIPTOR.file.package == ("contracts.v1" if public else "contracts.internal")


def test_public_contracts_stand_on_public_contracts_alone(files: list[FileDescriptorProto]) -> None:
    for file in files:
        if file.package == "contracts.v1":
            assert all(name.startswith("contracts/v1/") for name in file.dependency), file.name
