from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from api_gateway.queries import Queries
from kernel.domain.ids import WorkflowRunId
from kernel.domain.values import SealedBody
from kernel.domain.workflow_run import WorkflowRunCompleted, WorkflowRunRequeued, WorkflowRunStarted, WorkflowRunStatus
from tests.support.asgi import live_get
from tests.support.eventually import until
from tests.support.gateways import RunningGateway, a_job, a_run, a_workflow, gateway_in, made, seen


def started(run: str, attempt: int = 1) -> WorkflowRunStarted:
    return WorkflowRunStarted(WorkflowRunId(run), attempt)


def completed(run: str) -> WorkflowRunCompleted:
    return WorkflowRunCompleted(WorkflowRunId(run), WorkflowRunStatus.COMPLETED, SealedBody())


def ids(text: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]


async def test_events_are_listed_oldest_first_behind_a_number(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    await gateway.scheduler.say(run, started(run), WorkflowRunRequeued(WorkflowRunId(run), "lapsed"), completed(run))
    path = f"/api/v2/workflow-runs/{run}/events"
    found = (await gateway.api.get(path, params={"after": 3, "wait": 30})).json()["data"]
    assert [event["type"] for event in found] == ["workflow_run.completed"]
    everything = (await gateway.api.get(path)).json()
    assert [event["data"]["sequence"] for event in everything["data"]] == [1, 2, 3, 4]
    first = everything["data"][0]
    assert first["object"] == "event"
    assert first["id"].startswith("evt_")
    assert first["data"]["workflow_run_id"] == run
    assert everything["has_more"] is False
    again = (await gateway.api.get(path)).json()
    assert again == everything


async def test_a_long_poll_answers_with_the_first_new_event(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    path = f"/api/v2/workflow-runs/{run}/events"
    waiting = asyncio.create_task(gateway.api.get(path, params={"after": 1, "wait": 30}))
    await until(lambda: run in gateway.services.waiters._streams)
    await gateway.scheduler.say(run, started(run))
    assert [event["type"] for event in (await waiting).json()["data"]] == ["workflow_run.started"]


async def test_a_long_poll_on_an_ended_run_does_not_wait(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    await gateway.scheduler.say(run, started(run), completed(run))
    path = f"/api/v2/workflow-runs/{run}/events"
    await gateway.api.get(path, params={"after": 2, "wait": 30})
    async with asyncio.timeout(20):
        assert (await gateway.api.get(path, params={"after": 3, "wait": 30})).json()["data"] == []


def stream(gateway: RunningGateway, run: str, *, kind: str = "workflow-runs", **headers: str) -> Any:
    wanted = {"Accept": "text/event-stream", "Authorization": f"Bearer {gateway.write_key}", **headers}
    return live_get(gateway.app, f"/api/v2/{kind}/{run}/events", wanted)


async def test_a_live_stream_tells_what_was_and_what_comes_and_ends_with_the_run(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    async with stream(gateway, run) as call:
        await call.until("workflow_run.created")
        await gateway.scheduler.say(run, started(run))
        await call.until("workflow_run.started")
        await gateway.scheduler.say(run, completed(run))
        text = await call.end()
    assert call.headers["content-type"].startswith("text/event-stream")
    assert text.startswith("retry: ")
    assert ids(text) == [1, 2, 3]
    data = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in data][-1] == "workflow_run.completed"


async def test_who_follows_what_was_asked_for_here_is_told_without_a_look_at_the_rows(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await a_run(gateway.api)
    job_run = (await made(gateway.api, f"/jobs/{await a_job(gateway.api, await a_workflow(gateway.api))}/run", {}))[
        "id"
    ]
    monkeypatch.delattr(Queries, "_place_and_events")
    async with stream(gateway, run) as call:
        await call.until("workflow_run.created")
        await gateway.scheduler.say(run, started(run), completed(run))
        assert ids(await call.end()) == [1, 2, 3]
    async with stream(gateway, job_run, kind="job-runs") as call:
        assert "job_run.created" in await call.until("id: 1")


async def test_a_fresh_run_is_shown_to_its_own_organization_and_by_its_own_kind_of_address(
    gateway: RunningGateway,
) -> None:
    run = await a_run(gateway.api)
    rival = gateway.rival.headers["Authorization"]
    for wrong in ({"Authorization": rival}, {"kind": "job-runs"}):
        async with stream(gateway, run, **wrong) as call:
            await call.end()
        assert call.status == 404, wrong
    async with stream(gateway, run) as call:
        await call.until("id: 1")


async def test_a_stream_that_comes_back_goes_on_without_a_gap(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    async with stream(gateway, run) as call:
        await call.until("id: 1")
    await gateway.scheduler.say(run, started(run), completed(run))
    headers = {"Last-Event-ID": "1"}
    async with stream(gateway, run, **headers) as call:
        assert ids(await call.end()) == [2, 3]


async def test_events_behind_hundreds_of_a_type_that_this_version_does_not_know_are_reached(
    gateway: RunningGateway,
) -> None:
    run = await a_run(gateway.api)
    await gateway.scheduler.say_what_nobody_knows(run, 250)
    await gateway.scheduler.say(run, started(run), completed(run))
    await seen(gateway, f"/workflow-runs/{run}", status="COMPLETED")
    path = f"/api/v2/workflow-runs/{run}/events"
    listed = (await gateway.api.get(path)).json()["data"]
    assert [event["data"]["sequence"] for event in listed] == [1, 252, 253]
    behind = (await gateway.api.get(path, params={"after": 1})).json()["data"]
    assert [event["type"] for event in behind] == ["workflow_run.started", "workflow_run.completed"]
    headers = {"Last-Event-ID": "1"}
    async with stream(gateway, run, **headers) as call:
        assert ids(await call.end()) == [252, 253]


async def test_a_silent_stream_shows_that_it_is_there(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, heartbeat_seconds=0.01) as gateway:
        run = await a_run(gateway.api)
        async with stream(gateway, run) as call:
            await call.until(": still here", times=2)


async def test_a_process_that_goes_down_sends_its_streams_elsewhere(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    async with stream(gateway, run) as call:
        await call.until("id: 1")
        gateway.services.drain.begin()
        text = await call.end()
    assert text.endswith("event: reconnect\ndata:\n\n")
    ready = await gateway.stranger.get("/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    assert (await gateway.stranger.get("/health/live")).status_code == 200


async def test_a_client_that_hangs_up_leaves_nobody_waiting(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    async with stream(gateway, run) as call:
        await call.until("id: 1")
    assert not gateway.services.waiters._streams
