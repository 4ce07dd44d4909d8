"""What each call of the client sends, and that documented answers are understood."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.fake_api import SETTINGS, FakeApi, Naps, an_id, problem
from towpath import ApiError, Client, each, find_run
from towpath.resources import InputRequestStatus, JobRun, JobRunStatus, KeyLevel, Schedule, WorkflowRun, WorkflowType

W, J, R, X, A, Q = (an_id(kind, 1) for kind in ("workflow", "job", "job_run", "workflow_run", "artifact", "input"))
K = an_id("api_key", 1)
_ORDER = {"workflowExecutionOrder": [W]}
_SCHEDULE = {"cron": "0 3 * * *", "timeZone": "Europe/Paris", "externalId": None, "enabled": True}

CALLS: dict[str, tuple[Callable[[Client], object], str, dict[str, Any] | None]] = {
    "workflows.create": (
        lambda c: c.workflows.create(name="n", source_provider="p", type_=WorkflowType.LOGIN, steps_json={"steps": []}),
        "POST /workflows",
        {"name": "n", "sourceProvider": "p", "type": "LOGIN", "stepsJson": {"steps": []}},
    ),
    "workflows.list": (
        lambda c: c.workflows.list(source_provider="p", type_=WorkflowType.LOGIN, name="a b"),
        "GET /workflows?sourceProvider=p&type=LOGIN&name=a+b&page=1&page_size=10",
        None,
    ),
    "workflows.get": (lambda c: c.workflows.get(W), f"GET /workflows/{W}", None),
    "workflows.change": (lambda c: c.workflows.change(W, name="n"), f"PATCH /workflows/{W}", {"name": "n"}),
    "jobs.create": (
        lambda c: c.jobs.create(
            name="n",
            source_provider="p",
            workflow_ids=[W],
            schedule=Schedule(cron="0 3 * * *", time_zone="Europe/Paris"),
        ),
        "POST /jobs",
        {"name": "n", "sourceProvider": "p", "jobConfigJson": _ORDER, "schedule": _SCHEDULE},
    ),
    "jobs.list": (lambda c: c.jobs.list(workflow_id=W, page=2), f"GET /jobs?workflowId={W}&page=2&page_size=10", None),
    "jobs.get": (lambda c: c.jobs.get(J), f"GET /jobs/{J}", None),
    "jobs.change": (
        lambda c: c.jobs.change(J, workflow_ids=[W], schedule=None),
        f"PATCH /jobs/{J}",
        {"jobConfigJson": _ORDER, "schedule": None},
    ),
    "jobs.run": (
        lambda c: c.jobs.run(J, external_id="e", inputs={"a": 1}, workflow_inputs={W: {"b": 2}}, test_mode=True),
        f"POST /jobs/{J}/run",
        {"externalId": "e", "inputs": {"a": 1}, "workflowInputs": {W: {"b": 2}}, "testMode": True},
    ),
    "job_runs.list": (
        lambda c: c.job_runs.list(job_id=J, status=JobRunStatus.FAILED, test_mode=False),
        f"GET /job-runs?jobId={J}&status=FAILED&testMode=false&page=1&page_size=10",
        None,
    ),
    "job_runs.get": (lambda c: c.job_runs.get(R), f"GET /job-runs/{R}", None),
    "job_runs.cancel": (lambda c: c.job_runs.cancel(R), f"POST /job-runs/{R}/cancel", None),
    "job_runs.retry": (lambda c: c.job_runs.retry(R), f"POST /job-runs/{R}/retry", {"from": "failed"}),
    "job_runs.explain": (lambda c: c.job_runs.explain(R), f"GET /job-runs/{R}/explain", None),
    "workflow_runs.create": (
        lambda c: c.workflow_runs.create(workflow_id=W, stop_after_step="open", debug={"keepOpenSeconds": 5}),
        "POST /workflow-runs",
        {"workflowId": W, "stopAfterStep": "open", "debug": {"keepOpenSeconds": 5}},
    ),
    "workflow_runs.list": (
        lambda c: c.workflow_runs.list(job_run_id=R),
        f"GET /workflow-runs?jobRunId={R}&page=1&page_size=10",
        None,
    ),
    "workflow_runs.get": (lambda c: c.workflow_runs.get(X), f"GET /workflow-runs/{X}", None),
    "workflow_runs.cancel": (lambda c: c.workflow_runs.cancel(X), f"POST /workflow-runs/{X}/cancel", None),
    "workflow_runs.retry": (
        lambda c: c.workflow_runs.retry(X, begin="start"),
        f"POST /workflow-runs/{X}/retry",
        {"from": "start"},
    ),
    "workflow_runs.explain": (lambda c: c.workflow_runs.explain(X), f"GET /workflow-runs/{X}/explain", None),
    "workflow_runs.logs": (
        lambda c: c.workflow_runs.logs(X, kind="console", cursor="abc", limit=7),
        f"GET /workflow-runs/{X}/logs?kind=console&cursor=abc&limit=7",
        None,
    ),
    "workflow_runs.all_logs": (
        lambda c: list(c.workflow_runs.all_logs(X)),
        f"GET /workflow-runs/{X}/logs?limit=1000",
        None,
    ),
    "workflow_runs.steps": (
        lambda c: c.workflow_runs.steps(X),
        f"GET /workflow-runs/{X}/steps?page=1&page_size=100",
        None,
    ),
    "workflow_runs.artifacts": (
        lambda c: c.workflow_runs.artifacts(X),
        f"GET /workflow-runs/{X}/artifacts?page=1&page_size=100",
        None,
    ),
    "workflow_runs.events": (
        lambda c: c.workflow_runs.events(X, after="3", wait_seconds=20),
        f"GET /workflow-runs/{X}/events?after=3&wait=20",
        None,
    ),
    "workflow_runs.all_events": (
        lambda c: list(c.workflow_runs.all_events(X)),
        f"GET /workflow-runs/{X}/events",
        None,
    ),
    "workflow_runs.follow": (
        lambda c: next(c.workflow_runs.follow(X, after="3")),
        f"GET /workflow-runs/{X}/events?after=3",
        None,
    ),
    "artifacts.list": (
        lambda c: c.artifacts.list(job_run_id=R, type_="download"),
        f"GET /artifacts?jobRunId={R}&type=download&page=1&page_size=10",
        None,
    ),
    "artifacts.get": (lambda c: c.artifacts.get(A), f"GET /artifacts/{A}", None),
    "artifacts.read": (lambda c: c.artifacts.read(A), f"GET /artifacts/{A}", None),
    "artifacts.download": (lambda c: c.artifacts.download(A, None), f"GET /artifacts/{A}", None),  # type: ignore[arg-type]
    "input_requests.list": (
        lambda c: c.input_requests.list(status=InputRequestStatus.OPEN, workflow_run_id=X),
        f"GET /input-requests?status=OPEN&workflowRunId={X}&page=1&page_size=10",
        None,
    ),
    "input_requests.get": (lambda c: c.input_requests.get(Q), f"GET /input-requests/{Q}", None),
    "input_requests.answer": (
        lambda c: c.input_requests.answer(Q, {"code": "1"}),
        f"POST /input-requests/{Q}/answer",
        {"values": {"code": "1"}},
    ),
    "workflows.delete": (lambda c: c.workflows.delete(W, force=True), f"DELETE /workflows/{W}?force=true", None),
    "workflows.revisions": (
        lambda c: c.workflows.revisions(W, page=2),
        f"GET /workflows/{W}/revisions?page=2&page_size=10",
        None,
    ),
    "workflows.revision": (lambda c: c.workflows.revision(W, 3), f"GET /workflows/{W}/revisions/3", None),
    "jobs.delete": (lambda c: c.jobs.delete(J), f"DELETE /jobs/{J}", None),
    "providers.create": (
        lambda c: c.providers.create("gusto", display_name="Gusto", allowed_domains=[".gusto.test"], concurrency=3),
        "POST /providers",
        {"slug": "gusto", "displayName": "Gusto", "allowedDomains": [".gusto.test"], "concurrency": 3},
    ),
    "providers.list": (lambda c: c.providers.list(page=2), "GET /providers?page=2&page_size=10", None),
    "providers.get": (lambda c: c.providers.get("gusto"), "GET /providers/gusto", None),
    "providers.change": (
        lambda c: c.providers.change("gusto", logo_url=None, login_url="https://a.test", default_job_id=J),
        "PATCH /providers/gusto",
        {"logoUrl": None, "loginUrl": "https://a.test", "defaultJobId": J},
    ),
    "providers.delete": (lambda c: c.providers.delete("gusto"), "DELETE /providers/gusto", None),
    "api_keys.create": (
        lambda c: c.api_keys.create(level=KeyLevel.WRITE, description="d", expires_at=datetime(2027, 3, 1, tzinfo=UTC)),
        "POST /api-keys",
        {"level": "write", "description": "d", "expiresAt": "2027-03-01T00:00:00Z"},
    ),
    "api_keys.list": (lambda c: c.api_keys.list(page=2), "GET /api-keys?page=2&page_size=10", None),
    "api_keys.get": (lambda c: c.api_keys.get(K), f"GET /api-keys/{K}", None),
    "api_keys.revoke": (lambda c: c.api_keys.revoke(K), f"DELETE /api-keys/{K}", None),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_sends_what_the_api_expects(name: str) -> None:
    sent: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return problem(418, "no_answer")

    call, line, body = CALLS[name]
    with Client(SETTINGS, network=httpx.MockTransport(refuse)) as client, pytest.raises(ApiError):
        call(client)
    request = sent[0]
    assert f"{request.method} {request.url.raw_path.decode()}" == line.replace(" /", " /api/v2/", 1)
    assert (json.loads(request.content) if request.content else None) == body
    assert ("Idempotency-Key" in request.headers) == (request.method == "POST")


def test_every_call_is_in_this_table() -> None:
    client = Client(SETTINGS, network=httpx.MockTransport(lambda _: httpx.Response(200)))
    groups = ("workflows", "jobs", "providers", "job_runs", "workflow_runs", "artifacts", "input_requests", "api_keys")
    public = {
        f"{group}.{name}"
        for group in groups
        for name, _ in inspect.getmembers(getattr(client, group), inspect.ismethod)
        if not name.startswith("_")
    }
    assert public == set(CALLS)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def client(api: FakeApi) -> Client:
    return Client(SETTINGS, surroundings=Naps().surroundings(), network=api.as_transport())


def test_a_run_is_understood_and_unknown_fields_are_ignored(api: FakeApi, client: Client) -> None:
    run = api.add_job_run(api.add_job("nightly", [api.add_workflow("one")]))
    failed = {"workflowRunId": X, "stepId": "pay", "name": "paying"}
    api.end_job_run(run, "FAILED", errorCode="step_failed", failedStep=failed, addedLater={"a": 1})
    found = client.job_runs.get(run)
    assert (found.ended, found.ended_well, found.error_code) == (True, False, "step_failed")
    assert found.failed_step is not None
    assert found.failed_step.step_id == "pay"
    assert found.created_at == datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    assert found.job_config_json_snapshot.workflow_execution_order == (an_id("workflow", 1),)


def test_a_run_is_found_by_either_id(api: FakeApi, client: Client) -> None:
    workflow = api.add_workflow("one")
    job_run = api.add_job_run(api.add_job("nightly", [workflow]))
    workflow_run = api.start_workflow(job_run, workflow, "open")
    assert isinstance(find_run(client, job_run), JobRun)
    assert isinstance(find_run(client, workflow_run), WorkflowRun)
    with pytest.raises(ApiError, match="not_found"):
        find_run(client, an_id("job", 7))


def test_a_refused_document_says_where_it_is_wrong() -> None:
    spot = {"path": "/stepsJson/steps/0/type", "code": "unknown_step_type", "message": "must be one of click"}
    error = {"code": "validation_failed", "message": "stepsJson cannot be saved", "details": [spot], "request_id": "r"}
    answer = httpx.MockTransport(lambda _: httpx.Response(422, json={"error": error}))
    with Client(SETTINGS, network=answer) as client, pytest.raises(ApiError, match=r"steps/0/type: must be one of"):
        client.workflows.create(name="n", source_provider="p", type_=WorkflowType.LOGIN, steps_json={})


def test_all_items_of_a_list_come_page_after_page(api: FakeApi, client: Client) -> None:
    for number in range(25):
        api.add_job(f"job {number}", [])
    names = [job.name for job in each(lambda page: client.jobs.list(page=page))]
    assert names == [f"job {number}" for number in reversed(range(25))]


def test_all_events_come_page_after_page(api: FakeApi, client: Client) -> None:
    run = api.start_workflow("", api.add_workflow("one"), "open")
    api.events[run] = [{"type": "workflow_run.step_finished", "data": {"sequence": n}} for n in range(1, 26)]
    assert [event.position for event in client.workflow_runs.all_events(run)] == [str(n) for n in range(1, 26)]
