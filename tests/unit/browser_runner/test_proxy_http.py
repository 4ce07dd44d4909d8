"""The proxy's heads: what is understood, what is refused, what is written anew."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser_runner.proxy_body import copy_body
from browser_runner.proxy_http import BadHead, Body, parse_chunk_size, parse_request, parse_response


def _raw(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_an_absolute_target_becomes_an_origin_form_with_our_own_host() -> None:
    request = parse_request(
        _raw(
            "GET http://Shop.Example:8080/a?b=c HTTP/1.1",
            "Host: other.example",
            "Proxy-Authorization: Basic " + base64.b64encode(b"user:pass:word").decode(),
            "Proxy-Connection: keep-alive",
            "Connection: X-Secret, close",
            "X-Secret: 1",
            "Accept: */*",
        )
    )
    assert (request.host, request.port, request.path) == ("Shop.Example", 8080, "/a?b=c")
    assert request.credentials() == ("user", "pass:word")
    assert not request.keeps_alive
    assert request.to_origin() == _raw(
        "GET /a?b=c HTTP/1.1", "Host: Shop.Example:8080", "Accept: */*", "Connection: close"
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://a.example", ("a.example", 80, "/")),
        ("HTTP://a.example?q", ("a.example", 80, "/?q")),
        ("http://[::1]:8000/x", ("[::1]", 8000, "/x")),
        ("http://0x7f.1/", ("0x7f.1", 80, "/")),
    ],
)
def test_targets_of_all_forms_are_read(target: str, expected: tuple[str, int, str]) -> None:
    request = parse_request(_raw(f"GET {target} HTTP/1.1"))
    assert (request.host, request.port, request.path) == expected


def test_a_tunnel_names_host_and_port() -> None:
    request = parse_request(_raw("CONNECT shop.example:443 HTTP/1.1", "Host: shop.example:443"))
    assert request.is_connect
    assert (request.host, request.port) == ("shop.example", 443)


@pytest.mark.parametrize(
    "lines",
    [
        ["GET / HTTP/1.1", "Host: a.example"],
        ["GET https://a.example/ HTTP/1.1"],
        ["GET ws://a.example/ HTTP/1.1"],
        ["GET http://user:pass@a.example/ HTTP/1.1"],
        ["GET http://a.example/#part HTTP/1.1"],
        ["GET http://a.example\\@b.example/ HTTP/1.1"],
        ["GET http:///x HTTP/1.1"],
        ["GET http://a.example:/ HTTP/1.1"],
        ["GET http://a.example:999999/ HTTP/1.1"],
        ["GET http://a.example/\x7f HTTP/1.1"],
        ["GET  http://a.example/ HTTP/1.1"],
        ["GET http://a.example/ HTTP/2.0"],
        ["GET http://a.example/"],
        ["G(T http://a.example/ HTTP/1.1"],
        ["CONNECT a.example HTTP/1.1"],
        ["CONNECT http://a.example:443 HTTP/1.1"],
        ["CONNECT a.example:443 HTTP/1.1", "Content-Length: 1"],
        ["GET http://a.example/ HTTP/1.1", " folded: 1"],
        ["GET http://a.example/ HTTP/1.1", "Name : value"],
        ["GET http://a.example/ HTTP/1.1", "NoColon"],
        ["GET http://a.example/ HTTP/1.1", ": empty"],
        ["GET http://a.example/ HTTP/1.1", "A: b\nContent-Length: 5"],
        ["GET http://a.example/ HTTP/1.1", "A: b\rC: d"],
        ["GET http://a.example/ HTTP/1.1", "A: b\x00c"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 1", "Content-Length: 1"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 1, 1"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: +1"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 0x1"],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: "],
        ["POST http://a.example/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: gzip, chunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["POST http://a.example/ HTTP/1.1", "Transfer-Encoding: xchunked"],
        ["POST http://a.example/ HTTP/1.0", "Transfer-Encoding: chunked"],
        ["GET http://a.example/ HTTP/1.1", *[f"a{n}: b" for n in range(300)]],
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadHead):
        parse_request(_raw(*lines))


@pytest.mark.parametrize("value", ["", "Basic", "Basic !!!", "Basic dXNlcg==", "Bearer dTpw", "Basic w6k6cA=="])
def test_credentials_that_are_none_are_none(value: str) -> None:
    request = parse_request(_raw("GET http://a.example/ HTTP/1.1", f"Proxy-Authorization: {value}"))
    assert request.credentials() is None


def test_an_upgrade_is_passed_on_and_only_that() -> None:
    request = parse_request(
        _raw("GET http://a.example/ws HTTP/1.1", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "X: y")
    )
    assert request.is_upgrade
    assert request.to_origin() == _raw(
        "GET /ws HTTP/1.1", "Host: a.example", "X: y", "Connection: Upgrade", "Upgrade: websocket"
    )
    assert not parse_request(_raw("GET http://a.example/ws HTTP/1.1", "Upgrade: websocket")).is_upgrade


@pytest.mark.parametrize(
    ("method", "lines", "body"),
    [
        ("GET", ["HTTP/1.1 200 OK", "Content-Length: 5"], Body.LENGTH),
        ("GET", ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 5"], Body.LENGTH),
        ("GET", ["HTTP/1.1 200", "Transfer-Encoding: chunked", "Content-Length: 5"], Body.CHUNKED),
        ("GET", ["HTTP/1.0 200 OK"], Body.UNTIL_CLOSE),
        ("HEAD", ["HTTP/1.1 200 OK", "Content-Length: 5"], Body.NONE),
        ("GET", ["HTTP/1.1 304 Not Modified", "Content-Length: 5"], Body.NONE),
        ("GET", ["HTTP/1.1 103 Early Hints", "Link: x"], Body.NONE),
    ],
)
def test_how_an_answer_ends_is_known_from_its_head(method: str, lines: list[str], body: Body) -> None:
    assert parse_response(_raw(*lines), method).body is body


def test_an_answer_is_written_anew_for_the_client() -> None:
    response = parse_response(
        _raw(
            "HTTP/1.1 200 Fine",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2",
            "Connection: close",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Proxy-Authenticate: Basic",
        ),
        "GET",
    )
    assert response.to_client(keeps_alive=True) == _raw(
        "HTTP/1.1 200 Fine",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Transfer-Encoding: chunked",
        "Connection: keep-alive",
    )


def test_an_answer_without_a_body_keeps_its_length() -> None:
    head = parse_response(_raw("HTTP/1.1 200 OK", "Content-Length: 5"), "HEAD")
    assert head.to_client(keeps_alive=False) == _raw("HTTP/1.1 200 OK", "Content-Length: 5", "Connection: close")


@pytest.mark.parametrize(
    "lines",
    [
        ["HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"],
        ["HTTP/1.1 200 OK", "Transfer-Encoding: gzip"],
        ["HTTP/1.1 999 OK"],
        ["HTTP/2 200 OK"],
        ["ICY 200 OK"],
        ["HTTP/1.1 200 OK", "a\x00: b"],
    ],
)
def test_an_answer_that_cannot_be_framed_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadHead):
        parse_response(_raw(*lines), "GET")


@pytest.mark.parametrize(("line", "size"), [(b"0\r\n", 0), (b"fF\r\n", 255), (b"a ; name=value\r\n", 10)])
def test_chunk_sizes_are_read_without_their_extensions(line: bytes, size: int) -> None:
    assert parse_chunk_size(line) == size


@pytest.mark.parametrize("line", [b"\r\n", b"-1\r\n", b"0x1\r\n", b" 1\r\n", b"g\r\n", b"1\n", b"1" * 16 + b"\r\n"])
def test_a_chunk_size_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(BadHead):
        parse_chunk_size(line)


async def _copied(body: Body, length: int, raw: bytes) -> bytes:
    reader, out = asyncio.StreamReader(), bytearray()
    reader.feed_data(raw)
    reader.feed_eof()

    async def put(piece: bytes) -> None:
        out.extend(piece)

    await copy_body(body, length, reader, put, piece_seconds=1)
    return bytes(out)


async def test_chunks_are_passed_on_without_extensions_and_trailers() -> None:
    raw = b"5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\nGET"
    assert await _copied(Body.CHUNKED, 0, raw) == b"5\r\nhello\r\n0\r\n\r\n"


async def test_a_body_stops_at_its_length() -> None:
    assert await _copied(Body.LENGTH, 5, b"hello GET / HTTP/1.1") == b"hello"
    assert await _copied(Body.UNTIL_CLOSE, 0, b"hello") == b"hello"
    assert await _copied(Body.NONE, 0, b"hello") == b""


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        (Body.LENGTH, b"hell"),
        (Body.CHUNKED, b"5\r\nhel"),
        (Body.CHUNKED, b"5\r\nhello0\r\n\r\n"),
        (Body.CHUNKED, b"5\r\nhello\r\n"),
    ],
)
async def test_a_body_that_ends_early_or_is_framed_wrongly_is_an_error(body: Body, raw: bytes) -> None:
    with pytest.raises((EOFError, BadHead)):
        await _copied(body, 5, raw)


_WORDS = st.sampled_from(
    [
        "GET",
        "POST",
        "CONNECT",
        " ",
        "\r\n",
        "\n",
        "\t",
        "http://",
        "a.example",
        ":",
        "80",
        "/",
        "HTTP/1.1",
        "HTTP/1.0",
        "Content-Length",
        "Transfer-Encoding",
        "chunked",
        "5",
        "Connection",
        "Upgrade",
        "close",
        "\x00",
        "é",
        "[::1]",
        "@",
        "#",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(_WORDS, max_size=30).map(lambda words: "".join(words).encode())))
def test_any_bytes_are_a_request_or_refused_and_a_request_is_written_unambiguously(raw: bytes) -> None:
    try:
        request = parse_request(raw + b"\r\n\r\n")
    except BadHead:
        return
    if request.is_connect:
        assert request.path == ""
        return
    head = request.to_origin()
    assert head.count(b"\r\n\r\n") == 1
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    assert not any(b"\n" in line or b"\r" in line or b"\x00" in line for line in lines)
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert not {b"proxy-authorization", b"proxy-connection", b"te", b"trailer"} & set(names)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_refused(raw: bytes) -> None:
    try:
        parse_response(b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n", "GET").to_client(keeps_alive=True)
    except BadHead:
        return
