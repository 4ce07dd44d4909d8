"""A load generator that takes little of the machine: HTTP/1.1 by hand on kept connections, one request at a time each.

It knows just enough of the protocol for answers of our own servers: a length or chunks, and bodies that are watched
for a text while they arrive.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from time import perf_counter
from typing import cast

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `seen_at` is when the awaited text was seen, or the end without one (`perf_counter`)."""

    status: int
    body: bytes
    seen_at: float


class Connection(asyncio.Protocol):
    """One kept connection. `ask` must not be called again before it has answered."""

    def __init__(self, host: str, key: str) -> None:
        self._fixed = f"Host: {host}\r\nAuthorization: Bearer {key}\r\n"
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head_bytes = self._total = 0
        self._text = b""
        self._seen_at = 0.0
        self._answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answer.cancel()

    @classmethod
    async def open(cls, port: int, key: str = "") -> Connection:
        """Connect to 127.0.0.1:`port`; `key` is sent as the API key."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(f"127.0.0.1:{port}", key), "127.0.0.1", port)
        return protocol

    async def ask(self, method: str, path: str, body: bytes = b"", *, accept: str = "*/*", text: bytes = b"") -> Reply:
        """Send and wait for the whole answer, noting when `text` came by."""
        assert self._transport is not None
        self._forget(text)
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}Accept: {accept}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._transport.write(head.encode() + b"\r\n" + body)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._head_bytes:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head_bytes = end + 4
            length = _LENGTH.search(received, 0, end)
            self._total = self._head_bytes + int(length[1]) if length else 0
        if self._text and not self._seen_at and received.find(self._text, self._head_bytes) >= 0:
            self._seen_at = perf_counter()
        is_whole = len(received) >= self._total if self._total else received.endswith(_LAST_CHUNK)
        if is_whole and not self._answer.done():
            body = bytes(received[self._head_bytes :])
            self._answer.set_result(Reply(int(received[9:12]), body, self._seen_at or perf_counter()))

    def _forget(self, text: bytes) -> None:
        self._received = bytearray()
        self._head_bytes = self._total = 0
        self._text = text
        self._seen_at = 0.0
        self._answer = asyncio.get_running_loop().create_future()
