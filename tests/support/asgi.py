"""One HTTP call straight into an ASGI application, read piece by piece.

httpx would wait for the end of a live stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.eventually import PATIENCE_SECONDS


@dataclass
class LiveCall:
    """A call under way. `text` is everything that came so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    has_ended: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, part: str, times: int = 1) -> str:
        """Wait until `part` has come so often; everything so far."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.text.count(part) < times:
                self.changed.clear()
                await self.changed.wait()
        return self.text

    async def end(self) -> str:
        """Wait for the last byte."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.has_ended:
                self.changed.clear()
                await self.changed.wait()
        return self.text


@asynccontextmanager
async def live_get(app: Any, path: str, headers: dict[str, str]) -> AsyncIterator[LiveCall]:
    """GET `path`; leaving the block is the client hanging up, and waits until the application has noticed."""
    call, gone = LiveCall(), asyncio.Event()
    bare, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": bare, "raw_path": bare.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"gateway.test"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
        "client": ("127.0.0.1", 1), "server": ("gateway.test", 80), "state": {},
    }  # fmt: skip
    is_first = True

    async def receive() -> dict[str, Any]:
        nonlocal is_first
        if is_first:
            is_first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            call.status = message["status"]
            call.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            call.text += message.get("body", b"").decode()
            call.has_ended = not message.get("more_body", False)
        call.changed.set()

    task = asyncio.create_task(app(scope, receive, send))
    try:
        yield call
    finally:
        gone.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task
