"""`/input-requests`: what runs ask people, and the answers."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from api_gateway.listing import Where
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import About, Param, uuid_query
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    page_answer,
    tagged_answer,
    uuid_of,
    uuid_param,
    window_of,
    word_param,
)
from api_gateway.surfaces.api_v2.views import AnswerInputRequest, InputRequest, Page, input_request_view
from kernel.domain.ids import RequestId
from kernel.domain.input_request import InputRequestStatus

_STATUS = {status.name: status.value for status in InputRequestStatus}


@get(
    "/input-requests",
    guards=[needs_read],
    opt=About(
        "List input requests",
        Page[InputRequest],
        paged=True,
        params=(
            Param("status", "Only those in this status."),
            uuid_query("workflowRunId", "Only those of this workflow run."),
        ),
    ).opt(),
)
async def list_input_requests(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    where: Where = {
        "status": word_param(request, "status", _STATUS),
        "workflow_run_id": uuid_param(request, "workflowRunId"),
    }
    found = await gateway_of(request).queries.input_requests(principal_of(request).organization_id, where, window)
    return page_answer(found, window, input_request_view)


@get(
    "/input-requests/{input_request_id:str}",
    guards=[needs_read],
    opt=About("Read an input request", InputRequest, tagged=True).opt(),
)
async def get_input_request(request: AnyRequest, input_request_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(input_request_id, "inputRequestId")
    answer = await gateway_of(request).queries.input_request(principal_of(request).organization_id, id_)
    return tagged_answer(request, input_request_view(answer))


@post(
    "/input-requests/{input_request_id:str}/answer",
    guards=[needs_write],
    opt=About("Answer an input request; the first answer wins", InputRequest, 200, AnswerInputRequest).opt(),
)
async def answer_input_request(request: AnyRequest, input_request_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(input_request_id, "inputRequestId")
    body = await body_of(request, AnswerInputRequest)
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        await gateway.commands.answer_input_request(by, id_, body.values, request_id)
        return 200, encode(input_request_view(await gateway.queries.input_request(by.organization_id, id_)))

    return await answer_once(request, act)


HANDLERS = (list_input_requests, get_input_request, answer_input_request)
