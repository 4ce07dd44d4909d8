"""`/jobs`."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post, put
from litestar.params import FromPath
from msgspec import UNSET

from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import FLAG_SCHEMA, About, Param, uuid_query
from api_gateway.surfaces.api_v2.definition_views import ChangeJob, CreateJob, Job, job_view
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
    tagged_answer,
    text_of,
    uuid_of,
    uuid_param,
    window_of,
)
from api_gateway.surfaces.api_v2.views import JobConfig, Page
from kernel.domain.ids import RequestId


def _order(config: JobConfig) -> list[str]:
    return [workflow_id.lower() for workflow_id in config.workflow_execution_order]


@post("/jobs", guards=[needs_write], opt=About("Create a job", Job, 201, CreateJob).opt())
async def create_job(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, CreateJob)
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        order = _order(body.job_config_json)
        fact = await gateway.definition_commands.create_job(by, body.name, body.source_provider, order, request_id)
        return 201, encode(job_view(await gateway.definition_queries.job(by.organization_id, fact.key)))

    return await answer_once(request, act)


@get(
    "/jobs",
    guards=[needs_read],
    opt=About(
        "List jobs",
        Page[Job],
        paged=True,
        params=(
            Param("sourceProvider", "Only those for this provider."),
            uuid_query("workflowId", "Only those that list this workflow."),
        ),
    ).opt(),
)
async def list_jobs(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    provider, workflow_id = text_of(request, "sourceProvider"), uuid_param(request, "workflowId")
    queries, organization = gateway_of(request).definition_queries, principal_of(request).organization_id
    found = await queries.jobs(organization, window, provider=provider, workflow_id=workflow_id)
    return page_answer(found, window, job_view)


@get("/jobs/{job_id:str}", guards=[needs_read], opt=About("Read a job", Job, tagged=True).opt())
async def get_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_id, "jobId")
    answer = await gateway_of(request).definition_queries.job(principal_of(request).organization_id, id_)
    return tagged_answer(request, job_view(answer))


async def _change_job(request: AnyRequest, job_id: str) -> Response[bytes]:
    id_ = uuid_of(job_id, "jobId")
    body = await body_of(request, ChangeJob)
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.job(by.organization_id, id_)
    expected = named_version(request, job_view(current), current.version)
    order = None if body.job_config_json is UNSET else _order(body.job_config_json)
    await gateway.definition_commands.change_job(by, id_, "" if body.name is UNSET else body.name, order, expected)
    return json_answer(job_view(await gateway.definition_queries.job(by.organization_id, id_)))


_CHANGE = About("Change name, order or both; what is left out stays", Job, body=ChangeJob, tagged=True).opt()


@patch("/jobs/{job_id:str}", guards=[needs_write], opt=_CHANGE)
async def patch_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    return await _change_job(request, job_id)


@put("/jobs/{job_id:str}", guards=[needs_write], opt=_CHANGE)
async def put_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    return await _change_job(request, job_id)


@delete(
    "/jobs/{job_id:str}",
    guards=[needs_write],
    opt=About(
        "Delete a job; its runs stay",
        None,
        204,
        tagged=True,
        params=(Param("force", "Also while a link to it is open.", FLAG_SCHEMA),),
    ).opt(),
)
async def delete_job(request: AnyRequest, job_id: FromPath[str]) -> Response[None]:
    id_ = uuid_of(job_id, "jobId")
    force = bool(flag_param(request, "force"))
    gateway, by = gateway_of(request), principal_of(request)
    current = await gateway.definition_queries.job(by.organization_id, id_)
    expected = named_version(request, job_view(current), current.version)
    await gateway.definition_commands.delete_job(by, id_, force=force, expected=expected)
    return no_answer()


HANDLERS = (create_job, list_jobs, get_job, patch_job, put_job, delete_job)
