"""Whatever is wrong with a request has a name, a place, and no effect. So one gateway serves all of these tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.gateways import Json, RunningGateway, a_job, a_run, a_workflow, gateway_in, steps, workflow_body

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABSENT = "00000000-0000-4000-8000-00000000dead"
DEEP = b"[" * 100_000
DANCE = {"id": "a", "type": "dance"}
URL_SPOT = "/stepsJson/steps/0/params/url"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A running gateway that keeps running."""
    async with gateway_in(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def opens(url: str) -> Json:
    return steps({"id": "open", "type": "navigate", "params": {"url": url}})


@pytest.mark.parametrize(
    ("body", "status", "code", "path"),
    [
        (b"", 400, "malformed_json", ""),
        (b"{", 400, "malformed_json", ""),
        (b'{"name": "x",}', 400, "malformed_json", ""),
        (b'{"name": "\xff"}', 400, "malformed_json", ""),
        (b'{"name": ' + DEEP, 400, "malformed_json", ""),
        (b'{"name":"n","sourceProvider":"g","type":"LOGIN","stepsJson":' + DEEP, 400, "malformed_json", ""),
        (b"[]", 422, "validation_failed", ""),
        (b"{}", 422, "validation_failed", "/name"),
        ({**workflow_body(), "name": 7}, 422, "validation_failed", "/name"),
        (workflow_body(name=""), 422, "validation_failed", "/name"),
        (workflow_body(name="a\0b"), 422, "validation_failed", "/name"),
        (workflow_body(name="x" * 201), 422, "validation_failed", "/name"),
        (workflow_body(sourceProvider="Not A Slug"), 422, "validation_failed", "/sourceProvider"),
        (workflow_body(type="OTHER"), 422, "validation_failed", "/type"),
        (b'{"name":"n","sourceProvider":"g","type":"LOGIN","stepsJson":{"metadata":{"a":1e999}}}',
         422, "validation_failed", "/stepsJson"),
        (workflow_body(stepsJson=[]), 422, "validation_failed", "/stepsJson"),
        (workflow_body(stepsJson={"version": 1}), 422, "validation_failed", "/stepsJson"),
        (workflow_body(stepsJson=steps(DANCE)), 422, "unknown_step_type", "/stepsJson/steps/0/type"),
        (workflow_body(stepsJson=opens("file:///etc/passwd")), 422, "url_not_allowed", URL_SPOT),
        (workflow_body(stepsJson=opens("http://127.0.0.1/")), 422, "url_not_allowed", URL_SPOT),
        (workflow_body(stepsJson=opens("http://169.254.169.254/")), 422, "url_not_allowed", URL_SPOT),
        (workflow_body(stepsJson=opens("http://[::1]/")), 422, "url_not_allowed", URL_SPOT),
        (
            workflow_body(stepsJson=opens("https://a.test/{{inputs.absent}}")),
            422, "validation_failed", "/stepsJson/steps/0/params/url",
        ),
        (
            workflow_body(stepsJson=steps(inputs={"a": {"type": "no"}})),
            422, "validation_failed", "/stepsJson/inputSchema",
        ),
        (workflow_body(stepsJson={**steps(), "metadata": {"x": "y" * 600_000}}), 413, "body_too_large", "/stepsJson"),
    ],
)  # fmt: skip
async def test_a_bad_workflow_is_refused_with_its_place(
    gateway: RunningGateway, body: Any, status: int, code: str, path: str
) -> None:
    before = await gateway.counts()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await gateway.api.post("/api/v2/workflows", content=content, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error["details"][0]["path"].startswith(path), error
    assert error["request_id"] == answer.headers["x-request-id"]
    assert await gateway.counts() == before


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_of_ten_megabytes_is_refused(gateway: RunningGateway, declared: bool) -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b" " * 1024 * 1024

    content = b" " * 10 * 1024 * 1024 if declared else chunks()
    answer = await gateway.api.post("/api/v2/workflows", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_another_media_type_is_refused(gateway: RunningGateway, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = await gateway.api.post("/api/v2/workflows", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v2/nowhere", 404, "not_found"),
        ("GET", "/elsewhere", 404, "not_found"),
        ("DELETE", "/api/v2/jobs", 405, "method_not_allowed"),
        ("GET", "/api/v2/workflows/not-a-uuid", 400, "invalid_parameter"),
        ("GET", f"/api/v2/workflows/{ABSENT[:-1]}", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows/00000000-0000-9000-8000-000000000001", 400, "invalid_parameter"),
        ("GET", "/api/v2/jobs/%2e%2e", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?page=0", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?page=x", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?page_size=101", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?page=1&limit=5", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?offset=-1", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?name=%00", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflows?type=OTHER", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflow-runs?status=cancelled", 400, "invalid_parameter"),
        ("GET", "/api/v2/workflow-runs?workflowId=x", 400, "invalid_parameter"),
        ("GET", "/api/v2/job-runs?testMode=maybe", 400, "invalid_parameter"),
        ("GET", f"/api/v2/workflow-runs/{ABSENT}/events?after=x", 400, "invalid_parameter"),
        ("GET", f"/api/v2/workflow-runs/{ABSENT}/events", 404, "not_found"),
        ("GET", f"/api/v2/workflow-runs/{ABSENT}/steps", 404, "not_found"),
        ("POST", f"/api/v2/workflow-runs/{ABSENT}/cancel", 404, "not_found"),
        ("POST", f"/api/v2/job-runs/{ABSENT}/cancel", 404, "not_found"),
        ("POST", f"/api/v2/jobs/{ABSENT}/run", 404, "not_found"),
    ],
)
async def test_a_bad_address_is_refused(
    gateway: RunningGateway, method: str, path: str, status: int, code: str
) -> None:
    answer = await gateway.api.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("inputs", "code", "path"),
    [
        ({}, "inputs_missing", "/inputs/count"),
        ({"count": "three"}, "inputs_invalid", "/inputs/count"),
        ({"count": 3, "tags": [1]}, "inputs_invalid", "/inputs/tags/0"),
        ({"count": 3, "password": 5}, "inputs_invalid", "/inputs/password"),
    ],
)
async def test_inputs_that_do_not_fit_are_refused_without_being_repeated(
    gateway: RunningGateway, inputs: Json, code: str, path: str
) -> None:
    properties = {
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "password": {"type": "string", "secret": True},
        "code": {"type": "string", "askUser": True},
    }
    document = steps(inputs=properties, required=["count", "password", "code"])
    workflow = await a_workflow(gateway.api, stepsJson=document)
    before = await gateway.counts()
    answer = await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": workflow, "inputs": inputs})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert answer.json()["error"]["details"][0]["path"] == path
    assert "three" not in answer.text
    assert await gateway.counts() == before


async def test_secret_and_asked_inputs_may_be_missing(gateway: RunningGateway) -> None:
    properties = {"password": {"type": "string", "secret": True}, "code": {"type": "string", "askUser": True}}
    workflow = await a_workflow(gateway.api, stepsJson=steps(inputs=properties, required=["password", "code"]))
    answer = await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": workflow})
    assert answer.status_code == 201


async def test_nothing_of_another_organization_is_there(gateway: RunningGateway) -> None:
    workflow = await a_workflow(gateway.api)
    job = await a_job(gateway.api, workflow)
    run = await a_run(gateway.api)
    before = await gateway.counts()
    for path in (f"workflows/{workflow}", f"jobs/{job}", f"workflow-runs/{run}", f"workflow-runs/{run}/events",
                 f"workflow-runs/{run}/steps", f"workflow-runs/{run}/artifacts"):  # fmt: skip
        assert (await gateway.rival.get(f"/api/v2/{path}")).status_code == 404, path
    for path, body in (
        (f"jobs/{job}/run", {}),
        ("job-runs", {"jobId": job}),
        ("workflow-runs", {"workflowId": workflow}),
        (f"workflow-runs/{run}/cancel", {}),
    ):
        assert (await gateway.rival.post(f"/api/v2/{path}", json=body)).status_code == 404, path
    for path in (f"workflows/{workflow}", f"jobs/{job}"):
        assert (await gateway.rival.patch(f"/api/v2/{path}", json={"name": "x"})).status_code == 404, path
    for path in ("workflows", "jobs", "workflow-runs", "job-runs", "artifacts", "input-requests"):
        assert (await gateway.rival.get(f"/api/v2/{path}")).json()["total"] == 0, path
    assert await gateway.counts() == before
    stolen = {"name": "j", "sourceProvider": "gusto", "jobConfigJson": {"workflowExecutionOrder": [workflow]}}
    assert (await gateway.rival.post("/api/v2/jobs", json=stolen)).status_code == 422


async def test_the_request_id_of_the_caller_is_kept_when_it_is_safe(gateway: RunningGateway) -> None:
    kept = await gateway.api.get("/healthz", headers={"X-Request-Id": "caller-12345"})
    made = await gateway.api.get("/healthz", headers={"X-Request-Id": "no\tgood"})
    assert kept.headers["x-request-id"] == "caller-12345"
    assert len(made.headers["x-request-id"]) == 36
