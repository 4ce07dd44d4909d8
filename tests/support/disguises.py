"""A search for planted values in bytes of any kind, whatever they were dressed as.

A planted value is `Planted`: characters that every encoding treats in its own way, around a random core of letters and
digits. What is looked for are the two *halves* of the core, so that a value that is torn by a page border of a file, or
cut off by a limit, is found too. Data is looked at plain, unescaped (URL, JSON, HTML), unpacked (zip, gzip, zlib and so
the text chunks of PNG and the streams of PDF) and base64-decoded, in any order up to a depth.
"""

from __future__ import annotations

import base64
import html
import io
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

_CORE_CHARS = 24
_DEPTH = 3
_PIECE_BYTES = 4096
_ZEROS_KEPT = 64
_UNPACKED_BYTES_MAX = 64 * 1024 * 1024
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ZLIB_HEAD = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_GZIP_HEAD = re.compile(rb"\x1f\x8b\x08")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{48,}")
_JSON_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})|\\([\"\\/])")
_HTML_ESCAPE = re.compile(rb"&(?:#\d+|#[xX][0-9a-fA-F]+|quot|amp|lt|gt|apos);")


@dataclass(frozen=True, slots=True)
class Planted:
    """A value that stands nowhere else in the world."""

    name: str
    text: str
    core: str


def plant(name: str, pattern: str = "{}") -> Planted:
    """A fresh value; `pattern` says what stands around its core."""
    core = "".join(secrets.choice(_ALPHABET) for _ in range(_CORE_CHARS))
    return Planted(name, pattern.replace("{}", core), core)


@dataclass(frozen=True, slots=True)
class Hit:
    """Where one of the values was found, and how it was dressed."""

    name: str
    where: str
    how: str


@dataclass(slots=True)
class Search:
    """Looks for some values; `hits` collects everything that was found."""

    needles: Mapping[bytes, tuple[str, str]]
    searched_bytes: int = 0
    hits: list[Hit] = field(default_factory=list)

    def look(self, data: bytes | str, where: str) -> None:
        """Search one piece; a text is searched as UTF-8."""
        raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
        # Servers make their files long before they fill them; a zip, though, ends in zeros that belong to it.
        raw = raw[: len(raw.rstrip(b"\0")) + _ZEROS_KEPT]
        self.searched_bytes += len(raw)
        found = {(name, f"{way} {how}".strip()) for way, view in _views(raw) for name, how in self._in(view)}
        self.hits += [Hit(name, where, how) for name, how in sorted(found)]

    def look_into(self, folder: Path, spare: Iterable[Path] = ()) -> int:
        """Search every file below `folder`, and its name; returns how many files there were."""
        spared, count = set(spare), 0
        for path in sorted(below(folder)):
            self.look(path.name, f"name of {path.relative_to(folder)}")
            if path.is_file() and not path.is_symlink() and path not in spared:
                count += 1
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue  # Files of running programs come and go.
                self.look(content, str(path.relative_to(folder)))
        return count

    def told(self) -> str:
        """The hits, for people."""
        return "\n".join(f"{hit.name} in {hit.where} ({hit.how or 'plain'})" for hit in self.hits)

    def _in(self, data: bytes) -> Iterator[tuple[str, str]]:
        lower = data.lower()
        for needle, (name, how) in self.needles.items():
            if needle in (data if how.startswith("base64") else lower):
                yield name, how


def below(folder: Path) -> Iterator[Path]:
    """Every file and folder below `folder`. What running programs take away meanwhile is passed over."""
    for above, folders, files in os.walk(folder):
        yield from (Path(above, name) for name in (*folders, *files))


def search_for(*values: Planted) -> Search:
    """A search for these values."""
    needles: dict[bytes, tuple[str, str]] = {}
    for value in values:
        half = len(value.core) // 2
        for part in (value.core[:half], value.core[half:]):
            for how, needle in _forms(part.encode()):
                needles[needle] = (value.name, how)
    return Search(needles)


def _forms(part: bytes) -> Iterator[tuple[str, bytes]]:
    """The spellings of letters and digits that no view of the data undoes; all but base64 in lower case."""
    yield "", part.lower()
    yield "hex", part.hex().encode()
    yield "UTF-16", part.lower().decode().encode("utf-16-le")[1:-1]  # the same bytes in both byte orders
    for alignment in range(3):
        first, last = (alignment * 8 + 5) // 6, (alignment + len(part)) * 8 // 6
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            yield f"base64 at {alignment}", alphabet(bytes(alignment) + part)[first:last]


def _views(data: bytes, way: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, bytes]]:
    yield way, data
    if not depth:
        return
    for how, view in _undone(data):
        if view and view != data:
            yield from _views(view, f"{way} {how}".strip(), depth - 1)


def _undone(data: bytes) -> Iterator[tuple[str, bytes]]:
    """`data` with one layer of dress taken off, for each kind of dress that it wears."""
    yield "unescaped", _unescaped(data)
    if b"PK\x05\x06" in data:
        yield from _unzipped(data)
    for kind, head, bits in (("gzip", _GZIP_HEAD, 31), ("zlib", _ZLIB_HEAD, 15)):
        for found in head.finditer(data):
            if unpacked := _inflated(memoryview(data)[found.start() :], bits):
                yield kind, unpacked
    if runs := _BASE64_RUN.findall(data):
        # A run may begin before the encoded text does.
        yield "base64", b"\n".join(_decoded(run[start:]) for run in runs for start in range(4))


def _unescaped(data: bytes) -> bytes:
    """One layer of URL, JSON and HTML escapes taken off, wherever in the data they are."""
    data = unquote_to_bytes(data) if b"%" in data else data
    data = _JSON_ESCAPE.sub(_json_character, data) if b"\\" in data else data
    return _HTML_ESCAPE.sub(lambda found: html.unescape(found[0].decode()).encode("utf-8", "replace"), data)


def _json_character(found: re.Match[bytes]) -> bytes:
    if found[2]:
        return found[2]
    return chr(int(found[1], 16)).encode("utf-8", "surrogatepass")


def _unzipped(data: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield "zip", member.filename.encode() + b"\n" + archive.read(member)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, zlib.error, EOFError):
        return  # What only looks like an archive, or was one before something was unescaped in it.


def _inflated(data: memoryview, bits: int) -> bytes:
    """What a stream gives until it ends or breaks; chance bytes that only look like one give next to nothing."""
    unpacker, out = zlib.decompressobj(bits), bytearray()
    for at in range(0, len(data), _PIECE_BYTES):
        piece, before = data[at : at + _PIECE_BYTES], unpacker.copy()
        try:
            out += unpacker.decompress(piece)
        except zlib.error:
            return bytes(out) + _until_it_breaks(before, piece)
        if unpacker.eof or len(out) > _UNPACKED_BYTES_MAX:
            break
    return bytes(out)


def _until_it_breaks(unpacker: zlib._Decompress, piece: memoryview) -> bytes:
    """What comes before the byte that breaks the stream: a wrong checksum takes nothing back."""
    out = bytearray()
    with suppress(zlib.error):
        for at in range(len(piece)):
            out += unpacker.decompress(piece[at : at + 1])
    return bytes(out)


def _decoded(run: bytes) -> bytes:
    standard = run.translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(standard[: len(standard) // 4 * 4])
