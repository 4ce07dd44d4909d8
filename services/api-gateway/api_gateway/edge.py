"""The outermost layer of the HTTP service: what every answer has, whatever it was.

It stands outside of the framework's router, so that unknown paths and methods pass it too. It gives each request an id,
counts it, and writes the access log: method, route, status, time; never a query, a body or a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api_gateway.principal import Principal
from api_gateway.telemetry import UNMATCHED, Telemetry
from kernel.clock import Clock
from kernel.ids import Entropy

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
_UNCACHED = (b"cache-control", b"no-store")
_log = structlog.get_logger("api_gateway.access")
SLOW_MS = 1000.0
"""A successful read that took longer is told in the access log."""


def _marked(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers, with those that every answer has; what a route said about caching stands."""
    kept = list(headers)
    given = {name.lower() for name, _ in kept}
    always = ((b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"), _UNCACHED)
    return [*kept, *(header for header in always if header[0] not in given)]


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, clock: Clock, entropy: Entropy) -> None:
        self._app = app
        self._telemetry = telemetry
        self._clock = clock
        self._entropy = entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began_ms = self._clock.boot_ms()
        request_id = self._request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _marked(message["headers"], request_id)
            await send(message)

        self._telemetry.open_requests.inc()
        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._telemetry.open_requests.dec()
            self._account(scope, request_id, status, self._clock.boot_ms() - began_ms)

    def _request_id(self, scope: Scope) -> str:
        """The caller's `X-Request-Id` when it is 8 to 128 safe characters, otherwise a fresh one."""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
                return value.decode()
        return self._entropy.uuid()

    def _account(self, scope: Scope, request_id: str, status: int, took_ms: float) -> None:
        route = str(scope.get("path_template") or UNMATCHED)
        method = str(scope.get("method", ""))
        self._telemetry.answered(method, route, status, took_ms / 1000)
        principal = scope.get("auth")
        # Quick successful reads are counted, not told: whoever polls would drown the rest.
        quiet = method == "GET" and status < 400 and took_ms < SLOW_MS
        tell = _log.debug if quiet else _log.info
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            took_ms=round(took_ms, 2),
            request_id=request_id,
            organization_id=principal.organization_id if isinstance(principal, Principal) else None,
        )
