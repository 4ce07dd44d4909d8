"""`/workflow-runs/{id}/logs`: steps, console and network of a run, oldest first."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from api_gateway.run_log import KINDS, Cursor, read_cursor
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About, Param
from api_gateway.surfaces.api_v2.reading import json_answer, number_param, text_of, uuid_of, word_param
from api_gateway.surfaces.api_v2.run_views import Log, log_view

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000


@get(
    "/workflow-runs/{workflow_run_id:str}/logs",
    guards=[needs_read],
    opt=About(
        "The log of the run: steps, console and network",
        Log,
        params=(
            Param("kind", "Only entries of this kind.", (("type", "string"), ("enum", KINDS))),
            Param("cursor", "Only what stands behind the page that named it."),
            Param("limit", "Default 100.", (("type", "integer"), ("minimum", 1), ("maximum", LIMIT_MAX))),
        ),
    ).opt(),
)
async def read_log(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    kind = word_param(request, "kind", {kind: kind for kind in KINDS})
    cursor = text_of(request, "cursor")
    limit = number_param(request, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
    begin = Cursor() if cursor is None else read_cursor(cursor)
    page = await gateway_of(request).log.page(principal_of(request).organization_id, id_, kind, begin, limit)
    return json_answer(log_view(page))


HANDLERS = (read_log,)
