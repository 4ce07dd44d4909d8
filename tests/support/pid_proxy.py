"""A TCP proxy that knows which process talks to it, so that one process can be cut off from servers that others reach.

The pieces of a process that is cut off are held back both ways, as when a network loses every packet: nobody is told.
When the network comes back they go on their way, like what TCP sends again; `cut` resets what is left, if asked for.

`ProxyThread` runs any number of them on a loop of its own, for tests that kill processes and do not run on one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.tcp_proxy import TcpProxy, _Connection

_PROC = Path("/proc")
_LOOKS = 3


class PidProxy(TcpProxy):
    """See the module. `silent` holds the processes that are cut off now."""

    def __init__(self, to: int, port: int = 0) -> None:
        super().__init__(to, port)
        self.silent: frozenset[int] = frozenset()
        self._known: dict[_Connection, bool] = {}
        self._healed = asyncio.Event()

    def silence(self, pids: Collection[int]) -> None:
        """Hold back what these processes send and are sent, from now on."""
        self.silent |= frozenset(pids)
        self._known.clear()
        self._healed.clear()

    def heal(self, *, reset: bool) -> None:
        """Let everybody be heard again; with `reset` connections of the silent end."""
        if reset:
            for connection in [one for one in self.connections if self._is_silent(one)]:
                connection.reset()
        self.silent = frozenset()
        self._healed.set()

    async def passes(self, connection: _Connection, *, up: bool, count: int) -> bool:
        """As the base says, once the process is heard."""
        while self.silent and self._is_silent(connection):
            await self._healed.wait()
        return await super().passes(connection, up=up, count=count)

    def _is_silent(self, connection: _Connection) -> bool:
        """Looked up once for each connection: it costs more than a piece, and brokers send many."""
        if connection not in self._known:
            self._known[connection] = self._belongs_to_silent(connection)
        return self._known[connection]

    def _belongs_to_silent(self, connection: _Connection) -> bool:
        """Also of one that its process has closed since: what it left behind must not slip through."""
        peer = connection._near[1].get_extra_info("peername")
        inode = _inode_of(peer[1], self.port) if peer else None
        if peer is None or inode is None or any(inode in _sockets(pid) for pid in self.silent):
            return True
        return _inode_of(peer[1], self.port) is None  # closed between the two looks


def _inode_of(port: int, to: int) -> str | None:
    """The socket of loopback that is bound to `port` and talks to port `to`; None once nobody holds it.

    Both ports are asked for, as Linux gives one local port to several connections that lead to different places. Java
    speaks IPv4 by sockets of IPv6. The tables are not read at one moment, so what is not seen is looked for again.
    """
    for _ in range(_LOOKS):
        for table in ("tcp", "tcp6"):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                near, far = (int(side.rpartition(":")[2], 16) for side in fields[1:3])
                if (near, far) == (port, to) and fields[9] != "0":
                    return fields[9]
    return None


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    with suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


class ProxyThread:
    """An event loop in a thread; proxies are opened on it and told things from outside. A context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self.proxies: list[PidProxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies:
            self._run(proxy.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def open(self, to: int) -> PidProxy:
        """A proxy before 127.0.0.1:`to`, listening."""

        async def opened() -> PidProxy:
            proxy = PidProxy(to)
            await proxy.start()
            return proxy

        proxy: PidProxy = self._run(opened())
        self.proxies.append(proxy)
        return proxy

    def tell(self, what: Callable[..., None], *args: Any, **named: Any) -> None:
        """Call `what` on the loop, and wait until it is done."""

        async def done() -> None:
            what(*args, **named)

        self._run(done())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
