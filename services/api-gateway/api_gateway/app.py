"""The Litestar application: surfaces, health, one error table, and the edge around it all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.routes import HTTPRoute

from api_gateway import health
from api_gateway.draining import drained_on_sigterm
from api_gateway.edge import Edge
from api_gateway.gateway import Services, assemble
from api_gateway.surfaces.api_v2 import errors, meta
from api_gateway.surfaces.direct import Direct
from api_gateway.surfaces.events import documents
from api_gateway.telemetry import Telemetry
from kernel.errors import LogRefused, Rejected, SecretUnavailable, Temporary, UnknownOutcome

_log = structlog.get_logger("api_gateway.app")


def create_app(services: Services, *, drains_on_sigterm: bool = False) -> Litestar:
    """The ASGI application of the gateway. `drains_on_sigterm` when it runs in the main thread of its own process."""
    telemetry = Telemetry(services.metrics)

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        if not drains_on_sigterm:
            yield
            return
        async with drained_on_sigterm(services.drain):
            yield

    app = Litestar(
        route_handlers=[meta.router(), documents.router(), *health.HANDLERS],
        exception_handlers={Exception: answer_error},
        lifespan=[lifespan],
        state=State({"gateway": assemble(services), "telemetry": telemetry}, deep_copy=False),
        request_max_body_size=services.settings.body_bytes_max,
        openapi_config=None,
        logging_config=None,
    )
    # The edge stands outside of the router, where unknown paths and methods are answered too.
    app.asgi_handler = Edge(
        Direct(app, answer_error),
        telemetry,
        services.clock,
        services.entropy,
        methods={route.path_format: ",".join(route.methods) for route in app.routes if isinstance(route, HTTPRoute)},
        body_seconds_max=services.settings.body_seconds_max,
        tracer=services.tracer,
    )
    return app


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception as this surface's error; what is not foreseen is logged and says nothing of itself."""
    match error:
        case Rejected():
            code = errors.phrased(error.code, error.details)
            return _answer(request, code, error.message, error)
        case Temporary() | UnknownOutcome() | LogRefused() | SecretUnavailable():
            _log.warning("request.unavailable", error=repr(error), request_id=_request_id(request))
            return _answer(request, "unavailable", "not decided in time, or a part is away; try again", error)
        case HTTPException() if error.status_code < 500:
            return _answer(request, errors.code_of_http(error.status_code), error.detail, error)
        case _:
            _log.error("request.failed", exc_info=error, request_id=_request_id(request))
            return _answer(request, "internal", "something went wrong on our side", error)


def _answer(request: Request[Any, Any, Any], code: str, message: str, error: Exception) -> Response[bytes]:
    details = error.details if isinstance(error, Rejected) else ()
    body = errors.error_body(code, message, details, _request_id(request))
    headers = {"Retry-After": errors.RETRY_AFTER[code]} if code in errors.RETRY_AFTER else {}
    if code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    return Response(body, status_code=errors.STATUS[code], headers=headers, media_type="application/json")


def _request_id(request: Request[Any, Any, Any]) -> str:
    request_id: str = request.scope["state"]["request_id"]
    return request_id
