"""The machine contract: `openapi.json` beside this file. `TOWPATH_REFRESH_SNAPSHOTS=1` writes it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from api_gateway.surfaces.api_v2.meta import openapi_bytes
from kernel.steps.editor_schema import editor_schema
from tests.support.gateways import RunningGateway

SNAPSHOT = Path(__file__).with_name("openapi.json")


def test_the_contract_has_not_moved_unnoticed() -> None:
    found = openapi_bytes() + b"\n"
    if os.environ.get("TOWPATH_REFRESH_SNAPSHOTS"):
        SNAPSHOT.write_bytes(found)
    assert SNAPSHOT.read_bytes() == found, "run with TOWPATH_REFRESH_SNAPSHOTS=1 and look at the difference"


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(json.loads(openapi_bytes())).validate()


async def test_every_route_is_described(gateway: RunningGateway) -> None:
    described = {
        f"{method.upper()} {path}" for path, place in json.loads(openapi_bytes())["paths"].items() for method in place
    }
    served = {
        f"{method} {route.path.replace(':str', '')}"
        for route in gateway.app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/v2")
        for method in route.methods
        if method != "OPTIONS"
    }
    assert served - described == {
        "GET /api/v2/openapi.json",
        "GET /api/v2/schemas/steps-json",
        "GET /api/v2/docs",
        "GET /api/v2/docs/{name}",
    }
    assert described <= served


async def test_both_documents_are_served_to_anybody(gateway: RunningGateway) -> None:
    document = await gateway.stranger.get("/api/v2/openapi.json")
    assert (document.status_code, document.json()) == (200, json.loads(openapi_bytes()))
    schema = await gateway.stranger.get("/api/v2/schemas/steps-json")
    assert (schema.status_code, schema.json()) == (200, json.loads(json.dumps(editor_schema())))
