"""The outermost layer of the HTTP service: what every answer has, whatever it was.

It stands outside of the framework's router, so that unknown paths and methods pass it too. It gives each request an id,
answers HEAD as the GET without its body, says where the caller stands with its limits, lets go of whoever sends a body
too slowly, counts, and writes the access log: method, route, status, time; never a query, a body or a header. Whatever
is logged while a request is answered names the request, and its organization and trace where they are known.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api_gateway.limiter import Standing
from api_gateway.open_calls import RETRY_SECONDS
from api_gateway.principal import Principal
from api_gateway.telemetry import METHODS, UNMATCHED, Telemetry
from kernel.clock import Clock
from kernel.errors import Rejected
from kernel.ids import Entropy
from kernel.line_context import LineContext
from kernel.metrics import OTHER
from kernel.tracing import NO_TRACER, SpanKind, Tracer, current_trace
from kernel.tracing.context import NOBODY, TraceHeaders, parse, trace_id_of, well_formed

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_UNCACHED = (b"cache-control", b"no-store")
_WRONG_METHOD, _TOO_MANY = 405, 429
_SOON = (b"retry-after", str(RETRY_SECONDS).encode())
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_COMES_WITH_HEAD = 8 * 1024
"""Bytes of a body that are there when a request is read, whoever reads them."""
_LAST = (b"connection", b"close")
_log = structlog.get_logger("api_gateway.access")
_OF_MONITORS = ("/health", "/metrics")
"""Paths that somebody asks every few seconds."""
SLOW_MS = 1000.0
"""A successful read that took longer is told in the access log, unless it waited for what had not happened yet."""


def _marked(headers: Iterable[tuple[bytes, bytes]], state: dict[str, Any], status: int) -> list[tuple[bytes, bytes]]:
    """The headers, with those that every answer has; what a route said about caching stands."""
    kept = list(headers)
    given = {name.lower() for name, _ in kept}
    always = [(b"x-request-id", state["request_id"].encode()), (b"x-content-type-options", b"nosniff"), _UNCACHED]
    standing: Standing | None = state.get("standing")
    if standing is not None:
        always += standing.headers()
    if status == _TOO_MANY:
        always.append(_SOON)
    for header in always:
        if header[0] not in given:
            given.add(header[0])
            kept.append(header)
    return kept


def _caller_of(scope: Scope) -> TraceHeaders:
    """The caller's span, when it names one that is well formed; a malformed `tracestate` beside it is left out."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            text: str = value.decode("latin-1")
            return TraceHeaders(text, _state_of(scope)) if parse(text) is not None else NOBODY
    return NOBODY


def _state_of(scope: Scope) -> str:
    """It may come in several headers, which are one list."""
    given = [value for name, value in scope["headers"] if name == b"tracestate"]
    return well_formed(b",".join(given).decode("latin-1")) if given else ""


def _route_of(scope: Scope) -> str:
    return str(scope.get("path_template") or UNMATCHED)


def _as_read(scope: HTTPScope) -> HTTPScope:
    """A HEAD is answered as the GET that it asks about, without the body; a live stream has no end to wait for."""
    scope["state"]["is_head"] = True
    headers = [header for header in scope["headers"] if header[0] != b"accept"]
    return cast("HTTPScope", {**scope, "method": "GET", "headers": headers})


class _Body:
    """A body on its way in, as long as it comes within its time: whoever sends it drop by drop is let go."""

    def __init__(self, scope: Scope, receive: Receive, seconds_max: float) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + seconds_max
        self._is_whole = False
        self._is_long = scope["http_version"].startswith("1") and _is_long(scope["headers"])

    @property
    def is_left_behind(self) -> bool:
        """Whether the answer comes before the body: the connection then ends with it, and the caller has to know."""
        return self._is_long and not self._is_whole

    async def receive(self) -> Any:
        """The next message. `request_timeout` when the body takes too long."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise Rejected("request_timeout", "the body did not arrive in time") from None
        self._is_whole = not message.get("more_body", False)
        return message


def _is_long(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request's body is longer than what comes along with its headers, or may be."""
    given = dict(headers)
    length = given.get(b"content-length", b"0")
    return b"transfer-encoding" in given or not length.isdigit() or int(length) > _COMES_WITH_HEAD


class Edge:
    """An ASGI application around another one."""

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        clock: Clock,
        entropy: Entropy,
        *,
        methods: Mapping[str, str],
        body_seconds_max: float,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """`methods`: of each route's template those that it answers, comma separated."""
        self._app = app
        self._telemetry = telemetry
        self._clock = clock
        self._entropy = entropy
        self._methods = methods
        self._body_seconds_max = body_seconds_max
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        parent = _caller_of(scope)
        if parent is NOBODY and (not self._tracer.is_on or scope["path"].startswith(_OF_MONITORS)):
            await self._answer(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else OTHER
        with self._tracer.span(
            method, SpanKind.SERVER, parent=parent, attributes={"http.request.method": method}
        ) as span:
            route, status = await self._answer(scope, receive, send)
            span.rename(f"{method} {route}")
            span.set("http.route", route)
            span.set("http.response.status_code", status)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send) -> tuple[str, int]:
        """Answer one request; its route and status."""
        began_ms = self._clock.boot_ms()
        state = scope.setdefault("state", {})
        state["request_id"] = self._request_id(scope)
        method = scope["method"]
        status = 500
        body: _Body | None = None

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _marked(message["headers"], state, status)
                if body is not None and body.is_left_behind:
                    message["headers"] = [*message["headers"], _LAST]
                if method == "OPTIONS" or status == _WRONG_METHOD:
                    message["headers"] = self._allowing(scope, message["headers"])
            elif message["type"] == "http.response.body" and method == "HEAD":
                if message["more_body"]:
                    return
                message["body"] = b""
            await send(message)

        if method == "HEAD":
            scope = _as_read(scope)
        elif method in _WITH_BODY:
            body = _Body(scope, receive, self._body_seconds_max)
            receive = body.receive
        self._telemetry.open_requests.inc()
        with LineContext(request_id=state["request_id"], trace_id=trace_id_of(current_trace().traceparent)):
            try:
                await self._app(scope, receive, send_marked)
            finally:
                self._telemetry.open_requests.dec()
                leave = state.get("leave")
                if leave is not None:
                    leave()
                self._account(scope, method, status, self._clock.boot_ms() - began_ms)
        return _route_of(scope), status

    def _allowing(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Headers whose `Allow` names every method of the route (the framework knows some), HEAD among them."""
        given = {name.lower(): value for name, value in headers}
        found = self._methods.get(str(scope.get("path_template")), given.get(b"allow", b"").decode())
        methods = {method.strip() for method in found.split(",") if method.strip()}
        if "GET" in methods:
            methods.add("HEAD")
        kept = [header for header in headers if header[0].lower() != b"allow"]
        return [*kept, (b"allow", ", ".join(sorted(methods)).encode())] if methods else kept

    def _request_id(self, scope: Scope) -> str:
        """The caller's `X-Request-Id` when it is 8 to 128 safe characters, otherwise a fresh one."""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
                return value.decode()
        return self._entropy.uuid()

    def _account(self, scope: Scope, method: str, status: int, took_ms: float) -> None:
        route = _route_of(scope)
        self._telemetry.answered(method, route, status, took_ms / 1000)
        principal = scope.get("auth")
        # Quick successful reads are counted, not told: whoever polls would drown the rest. What waits is not slow.
        is_quick = took_ms < SLOW_MS or scope["state"].get("waits", False)
        quiet = method == "GET" and status < 400 and is_quick
        tell = _log.debug if quiet else _log.info
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            took_ms=round(took_ms, 2),
            request_id=scope["state"]["request_id"],
            organization_id=principal.organization_id if isinstance(principal, Principal) else None,
        )
