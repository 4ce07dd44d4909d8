"""The proxy that knows which process talks: one that is cut off is not heard, whatever else its port is used for."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from tests.support import pid_proxy
from tests.support.eventually import until
from tests.support.pid_proxy import PidProxy
from tests.support.tcp_proxy import free_port

_TALKER = """
import socket, sys
near, to = map(int, sys.argv[1:])
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.bind(("127.0.0.1", near))
one.connect(("127.0.0.1", to))
print("there", flush=True)
sys.stdin.readline()
one.sendall(b"from the other process")
if "hang up" in sys.stdin.readline():
    one.close()
print("said", flush=True)
sys.stdin.readline()
"""


class Heard:
    """A server that keeps what it is sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.said = b""

    async def listen(self) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while piece := await reader.read(1024):
                self.said += piece
            writer.close()

        return await asyncio.start_server(accept, "127.0.0.1", self.port)


@pytest.fixture
async def server() -> AsyncIterator[Heard]:
    heard = Heard()
    async with await heard.listen():
        yield heard


@pytest.fixture
async def proxy(server: Heard) -> AsyncIterator[PidProxy]:
    opened = PidProxy(server.port)
    await opened.start()
    yield opened
    await opened.stop()


class Talker:
    """A process that talks to `to` from the local port `near`."""

    def __init__(self, near: int, to: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TALKER, str(near), str(to)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    async def hears(self, line: str) -> None:
        assert self.process.stdout is not None
        assert (await asyncio.to_thread(self.process.stdout.readline)).strip() == line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("then", ["stay", "hang up"])
async def test_a_process_that_is_cut_off_is_not_heard_though_another_has_the_same_local_port(
    server: Heard, proxy: PidProxy, then: str
) -> None:
    near = free_port()
    elsewhere = Heard()
    async with await elsewhere.listen():
        mine = socket.socket()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind(("127.0.0.1", near))
        mine.connect(("127.0.0.1", elsewhere.port))
        talker = Talker(near, proxy.port)
        try:
            await talker.hears("there")
            proxy.silence([talker.process.pid])
            talker.tell("speak")
            talker.tell(then)
            await talker.hears("said")
            await _passed_on(proxy, server, b"heard")
            assert server.said == b"heard", "another process is heard, this one is not"
            proxy.heal(reset=False)
            await until(lambda: b"from the other process" in server.said)
        finally:
            talker.end()
            mine.close()


async def test_a_process_that_dies_while_its_sockets_are_looked_for_is_not_heard_either(
    server: Heard, proxy: PidProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = Talker(free_port(), proxy.port)
    looking = pid_proxy._sockets

    def dead_by_then(pid: int) -> set[str]:
        talker.end()
        return looking(pid)

    try:
        await talker.hears("there")
        proxy.silence([talker.process.pid])
        with monkeypatch.context() as patch:
            patch.setattr(pid_proxy, "_sockets", dead_by_then)
            talker.tell("speak")  # and it dies before it has said more
            await until(lambda: bool(proxy._known))
        await _passed_on(proxy, server, b"heard")
        assert server.said == b"heard"
    finally:
        talker.end()


async def _passed_on(proxy: PidProxy, server: Heard, said: bytes) -> None:
    """What this process says has come through, and so had anything that was said before it."""
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(said)
    await writer.drain()
    await until(lambda: said in server.said)
    writer.close()
