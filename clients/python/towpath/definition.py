"""A workflow definition in a file: either the steps alone, or the whole body of the create call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from towpath.errors import TowpathError
from towpath.resources import Json, WorkflowType


class BadDefinition(TowpathError):
    """The file holds no workflow; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a file says; None where it holds the steps alone."""

    steps_json: Json
    name: str | None = None
    source_provider: str | None = None
    type: WorkflowType | None = None


def read_definition(file: Path) -> Definition:
    """Read `file`. BadDefinition when it is no workflow, OSError when it cannot be read."""
    return parse_definition(file.read_bytes(), str(file))


def parse_definition(content: bytes, source: str) -> Definition:
    """The definition in `content`; `source` names it in errors."""
    try:
        document: Any = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise BadDefinition(f"{source} is not valid JSON: {error}.") from error
    if isinstance(document, dict) and isinstance(document.get("steps"), list):
        return Definition(document)
    if not isinstance(document, dict) or not isinstance(document.get("stepsJson"), dict):
        raise BadDefinition(f"{source} has neither `steps` (the steps alone) nor `stepsJson` (a whole workflow).")
    type_ = document.get("type")
    if type_ is not None and type_ not in set(WorkflowType):
        raise BadDefinition(f"{source}: type is {type_!r}; it must be one of {', '.join(WorkflowType)}.")
    return Definition(
        document["stepsJson"],
        document.get("name"),
        document.get("sourceProvider"),
        WorkflowType(type_) if type_ is not None else None,
    )
