"""The way out of every browser, HTTP step and model call: a forward proxy that knows which attempt is sending.

Each attempt gets credentials of its own (`grant`), so every connection belongs to a token. Nothing is dialled but what
the address policy lets out (`kernel.egress`), and nothing is sent but under an open fence: it is asked before each
connection, each request and each chunk on its way out. Where it is shut, all connections of the grant are cut.

`CONNECT` makes a tunnel; plain HTTP/1.1 is understood and written anew (`browser_runner.proxy_http`), one connection to
the origin per request, an upgrade to WebSocket included. A client without credentials is challenged with 407, which is
how browsers learn to send them. At most one chunk per connection waits in this process; what the system has taken is
in flight, and the wait before the next attempt (design 6.5) counts that in.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from browser_runner.proxy_body import PIECE_BYTES, copy_body
from browser_runner.proxy_http import HEAD_BYTES_MAX, BadHead, Body, Request, Response, parse_request, parse_response
from kernel.domain.values import Token
from kernel.egress.dialer import Dialer
from kernel.errors import EgressDenied, EgressUnreachable
from kernel.ids import Entropy

T = TypeVar("T")

REFUSED_STATUS = "towpath; error=http_request_denied"
"""How `Proxy-Status` (RFC 9209) begins in an answer of our own; the reason follows as its details."""
_UNCACHED = ("Cache-Control", "no-store")
FENCE_SHUT = "fence"
"""Beside `kernel.egress.policy.Reason`, what `egress_denied_total` is labelled with: the fence is shut."""
NO_CREDENTIALS = "credentials"
"""Credentials that no grant has; a client that sent none is challenged and not counted."""
_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="towpath"')


class TokenFence(Protocol):
    """What the proxy needs of `kernel.fence.Fence`."""

    def watch(self, root_run_id: str, token: Token, *, since_ms: int = 0) -> None: ...

    def forget(self, root_run_id: str, token: Token) -> None: ...

    async def wait_open(self, root_run_id: str, workflow_run_id: str, token: Token, timeout_seconds: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class EgressGrant:
    """What a browser context or an HTTP client is started with."""

    username: str
    password: str
    server_url: str
    """`http://host:port` of the proxy."""


@dataclass(frozen=True, slots=True)
class EgressUse:
    """What went through a grant so far."""

    connections: int
    denied: int
    bytes_up: int
    bytes_down: int


@dataclass(slots=True, eq=False)
class _Holder:
    """One grant's side of the proxy: whom it belongs to, its running connections, its counters."""

    root_run_id: str
    workflow_run_id: str
    token: Token
    allowed_hosts: tuple[str, ...]
    password: str
    serving: set[asyncio.Task[None]] = field(default_factory=set)
    connections: int = 0
    denied: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def cut(self, but: asyncio.Task[None] | None = None) -> list[asyncio.Task[None]]:
        """End the connections, at once; the tasks that are still to end."""
        cut = [task for task in self.serving if task is not but]
        for task in cut:
            task.cancel()
        return cut


@dataclass(frozen=True, slots=True)
class _Ends:
    """One side of a connection through the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Refused(Exception):
    """The client gets this status and the reason, if nothing was answered yet, and the connection ends."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.is_denial = status.startswith("403")


class EgressProxy:
    """One per runner process, or a process of its own. `start` before the first grant, `close` at the end.

    `count_denied` is told the reason of every denial (a short word, never a host). `head_seconds` bounds the wait for
    the next head on a client's connection, idle time included; `body_seconds` the wait for a client's next chunk;
    `fence_seconds` the wait for a fence that is not open yet (one that is shut for good is not waited for).
    """

    def __init__(
        self,
        dialer: Dialer,
        fence: TokenFence,
        entropy: Entropy,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        connections_max: int = 1024,
        head_seconds: float = 60.0,
        body_seconds: float = 60.0,
        fence_seconds: float = 5.0,
        count_denied: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._dialer = dialer
        self._fence = fence
        self._entropy = entropy
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds
        self._fence_seconds = fence_seconds
        self._count_denied = count_denied
        self._holders: dict[str, _Holder] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises `OSError` when the port is taken."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=HEAD_BYTES_MAX)
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def server_url(self) -> str:
        """`http://host:port`, known after `start`."""
        return f"http://{self._host}:{self._port}"

    def grant(
        self, root_run_id: str, workflow_run_id: str, token: Token, allowed_hosts: Sequence[str], *, since_ms: int = 0
    ) -> EgressGrant:
        """Credentials for one attempt; it reaches `allowed_hosts` (see `kernel.egress.policy.is_allowed_host`) only.

        `since_ms` is the task's `requested_ms`, where the fence begins to read.
        """
        username, password = self._entropy.nonce(), self._entropy.nonce()
        self._fence.watch(root_run_id, token, since_ms=since_ms)
        self._holders[username] = _Holder(root_run_id, workflow_run_id, token, tuple(allowed_hosts), password)
        return EgressGrant(username, password, self.server_url)

    def use(self, grant: EgressGrant) -> EgressUse:
        """The counters of a grant that was not revoked; `KeyError` for another."""
        return _use(self._holders[grant.username])

    async def revoke(self, grant: EgressGrant) -> EgressUse | None:
        """End the grant and its connections; its last counters, or None when it was revoked before."""
        holder = self._holders.pop(grant.username, None)
        if holder is None:
            return None
        self._fence.forget(holder.root_run_id, holder.token)
        await _gone(holder.cut())
        return _use(holder)

    async def close(self) -> None:
        """Stop listening and cut everything. Idempotent."""
        if self._server is not None:
            self._server.close()
        for holder in self._holders.values():
            self._fence.forget(holder.root_run_id, holder.token)
        self._holders.clear()
        for task in self._serving:
            task.cancel()
        await _gone(list(self._serving))
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            if len(self._serving) > self._connections_max:
                await _reply(writer, "503 Service Unavailable", "too many connections")
            else:
                while await self._serve_request(reader, writer, task):
                    pass
            writer.close()
        except (OSError, EOFError, TimeoutError, BadHead):
            writer.transport.abort()  # the peer is gone, silent, or breaks its own framing; there is nobody to tell
        except asyncio.CancelledError:
            writer.transport.abort()  # cut: whoever did it waits for this task, and the server never awaits it
        finally:
            self._serving.discard(task)

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> bool:
        """One request; True when the connection may carry another."""
        try:
            request = await self._next_request(reader)
            if request is None:
                return False
            holder = self._holder(request)
            if holder is None:
                # A body that is not read would be taken for the next request, so only a bare one keeps the connection.
                keeps_alive = request.keeps_alive and request.body is Body.NONE
                await _reply(writer, "407 Proxy Authentication Required", "credentials", _CHALLENGE, keeps_alive)
                return keeps_alive
            holder.serving.add(task)
            try:
                return await self._forward(request, holder, reader, writer)
            finally:
                holder.serving.discard(task)
        except _Refused as refused:
            denied = ("Proxy-Status", f'{REFUSED_STATUS}; details="{refused.reason}"')
            await _reply(writer, refused.status, refused.reason, denied if refused.is_denial else _UNCACHED)
            return False

    async def _next_request(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            async with asyncio.timeout(self._head_seconds):
                raw = await reader.readuntil(b"\r\n\r\n")
            return parse_request(raw)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        except asyncio.LimitOverrunError:
            raise _Refused("431 Request Header Fields Too Large", "head") from None
        except BadHead as error:
            raise _Refused("400 Bad Request", str(error)) from None

    def _holder(self, request: Request) -> _Holder | None:
        credentials = request.credentials()
        if credentials is None:
            return None
        username, password = credentials
        holder = self._holders.get(username)
        if holder is not None and hmac.compare_digest(holder.password.encode(), password.encode()):
            return holder
        self._count_denied(NO_CREDENTIALS)
        return None

    async def _forward(
        self, request: Request, holder: _Holder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        await self._pass_fence(holder)
        async with self._origin(request, holder) as origin:
            holder.connections += 1
            if request.is_connect:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._tunnel(holder, _Ends(reader, writer), origin)
                return False
            await self._send(holder, origin.writer, request.to_origin())
            return await self._exchange(request, holder, _Ends(reader, writer), origin)

    @contextlib.asynccontextmanager
    async def _origin(self, request: Request, holder: _Holder) -> AsyncIterator[_Ends]:
        try:
            reader, writer = await self._dialer.dial(request.host, request.port, allowed_hosts=holder.allowed_hosts)
        except EgressDenied as denied:
            self._deny(holder, denied.reason)
            raise _Refused("403 Forbidden", denied.reason) from denied
        except EgressUnreachable as error:
            raise _Refused("502 Bad Gateway", "unreachable") from error
        writer.transport.set_write_buffer_limits(high=0)
        try:
            yield _Ends(reader, writer)
        finally:
            writer.transport.abort()

    async def _tunnel(self, holder: _Holder, client: _Ends, origin: _Ends) -> None:
        """Both ways until the origin ends, or `body_seconds` after the client did."""

        async def up() -> None:
            while piece := await client.reader.read(PIECE_BYTES):
                await self._send(holder, origin.writer, piece)
            origin.writer.write_eof()
            await asyncio.sleep(self._body_seconds)
            raise TimeoutError

        async with _beside(up()):
            await self._receive(Body.UNTIL_CLOSE, 0, holder, client, origin)

    async def _exchange(self, request: Request, holder: _Holder, client: _Ends, origin: _Ends) -> bool:
        """The body out while the answer comes in, for an answer may come early; True when the client may go on."""
        async with _beside(self._send_body(request, holder, client, origin)) as sending:
            while True:
                response = await _next_response(request, origin.reader)
                keeps_alive = request.keeps_alive and _is_sent(sending) and response.body is not Body.UNTIL_CLOSE
                client.writer.write(response.to_client(keeps_alive=keeps_alive))
                if response.status == 101 or response.status >= 200:
                    break
            if response.status != 101:
                await self._receive(response.body, response.length, holder, client, origin)
                return keeps_alive
        await self._tunnel(holder, client, origin)
        return False

    async def _pass_fence(self, holder: _Holder) -> None:
        # It waits where the assignment has not arrived yet or the log is away for a moment; nothing is sent meanwhile.
        if await self._fence.wait_open(holder.root_run_id, holder.workflow_run_id, holder.token, self._fence_seconds):
            return
        self._deny(holder, FENCE_SHUT)
        holder.cut(but=asyncio.current_task())
        raise _Refused("403 Forbidden", FENCE_SHUT)  # seen by a client that got no answer yet; a side task just ends

    def _deny(self, holder: _Holder, reason: str) -> None:
        holder.denied += 1
        self._count_denied(reason)

    async def _send(self, holder: _Holder, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        await self._pass_fence(holder)
        writer.write(chunk)
        holder.bytes_up += len(chunk)
        await writer.drain()

    async def _send_body(self, request: Request, holder: _Holder, client: _Ends, origin: _Ends) -> bool:
        """True when the whole body went out; False when the origin took no more, and its answer tells why."""
        is_refused = False

        async def put(piece: bytes) -> None:
            nonlocal is_refused
            try:
                await self._send(holder, origin.writer, piece)
            except ConnectionError:
                is_refused = True
                raise

        try:
            await copy_body(request.body, request.length, client.reader, put, piece_seconds=self._body_seconds)
        except ConnectionError:
            if not is_refused:
                raise
        return not is_refused

    async def _receive(self, body: Body, length: int, holder: _Holder, client: _Ends, origin: _Ends) -> None:
        async def put(piece: bytes) -> None:
            client.writer.write(piece)
            holder.bytes_down += len(piece)
            await client.writer.drain()

        await copy_body(body, length, origin.reader, put)


async def _next_response(request: Request, reader: asyncio.StreamReader) -> Response:
    try:
        response = parse_response(await reader.readuntil(b"\r\n\r\n"), request.method)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, BadHead, ConnectionError) as error:
        raise _Refused("502 Bad Gateway", "answer") from error
    if response.status == 101 and not request.is_upgrade:
        raise _Refused("502 Bad Gateway", "upgrade")
    return response


def _is_sent(sending: asyncio.Task[bool]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None and sending.result()


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run `work` beside the block: it ends with the block, and when it fails the block's task is cancelled."""
    parent = asyncio.current_task()
    assert parent is not None

    def failed(task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is not None:
            parent.cancel()

    side = asyncio.get_running_loop().create_task(work)
    side.add_done_callback(failed)
    try:
        yield side
    finally:
        side.remove_done_callback(failed)
        side.cancel()
        await _gone([side])


async def _gone(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _use(holder: _Holder) -> EgressUse:
    return EgressUse(holder.connections, holder.denied, holder.bytes_up, holder.bytes_down)


async def _reply(
    writer: asyncio.StreamWriter,
    status: str,
    reason: str,
    field_: tuple[str, str] = _UNCACHED,
    keeps_alive: bool = False,  # noqa: FBT001, FBT002 (a private helper with one caller that differs)
) -> None:
    body = f"egress refused: {reason}\n".encode()
    connection = "keep-alive" if keeps_alive else "close"
    head = (
        f"HTTP/1.1 {status}\r\n{field_[0]}: {field_[1]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
    )
    writer.write(head.encode("latin-1") + body)
    await writer.drain()
