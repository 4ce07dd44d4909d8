from __future__ import annotations

import base64
import json

import pytest

from api_gateway.surfaces.api_v2.run_views import JOB_RUN_WORD, WORKFLOW_RUN_WORD
from kernel.domain.ids import InputRequestId, JobRunId, WorkflowRunId
from kernel.domain.input_request import InputField, InputRequestOpened
from kernel.domain.job_run import JobRunCompleted, JobRunRequested, JobRunStatus
from kernel.domain.values import Effect, Failure, FailureKind, Pool, Sealed, SealedBody
from kernel.domain.workflow_run import (
    StepStatus,
    WorkflowRunAwaitingUserInput,
    WorkflowRunCompleted,
    WorkflowRunFailed,
    WorkflowRunRequested,
    WorkflowRunStarted,
    WorkflowRunStatus,
    WorkflowRunStepFinished,
)  # fmt: skip
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener
from tests.support.gateways import ACME, RunningGateway, a_job, a_run, a_workflow, made, seen, steps

SECRET = "hunter2-is-planted"
PERSON = "ann-the-planted-customer"
QUESTION = InputRequestId("00000000-0000-4000-8000-0000000000d4")


async def step_finished(run: str, name: str, status: StepStatus, failure: Failure) -> WorkflowRunStepFinished:
    return WorkflowRunStepFinished(
        WorkflowRunId(run), 1, name, name, f"doing_{name}", "click", Effect.READ, status, 1, 1000, 1250, SealedBody(),
        failure, "", "",
    )  # fmt: skip


def sealer(gateway: RunningGateway) -> Sealer:
    services = gateway.services
    return Sealer(services.keys, services.store, services.entropy, GatewayOpener(ACME))


async def test_a_started_workflow_run_is_answered_from_its_fact_and_read_at_once(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    run = await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "externalId": "customer-7"})
    read = await gateway.api.get(f"/api/v2/workflow-runs/{run['id']}")
    assert read.json() == run
    assert (run["status"], run["externalId"], run["jobRunId"]) == ("PENDING", "customer-7", None)
    assert (run["workflowId"], run["workflowRevision"], run["currentStateName"]) == (workflow, 1, None)


async def test_a_run_executes_the_snapshot_of_its_start(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    run = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow}))["id"]
    await gateway.api.patch(
        f"/api/v2/workflows/{workflow}", json={"stepsJson": steps({"id": "x", "type": "finish", "params": {}})}
    )
    request = gateway.scheduler.started[run]
    assert isinstance(request, WorkflowRunRequested)
    assert json.loads(request.workflow.document.inline) == steps()
    assert (request.workflow.pool, request.workflow.connection_id) == (Pool.LIGHT, "")


async def test_a_run_that_needs_a_page_names_pool_hosts_and_login(gateway: RunningGateway) -> None:
    opened = {"id": "open", "type": "navigate", "params": {"url": "https://app.gusto.test/login"}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(opened))
    plans = []
    for customer in ("c1", "c1", "c2"):
        run = await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "externalId": customer})
        request = gateway.scheduler.started[run["id"]]
        assert isinstance(request, WorkflowRunRequested)
        plans.append(request.workflow)
    assert plans[0].pool is Pool.BROWSER
    assert plans[0].allowed_hosts == ("app.gusto.test",)
    assert plans[0].connection_id == plans[1].connection_id != plans[2].connection_id


async def test_a_secret_input_goes_to_the_vault_and_only_its_reference_goes_on(gateway: RunningGateway) -> None:
    inputs = {"user": {"type": "string"}, "password": {"type": "string", "secret": True}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs=inputs, required=["user", "password"]))
    body = {"workflowId": workflow, "inputs": {"user": "ann", "password": SECRET, "unlisted": 1}}
    run = await made(gateway.api, "/workflow-runs", body)
    request = gateway.scheduler.started[run["id"]]
    assert isinstance(request, WorkflowRunRequested)
    opened = await sealer(gateway).open_json(request.workflow.inputs)
    assert opened["user"] == "ann"
    assert set(opened) == {"user", "password"}
    assert set(opened["password"]) == {"$secret"}
    rows = await gateway.services.log.read("run_requests", 0, 0) + await gateway.services.log.read("run_requests", 1, 0)
    assert not [row for row in rows if SECRET.encode() in row.record.value or b"ann" in row.record.value]


async def test_a_planted_secret_stands_in_no_file_and_no_answer(gateway: RunningGateway) -> None:
    inputs = {"password": {"type": "string", "secret": True}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs=inputs), type="LOGIN")
    body = {"workflowId": workflow, "inputs": {"password": SECRET}, "externalId": PERSON}
    answer = await gateway.api.post("/api/v2/workflow-runs", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201
    assert SECRET not in answer.text
    stored = b"".join(path.read_bytes() for path in gateway.folder.rglob("*") if path.is_file())
    for planted in (SECRET, PERSON):
        forms = (planted.encode(), planted.encode("utf-16-le"), base64.b64encode(planted.encode())[:-4])
        assert not [form for form in forms if form in stored]


async def test_a_job_run_freezes_order_and_revisions(gateway: RunningGateway) -> None:
    first, second = await a_workflow(gateway.api), await a_workflow(gateway.api)
    job = await a_job(gateway.api, first, second)
    run = await made(gateway.api, f"/jobs/{job}/run", {"externalId": "c1", "testMode": True})
    assert run["jobConfigJsonSnapshot"] == {"workflowExecutionOrder": [first, second]}
    assert run["workflowRevisions"] == {first: 1, second: 1}
    request = gateway.scheduler.started[run["id"]]
    assert isinstance(request, JobRunRequested)
    assert [plan.workflow_id for plan in request.plan] == [first, second]
    assert len({plan.workflow_run_id for plan in request.plan}) == 2
    assert (run["testMode"], run["linkId"], run["retryOf"]) == (True, None, None)


async def test_a_job_run_with_long_documents_still_fits_a_record(gateway: RunningGateway) -> None:
    documents = [{**steps(), "metadata": {"note": f"{number}" * 15_000}} for number in range(8)]
    workflows = [await a_workflow(gateway.api, stepsJson=document) for document in documents]
    run = await made(gateway.api, f"/jobs/{await a_job(gateway.api, *workflows)}/run", {})
    request = gateway.scheduler.started[run["id"]]
    assert isinstance(request, JobRunRequested)
    staged = [plan.document for plan in request.plan if plan.document.blob]
    assert staged
    text = await gateway.services.store.get_bytes(staged[0].blob)
    assert json.loads(text) in documents


async def test_inputs_of_one_workflow_win_over_the_shared_ones(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs={"x": {"type": "string"}}))
    job = await a_job(gateway.api, workflow)
    body = {"jobId": job, "inputs": {"x": "shared"}, "workflowInputs": {workflow: {"x": "own"}}}
    run = await made(gateway.api, "/job-runs", body)
    request = gateway.scheduler.started[run["id"]]
    assert isinstance(request, JobRunRequested)
    assert await sealer(gateway).open_json(request.plan[0].inputs) == {"x": "own"}


async def test_an_empty_job_does_not_run(gateway: RunningGateway) -> None:
    answer = await gateway.api.post("/api/v2/job-runs", json={"jobId": await a_job(gateway.api)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "empty_job")


async def test_a_job_run_is_followed_to_its_end(gateway: RunningGateway) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    run = (await made(gateway.api, "/job-runs", {"jobId": job}))["id"]
    running = await seen(gateway, f"/job-runs/{run}", status="IN_PROGRESS")
    (part,) = running["workflowRunIds"]
    done = WorkflowRunCompleted(WorkflowRunId(part), WorkflowRunStatus.COMPLETED, SealedBody())
    await gateway.scheduler.say(run, WorkflowRunStarted(WorkflowRunId(part), 1), done, JobRunCompleted(JobRunId(run)))
    ended = await seen(gateway, f"/job-runs/{run}", status="COMPLETED")
    assert ended["completedAt"]
    child = await seen(gateway, f"/workflow-runs/{part}", status="COMPLETED")
    assert child["jobRunId"] == run


async def test_a_failure_is_told_with_code_text_and_step(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api, externalId="c1")
    subject = gateway.scheduler.started[run].subject_id
    text = await sealer(gateway).seal_text(subject, "the button is gone")
    failure = Failure("step_failed", FailureKind.PERMANENT, text, "pay", "paying")
    finished = await step_finished(run, "pay", StepStatus.FAILED, failure)
    failed = WorkflowRunFailed(WorkflowRunId(run), WorkflowRunStatus.TERMINATED, failure)
    await gateway.scheduler.say(run, WorkflowRunStarted(WorkflowRunId(run), 1), finished, failed)
    ended = await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    assert (ended["errorCode"], ended["errorReason"]) == ("terminated", "step_failed")
    assert ended["errorMessage"] == "the button is gone"
    assert ended["failedStep"] == {"workflowRunId": run, "stepId": "pay", "name": "paying"}
    (step,) = (await gateway.api.get(f"/api/v2/workflow-runs/{run}/steps")).json()["data"]
    assert (step["status"], step["durationMs"], step["effect"], step["tries"]) == ("FAILED", 250, "read", 1)
    assert step["error"] == {
        "code": "step_failed", "message": "the button is gone", "retryable": False, "diagnosis": None,
    }  # fmt: skip


async def test_cancelling_ends_a_run_once_and_leaves_a_cancelled_one_as_it_is(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    first = await gateway.api.post(f"/api/v2/workflow-runs/{run}/cancel")
    assert first.status_code == 202
    await seen(gateway, f"/workflow-runs/{run}", status="FAILED", errorCode="cancelled")
    assert (await gateway.api.post(f"/api/v2/workflow-runs/{run}/cancel")).status_code == 202


async def test_cancelling_an_ended_run_is_refused(gateway: RunningGateway) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    run = (await made(gateway.api, "/job-runs", {"jobId": job}))["id"]
    gateway.scheduler.ended[run] = WorkflowRunStatus.COMPLETED
    answer = await gateway.api.post(f"/api/v2/job-runs/{run}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "run_already_ended")


async def test_runs_are_filtered_by_customer_status_and_mode(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    wanted = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "externalId": "c1"}))["id"]
    await made(gateway.api, "/workflow-runs", {"workflowId": workflow, "externalId": "c2", "testMode": True})

    async def found(**params: str) -> list[str]:
        answer = await gateway.api.get("/api/v2/workflow-runs", params=params)
        return [item["id"] for item in answer.json()["data"]]

    assert await found(externalId="c1") == [wanted]
    assert await found(testMode="false") == [wanted]
    assert await found(externalId="nobody") == []
    assert len(await found(status="PENDING", workflowId=workflow)) == 2
    assert await found(status="FAILED") == []


async def opened(gateway: RunningGateway, run: str) -> None:
    """The run asks for a code."""
    subject = gateway.scheduler.started[run].subject_id
    prompt = await sealer(gateway).seal_text(subject, "The code from your phone")
    code = InputField("code", "Code", "mfa_code", True, (), "")
    question = InputRequestOpened(
        QUESTION, WorkflowRunId(run), JobRunId(""), ACME, subject, Sealed(subject), "mfa", "mfa_code", prompt, (code,),
        1, 9,
    )  # fmt: skip
    await gateway.scheduler.say(run, question, WorkflowRunAwaitingUserInput(WorkflowRunId(run), QUESTION))
    await seen(gateway, f"/workflow-runs/{run}", status="AWAITING_USER_INPUT", inputRequestId=QUESTION)


async def test_a_question_is_answered_once_and_its_secret_stays_in_the_vault(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api, externalId="c1")
    await opened(gateway, run)
    listed = (await gateway.api.get("/api/v2/input-requests", params={"status": "OPEN", "workflowRunId": run})).json()
    assert [item["id"] for item in listed["data"]] == [QUESTION]
    assert listed["data"][0]["prompt"] == "The code from your phone"
    path = f"/api/v2/input-requests/{QUESTION}/answer"
    answer = await gateway.api.post(path, json={"values": {"code": "424242"}})
    assert (answer.status_code, answer.json()["status"]) == (200, "ANSWERED")
    (submitted,) = gateway.scheduler.answers
    values = await sealer(gateway).open_json(submitted.values)
    assert set(values["code"]) == {"$secret"}
    again = await gateway.api.post(path, json={"values": {"code": "1"}})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "input_already_answered")


@pytest.mark.parametrize(
    ("values", "path"),
    [({}, "/values/code"), ({"code": 7}, "/values/code"), ({"code": "1", "other": "2"}, "/values/other")],
)
async def test_an_answer_that_does_not_fit_is_refused(
    gateway: RunningGateway, values: dict[str, object], path: str
) -> None:
    run = await a_run(gateway.api)
    await opened(gateway, run)
    answer = await gateway.api.post(f"/api/v2/input-requests/{QUESTION}/answer", json={"values": values})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "inputs_invalid")
    assert answer.json()["error"]["details"][0]["path"] == path
    assert not gateway.scheduler.answers


async def test_a_request_without_outcome_is_unavailable_and_not_lost(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    gateway.scheduler.is_silent = True
    object.__setattr__(gateway.services.settings, "outcome_wait_seconds", 0.05)
    before = (await gateway.counts())["run_requests"]
    answer = await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": workflow})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert (await gateway.counts())["run_requests"] == before + 1


def test_every_status_has_a_word() -> None:
    assert set(JOB_RUN_WORD) == set(JobRunStatus)
    assert set(WORKFLOW_RUN_WORD) == set(WorkflowRunStatus)
    assert set(JOB_RUN_WORD.values()) == {"PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"}
