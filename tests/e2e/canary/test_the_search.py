"""The search itself: each dress that a leak may wear is planted and found, and nothing is found where nothing is."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import os
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.support.disguises import Planted, plant, search_for

NOISE = os.urandom(997)


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", data * 3)
    return out.getvalue()


def png_with(data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def jpeg_with(data: bytes) -> bytes:
    return b"\xff\xd8\xff\xfe" + struct.pack(">H", len(data) + 2) + data + NOISE + b"\xff\xd9"


def each_escaped(data: bytes) -> bytes:
    return "".join(f"\\u{ord(char):04x}" for char in data.decode()).encode()


DRESSES: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "upper case": lambda data: data.upper(),
    "torn in two": lambda data: data[: len(data) // 2],
    "base64": base64.b64encode,
    "base64, one byte in": lambda data: base64.b64encode(b"x" + data),
    "base64, two bytes in": lambda data: base64.b64encode(b"xy" + data),
    "base64 for URLs": lambda data: base64.urlsafe_b64encode(b"?>" + data),
    "hexadecimal": lambda data: data.hex().upper().encode(),
    "URL": lambda data: quote(data, safe="").encode(),
    "URL form": lambda data: quote_plus(data).encode(),
    "URL, every byte": lambda data: "".join(f"%{byte:02X}" for byte in data).encode(),
    "URL in URL": lambda data: quote("".join(f"%{byte:02x}" for byte in data), safe="").encode(),
    "JSON": lambda data: json.dumps({"k": data.decode()}).encode(),
    "JSON, every character": each_escaped,
    "JSON in JSON": lambda data: json.dumps(json.dumps(data.decode())).encode(),
    "HTML": lambda data: html.escape(data.decode()).encode(),
    "HTML, every character": lambda data: "".join(f"&#{ord(char)};" for char in data.decode()).encode(),
    "UTF-16 little": lambda data: data.decode().encode("utf-16-le"),
    "UTF-16 big": lambda data: data.decode().encode("utf-16-be"),
    "gzip": gzip.compress,
    "zip": zipped,
    "PNG text": png_with,
    "JPEG comment": jpeg_with,
    "gzip in base64": lambda data: base64.b64encode(gzip.compress(data)),
    "gzip in base64 behind a letter": lambda data: b"x" + base64.b64encode(gzip.compress(data)),
    "gzip with a wrong checksum": lambda data: gzip.compress(data)[:-8] + bytes(8),
    "cut gzip": lambda data: gzip.compress(data)[:-9],
    "base64 in gzip": lambda data: gzip.compress(base64.b64encode(data)),
    "JSON in zip": lambda data: zipped(each_escaped(data)),
}


@pytest.fixture
def value() -> Planted:
    """A planted value full of characters that need escaping."""
    return plant("password", 'ß"{}\\/&+% x')


@pytest.mark.parametrize("dress", DRESSES)
def test_a_value_is_found_in_every_dress(tmp_path: Path, value: Planted, dress: str) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(NOISE + DRESSES[dress](value.text.encode()) + NOISE)
    search = search_for(value)
    assert search.look_into(tmp_path) == 1
    assert {hit.name for hit in search.hits} == {"password"}, dress
    assert value.core not in search.told()


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("room", [0, 5000])
def test_a_value_is_found_at_the_end_of_a_file_and_of_one_that_was_made_longer_than_its_content(
    tmp_path: Path, value: Planted, dress: str, room: int
) -> None:
    (tmp_path / "file.bin").write_bytes(NOISE + DRESSES[dress](value.text.encode()) + bytes(room))
    search = search_for(value)
    assert search.look_into(tmp_path) == 1
    assert {hit.name for hit in search.hits} == {"password"}, dress


def test_a_value_is_found_in_a_row_that_was_deleted_and_in_the_name_of_a_file(tmp_path: Path, value: Planted) -> None:
    with sqlite3.connect(tmp_path / "rows.sqlite") as rows:
        rows.execute("PRAGMA secure_delete=OFF")
        rows.execute("CREATE TABLE t (a)")
        rows.execute("INSERT INTO t VALUES (?)", ("x" * 5000 + value.text,))
        rows.commit()
        rows.execute("DELETE FROM t")
    rows.close()
    (tmp_path / value.core).mkdir()
    search = search_for(value)
    search.look_into(tmp_path)
    assert {hit.where for hit in search.hits} == {"rows.sqlite", f"name of {value.core}"}


def test_nothing_is_found_where_nothing_is(tmp_path: Path, value: Planted) -> None:
    for index, dress in enumerate(DRESSES.values()):
        (tmp_path / f"{index}.bin").write_bytes(NOISE + dress(plant("another").text.encode() * 10) + NOISE)
    search = search_for(value)
    assert search.look_into(tmp_path) == len(DRESSES)
    assert search.hits == []
    assert search.searched_bytes > len(NOISE) * 2 * len(DRESSES)
