"""`/workflow-runs`, and what belongs to one: steps and artifacts. Its events are in `events.py`."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from api_gateway.commands import StartInputs
from api_gateway.listing import Where
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import FLAG_SCHEMA, About, Param, uuid_query
from api_gateway.surfaces.api_v2.artifacts import signed_view
from api_gateway.surfaces.api_v2.reading import (
    Answer,
    answer_once,
    body_of,
    encode,
    flag_param,
    page_answer,
    subject_filter,
    tagged_answer,
    uuid_of,
    uuid_param,
    window_of,
    word_param,
)
from api_gateway.surfaces.api_v2.run_views import (
    WORKFLOW_RUN_WORD,
    RetryRun,
    StartWorkflowRun,
    Step,
    WorkflowRun,
    options_of,
    step_view,
    workflow_run_view,
)
from api_gateway.surfaces.api_v2.views import Artifact, Page
from kernel.domain.ids import RequestId

_STATUS = {
    word: tuple(status.value for status, its in WORKFLOW_RUN_WORD.items() if its == word)
    for word in WORKFLOW_RUN_WORD.values()
}


@post(
    "/workflow-runs",
    guards=[needs_write],
    opt=About("Run one workflow alone", WorkflowRun, 201, StartWorkflowRun).opt(),
)
async def create_workflow_run(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, StartWorkflowRun)
    gateway, by = gateway_of(request), principal_of(request)
    start = StartInputs(body.inputs or {}, {}, body.external_id or "", options_of(body))

    async def act(request_id: RequestId | None) -> Answer:
        fact = await gateway.commands.start_workflow_run(by, body.workflow_id.lower(), start, request_id)
        return 201, encode(workflow_run_view(await gateway.queries.workflow_run_created(fact)))

    return await answer_once(request, act)


@get(
    "/workflow-runs",
    guards=[needs_read],
    opt=About(
        "List workflow runs",
        Page[WorkflowRun],
        paged=True,
        params=(
            uuid_query("workflowId", "Only those of this workflow."),
            uuid_query("jobRunId", "Only those of this job run."),
            Param("status", "Only those in this status."),
            Param("externalId", "Only those of this customer."),
            Param("testMode", "Only test runs, or only others.", FLAG_SCHEMA),
        ),
    ).opt(),
)
async def list_workflow_runs(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    where: Where = {
        "workflow_id": uuid_param(request, "workflowId"),
        "job_run_id": uuid_param(request, "jobRunId"),
        "status": word_param(request, "status", _STATUS),
        "subject_id": await subject_filter(request),
        "test_mode": flag_param(request, "testMode"),
    }
    found = await gateway_of(request).queries.workflow_runs(principal_of(request).organization_id, where, window)
    return page_answer(found, window, workflow_run_view)


@get(
    "/workflow-runs/{workflow_run_id:str}",
    guards=[needs_read],
    opt=About("Read a workflow run", WorkflowRun, tagged=True).opt(),
)
async def get_workflow_run(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    answer = await gateway_of(request).queries.workflow_run(principal_of(request).organization_id, id_)
    return tagged_answer(request, workflow_run_view(answer))


@post(
    "/workflow-runs/{workflow_run_id:str}/cancel",
    guards=[needs_write],
    opt=About("Stop a workflow run, and the job run that it belongs to", WorkflowRun, 202).opt(),
)
async def cancel_workflow_run(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        await gateway.commands.cancel_workflow_run(by, id_, request_id)
        return 202, encode(workflow_run_view(await gateway.queries.workflow_run(by.organization_id, id_)))

    return await answer_once(request, act)


@post(
    "/workflow-runs/{workflow_run_id:str}/retry",
    guards=[needs_write],
    opt=About(
        "Run an ended workflow run again; one that belongs to a job begins a new job run with this workflow",
        WorkflowRun,
        201,
        RetryRun,
        body_may_be_empty=True,
    ).opt(),
)
async def retry_workflow_run(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    body = await body_of(request, RetryRun, may_be_empty=True)
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        fresh = await gateway.retries.retry_workflow_run(by, id_, body.from_, request_id)
        return 201, encode(workflow_run_view(await gateway.queries.workflow_run(by.organization_id, fresh)))

    return await answer_once(request, act)


@get(
    "/workflow-runs/{workflow_run_id:str}/steps",
    guards=[needs_read],
    opt=About("Steps of all attempts, in the order in which they ended", Page[Step], paged=True).opt(),
)
async def list_steps(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_, window = uuid_of(workflow_run_id, "workflowRunId"), window_of(request)
    found = await gateway_of(request).queries.steps(principal_of(request).organization_id, id_, window)
    return page_answer(found, window, step_view)


@get(
    "/workflow-runs/{workflow_run_id:str}/artifacts",
    guards=[needs_read],
    opt=About("Artifacts of the run", Page[Artifact], paged=True).opt(),
)
async def list_run_artifacts(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_, window = uuid_of(workflow_run_id, "workflowRunId"), window_of(request)
    queries, organization = gateway_of(request).queries, principal_of(request).organization_id
    await queries.run_place(organization, id_)
    found = await queries.artifacts(organization, {"workflow_run_id": id_}, window)
    return page_answer(found, window, signed_view(request))


HANDLERS = (
    create_workflow_run,
    list_workflow_runs,
    get_workflow_run,
    cancel_workflow_run,
    retry_workflow_run,
    list_steps,
    list_run_artifacts,
)
