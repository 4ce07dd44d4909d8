"""Answers that are sent as they are: what the framework's own do besides is not needed where bytes and headers stand.

Most requests are answered so, and each of them passes here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

JSON = "application/json"


class PlainAnswer(Response[bytes]):
    """A body that is complete, with a status that allows one."""

    def __init__(self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """`body` is JSON; `headers` come beside its type and length."""
        self.content = body
        self.status_code = self._status = status
        self.headers = dict(headers or {})

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        return _Sent(self._status, self.headers, self.content)


class _Sent(ASGIResponse):
    """The two messages of a `PlainAnswer`."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._status = status
        self._body = body
        self._headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if headers:
            self._headers += [
                (name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()
            ]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


class Put(Protocol):
    """Sends the next bytes of a stream, the last ones with `is_last`."""

    async def __call__(self, body: bytes, *, is_last: bool = False) -> None: ...


Begin = Callable[[], Awaitable[Put]]
"""Sends status and headers; until then an error becomes an answer of its own."""
SendAll = Callable[[Begin, Receive], Awaitable[None]]
_LIVE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class StreamAnswer(Response[bytes]):
    """Server-sent events, sent by whoever makes them."""

    def __init__(self, send_all: SendAll) -> None:
        """`send_all` hears by its `Receive` when the caller hangs up."""
        self.send_all = send_all

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        return _Streamed(self.send_all)


class _Streamed(ASGIResponse):
    def __init__(self, send_all: SendAll) -> None:
        self._send_all = send_all

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def put(body: bytes, *, is_last: bool = False) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})

        async def begin() -> Put:
            await send({"type": "http.response.start", "status": 200, "headers": _LIVE})
            return put

        await self._send_all(begin, receive)
