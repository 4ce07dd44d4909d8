"""The machine contract: `openapi.json` beside this file. `TOWPATH_REFRESH_SNAPSHOTS=1` writes it anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from api_gateway.surfaces.api_v2.meta import openapi_bytes
from kernel.steps.editor_schema import editor_schema
from tests.support.gateways import Json, RunningGateway

SNAPSHOT = Path(__file__).with_name("openapi.json")
_NAMES = re.compile(r"\{\w+(?::str)?\}")


def operations() -> list[tuple[str, str, Json]]:
    """Method, path and description of each operation."""
    paths = json.loads(openapi_bytes())["paths"]
    return [(method, path, said) for path, place in paths.items() for method, said in place.items()]


def test_the_contract_has_not_moved_unnoticed() -> None:
    found = openapi_bytes() + b"\n"
    if os.environ.get("TOWPATH_REFRESH_SNAPSHOTS"):
        SNAPSHOT.write_bytes(found)
    assert SNAPSHOT.read_bytes() == found, "run with TOWPATH_REFRESH_SNAPSHOTS=1 and look at the difference"


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(json.loads(openapi_bytes())).validate()


def test_the_document_calls_ids_in_paths_as_bodies_and_errors_do() -> None:
    names = {p["name"] for _, _, said in operations() for p in said.get("parameters", []) if p["in"] == "path"}
    assert names == {
        "workflowId", "jobId", "jobRunId", "workflowRunId", "artifactId", "inputRequestId", "apiKeyId", "slug",
        "revision",
    }  # fmt: skip


def test_the_document_promises_conditions_only_where_they_are_looked_at() -> None:
    for method, path, said in operations():
        headers = {p["name"] for p in said.get("parameters", []) if p["in"] == "header"}
        assert ("304" in said["responses"]) is ("If-None-Match" in headers), (method, path)
        assert ("412" in said["responses"]) is ("If-Match" in headers), (method, path)


async def test_every_route_is_described(gateway: RunningGateway) -> None:
    described = {
        f"{method.upper()} {_NAMES.sub('{}', path)}"
        for path, place in json.loads(openapi_bytes())["paths"].items()
        for method in place
    }
    served = {
        f"{method} {_NAMES.sub('{}', route.path)}"
        for route in gateway.app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/v2")
        for method in route.methods
        if method != "OPTIONS"
    }
    assert served - described == {
        "GET /api/v2/openapi.json",
        "GET /api/v2/schemas/steps-json",
        "GET /api/v2/docs",
        "GET /api/v2/docs/{}",
    }
    assert described <= served


async def test_both_documents_are_served_to_anybody(gateway: RunningGateway) -> None:
    document = await gateway.stranger.get("/api/v2/openapi.json")
    assert (document.status_code, document.json()) == (200, json.loads(openapi_bytes()))
    schema = await gateway.stranger.get("/api/v2/schemas/steps-json")
    assert (schema.status_code, schema.json()) == (200, json.loads(json.dumps(editor_schema())))
