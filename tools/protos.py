"""Generates Python from `protos/contracts` into `protos/gen`, and keeps the numbers that readers rely on.

    python tools/protos.py            write
    python tools/protos.py --check    compare, change nothing; exit 1 with the names of what differs

Beside the messages it keeps `protos/field_numbers.json`: every field and enum value with its number and type. An entry
never changes and never goes; new ones are added. Inside v1 this is what lets an old reader read new records.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
NUMBERS = PROTOS / "field_numbers.json"
PACKAGES = {
    "contracts": "Generated messages: what crosses a process border. Never edited; `make protos` writes it.",
    "contracts/v1": "Public contracts: outside subscribers read these.",
    "contracts/internal": "What only our services say to each other.",
}

Numbers = dict[str, dict[str, str]]
"""Message or enum -> field or value -> number, and for a field its type and label."""


def sources() -> list[Path]:
    """Every proto file, relative to `protos/`, in a fixed order."""
    return sorted(path.relative_to(PROTOS) for path in (PROTOS / "contracts").rglob("*.proto"))


def run_protoc(files: list[Path], *options: str) -> None:
    """Run protoc over `files`. Raises `SystemExit` when it refuses them; it has told why on stderr."""
    include = Path(grpc_tools.__file__).parent / "_proto"
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent}/protoc-gen-{name}" for name in ("mypy", "mypy_grpc")
    ]
    command = ["protoc", f"-I{PROTOS}", f"-I{include}", *plugins, *options, *map(str, files)]
    if protoc.main(command) != 0:
        raise SystemExit("protoc refused the files above")


def describe() -> FileDescriptorSet:
    """The descriptors of all our files, with their comments."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors"
        run_protoc(sources(), f"--descriptor_set_out={target}", "--include_source_info")
        return FileDescriptorSet.FromString(target.read_bytes())


def numbers_of(descriptors: FileDescriptorSet) -> Numbers:
    """Every field and enum value with what must never change about it."""
    found: Numbers = {}
    for file in descriptors.file:
        for message in file.message_type:
            found[f"{file.package}.{message.name}"] = _fields_of(message)
        for enum in file.enum_type:
            found[f"{file.package}.{enum.name}"] = {value.name: str(value.number) for value in enum.value}
    return found


def _fields_of(message: DescriptorProto) -> dict[str, str]:
    return {field.name: f"{field.number} {_type_of(field)}" for field in message.field}


def _type_of(field: FieldDescriptorProto) -> str:
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return label + (field.type_name.removeprefix(".") or scalar)


def breaks(kept: Numbers, found: Numbers) -> list[str]:
    """What an old reader or an old record would trip over, one sentence each."""
    sentences = []
    for name, fields in kept.items():
        for field, number in fields.items():
            now = found.get(name, {}).get(field, "gone")
            if now != number:
                sentences.append(f"{name}.{field} was {number} and is {now}")
    return sentences


def generate(target: Path) -> None:
    """Write the generated tree of all proto files below `target`."""
    files = sources()
    run_protoc(files, f"--python_out={target}", f"--mypy_out=quiet:{target}")
    services = [file for file in files if "\nservice " in (PROTOS / file).read_text()]
    if services:
        run_protoc(services, f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}")
    for package, meaning in PACKAGES.items():
        (target / package).mkdir(parents=True, exist_ok=True)
        (target / package / "__init__.py").write_text(f'"""{meaning}"""\n')


def tree(folder: Path) -> dict[str, bytes]:
    """Every generated file below `folder`, by its path."""
    files = (path for path in sorted((folder / "contracts").rglob("*.py*")) if path.suffix in {".py", ".pyi"})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> int:
    """Generate, or compare. 0 when all is well."""
    parser = argparse.ArgumentParser(description="Generate Python from the proto files.")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    check: bool = parser.parse_args().check
    kept: Numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    found = numbers_of(describe())
    broken = breaks(kept, found)
    if broken:
        print("Contracts may only grow:", *broken, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = tree(Path(folder)), tree(PROTOS / "gen")
    fresh_numbers = json.dumps(found, indent=1, sort_keys=True) + "\n"
    differing = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    if kept != found:
        differing.append(NUMBERS.name)
    if check:
        if differing:
            print("`make protos` would change:", *differing, sep="\n  ")
        return 1 if differing else 0
    _write(fresh, committed)
    NUMBERS.write_text(fresh_numbers)
    print(f"protos: {len(sources())} files, {len(differing)} changed")
    return 0


def _write(fresh: dict[str, bytes], committed: dict[str, bytes]) -> None:
    for name, content in fresh.items():
        path = PROTOS / "gen" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if committed.get(name) != content:
            path.write_bytes(content)
    for name in committed.keys() - fresh.keys():
        (PROTOS / "gen" / name).unlink()


if __name__ == "__main__":
    sys.exit(main())
