"""What bytes are, judged by their beginning: the declared type is only a hint."""

from __future__ import annotations

HEAD_BYTES = 1024
"""How much of the beginning is looked at."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
)
_OFFICE = (
    (b"xl/", ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"word/", ".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"ppt/", ".pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_OFFICE_PARTS = (b"[Content_Types].xml", b"_rels/", b"docProps/")
"""What an archive of an office begins with; a plain archive may be called anything."""
_MEMBER = b"PK\x03\x04"
_MARKUP = (
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "text/xml"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")
_OPAQUE = "application/octet-stream"


def sniff(head: bytes, *, name: str = "", hint: str = "") -> str:
    """Media type of bytes that begin with `head` (the first 1024 of them suffice). Never raises, never empty."""
    for magic, mime_type in _MAGIC:
        if head.startswith(magic):
            return _container(head, name) if mime_type == "application/zip" else mime_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if not _is_text(head[:HEAD_BYTES]):
        return _OPAQUE
    return _text(head, name.lower(), hint.partition(";")[0].strip().lower())


def _container(head: bytes, name: str) -> str:
    """An archive by the folders of its first members, and by its name where these tell no more than that it is one."""
    members = [part[26:] for part in head.split(_MEMBER)[1:]]  # behind 26 bytes of each local header stands its name
    for folder, _, mime_type in _OFFICE:
        if any(member.startswith(folder) for member in members):
            return mime_type
    if any(member.startswith(_OFFICE_PARTS) for member in members):
        return next((mime_type for _, ending, mime_type in _OFFICE if name.lower().endswith(ending)), "application/zip")
    return "application/zip"


def _is_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in _TEXT_CONTROLS for byte in head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what is looked at.
        return len(head) == HEAD_BYTES and error.start >= HEAD_BYTES - 3
    return True


def _text(head: bytes, name: str, hint: str) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for opening, mime_type in _MARKUP:
        if start.startswith(opening):
            return "image/svg+xml" if b"<svg" in start and mime_type == "text/xml" else mime_type
    if name.endswith(".ndjson") or hint == "application/x-ndjson":
        return "application/x-ndjson"
    if start[:1] in {b"{", b"["} and (name.endswith((".json", ".har")) or hint == "application/json"):
        return "application/json"
    if name.endswith(".csv") or hint == "text/csv":
        return "text/csv"
    if name.endswith((".html", ".htm")) or hint == "text/html":
        return "text/html"
    return "text/plain"
