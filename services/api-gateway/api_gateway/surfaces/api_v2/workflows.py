"""`/workflows`."""

from __future__ import annotations

from litestar import Response, get, patch, post, put
from litestar.params import FromPath
from msgspec import UNSET

from api_gateway.definition_commands import NewWorkflow, WorkflowChange
from api_gateway.listing import Where
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import About, Param
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    json_answer,
    page_answer,
    refuse_other_version,
    steps_of,
    tagged_answer,
    text_of,
    uuid_of,
    window_of,
    word_param,
)
from api_gateway.surfaces.api_v2.views import ChangeWorkflow, CreateWorkflow, Page, Workflow, workflow_view
from kernel.domain.ids import RequestId
from kernel.domain.plan import WorkflowType

_TYPES = {type_.value: type_.value for type_ in WorkflowType}


@post(
    "/workflows",
    guards=[needs_write],
    opt=About("Create a workflow", Workflow, 201, CreateWorkflow).opt(),
)
async def create_workflow(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, CreateWorkflow)
    gateway, by = gateway_of(request), principal_of(request)
    new = NewWorkflow(body.name, body.source_provider, body.type, steps_of(body.steps_json))

    async def act(request_id: RequestId | None) -> Answer:
        fact = await gateway.definitions.create_workflow(by, new, request_id)
        answer = await gateway.queries.workflow(by.organization_id, fact.key)
        return 201, encode(workflow_view(answer))

    return await answer_once(request, act)


@get(
    "/workflows",
    guards=[needs_read],
    opt=About(
        "List workflows",
        Page[Workflow],
        paged=True,
        params=(
            Param("sourceProvider", "Only those for this provider."),
            Param("type", "Only those of this type."),
            Param("name", "Only those with exactly this name."),
        ),
    ).opt(),
)
async def list_workflows(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    where: Where = {
        "provider": text_of(request, "sourceProvider"),
        "type": word_param(request, "type", _TYPES),
        "name": text_of(request, "name"),
    }
    found = await gateway_of(request).queries.workflows(principal_of(request).organization_id, where, window)
    return page_answer(found, window, workflow_view)


@get("/workflows/{workflow_id:str}", guards=[needs_read], opt=About("Read a workflow", Workflow).opt())
async def get_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    answer = await gateway_of(request).queries.workflow(principal_of(request).organization_id, id_)
    return tagged_answer(request, workflow_view(answer))


async def _change_workflow(request: AnyRequest, workflow_id: str) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    body = await body_of(request, ChangeWorkflow)
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.queries.workflow(by.organization_id, id_)
    is_bound = refuse_other_version(request, workflow_view(current))
    change = WorkflowChange(
        type=WorkflowType(current.type),
        name="" if body.name is UNSET else body.name,
        steps=None if body.steps_json is UNSET else steps_of(body.steps_json),
        expected_revision=current.revision if is_bound else 0,
    )
    await gateway.definitions.change_workflow(by, id_, change)
    return json_answer(workflow_view(await gateway.queries.workflow(by.organization_id, id_)))


_CHANGE = About("Change name, steps or both; what is left out stays", Workflow, body=ChangeWorkflow).opt()


@patch("/workflows/{workflow_id:str}", guards=[needs_write], opt=_CHANGE)
async def patch_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    return await _change_workflow(request, workflow_id)


@put("/workflows/{workflow_id:str}", guards=[needs_write], opt=_CHANGE)
async def put_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    return await _change_workflow(request, workflow_id)


HANDLERS = (create_workflow, list_workflows, get_workflow, patch_workflow, put_workflow)
