"""Server-sent events, decoded from bytes; pure.

Lines end in LF, CRLF or CR and in nothing else: a U+2028 inside JSON text is no line end, which is why
the line splitting of `str` does not serve here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_DIGITS = re.compile(r"[0-9]{1,9}")
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `id` is the position to go on from (empty: unchanged), `retry_seconds` None when not told."""

    id: str
    event: str
    data: str
    retry_seconds: float | None


def messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Messages in order; comments are dropped, and so is an unfinished last message, as the standard asks."""
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name:
                fields[name] = value
        elif fields or data:
            yield _message(fields, "\n".join(data))
            fields, data = {}, []


def _message(fields: dict[str, str], data: str) -> Message:
    retry = fields.get("retry", "")
    return Message(
        id=fields.get("id", ""),
        event=fields.get("event", "message"),
        data=data,
        retry_seconds=int(retry) / 1000 if _DIGITS.fullmatch(retry) else None,
    )


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        # A CR at the very end may be the first half of a CRLF whose LF comes with the next chunk.
        held = rest[-1:] if rest.endswith(b"\r") else b""
        *whole, rest = _LINE_END.split(rest[:-1] if held else rest)
        rest += held
        for line in whole:
            yield line.decode("utf-8", errors="replace")
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", errors="replace")
