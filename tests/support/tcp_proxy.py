"""A TCP proxy on loopback that does to connections what networks do: cut, pause, delay, lose one direction.

It runs on the event loop of the test. What listens behind it must tell clients the proxy's port, as a broker's
advertised listener does: `LocalKafka(folder, advertised={1: proxy.port})`.

    proxy.cut()              every connection is reset; new ones pass
    proxy.refuse = True      new connections are reset at once
    proxy.pause(), resume()  nothing passes either way, on new connections neither; nobody is told
    proxy.hold()             what clients send on the connections there are now waits, even if they hang up; others pass
    proxy.release()          it goes on its way
    proxy.deaf = True        answers are thrown away: servers hear clients, clients hear nothing
    proxy.delay_seconds      how late every piece passes, each way
    proxy.to                 the port behind it, also for connections that come later
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.platform_process import free_ports

_PIECE_BYTES = 256 * 1024


class TcpProxy:
    """See the module. `bytes_up` counts what clients have sent."""

    def __init__(self, to: int, port: int = 0) -> None:
        self.to = to
        self.port = port or free_port()
        self.refuse = False
        self.deaf = False
        self.delay_seconds = 0.0
        self.bytes_up = 0
        self.connections: set[_Connection] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._held: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; what connects is passed on."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self._flowing.set()
        self.release()
        self.cut()
        while self.connections:  # noqa: ASYNC110 (they end by themselves in the next turns of the loop)
            await asyncio.sleep(0.001)

    def cut(self) -> None:
        """Reset every connection, both ways."""
        for connection in list(self.connections):
            if connection not in self._held:
                connection.reset()

    def pause(self) -> None:
        """Let nothing pass, until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def hold(self) -> None:
        """Keep back what is sent on today's connections, until `release`."""
        for connection in self.connections:
            connection.free.clear()
        self._held |= self.connections

    def release(self) -> None:
        for connection in self._held:
            connection.free.set()
        self._held.clear()

    async def passes(self, connection: _Connection, *, up: bool, count: int) -> bool:
        """Wait until a piece may go on; False when it is thrown away."""
        if up:
            self.bytes_up += count
            await connection.free.wait()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._flowing.wait()
        return up or not self.deaf

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), (far_reader, far_writer))
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


_Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One client's connection, and ours to the server."""

    def __init__(self, proxy: TcpProxy, near: _Side, far: _Side) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self._proxy = proxy
        self._near = near
        self._far = far
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        self._tasks = [
            asyncio.create_task(self._pump(self._near[0], self._far[1], up=True)),
            asyncio.create_task(self._pump(self._far[0], self._near[1], up=False)),
        ]
        await asyncio.wait(self._tasks)

    def reset(self) -> None:
        """End it as a network does: without a goodbye, and without what is on its way."""
        for task in self._tasks:
            task.cancel()
        for _, writer in (self._near, self._far):
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while piece := await reader.read(_PIECE_BYTES):
                if await self._proxy.passes(self, up=up, count=len(piece)):
                    writer.write(piece)
                    await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


@asynccontextmanager
async def tcp_proxy(to: int, port: int = 0) -> AsyncIterator[TcpProxy]:
    """A proxy before the server at `to`, on loopback."""
    proxy = TcpProxy(to, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def free_port() -> int:
    """A port of loopback on which somebody may listen now and then: nobody else takes it meanwhile."""
    return free_ports(1)
