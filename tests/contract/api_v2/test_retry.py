"""Runs that are repeated: the real `advance` decides, the test is dispatch and runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_gateway.planning import SECRET_INPUT_TTL_MS
from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import ArtifactId
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener, PutHeader, SecretRef
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateways import (
    ACME,
    Json,
    RunningGateway,
    a_job,
    a_workflow,
    gateway_in,
    made,
    seen,
    steps,
)
from tests.support.hand_runner import HandRunner

A_FILE = "00000000-0000-4000-8000-00000000f11e"
FAILED, COMPLETED = WorkflowRunStatus.FAILED, WorkflowRunStatus.COMPLETED


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """With the real `advance`; nothing runs but by the test's hand."""
    async with gateway_in(tmp_path, real_scheduler=True) as running:
        yield running


@pytest.fixture
def runner(gateway: RunningGateway) -> HandRunner:
    return HandRunner(gateway.services.log, gateway.clock)


async def started(gateway: RunningGateway, *kinds: str, **body: object) -> tuple[str, list[str], str]:
    """A job of workflows of these kinds, begun: its run, its workflows, its first workflow run."""
    workflows = [await a_workflow(gateway.api, type=kind) for kind in kinds]
    run = (await made(gateway.api, f"/jobs/{await a_job(gateway.api, *workflows)}/run", dict(body)))["id"]
    return run, workflows, await nth_run(gateway, run, 0)


async def nth_run(gateway: RunningGateway, job_run: str, place: int) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = (await gateway.api.get(f"/api/v2/job-runs/{job_run}")).json()["workflowRunIds"]
            if len(found) > place:
                id_: str = found[place]
                return id_
            await asyncio.sleep(0.005)


async def failed_at_second(gateway: RunningGateway, runner: HandRunner, *kinds: str, **body: object) -> tuple[str, str]:
    """A job run that has failed in its second workflow, and that workflow's run."""
    run, _, first = await started(gateway, *kinds, **body)
    await runner.ends(first, COMPLETED)
    second = await nth_run(gateway, run, 1)
    await runner.ends(second, FAILED, "target_missing")
    await seen(gateway, f"/job-runs/{run}", status="FAILED")
    return run, second


async def refused(gateway: RunningGateway, path: str, body: Json | None = None) -> str:
    answer = await gateway.api.post(f"/api/v2{path}", json=body or {})
    assert answer.status_code == 409, answer.text
    code: str = answer.json()["error"]["code"]
    return code


# ---------------------------------------------------------------- job runs


async def test_a_retry_begins_at_the_failed_workflow_and_leaves_the_old_run_as_it_is(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run, second = await failed_at_second(gateway, runner, *["USER_DEFINED"] * 3, externalId="c1")
    old = await seen(gateway, f"/job-runs/{run}", status="FAILED")
    again = await made(gateway.api, f"/job-runs/{run}/retry", {})
    assert (again["retryOf"], again["externalId"]) == (run, "c1")
    assert again["jobConfigJsonSnapshot"] == old["jobConfigJsonSnapshot"]
    first = await nth_run(gateway, again["id"], 0)
    begun = await seen(gateway, f"/workflow-runs/{first}", status="PENDING")
    assert begun["workflowId"] == old["jobConfigJsonSnapshot"]["workflowExecutionOrder"][1]
    assert begun["retryOf"] == second
    await runner.ends(first, COMPLETED)
    await runner.ends(await nth_run(gateway, again["id"], 1), COMPLETED)
    await seen(gateway, f"/job-runs/{again['id']}", status="COMPLETED")
    assert (await gateway.api.get(f"/api/v2/job-runs/{run}")).json() == old


async def test_a_retry_from_the_start_does_everything_again(gateway: RunningGateway, runner: HandRunner) -> None:
    run, _ = await failed_at_second(gateway, runner, "USER_DEFINED", "USER_DEFINED", externalId="c1")
    again = await made(gateway.api, f"/job-runs/{run}/retry", {"from": "start"})
    first = await seen(gateway, f"/workflow-runs/{await nth_run(gateway, again['id'], 0)}")
    assert first["workflowId"] == again["jobConfigJsonSnapshot"]["workflowExecutionOrder"][0]


async def test_without_a_customer_the_session_is_gone_and_a_retry_logs_in_again(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run, _ = await failed_at_second(gateway, runner, "LOGIN", "USER_DEFINED")
    again = await made(gateway.api, f"/job-runs/{run}/retry", {})
    first = await seen(gateway, f"/workflow-runs/{await nth_run(gateway, again['id'], 0)}")
    assert first["workflowId"] == again["jobConfigJsonSnapshot"]["workflowExecutionOrder"][0]


async def test_a_retry_executes_the_revisions_of_then_though_the_workflow_was_changed_and_archived(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run, second = await failed_at_second(gateway, runner, "USER_DEFINED", "USER_DEFINED", externalId="c1")
    workflow = (await gateway.api.get(f"/api/v2/workflow-runs/{second}")).json()["workflowId"]
    other = steps({"id": "other", "type": "finish", "params": {}})
    await gateway.api.patch(f"/api/v2/workflows/{workflow}", json={"stepsJson": other})
    gone = await gateway.api.delete(f"/api/v2/workflows/{workflow}", params={"force": "true"})
    assert gone.status_code == 204
    again = await made(gateway.api, f"/job-runs/{run}/retry", {})
    assert again["workflowRevisions"][workflow] == 1
    task = await runner.sees(await nth_run(gateway, again["id"], 0))
    assert "other" not in task.workflow.document.inline


async def test_a_run_that_goes_on_is_not_repeated(gateway: RunningGateway) -> None:
    run, _, first = await started(gateway, "USER_DEFINED")
    assert await refused(gateway, f"/job-runs/{run}/retry") == "run_not_ended"
    assert await refused(gateway, f"/workflow-runs/{first}/retry") == "run_not_ended"


async def test_what_did_not_fail_is_repeated_from_the_start_only(gateway: RunningGateway, runner: HandRunner) -> None:
    run, _, first = await started(gateway, "USER_DEFINED")
    await runner.ends(first, COMPLETED)
    await seen(gateway, f"/job-runs/{run}", status="COMPLETED")
    assert await refused(gateway, f"/job-runs/{run}/retry") == "run_not_failed"
    assert await refused(gateway, f"/workflow-runs/{first}/retry") == "run_not_failed"
    again = await made(gateway.api, f"/job-runs/{run}/retry", {"from": "start"})
    assert again["retryOf"] == run


async def test_one_key_repeats_a_run_once(gateway: RunningGateway, runner: HandRunner) -> None:
    run, _ = await failed_at_second(gateway, runner, "USER_DEFINED", "USER_DEFINED")
    path, key = f"/api/v2/job-runs/{run}/retry", {"Idempotency-Key": "once"}
    answers = [await gateway.api.post(path, json={}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def test_a_retry_elsewhere_and_an_unknown_place_are_refused(gateway: RunningGateway, runner: HandRunner) -> None:
    run, second = await failed_at_second(gateway, runner, "USER_DEFINED", "USER_DEFINED")
    for path in (f"/api/v2/job-runs/{run}/retry", f"/api/v2/workflow-runs/{second}/retry"):
        assert (await gateway.rival.post(path, json={})).status_code == 404
        answer = await gateway.api.post(path, json={"from": "middle"})
        assert (answer.status_code, answer.json()["error"]["details"][0]["path"]) == (422, "/from")


# ---------------------------------------------------------------- workflow runs


async def test_a_workflow_run_of_a_job_is_repeated_by_a_new_job_run_that_begins_with_it(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run, second = await failed_at_second(gateway, runner, *["USER_DEFINED"] * 3, externalId="c1")
    again = await made(gateway.api, f"/workflow-runs/{second}/retry", {})
    assert (again["retryOf"], again["status"]) == (second, "PENDING")
    job_run = await seen(gateway, f"/job-runs/{again['jobRunId']}")
    assert (job_run["retryOf"], job_run["workflowRunIds"]) == (run, [again["id"]])


async def test_a_workflow_run_alone_is_repeated_with_its_inputs_and_all_that_was_asked(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    inputs = {"user": {"type": "string"}, "password": {"type": "string", "secret": True}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs=inputs, required=["user", "password"]))
    body = {
        "workflowId": workflow, "inputs": {"user": "ann", "password": "pw-1"}, "testMode": True,
        "debug": {"keepOpenSeconds": 7, "trace": True}, "stopAfterStep": "done",
    }  # fmt: skip
    run = (await made(gateway.api, "/workflow-runs", body))["id"]
    before = (await runner.sees(run)).workflow
    await runner.ends(run, FAILED, "step_failed")
    await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    gateway.clock.ahead_ms = SECRET_INPUT_TTL_MS - 60_000
    again = await made(gateway.api, f"/workflow-runs/{run}/retry", {})
    assert (again["retryOf"], again["testMode"], again["jobRunId"]) == (run, True, None)
    task = await runner.sees(again["id"])
    assert (task.workflow.inputs, task.workflow.options) == (before.inputs, before.options)
    services = gateway.services
    sealer = Sealer(services.keys, services.store, services.entropy, GatewayOpener(ACME))
    values = await sealer.open_json(task.workflow.inputs)
    gateway.clock.ahead_ms += 70_000
    assert await services.vault.keep_secret(SecretRef(values["password"]["$secret"]), ACME, 1), "kept for longer"


async def test_secret_inputs_that_are_not_kept_any_more_refuse_a_retry(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs={"pin": {"type": "string", "secret": True}}))
    run = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "inputs": {"pin": "1"}}))["id"]
    await runner.ends(run, FAILED, "step_failed")
    await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    gateway.clock.ahead_ms = SECRET_INPUT_TTL_MS + 1000
    assert await refused(gateway, f"/workflow-runs/{run}/retry") == "inputs_gone"


async def test_a_file_among_the_inputs_that_is_not_kept_any_more_refuses_a_retry(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    source = (await made(gateway.api, "/workflow-runs", {"workflowId": await a_workflow(gateway.api)}))["id"]
    task, services = await runner.sees(source), gateway.services
    sealer = Sealer(services.keys, services.store, services.entropy, GatewayOpener(ACME))
    title = await sealer.seal_text(task.subject_id, "a.csv")
    staged = await services.store.put_bytes(b"a;b", PutHeader(task.subject_id, GatewayOpener(ACME)))
    file = StagedArtifact(ArtifactId(A_FILE), "download", title, "text/csv", staged.size, staged.sha256)
    attempt = await runner.takes(source)
    await runner.says(attempt, replace(attempt.ended(FAILED, "step_failed"), artifacts=(file,)))
    await seen(gateway, f"/artifacts/{A_FILE}", id=A_FILE)
    inputs = {"files": {"type": "array", "kind": "artifact"}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs=inputs))
    run = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "inputs": {"files": [A_FILE]}}))["id"]
    await runner.ends(run, FAILED, "step_failed")
    await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    assert (await made(gateway.api, f"/workflow-runs/{run}/retry", {}))["retryOf"] == run
    await services.store.disown_subject(task.subject_id)  # type: ignore[attr-defined]  # as the sweep of a forgotten run
    assert await refused(gateway, f"/workflow-runs/{run}/retry") == "inputs_gone"


async def test_a_run_of_an_erased_customer_is_not_repeated(gateway: RunningGateway, runner: HandRunner) -> None:
    workflow = await a_workflow(gateway.api)
    run = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "externalId": "c1"}))["id"]
    subject = (await runner.sees(run)).subject_id
    await runner.ends(run, FAILED, "step_failed")
    await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    await gateway.services.vault.erase_subject(subject)
    gateway.services.keys.forget(subject)
    assert await refused(gateway, f"/workflow-runs/{run}/retry") == "inputs_gone"


# ---------------------------------------------------------------- what is asked beyond the work


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, (False, "", 0, False)),
        ({"testMode": True}, (True, "", 300, False)),
        ({"testMode": True, "debug": {"keepOpenSeconds": 0}}, (True, "", 0, False)),
        ({"debug": {"keepOpenSeconds": 5, "trace": True, "breakpoints": []}}, (False, "", 5, True)),
        ({"testMode": True, "stopAfterStep": "done", "debug": {"keepOpenSeconds": 0}}, (True, "done", 0, False)),
    ],
)
async def test_what_is_asked_beyond_the_work_is_planned_with_it(
    gateway: RunningGateway, runner: HandRunner, asked: Json, wanted: tuple[bool, str, int, bool]
) -> None:
    run = await made(gateway.api, "/workflow-runs", {"workflowId": await a_workflow(gateway.api), **asked})
    options = (await runner.sees(run["id"])).workflow.options
    assert (options.test_mode, options.stop_after_step, options.keep_open_seconds, options.trace) == wanted


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"debug": {"breakpoints": ["done"]}}, "/debug/breakpoints"),
        ({"debug": {"keepOpenSeconds": 3601}}, "/debug/keepOpenSeconds"),
        ({"stopAfterStep": "done"}, "/stopAfterStep"),
        ({"testMode": True, "stopAfterStep": "nowhere"}, "/stopAfterStep"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_its_place(gateway: RunningGateway, asked: Json, path: str) -> None:
    body = {"workflowId": await a_workflow(gateway.api), **asked}
    answer = await gateway.api.post("/api/v2/workflow-runs", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_failed")
    assert answer.json()["error"]["details"][0]["path"] == path


async def test_a_rehearsal_keeps_its_login_apart_from_the_real_one(gateway: RunningGateway, runner: HandRunner) -> None:
    opened = {"id": "open", "type": "navigate", "params": {"url": "https://app.gusto.test/"}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(opened))
    logins = []
    for test_mode in (True, True, False):
        body = {"workflowId": workflow, "externalId": "c1", "testMode": test_mode}
        run = await made(gateway.api, "/workflow-runs", body)
        logins.append((await runner.sees(run["id"])).workflow.connection_id)
    assert logins[0] == logins[1] != logins[2]
