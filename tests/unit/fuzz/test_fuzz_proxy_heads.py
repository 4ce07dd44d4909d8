"""Heads that reach the egress proxy: refused, or understood by another parser exactly as by ours."""

from __future__ import annotations

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from browser_runner.proxy_http import BadHead, Body, parse_request

_methods = st.sampled_from(["GET", "POST", "HEAD", "CONNECT", "OPTIONS", "get", "G T", "", "PRI", "TRACE"])
_targets = st.sampled_from(
    [
        *("http://a.example/", "http://a.example:8080/x?y=z", "HTTP://A.example", "http://[::1]:80/", "http://0x7f.1/"),
        *("http://a@b/", "http://a\\@b/", "//a.example/", "/x", "*", "a.example:443", "a.example:", "http://a:99999/"),
        *("http://a.example /", "http://a.example#f", "http://é.example/", "https://a.example/", "http:///x", ""),
    ]
) | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20)
_versions = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2", "http/1.1", "HTTP/1.1 ", "", "HTTP/1.11"])
_names = st.sampled_from(
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "transfer-encoding ",
        "Connection",
        "Upgrade",
        "X-A",
        "",
        " X",
    ]
)
_values = st.sampled_from(
    [
        "a.example",
        "0",
        "5",
        "5, 5",
        "+5",
        "-1",
        "chunked",
        "chunked, identity",
        "xchunked",
        "close",
        "X-A",
        "h2c",
        "a\nb",
    ]
) | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=8)
_ends = st.sampled_from(["\r\n", "\n", "\r", "\r\n "])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A request head, mostly well formed."""
    start = " ".join((draw(_methods), draw(_targets), draw(_versions)))
    text = start + "\r\n"
    for _ in range(draw(st.integers(0, 4))):
        end = draw(_ends) if draw(st.integers(0, 9)) == 0 else "\r\n"
        text += f"{draw(_names)}: {draw(_values)}{end}"
    return (text + "\r\n").encode("latin-1")


@settings(max_examples=1000)
@given(heads())
@example(b"GET http://a.example/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
@example(b"GET http://a.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
@example(b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n")
def test_what_is_passed_on_means_one_thing_to_every_reader(raw: bytes) -> None:
    try:
        request = parse_request(raw)
    except BadHead:
        return
    if request.is_connect:
        assert 0 < request.port <= 99_999
        return
    sent = request.to_origin()
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    read = server.next_event()
    assert isinstance(read, h11.Request), (raw, sent)
    assert (read.method.decode("latin-1"), read.target.decode("latin-1")) == (request.method, request.path)
    names = [name for name, _ in read.headers]
    assert names.count(b"host") == 1
    expected = request.host if request.port == 80 else f"{request.host}:{request.port}"
    assert dict(read.headers)[b"host"].decode("latin-1") == expected
    assert not {b"proxy-authorization", b"proxy-connection", b"te", b"keep-alive"} & set(names)
    assert names.count(b"content-length") == (request.body is Body.LENGTH)
    assert names.count(b"transfer-encoding") == (request.body is Body.CHUNKED)
    assert sent.endswith(b"\r\n\r\n")
    assert sent.count(b"\r\n\r\n") == 1


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    try:
        parse_request(noise + b"\r\n\r\n")
    except BadHead:
        return
    raise AssertionError(noise)
