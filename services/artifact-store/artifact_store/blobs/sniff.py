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
_OFFICE = {
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_MARKUP = (
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "text/xml"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")
_OPAQUE = "application/octet-stream"


def sniff(head: bytes, *, name: str = "", hint: str = "") -> str:
    """Media type of bytes that begin with `head` (the first 1024 of them suffice). Never raises, never empty."""
    for magic, mime_type in _MAGIC:
        if head.startswith(magic):
            return _container(mime_type, name)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if not _is_text(head[:HEAD_BYTES]):
        return _OPAQUE
    return _text(head, name.lower(), hint.partition(";")[0].strip().lower())


def _container(mime_type: str, name: str) -> str:
    if mime_type != "application/zip":
        return mime_type
    return next((office for ending, office in _OFFICE.items() if name.lower().endswith(ending)), mime_type)


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
    if start[:1] in {b"{", b"["} and (name.endswith((".json", ".har")) or hint == "application/json"):
        return "application/json"
    if name.endswith(".csv") or hint == "text/csv":
        return "text/csv"
    if name.endswith((".html", ".htm")) or hint == "text/html":
        return "text/html"
    return "text/plain"
