"""Two gateway processes beside scheduler, runner and store: one is killed while people follow a run by it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kernel.metrics import SERIES
from tests.support.components import needs_kafka, needs_postgres
from tests.support.eventually import until
from tests.support.patient_calls import asked, made
from tests.support.platform_process import free_ports
from tests.support.service_processes import Running, ServiceProcesses, service_processes

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]

_ASK = {"id": "ask", "type": "ask_user", "params": {"fields": [{"name": "colour"}], "prompt": "Which?"}}
_LOOK = {"id": "look", "type": "assert", "params": {"that": ["1 < 2"]}}
_WORKFLOW = {
    "name": "w",
    "sourceProvider": "proofs",
    "type": "USER_DEFINED",
    "stepsJson": {"version": 1, "steps": [_LOOK, _ASK, {**_LOOK, "id": "look_again"}]},
}


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[ServiceProcesses]:
    async with service_processes(tmp_path) as opened:
        await opened.start_all()
        yield opened


async def second_gateway(processes: ServiceProcesses) -> tuple[Running, str]:
    address = f"127.0.0.1:{free_ports(1)}"
    gateway = processes.start("api_gateway", 2, API_GATEWAY_ADDRESS=address, API_GATEWAY_PUBLIC_URL=f"http://{address}")
    return await gateway.ready(), f"http://{address}"


def asking(processes: ServiceProcesses, url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {processes.api_key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30)


async def follow(api: httpx.AsyncClient, path: str, seen: list[int], types: list[str], last: str) -> None:
    """Read a live stream from behind what was seen, until an event of type `last` or its end."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(seen[-1])} if seen else {})}
    async with asyncio.timeout(60), api.stream("GET", path, headers=headers) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                seen.append(int(line.removeprefix("id: ")))
            elif line.startswith("event: "):
                types.append(line.removeprefix("event: "))
            elif not line and types and types[-1] == last:
                return


async def test_a_stream_whose_gateway_is_killed_goes_on_at_the_other_without_a_gap(
    processes: ServiceProcesses,
) -> None:
    first = next(one for one in processes.running if one.name.startswith("api_gateway"))
    _, other_url = await second_gateway(processes)
    seen: list[int] = []
    types: list[str] = []
    async with asking(processes, processes.gateway_url) as doomed, asking(processes, other_url) as other:
        workflow = await made(doomed, "/api/v2/workflows", _WORKFLOW)
        run = await made(other, "/api/v2/workflow-runs", {"workflowId": workflow})
        path = f"/api/v2/workflow-runs/{run}/events"
        await follow(doomed, path, seen, types, "input_request.opened")
        cut = asyncio.create_task(_read_on(doomed, path, seen[-1]))
        await asyncio.sleep(0.2)
        first.send(signal.SIGKILL)
        assert await first.ended() == -signal.SIGKILL
        await cut
        question = await _question(other, run)
        path_of_answer, values = f"/api/v2/input-requests/{question}/answer", {"values": {"colour": "blue"}}
        answer = await asked(other, "POST", path_of_answer, values)
        assert answer.status_code < 300, answer.text
        await follow(other, path, seen, types, "workflow_run.completed")
        assert (await other.get(f"/api/v2/workflow-runs/{run}")).json()["status"] == "COMPLETED"
        renamed = await asked(other, "PATCH", f"/api/v2/workflows/{workflow}", {"name": "after"})
        assert renamed.status_code == 200, renamed.text
    assert seen == list(range(1, len(seen) + 1))
    assert types[0] == "workflow_run.created"
    assert types.count("input_request.opened") == types.count("input_request.answered") == 1


async def _read_on(api: httpx.AsyncClient, path: str, after: int) -> None:
    """A stream that is cut."""
    try:
        await follow(api, path, [after], [], "never")
    except httpx.TransportError:
        return


async def _question(api: httpx.AsyncClient, run: str) -> str:
    found: list[dict[str, Any]] = (await api.get("/api/v2/input-requests", params={"status": "OPEN"})).json()["data"]
    (mine,) = [one["id"] for one in found if one["workflowRunId"] == run]
    return str(mine)


async def test_each_process_shows_the_series_that_the_table_says_of_it(processes: ServiceProcesses) -> None:
    async with asking(processes, processes.gateway_url) as api:
        steps = {**_WORKFLOW, "stepsJson": {"version": 1, "steps": [_LOOK]}}
        workflow = await made(api, "/api/v2/workflows", steps)
        run = await made(api, "/api/v2/workflow-runs", {"workflowId": workflow})
        await follow(api, f"/api/v2/workflow-runs/{run}/events", [], [], "workflow_run.completed")
    runner = next(one for one in processes.running if one.name.startswith("browser_runner"))
    await until(lambda: 'runner_slots{pool="light",state="free"} 16.0' in runner.ask("/metrics")[1], 30)
    shown = {one.name.rpartition("-")[0].replace("_", "-"): one.ask("/metrics")[1] for one in processes.running}
    assert len(shown) == 4
    for series in SERIES:
        for service in shown.keys() & set(series.shown):
            assert f"# TYPE {series.name} {series.kind}\n" in shown[service], (service, series.name)
    assert 'run_duration_seconds_count{outcome="completed"} 1.0' in shown["api-gateway"]
    assert 'runner_slots{pool="light",state="busy"} 0.0' in shown["browser-runner"]
    assert 'decider_transitions_total{decider="advance"}' in shown["scheduler"]
    assert 'decider_transitions_total{decider="registry"}' in shown["api-gateway"]
    assert 'secrets_used_total{kind="subject_key"}' in shown["artifact-store"]


async def test_spans_are_written_where_the_environment_asks_for_them(processes: ServiceProcesses) -> None:
    address = f"127.0.0.1:{free_ports(1)}"
    gateway = processes.start("api_gateway", 2, API_GATEWAY_ADDRESS=address, OTEL_TRACES_EXPORTER="console")
    await gateway.ready()
    async with asking(processes, f"http://{address}") as api:
        await made(api, "/api/v2/workflows", _WORKFLOW)
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0
    assert '"name": "POST /api/v2/workflows"' in gateway.said
    assert json.dumps("send registry_requests") in gateway.said
