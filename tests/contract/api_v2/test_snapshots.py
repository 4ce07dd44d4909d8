"""A run is what it was when it was asked for: whatever becomes of its definitions meanwhile never reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.domain.workflow_run import WorkflowRunStatus
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateway_thread import Call, gateway_on_a_thread
from tests.support.gateways import RunningGateway, a_job, a_workflow, gateway_in, made, seen, steps
from tests.support.hand_runner import HandRunner

COMPLETED, FAILED = WorkflowRunStatus.COMPLETED, WorkflowRunStatus.FAILED
NOTHING = WorkflowRunStatus.COMPLETED_WITH_NO_ACTION_TAKEN


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_in(tmp_path, real_scheduler=True) as running:
        yield running


async def nth_run(gateway: RunningGateway, job_run: str, place: int) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found: list[str] = (await gateway.api.get(f"/api/v2/job-runs/{job_run}")).json()["workflowRunIds"]
            if len(found) > place:
                return found[place]
            await asyncio.sleep(0.002)


async def test_edits_and_deletes_under_way_change_nothing_of_a_run(gateway: RunningGateway) -> None:
    api, runner = gateway.api, HandRunner(gateway.services.log, gateway.clock)
    first, second = await a_workflow(api), await a_workflow(api)
    job = await a_job(api, first, second)
    run = await made(api, f"/jobs/{job}/run", {})
    before = await runner.takes(await nth_run(gateway, run["id"], 0))

    other = steps({"id": "other", "type": "finish", "params": {"outcome": "terminated", "message": "edited"}})
    assert (await api.patch(f"/api/v2/workflows/{second}", json={"name": "Edited", "stepsJson": other})).is_success
    config = {"jobConfigJson": {"workflowExecutionOrder": [first]}}
    assert (await api.patch(f"/api/v2/jobs/{job}", json=config)).is_success
    assert (await api.delete(f"/api/v2/jobs/{job}")).status_code == 204
    for workflow in (first, second):
        assert (await api.delete(f"/api/v2/workflows/{workflow}?force=true")).status_code == 204

    await runner.says(before, before.ended(COMPLETED))
    after = await runner.takes(await nth_run(gateway, run["id"], 1))
    assert after.task.workflow.revision == 1
    assert "edited" not in after.task.workflow.document.inline
    await runner.says(after, after.ended(COMPLETED))
    ended = await seen(gateway, f"/job-runs/{run['id']}", status="COMPLETED")
    assert ended["jobConfigJsonSnapshot"] == {"workflowExecutionOrder": [first, second]}
    assert ended["workflowRevisions"] == {first: 1, second: 1}


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(outcomes=st.lists(st.sampled_from([COMPLETED, NOTHING, FAILED]), min_size=1, max_size=5), data=st.data())
def test_workflows_run_in_their_order_and_the_first_failure_stops_the_rest(
    outcomes: list[WorkflowRunStatus], data: st.DataObject, shared: tuple[RunningGateway, Call[Any]]
) -> None:
    gateway, call = shared
    order = data.draw(st.permutations(range(len(outcomes))))

    async def story() -> None:
        api, runner = gateway.api, HandRunner(gateway.services.log, gateway.clock)
        made_here = [await a_workflow(api, name=f"w{index}") for index in range(len(outcomes))]
        workflows = [made_here[index] for index in order]
        run = await made(api, f"/jobs/{await a_job(api, *workflows)}/run", {})
        walked = outcomes[: outcomes.index(FAILED) + 1] if FAILED in outcomes else outcomes
        for place, outcome in enumerate(walked):
            workflow_run = await nth_run(gateway, run["id"], place)
            assert (await api.get(f"/api/v2/workflow-runs/{workflow_run}")).json()["workflowId"] == workflows[place]
            await runner.ends(workflow_run, outcome, "step_failed" if outcome is FAILED else "")
        status = "FAILED" if FAILED in outcomes else "COMPLETED"
        ended = await seen(gateway, f"/job-runs/{run['id']}", status=status)
        assert len(ended["workflowRunIds"]) == len(walked)

    call(story())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, Call[Any]]]:
    with gateway_on_a_thread(tmp_path_factory.mktemp("order"), real_scheduler=True, rate_per_minute=0) as opened:
        yield opened
