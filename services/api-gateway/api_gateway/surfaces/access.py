"""Guards: every route names one of them, or is public by an explicit mark. A test walks all routes."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.handlers.base import BaseRouteHandler

from api_gateway.gateway import Gateway
from api_gateway.principal import Level, Principal
from kernel.errors import Rejected

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


async def _admit(connection: Connection, needed: Level) -> None:
    principal = await gateway_of(connection).authenticator.principal(connection.headers.get("authorization"))
    if not principal.level.covers(needed):
        raise Rejected("forbidden", f"this needs a key of level {needed}")
    connection.scope["auth"] = principal


GUARDS = (needs_read, needs_write)
