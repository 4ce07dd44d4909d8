"""HTTP/1.1 heads as the egress proxy reads and writes them. Pure.

Strict on purpose: what two readers could understand in two ways is refused (a bare line feed, folded lines, two
lengths, a length beside chunks, a transfer coding other than chunked), for that is how requests are smuggled. Nothing
is passed on as it was spelt: heads are written anew from what was understood, without the fields of one hop only.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from enum import Enum

HEAD_BYTES_MAX = 65536
HEADERS_MAX = 200

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]\\]+)(?::(?P<port>[0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"(?i:http)://(?P<authority>[^/?#]+)(?P<path>[/?][\x21\x22\x24-\x7e]*)?")
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")

_ONE_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Headers = tuple[tuple[str, str], ...]


class BadHead(Exception):
    """These bytes are no head that every reader understands alike."""


class Body(Enum):
    """How the end of a body is known."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until_close"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the proxy. For CONNECT `path` is empty; `length` counts only with `Body.LENGTH`."""

    method: str
    host: str
    port: int
    path: str
    headers: Headers
    body: Body
    length: int
    is_upgrade: bool
    keeps_alive: bool

    @property
    def is_connect(self) -> bool:
        return self.method == "CONNECT"

    def credentials(self) -> tuple[str, str] | None:
        """User and password of `Proxy-Authorization: Basic`, or None."""
        scheme, _, encoded = _single(self.headers, "proxy-authorization").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return (user, password) if colon else None

    def to_origin(self) -> bytes:
        """The head for the origin: origin form, our own Host, one request per connection."""
        host = self.host if self.port == 80 else f"{self.host}:{self.port}"
        fields = [("Host", host), *_end_to_end(self.headers, ("host", "content-length"))]
        if self.is_upgrade:
            fields += [("Connection", "Upgrade"), ("Upgrade", _single(self.headers, "upgrade"))]
        else:
            fields.append(("Connection", "close"))
        return _head(f"{self.method} {self.path} HTTP/1.1", [*fields, *_framing(self.body, self.length)])


@dataclass(frozen=True, slots=True)
class Response:
    """The head of an origin's answer."""

    status: int
    reason: str
    headers: Headers
    body: Body
    length: int

    def to_client(self, *, keeps_alive: bool) -> bytes:
        """The head for the client. A length stays also where no body follows (HEAD, 304)."""
        fields = list(_end_to_end(self.headers, ("content-length",)))
        lengths = [] if self.body is Body.CHUNKED else [v for n, v in self.headers if n.lower() == "content-length"]
        fields += [("Content-Length", lengths[0])] if lengths else []
        fields += [("Transfer-Encoding", "chunked")] if self.body is Body.CHUNKED else []
        if self.status == 101:
            fields += [("Connection", "Upgrade"), ("Upgrade", _single(self.headers, "upgrade"))]
        elif self.status >= 200:
            fields.append(("Connection", "keep-alive" if keeps_alive else "close"))
        return _head(f"HTTP/1.1 {self.status} {self.reason}", fields)


def parse_request(raw: bytes) -> Request:
    """The request whose head, with its empty line, is `raw`; `BadHead` says what is wrong."""
    start, headers = _parse_head(raw)
    method, target, version = _words(start)
    if _TOKEN.fullmatch(method) is None or version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadHead("request line")
    host, port, path = _parse_target(method, target)
    body, length = _request_body(headers, version)
    if method == "CONNECT" and body is not Body.NONE:
        raise BadHead("CONNECT with a body")
    options = _options(headers)
    return Request(
        method=method,
        host=host,
        port=port,
        path=path,
        headers=headers,
        body=body,
        length=length,
        is_upgrade="upgrade" in options and bool(_single(headers, "upgrade")) and body is Body.NONE,
        keeps_alive=version == "HTTP/1.1" and "close" not in options,
    )


def parse_response(raw: bytes, method: str) -> Response:
    """The answer to a request of `method`; `BadHead` says what is wrong."""
    start, headers = _parse_head(raw)
    match = _STATUS.fullmatch(start)
    if match is None:
        raise BadHead("status line")
    status = int(match[2])
    body, length = _response_body(headers, status, method)
    return Response(status, match[3] or "", headers, body, length)


def parse_chunk_size(line: bytes) -> int:
    """The size in a chunk's first line, its extensions dropped; `BadHead` when there is none."""
    match = _CHUNK_SIZE.fullmatch(line)
    if match is None:
        raise BadHead("chunk size")
    return int(match[1], 16)


def _parse_head(raw: bytes) -> tuple[str, Headers]:
    text = raw.decode("latin-1")
    if not text.endswith("\r\n\r\n"):
        raise BadHead("unfinished head")
    start, *lines = text[:-4].split("\r\n")
    if len(lines) > HEADERS_MAX:
        raise BadHead("too many fields")
    return start, tuple(_parse_field(line) for line in lines)


def _parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise BadHead("field")
    return name, value


def _words(start: str) -> tuple[str, str, str]:
    words = start.split(" ")
    if len(words) != 3:
        raise BadHead("request line")
    return words[0], words[1], words[2]


def _parse_target(method: str, target: str) -> tuple[str, int, str]:
    if method == "CONNECT":
        host, port = _parse_authority(target, 0)
        if port == 0:
            raise BadHead("CONNECT without a port")
        return host, port, ""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadHead("target")
    host, port = _parse_authority(match["authority"], 80)
    path = match["path"] or "/"
    return host, port, path if path.startswith("/") else "/" + path


def _parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not authority.isascii():
        raise BadHead("authority")
    return match["host"], int(match["port"] or default_port)


def _request_body(headers: Headers, version: str) -> tuple[Body, int]:
    codings, lengths = _all(headers, "transfer-encoding"), _all(headers, "content-length")
    if codings:
        if lengths or version == "HTTP/1.0" or [coding.lower() for coding in codings] != ["chunked"]:
            raise BadHead("transfer coding")
        return Body.CHUNKED, 0
    if not lengths:
        return Body.NONE, 0
    if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None:
        raise BadHead("length")
    return Body.LENGTH, int(lengths[0])


def _response_body(headers: Headers, status: int, method: str) -> tuple[Body, int]:
    codings, lengths = _all(headers, "transfer-encoding"), set(_all(headers, "content-length"))
    if len(lengths) > 1 or any(_DIGITS.fullmatch(length) is None for length in lengths):
        raise BadHead("length")
    if method == "HEAD" or status < 200 or status in (204, 304):
        return Body.NONE, 0
    if codings:
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise BadHead("transfer coding")
        return Body.CHUNKED, 0
    return (Body.LENGTH, int(lengths.pop())) if lengths else (Body.UNTIL_CLOSE, 0)


def _all(headers: Headers, name: str) -> list[str]:
    return [value for field, value in headers if field.lower() == name]


def _single(headers: Headers, name: str) -> str:
    """The value of a field that stands once; empty when it is absent or repeated."""
    values = _all(headers, name)
    return values[0] if len(values) == 1 else ""


def _options(headers: Headers) -> set[str]:
    return {option.strip().lower() for value in _all(headers, "connection") for option in value.split(",")}


def _end_to_end(headers: Headers, dropped: tuple[str, ...]) -> Headers:
    gone = _ONE_HOP | _options(headers) | set(dropped)
    return tuple((name, value) for name, value in headers if name.lower() not in gone)


def _framing(body: Body, length: int) -> list[tuple[str, str]]:
    match body:
        case Body.LENGTH:
            return [("Content-Length", str(length))]
        case Body.CHUNKED:
            return [("Transfer-Encoding", "chunked")]
        case _:
            return []


def _head(start: str, fields: list[tuple[str, str]]) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
