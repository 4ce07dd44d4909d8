"""The proxy between real clients and real origins on loopback: who gets through, what arrives, what is cut."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random  # noqa: TID251 (seeded bytes for a test)
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from browser_runner.egress_proxy import EgressGrant, EgressProxy
from kernel.clock import SystemClock
from kernel.domain.values import Token
from kernel.egress.dialer import Dialer
from kernel.egress.policy import Policy, parse_networks
from kernel.fence import Fence
from kernel.log.codec import decode
from kernel.log.port import EventLog
from kernel.log.topics import Topic
from tests.support.eventually import PATIENCE_SECONDS, until
from tests.support.grounds import ground_in
from tests.support.reports import FIRST, ROOT, RUN, assigned, record

TOKEN = Token(1, "a" * 32)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class SwitchedFence:
    """Open or shut as the test says."""

    def __init__(self) -> None:
        self.is_open = True
        self.asked = 0
        self.watched: Counter[str] = Counter()

    def watch(self, root_run_id: str, token: Token, *, since_ms: int = 0) -> None:
        self.watched[token.nonce] += 1

    def forget(self, root_run_id: str, token: Token) -> None:
        self.watched[token.nonce] -= 1

    async def wait_open(self, root_run_id: str, workflow_run_id: str, token: Token, timeout_seconds: float) -> bool:
        self.asked += 1
        return self.is_open


class SeededEntropy:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def uuid(self) -> str:
        return self.nonce()

    def nonce(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


async def _resolve(host: str) -> Sequence[str]:
    return ["127.0.0.1"] if host.endswith("shop.example") else ["10.0.0.1"]


class Site:
    """Everything one test needs: the proxy, its fence, what was denied, and origins on demand."""

    def __init__(self, stack: contextlib.AsyncExitStack, patience_seconds: float) -> None:
        self.fence = SwitchedFence()
        self.denied: list[str] = []
        dialer = Dialer(Policy(parse_networks("127.0.0.0/8")), resolve=_resolve)
        self.proxy = EgressProxy(
            dialer, self.fence, SeededEntropy(), count_denied=self.denied.append, head_seconds=patience_seconds,
            body_seconds=patience_seconds,
        )  # fmt: skip
        self._stack = stack
        self.seen: list[bytes] = []

    def grant(self, *hosts: str) -> EgressGrant:
        return self.proxy.grant("root-1", "run-1", TOKEN, hosts or (".shop.example",))

    async def origin(self, handle: Handler) -> int:
        async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handle(reader, writer)
            except (OSError, EOFError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(closing, "127.0.0.1", 0)
        await self._stack.enter_async_context(server)
        return int(server.sockets[0].getsockname()[1])

    async def answering(self, answer: bytes) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()

        return await self.origin(handle)

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.proxy.server_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._stack.callback(writer.close)
        return reader, writer


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A proxy that gives clients the time of a busy machine, or as many seconds as a test says."""
    async with contextlib.AsyncExitStack() as stack:
        site = Site(stack, getattr(request, "param", PATIENCE_SECONDS))
        await site.proxy.start()
        stack.push_async_callback(site.proxy.close)
        yield site


hasty = pytest.mark.parametrize("site", [0.5], indirect=True)


def _auth(grant: EgressGrant) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{grant.username}:{grant.password}".encode()) + b"\r\n"


def _get(port: int, grant: EgressGrant, host: str = "shop.example", extra: bytes = b"") -> bytes:
    return f"GET http://{host}:{port}/ HTTP/1.1\r\n".encode() + _auth(grant) + extra + b"\r\n"


async def _head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await reader.readuntil(b"\r\n\r\n")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b"<reset>"


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def test_a_request_goes_through_and_leaves_its_credentials_behind(site: Site) -> None:
    port, grant = await site.answering(OK), site.grant()
    reader, writer = await site.client()
    for _ in range(2):
        writer.write(_get(port, grant))
        assert b"keep-alive" in await _head(reader)
        assert await reader.readexactly(5) == b"hello"
    assert b"Proxy-Authorization" not in site.seen[0]
    assert f"Host: shop.example:{port}".encode() in site.seen[0]
    use = site.proxy.use(grant)
    assert (use.connections, use.bytes_down, use.denied) == (2, 10, 0)


async def test_a_client_without_credentials_is_challenged_and_may_go_on(site: Site) -> None:
    port, grant = await site.answering(OK), site.grant()
    reader, writer = await site.client()
    writer.write(f"GET http://shop.example:{port}/ HTTP/1.1\r\n\r\n".encode())
    challenge = await _head(reader)
    assert challenge.startswith(b"HTTP/1.1 407 ")
    assert b'Proxy-Authenticate: Basic realm="towpath"' in challenge
    await reader.readuntil(b"\n")
    writer.write(_get(port, grant))
    assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
    assert site.denied == []


@pytest.mark.parametrize("change", [{"password": "x"}, {"username": "x"}])
async def test_wrong_credentials_open_nothing(site: Site, change: dict[str, str]) -> None:
    grant = site.grant()
    wrong = EgressGrant(**{"username": grant.username, "password": grant.password, "server_url": "", **change})
    reader, writer = await site.client()
    writer.write(_get(8080, wrong))
    assert (await _head(reader)).startswith(b"HTTP/1.1 407 ")
    assert site.denied == ["credentials"]


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("evil.example", 8080, b"host"),
        ("shop.example", 25, b"port"),
        ("10.0.0.1", 8080, b"address"),
        ("internal.example", 8080, b"address"),
        ("1.2.3.256", 8080, b"bad_host"),
    ],
)
async def test_what_the_policy_closes_is_answered_with_the_reason(
    site: Site, host: str, port: int, reason: bytes
) -> None:
    grant = site.grant(".shop.example", "10.0.0.1", "internal.example")
    for start in (f"CONNECT {host}:{port} HTTP/1.1\r\n", f"GET http://{host}:{port}/ HTTP/1.1\r\n"):
        reader, writer = await site.client()
        writer.write(start.encode() + _auth(grant) + b"\r\n")
        answer = await _rest(reader)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b'Proxy-Status: towpath; error=http_request_denied; details="' + reason + b'"\r\n' in answer
        assert answer.endswith(b"egress refused: " + reason + b"\n")
    assert site.denied == [reason.decode()] * 2
    assert site.proxy.use(grant).denied == 2


async def test_an_origin_that_nobody_serves_is_a_bad_gateway(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reader, writer = await site.client()
        writer.write(_get(unused.getsockname()[1], site.grant()))
        assert (await _rest(reader)).startswith(b"HTTP/1.1 502 ")


async def test_a_tunnel_carries_bytes_both_ways_and_ends_with_the_origin(site: Site) -> None:
    port, grant = await site.origin(_echo), site.grant()
    reader, writer = await site.client()
    writer.write(f"CONNECT shop.example:{port} HTTP/1.1\r\n".encode() + _auth(grant) + b"\r\n")
    assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
    payload = random.Random(1).randbytes(1_000_000)
    writer.write(payload)
    assert await asyncio.wait_for(reader.readexactly(len(payload)), PATIENCE_SECONDS) == payload
    writer.write_eof()
    assert await _rest(reader) == b""
    assert site.proxy.use(grant).bytes_up == site.proxy.use(grant).bytes_down == len(payload)


async def test_under_a_shut_fence_no_connection_is_made(site: Site) -> None:
    port, grant = await site.answering(OK), site.grant()
    site.fence.is_open = False
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert (await _rest(reader)).endswith(b"egress refused: fence\n")
    assert site.seen == []
    assert site.denied == ["fence"]


@pytest.fixture(params=["sqlite", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    partitions = {Topic.TASK_REPORTS.value: 4}
    async with ground_in(tmp_path, SystemClock(), log=request.param, partitions=partitions) as (_, opened):
        yield opened


async def test_a_request_waits_for_an_assignment_that_is_on_its_way(
    site: Site, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = list[str](), log.confirmed_end

    async def counted(topic: str, partition: int) -> int:
        end = await ask(topic, partition)
        asked.append(topic)
        return end

    monkeypatch.setattr(log, "confirmed_end", counted)
    fence = Fence(log, decode, SystemClock())
    dialer = Dialer(Policy(parse_networks("127.0.0.0/8")), resolve=_resolve)
    proxy = EgressProxy(dialer, fence, SeededEntropy(), count_denied=site.denied.append)
    await proxy.start()
    port, grant = await site.answering(OK), proxy.grant(ROOT, RUN, FIRST, [".shop.example"])
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.server_url.rpartition(":")[2]))
    writer.write(_get(port, grant))
    await until(lambda: asked)
    assert site.seen == []
    await log.append([record(assigned(FIRST), ROOT, SystemClock(), partitions=4)])
    assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await proxy.close()
    await fence.close()
    assert site.denied == []


async def test_when_the_fence_shuts_no_further_byte_leaves_and_all_connections_are_cut(site: Site) -> None:
    received = bytearray()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            received.extend(piece)
            writer.write(b"+")

    port, grant = await site.origin(collect), site.grant()
    clients = [await site.client() for _ in range(3)]
    for reader, writer in clients:
        writer.write(f"CONNECT shop.example:{port} HTTP/1.1\r\n".encode() + _auth(grant) + b"\r\n")
        await _head(reader)
        writer.write(b"before")
        assert await reader.readexactly(1) == b"+"
    site.fence.is_open = False
    clients[0][1].write(b"after")
    for reader, _ in clients:
        assert await _rest(reader) in (b"", b"<reset>")
    assert bytes(received) == b"before" * 3


async def test_an_upload_stops_in_the_middle_when_the_fence_shuts(site: Site) -> None:
    received = bytearray()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            received.extend(piece)

    port, grant = await site.origin(collect), site.grant()
    reader, writer = await site.client()
    writer.write(
        f"POST http://shop.example:{port}/ HTTP/1.1\r\n".encode() + _auth(grant) + b"Content-Length: 10\r\n\r\nfirst"
    )
    await until(lambda: received.endswith(b"first"))
    site.fence.is_open = False
    writer.write(b"last!")
    assert await _rest(reader) in (b"", b"<reset>")
    assert received.endswith(b"first")


async def test_a_body_in_chunks_arrives_and_the_connection_goes_on(site: Site) -> None:
    bodies: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n")

    port, grant = await site.origin(handle), site.grant()
    reader, writer = await site.client()
    for _ in range(2):
        writer.write(
            f"POST http://shop.example:{port}/ HTTP/1.1\r\n".encode()
            + _auth(grant)
            + b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
        )
        assert b"Transfer-Encoding: chunked" in await _head(reader)
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
    assert bodies == [b"5\r\nhello\r\n0\r\n\r\n"] * 2


async def test_an_early_answer_reaches_the_client_and_ends_the_connection(site: Site) -> None:
    port, grant = await site.answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"), site.grant()
    reader, writer = await site.client()
    writer.write(
        f"POST http://shop.example:{port}/ HTTP/1.1\r\n".encode() + _auth(grant) + b"Content-Length: 1000000\r\n\r\nx"
    )
    answer = await _rest(reader)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer


async def test_a_client_that_asks_to_continue_is_told_so(site: Site) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
        writer.write(OK)

    port, grant = await site.origin(handle), site.grant()
    reader, writer = await site.client()
    writer.write(
        f"POST http://shop.example:{port}/ HTTP/1.1\r\n".encode()
        + _auth(grant)
        + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert (await _head(reader)).startswith(b"HTTP/1.1 100 ")
    writer.write(b"hello")
    assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")


async def test_an_upgrade_becomes_a_tunnel_under_the_same_fence(site: Site) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await _echo(reader, writer)

    port, grant = await site.origin(handle), site.grant()
    reader, writer = await site.client()
    writer.write(_get(port, grant, extra=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"))
    assert b"Upgrade: websocket" in await _head(reader)
    writer.write(b"frame")
    assert await reader.readexactly(5) == b"frame"
    site.fence.is_open = False
    writer.write(b"late")
    assert await _rest(reader) in (b"", b"<reset>")


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000],
)
async def test_an_answer_that_is_none_is_a_bad_gateway(site: Site, answer: bytes) -> None:
    port, grant = await site.answering(answer), site.grant()
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert (await _rest(reader)).startswith(b"HTTP/1.1 502 ")


async def test_an_answer_that_ends_early_is_cut_and_not_completed(site: Site) -> None:
    port, grant = await site.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), site.grant()
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert b"Content-Length: 50" in await _head(reader)
    assert await _rest(reader) in (b"hello", b"<reset>")


async def test_an_answer_without_a_length_ends_with_the_connection(site: Site) -> None:
    port, grant = await site.answering(b"HTTP/1.0 200 OK\r\n\r\nhello"), site.grant()
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert b"Connection: close" in await _head(reader)
    assert await _rest(reader) == b"hello"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET http://shop.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET http://shop.example/ HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_a_head_that_is_none_is_refused_and_the_connection_ends(site: Site, sent: bytes, status: bytes) -> None:
    reader, writer = await site.client()
    writer.write(sent)
    assert (await _rest(reader)).startswith((b"HTTP/1.1 " + status, b"<reset>"))


@hasty
async def test_a_head_that_never_ends_is_given_up(site: Site) -> None:
    reader, writer = await site.client()
    writer.write(b"GET http://shop.example/ HTTP/1.1\r\nA: ")
    assert await _rest(reader) in (b"", b"<reset>")


@hasty
async def test_a_body_that_never_ends_is_given_up(site: Site) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    port, grant = await site.origin(swallow), site.grant()
    reader, writer = await site.client()
    writer.write(
        f"POST http://shop.example:{port}/ HTTP/1.1\r\n".encode() + _auth(grant) + b"Content-Length: 9\r\n\r\nhi"
    )
    assert await _rest(reader) in (b"", b"<reset>")
    await until(lambda: not site.proxy._serving)


async def test_a_client_that_vanishes_leaves_nothing_behind(site: Site) -> None:
    port, grant = await site.origin(_echo), site.grant()
    for _ in range(5):
        reader, writer = await site.client()
        writer.write(f"CONNECT shop.example:{port} HTTP/1.1\r\n".encode() + _auth(grant) + b"\r\n")
        await _head(reader)
        writer.transport.abort()
    await until(lambda: not site.proxy._serving)


async def test_a_revoked_grant_is_cut_at_once_and_opens_nothing_more(site: Site) -> None:
    port, grant = await site.origin(_echo), site.grant()
    reader, writer = await site.client()
    writer.write(f"CONNECT shop.example:{port} HTTP/1.1\r\n".encode() + _auth(grant) + b"\r\n")
    await _head(reader)
    use = await site.proxy.revoke(grant)
    assert use is not None
    assert use.connections == 1
    assert await _rest(reader) in (b"", b"<reset>")
    assert await site.proxy.revoke(grant) is None
    assert site.fence.watched[TOKEN.nonce] == 0
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert (await _head(reader)).startswith(b"HTTP/1.1 407 ")


async def test_a_closed_proxy_cuts_everything_and_may_be_closed_again(site: Site) -> None:
    port, grant = await site.origin(_echo), site.grant()
    reader, writer = await site.client()
    writer.write(f"CONNECT shop.example:{port} HTTP/1.1\r\n".encode() + _auth(grant) + b"\r\n")
    await _head(reader)
    await site.proxy.close()
    await site.proxy.close()
    assert await _rest(reader) in (b"", b"<reset>")
    assert not site.proxy._serving


async def test_random_bytes_never_end_the_proxy(site: Site) -> None:
    chance = random.Random(3)
    for _ in range(30):
        _, writer = await site.client()
        writer.write(chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n")
        writer.transport.abort() if chance.random() < 0.5 else writer.close()
    port, grant = await site.answering(OK), site.grant()
    reader, writer = await site.client()
    writer.write(_get(port, grant))
    assert (await _head(reader)).startswith(b"HTTP/1.1 200 ")
