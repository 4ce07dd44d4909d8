"""A record of the event log as one line for people; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from towpath.event_log.decoding import Json, LogRecord
from towpath.text import printable

_TYPE_WIDTH = 30
_VALUE_MAX = 80
_GOOD = ("completed", "answered", "succeeded", "recovered")
_BAD = ("failed", "cancelled", "rejected", "expired", "lapsed", "died", "degraded")
_WAITING = ("awaiting_user_input", "opened", "requeued", "parked", "suspended")
_NEW = ("created", "started", "requested", "registered", "resumed", "assigned")
_COLORS = {"green": _GOOD, "red": _BAD, "yellow": _WAITING, "cyan": _NEW}
_UNTOLD = frozenset({"organizationId", "subjectId", "requestId", "createdBy", "externalId"})
"""Members that say little on a line; `--json` has them."""


def line(record: LogRecord, data: Json | None, opened: Mapping[str, Any]) -> Text:
    """Time, type, key, number, then what the event tells. `data` None: a type that is not known here."""
    time = _time(record)
    kind = printable(record.type or "(no type)")
    number = f"#{record.sequence}" if record.sequence else f"{record.partition}/{record.offset}"
    head = Text.assemble(
        (time, "dim"), "  ", (f"{kind:<{_TYPE_WIDTH}}", _color(kind)), "  ", (_short(record.key), "bold"),
        (f" {number:<5}", "dim"), " ",
    )  # fmt: skip
    if data is None:
        return head.append(f"{len(record.value)} bytes of a type that this version does not know", "dim italic")
    for name, value in data.items():
        shown = _shown(name, value, record.key, opened)
        if shown:
            head.append(f" {printable(name)}=", "dim").append(shown)
    return head


def _time(record: LogRecord) -> str:
    told = record.headers.get("ce_time", "")
    if len(told) > len("2026-01-01T"):
        return printable(told[11:].removesuffix("Z"))
    appended = datetime.fromtimestamp(record.appended_ms / 1000, UTC)
    return appended.strftime("%H:%M:%S.%f")[:-3]


def _color(kind: str) -> str:
    word = kind.rpartition(".")[2]
    return next((color for color, words in _COLORS.items() if word.endswith(words)), "")


def _shown(name: str, value: Any, key: str, opened: Mapping[str, Any]) -> str:
    if name in opened:
        value = opened[name]
        return "(erased)" if value is None else _cut(json.dumps(value, ensure_ascii=False))
    if name in _UNTOLD or value == key:
        return ""
    if isinstance(value, dict) and ("box" in value or set(value) == {"subjectId"}):
        return "(sealed)" if "box" in value else ""
    return _cut(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, dict):
        parts = [f"{name}={_plain(item)}" for name, item in value.items() if name not in _UNTOLD | {"box"}]
        return "{" + " ".join(parts) + "}"
    return _short(str(value))


def _short(text: str) -> str:
    """The head of a UUID; anything else as it is."""
    return text[:8] if len(text) == 36 and text.count("-") == 4 else printable(text)


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 1] + "…"
