"""The OpenAPI 3.1 document of this surface, made from what the routes say about themselves (`About`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from api_gateway.surfaces.access import LEVELS
from api_gateway.surfaces.api_v2.about import PAGING, UUID_SCHEMA, About, Param
from api_gateway.surfaces.api_v2.errors import ErrorAnswer
from api_gateway.surfaces.api_v2.refusals import refusals
from api_gateway.surfaces.api_v2.views import SLUG_PATTERN

VERSION = "2.0.0"
_UNLESS_KNOWN = Param("If-None-Match", "An ETag; 304 while it is still that of the resource.")
_ONLY_THIS_VERSION = Param("If-Match", "The ETag of the version that is meant; 412 when there is a newer one.")
_TYPED = re.compile(r"\{(\w+):\w+\}")
_TITLE = "Towpath API v2"
_REF = "#/components/schemas/{name}"
_PATH_SCHEMAS: dict[str, tuple[tuple[str, Any], ...]] = {
    "slug": (("type", "string"), ("pattern", SLUG_PATTERN)),
    "revision": (("type", "integer"), ("minimum", 1)),
}
"""Of the parameters in paths that are no ids."""
_STEPS = {
    "type": "object",
    "description": "The steps of a workflow; see /api/v2/schemas/steps-json. Lists leave them out (null).",
}


def document(handlers: Iterable[HTTPRouteHandler], prefix: str) -> dict[str, Any]:
    """The whole document."""
    described = [(handler, about) for handler in handlers if (about := handler.opt.get("about")) is not None]
    types = [ErrorAnswer]
    for _, about in described:
        types += [shape for shape in (about.answer, about.body) if shape is not None]
    schemas, components = msgspec.json.schema_components(dict.fromkeys(types), ref_template=_REF)
    refs = dict(zip(dict.fromkeys(types), schemas, strict=True))
    _say_what_steps_are(components)
    paths: dict[str, dict[str, Any]] = {}
    for handler, about in described:
        for path in sorted(handler.paths):
            place = paths.setdefault(_TYPED.sub(lambda typed: f"{{{_camel(typed[1])}}}", prefix + path), {})
            for method in sorted(handler.http_methods):
                place[method.lower()] = _operation(handler, about, path, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": VERSION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _say_what_steps_are(components: dict[str, Any]) -> None:
    for name, component in components.items():
        if "stepsJson" in component.get("properties", {}):
            is_answer = name in {"Workflow", "WorkflowRevision"}
            component["properties"]["stepsJson"] = {**_STEPS, "type": ["object", "null"]} if is_answer else dict(_STEPS)


def _operation(handler: HTTPRouteHandler, about: About, path: str, refs: dict[Any, Any]) -> dict[str, Any]:
    tag = path.split("/")[1]
    operation: dict[str, Any] = {"operationId": handler.handler_name, "summary": about.summary, "tags": [tag]}
    names = [_camel(name) for name in _TYPED.findall(path)]
    parameters = [_parameter(Param(name, "", _PATH_SCHEMAS.get(name, UUID_SCHEMA)), "path") for name in names]
    parameters += [_parameter(param, "query") for param in (*about.params, *(PAGING if about.paged else ()))]
    if "POST" in handler.http_methods:
        parameters.append(_parameter(Param("Idempotency-Key", "Done once in 24 hours per key."), "header"))
    if about.tagged:
        condition = _UNLESS_KNOWN if "GET" in handler.http_methods else _ONLY_THIS_VERSION
        parameters.append(_parameter(condition, "header"))
    if parameters:
        operation["parameters"] = parameters
    if about.body is not None:
        content = {"application/json": {"schema": refs[about.body]}}
        operation["requestBody"] = {"required": not about.body_may_be_empty, "content": content}
    level = None if about.public else next(LEVELS[guard] for guard in handler.guards or () if guard in LEVELS)
    (method,) = handler.http_methods
    refused = refusals(handler.handler_name, method, about, level, has_path_names=bool(names))
    operation["responses"] = {
        **_answers(about, refs, is_read=method == "GET"),
        **_refused(refused, refs),
    }
    operation["security"] = [] if level is None else [{"apiKey": []}]
    if level is not None:
        operation["x-level"] = level
    return operation


def _camel(name: str) -> str:
    """A name in a path as everything else of this surface is written."""
    first, *more = name.split("_")
    return first + "".join(word.capitalize() for word in more)


def _parameter(param: Param, place: str) -> dict[str, Any]:
    required = param.required or place == "path"
    described = {"name": param.name, "in": place, "required": required, "schema": dict(param.schema)}
    return {**described, "description": param.about} if param.about else described


def _answers(about: About, refs: dict[Any, Any], *, is_read: bool) -> dict[str, Any]:
    schema = refs[about.answer] if about.answer is not None else {"type": "string", "format": "binary"}
    content = {} if about.status == 204 else {"content": {about.media: {"schema": schema}}}
    found: dict[str, Any] = {str(about.status): {"description": "Done.", **content}}
    if is_read and about.tagged:
        found["304"] = {"description": "Not changed since the answer with the ETag in If-None-Match."}
    if about.answer is None and about.status == 200:
        found["206"] = {"description": "The part in Range.", **content}
    return found


def _refused(codes: dict[int, list[str]], refs: dict[Any, Any]) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": refs[ErrorAnswer]}}}
    told = {str(status): {"description": ", ".join(some), **content} for status, some in codes.items()}
    return {**told, "5XX": {"description": "internal, unavailable, request_expired: ask again", **content}}
