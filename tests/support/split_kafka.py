"""Three brokers on loopback of which one can be cut off from the other two, and from nobody else.

Everything between two nodes goes through a proxy that knows which process talks: as broker and as controller. Clients
go through the same proxies and are always heard.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cluster.components.kafka import LocalKafka
from tests.support.pid_proxy import ProxyThread

NODES = 3


class SplitKafka:
    """A cluster in `folder`; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._net = stack.enter_context(ProxyThread())
            plain = LocalKafka(self._folder, NODES)
            self._brokers = {node: self._net.open(port) for node, port in plain.ports.items()}
            self._controllers = {node: self._net.open(port) for node, port in plain.controllers.items()}
            told = [{node: proxy.port for node, proxy in side.items()} for side in (self._brokers, self._controllers)]
            self.kafka = LocalKafka(self._folder, NODES, *told)
            stack.callback(self.kafka.kill)
            self.kafka.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, node: int) -> str:
        """Where clients reach one node."""
        return f"127.0.0.1:{self._brokers[node].port}"

    def cut(self, node: int) -> None:
        """Lose what `node` sends to the others, and what they send to it. Nobody is told."""
        pids = self.kafka.pids
        for side in (self._brokers, self._controllers):
            for each, proxy in side.items():
                self._net.tell(proxy.silence, [pid for at, pid in pids.items() if (at == node) != (each == node)])

    def heal(self) -> None:
        """What was lost is sent again."""
        for proxy in self._net.proxies:
            self._net.tell(proxy.heal, reset=True)
