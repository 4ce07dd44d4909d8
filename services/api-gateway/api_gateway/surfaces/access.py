"""Guards: every route names one of them, or is public by an explicit mark. A test walks all routes.

A guard also keeps the limits: a key's calls a minute, calls without a valid key by address, and how many calls of an
organization are open. What a caller has left stands in the request's state, where the edge finds it for the headers.
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.handlers.base import BaseRouteHandler

from api_gateway.client_address import client_address
from api_gateway.gateway import Gateway
from api_gateway.limiter import Standing
from api_gateway.principal import Level, Principal
from kernel.domain.ids import OrganizationId
from kernel.errors import Rejected
from kernel.line_context import add_to_lines

PUBLIC = {"public": True}
"""For `opt` of a route that needs no key; beside `public` nothing but a signature, if any, protects it."""

Connection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]


def gateway_of(connection: Connection) -> Gateway:
    """The gateway that the application was made with."""
    gateway: Gateway = connection.app.state.gateway
    return gateway


def principal_of(connection: Connection) -> Principal:
    """Who asks; set by the guard."""
    principal: Principal = connection.scope["auth"]
    return principal


async def needs_read(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Any valid key."""
    await _admit(connection, Level.READ)


async def needs_write(connection: Connection, _handler: BaseRouteHandler) -> None:
    """A key that may change things."""
    await _admit(connection, Level.WRITE)


async def needs_events(connection: Connection, _handler: BaseRouteHandler) -> None:
    """A key that may open what travels sealed in the event log."""
    await _admit(connection, Level.EVENTS)


async def needs_admin(connection: Connection, _handler: BaseRouteHandler) -> None:
    """A key that may change who may do what."""
    await _admit(connection, Level.ADMIN)


async def by_address(connection: Connection, _handler: BaseRouteHandler) -> None:
    """For public routes: nobody is asked for a key, but an address may only call so often."""
    await _take_for_address(connection)


async def _admit(connection: Connection, needed: Level) -> None:
    gateway = gateway_of(connection)
    try:
        principal = await gateway.authenticator.principal(connection.headers.get("authorization"))
    except Rejected:
        await _take_for_address(connection)
        raise
    _note(connection, await gateway.limits.keys.take(principal.key_id))
    if not principal.level.covers(needed):
        raise Rejected("forbidden", f"this needs a key of level {needed}")
    connection.scope["state"]["leave"] = gateway.limits.requests.enter(principal.organization_id)
    connection.scope["auth"] = principal
    add_to_lines(organization_id=principal.organization_id)


async def _take_for_address(connection: Connection) -> None:
    limits = gateway_of(connection).limits
    peer = connection.scope.get("client")
    forwarded = connection.headers.get("x-forwarded-for", "")
    address = client_address(peer[0] if peer else None, forwarded, limits.trusted_proxies)
    _note(connection, await limits.addresses.take(address))


def _note(connection: Connection, standing: Standing | None) -> None:
    if standing is None:
        return
    connection.scope["state"]["standing"] = standing
    if standing.retry_in_seconds:
        raise Rejected("rate_limited", f"too many calls; go on in {standing.retry_in_seconds} s")


def hold_stream(connection: Connection, organization: OrganizationId, *, waits: bool = False) -> None:
    """From here on this call counts as an open stream of `organization`. `rate_limited` when there are enough.

    `waits`: for what has not happened yet, so that it is not slow when it takes long.
    """
    state = connection.scope["state"]
    leave = gateway_of(connection).limits.streams.enter(organization)
    before = state.get("leave")
    state["leave"], state["waits"] = leave, waits
    if before is not None:
        before()


LEVELS = {needs_read: Level.READ, needs_write: Level.WRITE, needs_admin: Level.ADMIN, needs_events: Level.EVENTS}
"""Every guard that asks for a key, with the level that it asks for."""
