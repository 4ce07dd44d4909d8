"""What machines read about this surface: its OpenAPI document and the schema of `stepsJson`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from litestar import Response, Router, get
from litestar.handlers import HTTPRouteHandler

from api_gateway.surfaces.access import PUBLIC, by_address
from api_gateway.surfaces.api_v2 import (
    api_keys,
    artifacts,
    docs_page,
    doctor,
    events,
    explain,
    input_requests,
    job_runs,
    jobs,
    logs,
    openapi,
    providers,
    subject_keys,
    workflow_runs,
    workflows,
)
from kernel.steps.editor_schema import editor_schema

PREFIX = "/api/v2"
HANDLERS: tuple[HTTPRouteHandler, ...] = (
    *workflows.HANDLERS,
    *jobs.HANDLERS,
    *providers.HANDLERS,
    *job_runs.HANDLERS,
    *workflow_runs.HANDLERS,
    *events.HANDLERS,
    *explain.HANDLERS,
    *logs.HANDLERS,
    *artifacts.HANDLERS,
    *input_requests.HANDLERS,
    *api_keys.HANDLERS,
    *subject_keys.HANDLERS,
    *doctor.HANDLERS,
)


def openapi_bytes(handlers: Sequence[HTTPRouteHandler] = HANDLERS) -> bytes:
    """The OpenAPI document as it is served and kept beside the tests."""
    return msgspec.json.format(msgspec.json.encode(openapi.document(handlers, PREFIX)), indent=2)


def router() -> Router:
    """All routes of `/api/v2`. Both documents are made once, here."""
    openapi_text = openapi_bytes()
    schema_text = msgspec.json.encode(editor_schema())

    @get("/openapi.json", guards=[by_address], opt=PUBLIC)
    async def get_openapi() -> Response[bytes]:
        return Response(openapi_text, media_type="application/json")

    @get("/schemas/steps-json", guards=[by_address], opt=PUBLIC)
    async def get_steps_schema() -> Response[bytes]:
        return Response(schema_text, media_type="application/schema+json")

    return Router(PREFIX, route_handlers=[*HANDLERS, *docs_page.HANDLERS, get_openapi, get_steps_schema])
