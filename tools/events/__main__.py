"""Writes what the gateway serves below `/events` and what the client decodes by, from topic table and proto files.

python -m tools.events            write
python -m tools.events --check    compare, change nothing; exit 1 with the names of what differs
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from kernel.log.messages import message_of
from kernel.log.topics import TYPES
from tools.events.asyncapi import document
from tools.events.public import (
    Contracts,
    PublicEvent,
    all_contracts,
    descriptor_set,
    public_contracts,
    public_events,
)
from tools.events.released import RELEASED, Kept, breaks, found
from tools.events.schemas import event_schema

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ROOT / "services/api-gateway/api_gateway/surfaces/events/documents"
CLIENT = ROOT / "clients/python/towpath/event_log"


def made() -> dict[str, bytes]:
    """Every document by its path below `/events`."""
    contracts, events = public_contracts(), public_events()
    return _documents(contracts, events, document(contracts, events))


def made_for_client() -> dict[str, bytes]:
    """What the client decodes every topic by, those of our own services included, by its name in the package."""
    types = {f"towpath.{row.wire}.v1": message_of(cls).DESCRIPTOR.full_name for cls, row in TYPES.items()}
    return {"descriptors.pb": descriptor_set(all_contracts()), "types.json": _json(types)}


def _documents(contracts: Contracts, events: list[PublicEvent], asyncapi: dict[str, Any]) -> dict[str, bytes]:
    text = yaml.dump(asyncapi, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
    schemas = {f"schemas/{event.type}.json": _json(event_schema(contracts, event)) for event in events}
    protos = {f"protos/{file.name}": (ROOT / "protos" / file.name).read_bytes() for file in contracts.files}
    return {
        "asyncapi.yaml": text.encode(),
        "asyncapi.json": json.dumps(asyncapi, separators=(",", ":"), ensure_ascii=False).encode(),
        "descriptors.pb": descriptor_set(contracts),
        **schemas,
        **protos,
    }


class _Plain(yaml.SafeDumper):
    """Writes everything out and keeps the lines of a text: aliases and folded lines are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def committed() -> dict[str, bytes]:
    """Every document as it stands in the gateway's package."""
    files = (path for path in DOCUMENTS.rglob("*") if path.is_file())
    return {str(path.relative_to(DOCUMENTS)): path.read_bytes() for path in files}


def main() -> int:
    """Write or compare; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(description="Write the event contract that the gateway serves.")
    parser.add_argument("--check", action="store_true", help="compare, change nothing")
    check = parser.parse_args().check
    contracts, events = public_contracts(), public_events()
    asyncapi = document(contracts, events)
    kept: Kept = json.loads(RELEASED.read_text()) if RELEASED.exists() else {}
    now = found(contracts, events, asyncapi)
    broken = breaks(kept, now)
    if broken:
        print("Contracts may only grow:", *broken, sep="\n  ")
        return 1
    fresh = {DOCUMENTS / name: content for name, content in _documents(contracts, events, asyncapi).items()}
    fresh |= {CLIENT / name: content for name, content in made_for_client().items()}
    old = {path: path.read_bytes() for path in (*DOCUMENTS.rglob("*"), *fresh) if path.is_file()}
    differing = sorted(path for path in fresh.keys() | old.keys() if fresh.get(path) != old.get(path))
    if check:
        differing += [RELEASED] if kept != now else []
        if differing:
            print("`make protos` would change:", *(path.relative_to(ROOT) for path in differing), sep="\n  ")
        return 1 if differing else 0
    for path in differing:
        if path in fresh:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fresh[path])
        else:
            path.unlink()
    RELEASED.write_bytes(_json(now))
    print(f"events: {len(fresh)} documents, {len(differing)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
