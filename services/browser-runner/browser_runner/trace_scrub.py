"""A recorded trace without what it must not hold. Pure; may take a while, so it is for a thread.

A trace is a zip: lines of JSON about actions, snapshots and exchanges, and beside them the bodies that pages were made
of. Every entry is written anew. What was sent is left out, and so are cookies, headers that say who asks, passwords in
fields, our own source files, and bodies that are no part of what a page looks like. What is kept goes through the
filter of live secrets.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from browser_runner.page_log import plain_address
from kernel.redaction import LiveSecrets, is_secret_name
from kernel.store.secret import HIDDEN

ENTRY_BYTES_MAX = 16 * 1024 * 1024
BYTES_MAX = 64 * 1024 * 1024
"""What all entries may hold together, unpacked; what does not fit is left out."""

_LINES = (".trace", ".network")
_TEXTS = frozenset({"html", "css", "js", "mjs", "svg", "txt", "xml"})
_PICTURES = frozenset({"png", "jpg", "jpeg", "gif", "webp", "ico", "avif", "bmp", "woff", "woff2", "ttf", "otf"})
_LEFT_OUT = frozenset({"postData", "storageState", "proxy", "httpCredentials", "clientCertificates"})
_TYPED = frozenset({"__playwright_value_", "value"})
_FILES = frozenset({"_file", "_sha1"})
_SHORTENED = re.compile(r"<.*…", re.DOTALL)
"""What Playwright shows of an element in its log. A secret that is cut off there is found by nobody, so it goes."""
_ADDRESS = re.compile(r"\bhttps?://[^\s\"'<>()]+")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a trace must not hold."""

    secrets: Sequence[LiveSecrets]
    short: frozenset[str] = field(repr=False)
    """Secrets too short to be searched for: a text that is nothing but one of them is hidden."""
    login: bool
    """Secrets were typed: answers may hold what they were exchanged for, addresses too."""

    def bytes(self, content: bytes) -> bytes:
        """`content` without secrets."""
        for live in self.secrets:
            content = live.scrub_bytes(content)
        return content


def scrub_trace(content: bytes, filter_: Filter) -> bytes:
    """The trace anew; empty when it cannot be read."""
    target, left = io.BytesIO(), BYTES_MAX
    try:
        with (
            zipfile.ZipFile(io.BytesIO(content)) as source,
            zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as scrubbed,
        ):
            entries = [entry for entry in source.infolist() if entry.file_size <= ENTRY_BYTES_MAX]
            kept = {entry.filename for entry in entries if _is_kept(entry.filename, filter_)}
            for entry in sorted(entries, key=lambda entry: not entry.filename.endswith(_LINES)):
                if entry.filename not in kept or entry.file_size > left:
                    continue
                left -= entry.file_size
                safe = _entry(entry.filename, source.read(entry), filter_, kept)
                if safe is not None:
                    scrubbed.writestr(entry.filename, safe)
    except (zipfile.BadZipFile, zlib.error, msgspec.DecodeError, EOFError, OSError, RuntimeError):
        return b""  # A page may nest deeper than can be followed (RecursionError is a RuntimeError).
    return target.getvalue()


def _is_kept(name: str, filter_: Filter) -> bool:
    ending = name.rpartition(".")[2].lower()
    if name.endswith(_LINES) or ending in _TEXTS or ending in _PICTURES:
        return True
    return ending == "json" and not filter_.login


def _entry(name: str, content: bytes, filter_: Filter, kept: set[str]) -> bytes | None:
    if name.endswith(_LINES):
        lines = [_line(line, filter_, kept) for line in content.splitlines() if line]
        return b"\n".join(lines) + b"\n"
    ending = name.rpartition(".")[2].lower()
    safe = _json(content, filter_) if ending == "json" else filter_.bytes(content)
    # A picture with a piece cut out of it is none.
    return None if ending in _PICTURES and safe != content else safe


def _json(content: bytes, filter_: Filter) -> bytes:
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return filter_.bytes(content)
    for live in filter_.secrets:
        value = live.scrub_json(value)
    return msgspec.json.encode(value)


def _line(line: bytes, filter_: Filter, kept: set[str]) -> bytes:
    return filter_.bytes(msgspec.json.encode(_cleaned(msgspec.json.decode(line), filter_, kept)))


def _cleaned(value: Any, filter_: Filter, kept: set[str]) -> Any:
    match value:
        case dict():
            return _members(value, filter_, kept)
        case [str(), {"type": str(kind)} as attributes, *children] if kind.lower() == "password":
            safe = {name: HIDDEN if name in _TYPED else held for name, held in attributes.items()}
            return [value[0], safe, *(_cleaned(child, filter_, kept) for child in children)]
        case list():
            return [_cleaned(item, filter_, kept) for item in value]
        case str():
            return _text(value, filter_)
        case _:
            return value


def _members(value: dict[str, Any], filter_: Filter, kept: set[str]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    about = value.get("name")
    for name, held in value.items():
        if name in _LEFT_OUT or (name in _FILES and isinstance(held, str) and not _is_there(held, kept)):
            continue
        if name == "cookies":
            cleaned[name] = []
        elif isinstance(held, str) and (is_secret_name(name) or (name == "value" and _is_secret(about))):
            cleaned[name] = HIDDEN
        else:
            cleaned[name] = _cleaned(held, filter_, kept)
    return cleaned


def _is_secret(about: Any) -> bool:
    return isinstance(about, str) and is_secret_name(about)


def _is_there(file: str, kept: set[str]) -> bool:
    return file in kept or f"resources/{file}" in kept


def _text(text: str, filter_: Filter) -> str:
    if text in filter_.short:
        return HIDDEN
    if "…" in text:
        text = _SHORTENED.sub("<…", text)
    return _ADDRESS.sub(lambda found: plain_address(found[0]), text) if filter_.login else text
