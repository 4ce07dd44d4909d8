"""One run's trace through the processes of a cluster: from its POST to the decision, the rows and each step.

Every process writes its spans where it logs (`OTEL_TRACES_EXPORTER=console`); what leads from one process to the next
has travelled through Kafka.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kernel.tracing.context import TraceContext, of_run, parse
from tests.support.components import needs_kafka, needs_postgres
from tests.support.service_processes import Running, ServiceProcesses, service_processes

pytestmark = [needs_kafka, needs_postgres, pytest.mark.timeout(240)]

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
_WORKFLOW = {
    "name": "w",
    "sourceProvider": "proofs",
    "type": "USER_DEFINED",
    "stepsJson": {
        "version": 1,
        "steps": [{"id": id_, "type": "assert", "params": {"that": ["true"]}} for id_ in ("first", "second")],
    },
}
_SPAN = re.compile(r"^\{$.*?^\}$", re.MULTILINE | re.DOTALL)
"""Spans stand among log lines, over several lines each."""

Place = tuple[str, str]
"""A trace and a span of it, as the exporter writes them."""


async def test_a_run_is_followed_from_its_post_to_its_rows_and_steps_through_every_process(tmp_path: Path) -> None:
    async with service_processes(tmp_path) as processes:
        processes.common["OTEL_TRACES_EXPORTER"] = "console"
        processes.own["api_gateway"] = {"API_GATEWAY_OUTCOME_WAIT_SECONDS": "25"}  # each is asked for once
        await processes.start_all()
        run = await _run(processes)
        for one in reversed(processes.running):
            one.send(signal.SIGTERM)
            assert await one.ended(20) == 0, one.said[-2000:]
        _, scheduler, gateway, runner = processes.running
    caller, first = parse(CALLER), of_run(run)
    assert caller is not None

    (post,) = _spans(gateway, "POST /api/v2/workflow-runs")
    assert (post["context"]["trace_id"], post["parent_id"]) == _named(caller)
    (send,) = _spans(gateway, "send run_requests")
    assert send["parent_id"] == post["context"]["span_id"]
    asked = _place(send)
    assert [span for span in _spans(scheduler, "decide advance") if asked in _links(span)]
    assert [span for span in _spans(gateway, "project job_runs") if asked in _links(span)]
    (root,) = _spans(gateway, "workflow run")
    assert (_place(root), _links(root)) == (_named(first), {asked})
    assert "t61rcWkgMzE" in root["links"][0]["context"]["trace_state"]
    steps = _spans(runner, "step assert")
    assert sorted(step["attributes"]["towpath.step"] for step in steps) == ["first", "second"]
    assert {(step["context"]["trace_id"], step["parent_id"]) for step in steps} == {_named(first)}
    assert {step["attributes"]["towpath.run_id"] for step in steps} == {run}


async def _run(processes: ServiceProcesses) -> str:
    """A run that has ended, asked for by somebody who traces."""
    headers = {"Authorization": f"Bearer {processes.api_key}"}
    async with httpx.AsyncClient(base_url=processes.gateway_url, headers=headers, timeout=30) as api:
        workflow = await _made(api, "/api/v2/workflows", _WORKFLOW)
        run = await _made(api, "/api/v2/workflow-runs", {"workflowId": workflow}, traceparent=CALLER, tracestate=STATE)
        after, types = 0, set[str]()
        async with asyncio.timeout(60):
            while "workflow_run.completed" not in types:
                asked = await api.get(f"/api/v2/workflow-runs/{run}/events", params={"after": after, "wait": 10})
                for event in asked.json()["data"]:
                    after = event["data"]["sequence"]
                    types.add(event["type"])
    return run


async def _made(api: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> str:
    """The id of what was made."""
    answer = await api.post(path, json=body, headers=headers)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    id_: str = answer.json()["id"]
    return id_


def _spans(one: Running, name: str) -> list[dict[str, Any]]:
    """The spans of this name that a process has written."""
    return [span for span in map(json.loads, _SPAN.findall(one.said)) if span["name"] == name]


def _place(span: dict[str, Any]) -> Place:
    return span["context"]["trace_id"], span["context"]["span_id"]


def _links(span: dict[str, Any]) -> set[Place]:
    return {_place(link) for link in span["links"]}


def _named(context: TraceContext) -> Place:
    return f"0x{context.trace_id:032x}", f"0x{context.span_id:016x}"
