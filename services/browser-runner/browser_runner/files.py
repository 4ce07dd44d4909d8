"""Which artifacts a workflow may hand to a page, and what is known of their bytes. Pure.

A reference names an artifact by its id. What the id stands for is never taken from the reference itself, which a page
or a caller may have made up, but looked up in what the runner's own steps gave and in what the gateway has resolved.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernel.domain.artifact import StagedArtifact
from kernel.steps.document import (
    DownloadStep,
    ExtractStep,
    ScreenshotStep,
    StepsDocument,
    all_steps,
    input_properties,
)

_NAME_CHARS_MAX = 120
_UNSAFE = re.compile(r"[^\w.\- ]+")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


@dataclass(frozen=True, slots=True)
class FileRef:
    """Bytes that a run may hand on."""

    artifact_id: str
    name: str
    sha256: str
    size: int
    type: str


def as_result(artifact: StagedArtifact, name: str) -> dict[str, Any]:
    """What a step says of an artifact that it made; `known_files` reads it back."""
    return {
        "artifactId": artifact.artifact_id,
        "name": name,
        "sha256": artifact.sha256,
        "type": artifact.mime_type,
        "size": artifact.size,
    }


def known_files(document: StepsDocument, scope: Mapping[str, Any]) -> dict[str, FileRef]:
    """The artifacts of `scope` by id: of inputs of kind `artifact`, and of steps that make artifacts."""
    told: list[Any] = []
    for name, schema in input_properties(document).items():
        if schema.get("kind") == "artifact":
            told += as_list(scope.get("inputs", {}).get(name))
    results = scope.get("steps", {})
    for step in all_steps(document):
        result = results.get(step.id)
        if not isinstance(result, Mapping):
            continue
        if isinstance(step, DownloadStep):
            told += as_list(result.get("files"))
        elif isinstance(step, ScreenshotStep | ExtractStep):
            told.append(result)
    return {file.artifact_id: file for file in _read(told)}


def as_list(value: Any) -> list[Any]:
    """A list as it is, nothing as none, anything else as a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def id_of(reference: Any) -> str:
    """The artifact id that a reference names, empty when it names none."""
    named = reference.get("artifactId") if isinstance(reference, Mapping) else reference
    return named if isinstance(named, str) else ""


def _read(told: list[Any]) -> Iterator[FileRef]:
    for one in told:
        match one:
            case {
                "artifactId": str(id_),
                "name": str(name),
                "sha256": str(sha256),
                "size": int(size),
                "type": str(type_),
            }:
                yield FileRef(id_, name, sha256, size, type_)
            case _:
                continue  # A step that failed and was passed over gave no artifact.


def clean_name(name: str) -> str:
    """A file name that is safe on every system: no path, no control characters, no device, not hidden."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFKC", name))[-1]
    clean = _UNSAFE.sub("_", last).strip(" .")[-_NAME_CHARS_MAX:].lstrip(" .")
    if not clean:
        return "download"
    return f"_{clean}" if _DEVICES.match(clean) else clean
