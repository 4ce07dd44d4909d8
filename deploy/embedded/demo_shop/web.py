"""As much HTTP/1.1 as a small shop needs: requests with a form, answers with a length, connections that stay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

_HEAD_BYTES_MAX = 32768
_BODY_BYTES_MAX = 65536
_IDLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """What the browser asked for. Repeated names in query and form: the last one counts."""

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    cookies: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets. `headers` come on top of type and length."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Dropped(Exception):
    """Raised by a handler: close the connection without an answer."""


Handler = Callable[[Request], Awaitable[Response]]


def redirect(location: str, *headers: tuple[str, str]) -> Response:
    """See other."""
    return Response(status=303, headers=(("Location", location), *headers))


async def serve_connection(handle: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until it ends. What breaks the protocol ends it without an answer."""
    try:
        while (request := await _next_request(reader)) is not None:
            response = await handle(request)
            writer.write(_bytes(response, with_body=request.method != "HEAD"))
            await writer.drain()
        writer.close()
    except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError, Dropped, asyncio.CancelledError):
        writer.transport.abort()  # a cancelled task ends here too: nobody awaits the task of a connection


async def _next_request(reader: asyncio.StreamReader) -> Request | None:
    async with asyncio.timeout(_IDLE_SECONDS):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        if len(head) > _HEAD_BYTES_MAX:
            raise ValueError("long head")
        start, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= _BODY_BYTES_MAX:
            raise ValueError("long body")
        body = await reader.readexactly(length)
    url = urlsplit(target)
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    form = dict(parse_qsl(body.decode(), keep_blank_values=True)) if is_form else {}
    return Request(method, url.path, dict(parse_qsl(url.query)), form, _cookies(headers.get("cookie", "")))


def _cookies(text: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(text).items()}
    except CookieError:
        return {}


def _bytes(response: Response, *, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head + response.body if with_body else head
