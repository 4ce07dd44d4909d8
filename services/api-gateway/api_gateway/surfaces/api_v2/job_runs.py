"""`/job-runs`, and starting one below its job."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from api_gateway.commands import StartInputs
from api_gateway.listing import Where
from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, needs_write, principal_of
from api_gateway.surfaces.api_v2.about import FLAG_SCHEMA, About, Param, uuid_query
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
    JOB_RUN_WORD,
    JobRun,
    RetryRun,
    StartJob,
    StartJobRun,
    job_run_view,
    options_of,
)
from api_gateway.surfaces.api_v2.views import Page
from kernel.domain.ids import RequestId

_STATUS = {
    word: tuple(status.value for status, its in JOB_RUN_WORD.items() if its == word) for word in JOB_RUN_WORD.values()
}


async def _start(request: AnyRequest, job_id: str, body: StartJob) -> Response[bytes]:
    gateway, by = gateway_of(request), principal_of(request)
    start = StartInputs(
        shared=body.inputs or {},
        by_workflow={id_.lower(): inputs for id_, inputs in (body.workflow_inputs or {}).items()},
        external_id=body.external_id or "",
        options=options_of(body),
    )

    async def act(request_id: RequestId | None) -> Answer:
        fact = await gateway.commands.start_job_run(by, job_id, start, request_id)
        return 201, encode(job_run_view(await gateway.queries.job_run(by.organization_id, fact.key)))

    return await answer_once(request, act)


@post(
    "/jobs/{job_id:str}/run",
    guards=[needs_write],
    opt=About("Start a job run", JobRun, 201, StartJob, body_may_be_empty=True).opt(),
)
async def run_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_id, "jobId")
    return await _start(request, id_, await body_of(request, StartJob, may_be_empty=True))


@post("/job-runs", guards=[needs_write], opt=About("Start a job run", JobRun, 201, StartJobRun).opt())
async def create_job_run(request: AnyRequest) -> Response[bytes]:
    body = await body_of(request, StartJobRun)
    return await _start(request, body.job_id.lower(), body)


@get(
    "/job-runs",
    guards=[needs_read],
    opt=About(
        "List job runs",
        Page[JobRun],
        paged=True,
        params=(
            uuid_query("jobId", "Only those of this job."),
            Param("status", "Only those in this status."),
            Param("externalId", "Only those of this customer."),
            Param("testMode", "Only test runs, or only others.", FLAG_SCHEMA),
        ),
    ).opt(),
)
async def list_job_runs(request: AnyRequest) -> Response[bytes]:
    window = window_of(request)
    where: Where = {
        "job_id": uuid_param(request, "jobId"),
        "status": word_param(request, "status", _STATUS),
        "subject_id": await subject_filter(request),
        "test_mode": flag_param(request, "testMode"),
    }
    found = await gateway_of(request).queries.job_runs(principal_of(request).organization_id, where, window)
    return page_answer(found, window, job_run_view)


@get("/job-runs/{job_run_id:str}", guards=[needs_read], opt=About("Read a job run", JobRun, tagged=True).opt())
async def get_job_run(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_run_id, "jobRunId")
    answer = await gateway_of(request).queries.job_run(principal_of(request).organization_id, id_)
    return tagged_answer(request, job_run_view(answer))


@post("/job-runs/{job_run_id:str}/cancel", guards=[needs_write], opt=About("Stop a job run", JobRun, 202).opt())
async def cancel_job_run(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_run_id, "jobRunId")
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        await gateway.commands.cancel_job_run(by, id_, request_id)
        return 202, encode(job_run_view(await gateway.queries.job_run(by.organization_id, id_)))

    return await answer_once(request, act)


@post(
    "/job-runs/{job_run_id:str}/retry",
    guards=[needs_write],
    opt=About(
        "Run an ended job run again, from the failed workflow on or from the start",
        JobRun,
        201,
        RetryRun,
        body_may_be_empty=True,
    ).opt(),
)
async def retry_job_run(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_run_id, "jobRunId")
    body = await body_of(request, RetryRun, may_be_empty=True)
    gateway, by = gateway_of(request), principal_of(request)

    async def act(request_id: RequestId | None) -> Answer:
        fact = await gateway.retries.retry_job_run(by, id_, body.from_, request_id)
        return 201, encode(job_run_view(await gateway.queries.job_run(by.organization_id, fact.key)))

    return await answer_once(request, act)


HANDLERS = (run_job, create_job_run, list_job_runs, get_job_run, cancel_job_run, retry_job_run)
