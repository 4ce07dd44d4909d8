"""A broker whose clients reach it only through a proxy: fixtures to import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cluster.components.kafka import LocalKafka
from tests.support.tcp_proxy import TcpProxy, free_port, tcp_proxy


@pytest.fixture(scope="module")
def proxied_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, int]]:
    """A broker that tells clients the port of a proxy, and that port; `kafka.ports` are its own."""
    port = free_port()
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), advertised={1: port})
    try:
        kafka.start()
        yield kafka, port
    finally:
        kafka.kill()


@pytest.fixture
async def proxy(proxied_kafka: tuple[LocalKafka, int]) -> AsyncIterator[TcpProxy]:
    """What passes everything on to the broker until a test says otherwise."""
    kafka, port = proxied_kafka
    async with tcp_proxy(kafka.ports[1], port) as passing:
        yield passing
