"""Writes the frozen bytes of types that have none yet: `python -m tests.support.frozen`. It never changes a file.

A frozen file holds the bytes of one released record and what they tell. Today's code must read them for ever.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from kernel.log.codec import encode_value
from kernel.log.topics import TYPES
from tests.support.events import sample

FROZEN = Path(__file__).resolve().parent.parent / "contract" / "codec" / "frozen"


def told(value: Any) -> Any:
    """An event as JSON tells it: bytes in hex, enums by their text."""
    if is_dataclass(value):
        return {field.name: told(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [told(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.value if isinstance(value, StrEnum) else value


def freeze() -> int:
    """Write what is missing; how many files were written."""
    written = 0
    for cls, row in TYPES.items():
        path = FROZEN / f"{row.wire}.json"
        if not path.exists():
            event = sample(cls)
            content = {"hex": encode_value(event).hex(), "event": told(event)}
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            written += 1
    return written


if __name__ == "__main__":
    print(f"{freeze()} written")  # noqa: T201 (run by hand)
