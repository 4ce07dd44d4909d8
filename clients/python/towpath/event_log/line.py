"""A record of the event log as one line for people; pure."""

from __future__ import annotations

import json
import re
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
_ENUM_HEAD = re.compile(r"^[A-Z_]*?(?:STATUS|KIND|EFFECT|TYPE|OUTCOME|HEALTH|POOL)_(?=[A-Z_]+$)")
_UNTOLD = frozenset({"organizationId", "subjectId", "requestId", "createdBy"})
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
    if name in _UNTOLD or value == key or (name == "failure" and "code" not in value):
        return ""
    if isinstance(value, dict) and ("box" in value or set(value) == {"subjectId"}):
        return "(sealed)" if "box" in value else ""
    return _cut(_plain(name, value))


def _plain(name: str, value: Any) -> str:
    """Lists and objects in brackets, empty ones not at all; sealed parts and what says little are left out."""
    if isinstance(value, list):
        items = [item for item in (_plain(name, item) for item in value) if item]
        return f"[{', '.join(items)}]" if items else ""
    if isinstance(value, dict):
        parts = [(inner, _plain(inner, item)) for inner, item in value.items() if inner not in _UNTOLD | {"box"}]
        told = [f"{inner}={text}" for inner, text in parts if text]
        return f"{{{' '.join(told)}}}" if told else ""
    text = str(value)
    return _ENUM_HEAD.sub("", text) if _is_word_of(name, text) else _short(text)


def _is_word_of(name: str, text: str) -> bool:
    """Whether a text is a word of an enum that is named as its member is: `status`, `WORKFLOW_RUN_STATUS_FAILED`."""
    found = _ENUM_HEAD.match(text)
    return found is not None and found[0].rstrip("_").endswith(re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper())


def _short(text: str) -> str:
    """The head of a UUID; anything else as it is."""
    return text[:8] if len(text) == 36 and text.count("-") == 4 else printable(text)


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 1] + "…"
