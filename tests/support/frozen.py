"""Writes the frozen bytes of types that have none yet: `python -m tests.support.frozen`. It never changes a file.

A frozen file holds the bytes of one released record, or of one value of a decider's state, and what they tell. Today's
code must read them for ever.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from api_gateway.registry.decider import RegistryDecider
from kernel.domain.decider import Decider
from kernel.log.codec import encode_value
from kernel.log.topics import TYPES
from kernel.processor.values import StateValues
from scheduler.advance import Advance
from scheduler.dispatch import Dispatch
from tests.support.events import sample

_CONTRACT = Path(__file__).resolve().parent.parent / "contract"
FROZEN = _CONTRACT / "codec" / "frozen"
FROZEN_STATE = _CONTRACT / "processor" / "frozen_state"
DECIDERS: tuple[Decider, ...] = (RegistryDecider(), Advance(), Dispatch())


def told(value: Any) -> Any:
    """An event as JSON tells it: bytes in hex, enums by their text."""
    if is_dataclass(value):
        return {field.name: told(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [told(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.value if isinstance(value, StrEnum) else value


def assert_tells(now: Any, then: Any, where: str) -> None:
    """`now` tells all that `then` told; it may tell more, by fields that were added since."""
    if isinstance(then, dict):
        for name, value in then.items():
            assert name in now, f"{where}.{name} is gone"
            assert_tells(now[name], value, f"{where}.{name}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for index, value in enumerate(then):
            assert_tells(now[index], value, f"{where}[{index}]")
    else:
        assert now == then, where


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


def freeze_state() -> int:
    """Write the state values of today's shapes that are missing; how many files were written."""
    written = 0
    for decider in DECIDERS:
        values = StateValues(decider.value_types)
        for cls in decider.value_types:
            value = sample(cls)
            kind, data, shape = values.write(value)
            path = FROZEN_STATE / f"{decider.name}.{kind}.{shape}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                content = {"hex": data.hex(), "value": told(value)}
                path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
                written += 1
    return written


if __name__ == "__main__":
    print(f"{freeze() + freeze_state()} written")  # noqa: T201 (run by hand)
