"""What the pages of an attempt said to their console and asked of the network: a ring that forgets its oldest. Pure.

It holds no bodies, no headers and no values of a query: names alone say what was asked. What else could be a secret is
taken out when the ring is read, for then all secrets of the attempt are known.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kernel.redaction import LiveSecrets, is_secret_name
from kernel.store.secret import HIDDEN

ENTRIES_MAX = 1000
BYTES_MAX = 256 * 1024
TEXT_CHARS_MAX = 1000
"""More of one message, or of one address, is cut off."""

_ENTRY_BYTES = 100
_ADDRESS = re.compile(r"\b(?:https?|wss?|blob|data|file):[^\s\"'<>()]+")
_NAMED = re.compile(r"([A-Za-z][\w.-]*)(\\?[\"']?\s*[=:]\s*\\?[\"']?)(?!\s|//)((?:Bearer |Basic )?[^\s\"'&;,\\]+)")
_BEARER = re.compile(r"\b(Bearer|Basic) +[\w.~+/=-]{6,}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that a page did. `level`: `debug`, `info`, `warning`, `error`."""

    kind: str
    """`console` or `network`."""
    level: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)


class PageLog:
    """The ring of one attempt."""

    def __init__(self, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: deque[tuple[int, Seen, int]] = deque()
        self._bytes = 0
        self._dropped = 0

    @property
    def is_empty(self) -> bool:
        return not self._entries

    def add(self, ms: int, seen: Seen) -> None:
        """Remember what was seen at `ms` (Unix milliseconds); the oldest goes where there is no room."""
        weight = _ENTRY_BYTES + len(seen.message) + sum(len(str(value)) for value in seen.data.values())
        self._entries.append((ms, seen, weight))
        self._bytes += weight
        while len(self._entries) > self._entries_max or self._bytes > self._bytes_max:
            self._bytes -= self._entries.popleft()[2]
            self._dropped += 1

    def lines(self, secrets: Sequence[LiveSecrets]) -> bytes:
        """The ring as newline-delimited JSON: `ms`, `kind`, `level`, `message`, `data`; without what `secrets` know."""
        entries = [(ms, seen) for ms, seen, _ in self._entries]
        if self._dropped and entries:
            left_out = Seen("console", "info", f"{self._dropped} earlier entries are left out")
            entries.insert(0, (entries[0][0], left_out))
        return b"".join(_line(ms, seen, secrets) for ms, seen in entries)


def _line(ms: int, seen: Seen, secrets: Sequence[LiveSecrets]) -> bytes:
    told: Any = {"kind": seen.kind, "level": seen.level, "message": seen.message, "data": seen.data}
    for live in secrets:
        told = live.scrub_json(told)
    return msgspec.json.encode({"ms": ms, **told}) + b"\n"


def console(level: str, text: str, url: str, line: int) -> Seen:
    """A message of a page's script, or an error that it did not catch."""
    known = {"log": "info", "warn": "warning", "assert": "error", "trace": "debug"}.get(level, level)
    level = known if known in {"debug", "info", "warning", "error"} else "info"
    return Seen("console", level, plain_text(text), {"url": plain_address(url), "line": line})


def answered(method: str, url: str, status: int, kind: str, waited_ms: float) -> Seen:
    """An answer of the network; `kind` is what it was wanted for, such as `document` or `xhr`."""
    level = "info" if status < 400 else "warning" if status < 500 else "error"
    address = plain_address(url)
    data = {"method": method, "url": address, "status": status, "type": kind}
    return Seen("network", level, f"{method} {address} {status}", data | _waited(waited_ms))


def failed(method: str, url: str, kind: str, why: str) -> Seen:
    """A request that got no answer."""
    address = plain_address(url)
    data = {"method": method, "url": address, "type": kind, "failure": why[:200]}
    return Seen("network", "error", f"{method} {address} failed: {why[:200]}", data)


def _waited(waited_ms: float) -> dict[str, Any]:
    return {"waitedMs": round(waited_ms)} if waited_ms >= 0 else {}


# ---------------------------------------------------------------- texts without what they should not hold


def plain_address(url: str) -> str:
    """A URL with the names of its query only, and without user and fragment; of other schemes the scheme alone."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https", "ws", "wss"}:
            return f"{parts.scheme}:" if parts.scheme else ""
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "?" + "&".join(f"{name}=…" for name in names) if names else ""
    return _cut(f"{parts.scheme}://{host}{parts.path}{query}")


def plain_text(text: str) -> str:
    """A message with plain addresses, and with what stands behind the name of a secret hidden."""
    cut = _ADDRESS.sub(lambda found: plain_address(found[0]), _cut(text))
    cut = _NAMED.sub(lambda found: found[1] + found[2] + HIDDEN if is_secret_name(found[1]) else found[0], cut)
    return _BEARER.sub(rf"\1 {HIDDEN}", cut)


def _cut(text: str) -> str:
    """The mark at the end lets the filter look for a secret of which only the beginning is left."""
    return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
