"""Input values from the command line: `name=value`, `name=@file`, a JSON file, hidden prompts.

A value on the command line is seen by everyone on the machine; secrets belong into `@file` or a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from towpath.resources import Json


def collect(pairs: Sequence[str], file: Path | None, secrets: Sequence[str], ask: Callable[[str], str]) -> Json:
    """All values: those of the JSON `file`, over them `pairs`, over them `secrets`, asked for by `ask`.

    `click.UsageError` when one cannot be understood or read.
    """
    values = _of_file(file) if file else {}
    values |= dict(parse_pair(pair) for pair in pairs)
    return values | {name: ask(name) for name in secrets}


def parse_pair(pair: str) -> tuple[str, str]:
    """`name=value`, or `name=@file` for the text of a file without its last line end."""
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{pair!r} is not of the form name=value or name=@file.")
    if not value.startswith("@"):
        return name, value
    try:
        text = Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"The value of {name!r} cannot be read from {value[1:]!r}: {error}") from error
    return name, text.removesuffix("\n").removesuffix("\r")


def _of_file(file: Path) -> Json:
    try:
        document: Any = msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise click.UsageError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise click.UsageError(f"{file} must hold one JSON object of names and values.")
    return document
