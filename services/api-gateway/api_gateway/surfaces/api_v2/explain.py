"""`/workflow-runs/{id}/explain` and `/job-runs/{id}/explain`: why a run stands where it stands, in words."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from api_gateway.surfaces.access import AnyRequest, gateway_of, needs_read, principal_of
from api_gateway.surfaces.api_v2.about import About
from api_gateway.surfaces.api_v2.reading import json_answer, uuid_of
from api_gateway.surfaces.api_v2.run_views import Explanation, explanation_view


@get(
    "/workflow-runs/{workflow_run_id:str}/explain",
    guards=[needs_read],
    opt=About("Why the run stands where it stands, what was tried, what comes next", Explanation).opt(),
)
async def explain_workflow_run(request: AnyRequest, workflow_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(workflow_run_id, "workflowRunId")
    found = await gateway_of(request).history.explain_workflow_run(principal_of(request).organization_id, id_)
    return json_answer(explanation_view(id_, found))


@get(
    "/job-runs/{job_run_id:str}/explain",
    guards=[needs_read],
    opt=About("The same for a job run, by its newest workflow run", Explanation).opt(),
)
async def explain_job_run(request: AnyRequest, job_run_id: FromPath[str]) -> Response[bytes]:
    id_ = uuid_of(job_run_id, "jobRunId")
    found = await gateway_of(request).history.explain_job_run(principal_of(request).organization_id, id_)
    number, count = found.place
    place = f"Workflow {number} of {count}: " if count > 1 else ""
    return json_answer(explanation_view(found.workflow_run_id, found.explanation, place))


HANDLERS = (explain_workflow_run, explain_job_run)
