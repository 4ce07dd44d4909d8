"""`/workflows`."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath
from msgspec import UNSET

from api_gateway.definition_commands import NewWorkflow, WorkflowChange
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import FLAG_SCHEMA, About, Param
from api_gateway.surfaces.api_v2.definition_views import (
    ChangeWorkflow,
    CreateWorkflow,
    Workflow,
    WorkflowRevision,
    revision_view,
    workflow_view,
)
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    flag_param,
    json_answer,
    named_version,
    no_answer,
    page_answer,
    steps_of,
    tagged_answer,
    text_of,
    uuid_of,
    whole_number,
    window_of,
    word_param,
)
from api_gateway.surfaces.api_v2.views import Page
from kernel.domain.ids import RequestId
from kernel.domain.plan import WorkflowType

REVISION_MAX = 2**31 - 1
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
        fact = await gateway.definition_commands.create_workflow(by, new, request_id)
        answer = await gateway.definition_queries.workflow(by.organization_id, fact.key)
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
            Param("type", "Only those of this type.", (("enum", list(_TYPES)),)),
            Param("name", "Only those with this text somewhere in their name, in any case."),
        ),
    ).opt(),
)
async def list_workflows(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    found = await gateway_of(request).definition_queries.workflows(
        principal_of(request).organization_id,
        window,
        provider=text_of(request, "sourceProvider"),
        type_=word_param(request, "type", _TYPES),
        name=text_of(request, "name"),
    )
    return page_answer(found, window, workflow_view)


@get("/workflows/{workflow_id:str}", guards=[needs_read], opt=About("Read a workflow", Workflow, tagged=True).opt())
async def get_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    answer = await gateway_of(request).definition_queries.workflow(principal_of(request).organization_id, id_)
    return tagged_answer(request, workflow_view(answer))


async def _change_workflow(request: AnyRequest, workflow_id: str) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    body = await body_of(request, ChangeWorkflow)
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.workflow(by.organization_id, id_)
    expected = named_version(request, workflow_view(current), current.version)
    change = WorkflowChange(
        type=WorkflowType(current.type),
        name="" if body.name is UNSET else body.name,
        steps=None if body.steps_json is UNSET else steps_of(body.steps_json),
    )
    await gateway.definition_commands.change_workflow(by, id_, change, expected)
    return json_answer(workflow_view(await gateway.definition_queries.workflow(by.organization_id, id_)))


_CHANGE = About("Change name, steps or both; what is left out stays", Workflow, body=ChangeWorkflow, tagged=True).opt()


@patch("/workflows/{workflow_id:str}", guards=[needs_write], opt=_CHANGE)
async def patch_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    return await _change_workflow(request, workflow_id)


@put("/workflows/{workflow_id:str}", guards=[needs_write], opt=_CHANGE)
async def put_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    return await _change_workflow(request, workflow_id)


@delete(
    "/workflows/{workflow_id:str}",
    guards=[needs_write],
    opt=About(
        "Delete a workflow; it stays readable by its id",
        None,
        204,
        tagged=True,
        params=(Param("force", "Also while jobs name it; they refuse to run until they are edited.", FLAG_SCHEMA),),
    ).opt(),
)
async def delete_workflow(request: AnyRequest, workflow_id: FromPath[str]) -> Response[None]:
    id_ = uuid_of(workflow_id, "workflowId")
    force = bool(flag_param(request, "force"))
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.workflow(by.organization_id, id_)
    expected = named_version(request, workflow_view(current), current.version)
    await gateway.definition_commands.delete_workflow(by, id_, force=force, expected=expected)
    return no_answer()


@get(
    "/workflows/{workflow_id:str}/revisions",
    guards=[needs_read],
    opt=About("List the revisions of a workflow", Page[WorkflowRevision], paged=True).opt(),
)
async def list_revisions(request: AnyRequest, workflow_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    window = window_of(request)
    organization = principal_of(request).organization_id
    found = await gateway_of(request).definition_queries.revisions(organization, id_, window)
    return page_answer(found, window, revision_view)


@get(
    "/workflows/{workflow_id:str}/revisions/{revision:str}",
    guards=[needs_read],
    opt=About("Read a revision of a workflow", WorkflowRevision, tagged=True).opt(),
)
async def get_revision(request: AnyRequest, workflow_id: FromPath[str], revision: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_id, "workflowId")
    number = whole_number(revision, "revision", 1, REVISION_MAX)
    organization = principal_of(request).organization_id
    answer = await gateway_of(request).definition_queries.revision(organization, id_, number)
    return tagged_answer(request, revision_view(answer))


HANDLERS = (
    create_workflow,
    list_workflows,
    get_workflow,
    patch_workflow,
    put_workflow,
    delete_workflow,
    list_revisions,
    get_revision,
)
