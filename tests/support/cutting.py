"""A TCP proxy on loopback that cuts, or holds back, what passes: when told, or at a word of the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto


class Cut(Enum):
    """Where the connection breaks that says the word."""

    BEFORE = auto()
    """The server never hears the word."""
    BEHIND = auto()
    """The server hears it, the client never hears the answer."""
    HANGING = auto()
    """It does not break: from there on nothing passes."""


class CuttingProxy:
    """Passes everything on, until told otherwise."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.cut_at: tuple[bytes, Cut] | None = None
        """The next connection whose client says this is cut there; then everything passes again."""
        self.flowing = asyncio.Event()
        """Cleared: nothing passes either way, and nobody is told."""
        self.flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, asyncio.CancelledError
        ):  # the server logs a task of its own that is cancelled
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            back = asyncio.create_task(self._pump(far_reader, writer))
            try:
                await self._pump_watched(reader, far_writer, back)
            finally:
                back.cancel()
                far_writer.close()
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
        writer.close()

    async def _pump_watched(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.Task[None]
    ) -> None:
        while data := await reader.read(65536):
            await self.flowing.wait()
            if self.cut_at is None or self.cut_at[0] not in data:
                writer.write(data)
                continue
            (_, where), self.cut_at = self.cut_at, None
            if where is Cut.HANGING:
                self.flowing.clear()
                await self.flowing.wait()
            if where is Cut.BEHIND:
                back.cancel()
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0.2)  # the server answers, and nobody listens
            return


@asynccontextmanager
async def cutting_proxy(port: int) -> AsyncIterator[CuttingProxy]:
    """A proxy in front of `port` of this machine."""
    proxy = CuttingProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
