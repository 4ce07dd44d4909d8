"""What bytes are is seen by their beginning; names and declared types only help where it cannot tell."""

from __future__ import annotations

import io
import zipfile

import pytest

from artifact_store.blobs.sniff import HEAD_BYTES, sniff

SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LETTER = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def archive(*members: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as zipped:
        for member in members:
            zipped.writestr(member, "x" * 20)
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "hint", "mime_type"),
    [
        (b"%PDF-1.7 ...", "x.html", "text/html", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n....", "", "", "image/png"),
        (b"\xff\xd8\xff\xe0....", "", "", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "", "", "image/webp"),
        (b"GIF89a....", "", "", "image/gif"),
        (archive("a.txt", "b.txt"), "invoices.zip", "", "application/zip"),
        (archive("a.txt"), "sheet.xlsx", SHEET, "application/zip"),
        (archive("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "", "", SHEET),
        (archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"), "x.zip", "", LETTER),
        (archive("[Content_Types].xml"), "sheet.xlsx", "", SHEET),
        (archive("notes/xl/a.txt"), "", "", "application/zip"),
        (b'\xef\xbb\xbf{"a": 1}', "a.json", "", "application/json"),
        (b'[{"a": 1}]', "", "application/json; charset=utf-8", "application/json"),
        (b"{ no json at all", "a.txt", "", "text/plain"),
        (b'{"ms": 1}\n{"ms": 2}\n', "attempt-1.ndjson", "", "application/x-ndjson"),
        (b"<?xml version='1.0'?><rows/>", "a.csv", "", "text/xml"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "a.png", "", "image/svg+xml"),
        (b"<svg onload=alert(1)>", "a.png", "image/png", "image/svg+xml"),
        (b" \n<!DOCTYPE html><p>", "a.csv", "text/csv", "text/html"),
        (b"<body>x", "", "", "text/html"),
        (b"a,b\n1,2\n", "a.csv", "", "text/csv"),
        (b"a,b\n1,2\n", "", "text/csv", "text/csv"),
        (b"a,b\n1,2\n", "a", "", "text/plain"),
        (b"\x00\x01\x02", "a.csv", "text/csv", "application/octet-stream"),
        (b"", "", "", "text/plain"),
        (b"a" * (HEAD_BYTES - 1) + "ä".encode(), "", "", "text/plain"),
    ],
)
def test_bytes_are_what_they_begin_with(content: bytes, name: str, hint: str, mime_type: str) -> None:
    assert sniff(content[:HEAD_BYTES], name=name, hint=hint) == mime_type
