"""The gateway over the real decider of runs: what both sides promise each other about requests and outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateways import RunningGateway, a_job, a_workflow, gateway_in, made, seen


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway whose runs are decided for real, and wait for a runner that never comes."""
    async with gateway_in(tmp_path, real_scheduler=True) as running:
        yield running


async def test_a_job_run_starts_with_its_first_workflow_and_its_cancel_is_accepted(gateway: RunningGateway) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api), await a_workflow(gateway.api))
    run = (await made(gateway.api, "/job-runs", {"jobId": job, "externalId": "c1"}))["id"]
    running = await seen(gateway, f"/job-runs/{run}", status="IN_PROGRESS")
    (part,) = running["workflowRunIds"]
    child = await seen(gateway, f"/workflow-runs/{part}", status="PENDING")
    assert (child["jobRunId"], child["externalId"]) == (run, "c1")
    for path in (f"workflow-runs/{part}", f"job-runs/{run}"):
        assert (await gateway.api.post(f"/api/v2/{path}/cancel")).status_code == 202


async def test_a_run_alone_is_its_own_root(gateway: RunningGateway) -> None:
    run = await made(gateway.api, "/workflow-runs", {"workflowId": await a_workflow(gateway.api)})
    assert (await gateway.api.get(f"/api/v2/workflow-runs/{run['id']}")).json() == run
    events = (await gateway.api.get(f"/api/v2/workflow-runs/{run['id']}/events")).json()["data"]
    assert [(event["type"], event["data"]["sequence"]) for event in events] == [("workflow_run.created", 1)]


async def test_a_repeated_start_finds_the_first_run(gateway: RunningGateway) -> None:
    body = {"workflowId": await a_workflow(gateway.api)}
    headers = {"Idempotency-Key": "once"}
    first = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=headers)
    await gateway.services.db.execute("DELETE FROM idempotency")
    again = await gateway.api.post("/api/v2/workflow-runs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert (await gateway.api.get("/api/v2/workflow-runs")).json()["total"] == 1
