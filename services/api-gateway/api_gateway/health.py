"""What orchestrators and monitors ask: is it alive, is it ready, what does it count."""

from __future__ import annotations

import msgspec
from litestar import Response, get

from api_gateway.surfaces.access import PUBLIC, AnyRequest, gateway_of
from kernel.errors import TowpathError
from kernel.probes import about

_OK = b'{"status":"ok"}'
_DRAINING = b'{"status":"draining"}'
_NOT_READY = b'{"status":"not_ready"}'
_JSON = "application/json"


@get(["/healthz", "/health/live"], opt=PUBLIC)
async def live() -> Response[bytes]:
    """The process answers; nothing more."""
    return Response(_OK, media_type=_JSON)


@get(["/health/ready", "/health/startup"], opt=PUBLIC)
async def ready(request: AnyRequest) -> Response[bytes]:
    """Whether requests should be sent here: not draining, database answers, the root's own conditions hold."""
    services = gateway_of(request).services
    if services.drain.is_begun:
        return Response(_DRAINING, status_code=503, media_type=_JSON)
    try:
        await services.db.fetch_one("SELECT 1")
        is_ready = await services.is_ready()
    except TowpathError:
        is_ready = False
    return Response(_OK if is_ready else _NOT_READY, status_code=200 if is_ready else 503, media_type=_JSON)


@get("/version", opt=PUBLIC)
async def version() -> Response[bytes]:
    """Which build this is."""
    return Response(msgspec.json.encode(about("api-gateway")), media_type=_JSON)


@get("/metrics", opt=PUBLIC)
async def metrics(request: AnyRequest) -> Response[bytes]:
    """The gateway's series."""
    text: bytes = request.app.state.telemetry.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


HANDLERS = (live, ready, version, metrics)
