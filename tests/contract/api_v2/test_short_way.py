"""The short way past the framework answers what the long way would: the same statuses, bodies and headers."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from api_gateway.surfaces.direct import OPERATIONS, Direct
from tests.support.gateways import RunningGateway, a_job, a_run, a_workflow

NOBODY = "00000000-0000-4000-8000-000000000001"
LONG_WAY = {"host": "an_unusual_host"}
"""The framework takes it, and the short way leaves it alone."""
AS_JSON = {"content-type": "application/json"}


def direct_of(gateway: RunningGateway) -> Direct:
    direct = gateway.app.asgi_handler._app  # type: ignore[attr-defined]  # the edge's
    assert isinstance(direct, Direct)
    return direct


async def both_ways(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    """The answer of the short way, after it was found to be that of the long one."""
    headers = {"x-request-id": "the-same-for-both", **more.pop("headers", {})}
    short = await client.request(method, f"/api/v2{path}", headers=headers, **more)
    long = await client.request(method, f"/api/v2{path}", headers=headers | LONG_WAY, **more)
    assert told(short) == told(long)
    return short


def told(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """An answer but for what is another one each time."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status_code, headers, re.sub(r"[0-9a-f-]{36}|\d{4}-\d\d-\d\dT[\d:.]+Z", "", answer.text)


async def test_the_operations_of_every_run_do_without_the_framework(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = await a_workflow(gateway.api)
    job = await a_job(gateway.api, workflow)
    monkeypatch.delattr(direct_of(gateway), "_framework")
    run = (await gateway.api.post("/api/v2/workflow-runs", json={"workflowId": workflow})).json()["id"]
    job_run = (await gateway.api.post(f"/api/v2/jobs/{job}/run", json={})).json()["id"]
    assert (await gateway.api.post("/api/v2/job-runs", json={"jobId": job})).status_code == 201
    for path in (f"workflow-runs/{run}", f"job-runs/{job_run}"):
        assert (await gateway.api.get(f"/api/v2/{path}/events")).json()["data"]
    assert len(OPERATIONS) == 5


async def test_both_ways_answer_alike(gateway: RunningGateway) -> None:
    workflow, run = await a_workflow(gateway.api), await a_run(gateway.api)
    job = await a_job(gateway.api, workflow)
    api = gateway.api
    assert (await both_ways(api, "POST", "/workflow-runs", json={"workflowId": workflow})).status_code == 201
    assert (await both_ways(api, "POST", f"/jobs/{job}/run")).status_code == 201
    assert (await both_ways(api, "GET", f"/workflow-runs/{run}/events?after=0")).status_code == 200
    assert (await both_ways(api, "HEAD", f"/workflow-runs/{run}/events")).status_code == 200


async def test_both_ways_refuse_alike(gateway: RunningGateway) -> None:
    api, body = gateway.api, {"workflowId": NOBODY}
    refused = [
        await both_ways(gateway.stranger, "POST", "/workflow-runs", json=body),
        await both_ways(gateway.reader, "POST", "/workflow-runs", json=body),
        await both_ways(api, "POST", "/workflow-runs", json=body),
        await both_ways(api, "POST", "/workflow-runs", json={"workflowId": 1}),
        await both_ways(api, "POST", "/workflow-runs", content=b"{"),
        await both_ways(api, "POST", "/workflow-runs", content=b"{", headers=AS_JSON),
        await both_ways(api, "POST", "/workflow-runs", content=b"x" * 3_000_000, headers=AS_JSON),
        await both_ways(api, "POST", "/workflow-runs", json=body, headers={"idempotency-key": "\x7f"}),
        await both_ways(api, "PUT", "/workflow-runs", json=body),
        await both_ways(api, "GET", f"/workflow-runs/{NOBODY}/events"),
        await both_ways(api, "GET", "/workflow-runs/no-id/events"),
        await both_ways(api, "GET", f"/job-runs/{NOBODY}/events", headers={"accept": "text/event-stream"}),
        await both_ways(api, "OPTIONS", f"/job-runs/{NOBODY}/events"),
    ]
    assert [answer.status_code for answer in refused] == [
        *(401, 403, 404, 422, 415, 400, 413, 400),
        *(405, 404, 400, 404, 204),
    ]


async def test_a_host_that_is_none_is_refused_as_ever(gateway: RunningGateway) -> None:
    answer = await gateway.api.post("/api/v2/workflow-runs", json={}, headers={"host": "a host"})
    assert answer.status_code == 400


async def test_an_unforeseen_error_on_the_short_way_says_nothing_of_itself(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.app.state.gateway.authenticator, "principal", None)
    answer = await gateway.api.post("/api/v2/workflow-runs", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "NoneType" not in answer.text
