"""What a person can learn of a run: steps, log, events, and why it waits. The real `advance` decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel.domain.artifact import StagedArtifact
from kernel.domain.ids import ArtifactId
from kernel.domain.values import Failure, FailureKind, SealedBody
from kernel.domain.workflow_run import StepStatus, WorkflowRunStatus
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener, PutHeader
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateways import ACME, Json, RunningGateway, a_job, a_run, a_workflow, gateway_in, made, seen, steps
from tests.support.hand_runner import HandRunner
from tests.support.runs import Attempt

FAILED, COMPLETED = WorkflowRunStatus.FAILED, WorkflowRunStatus.COMPLETED
NOTHING = Failure()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """With the real `advance`; nothing runs but by the test's hand."""
    async with gateway_in(tmp_path, real_scheduler=True) as running:
        yield running


@pytest.fixture
def runner(gateway: RunningGateway) -> HandRunner:
    return HandRunner(gateway.services.log, gateway.clock)


def sealer(gateway: RunningGateway) -> Sealer:
    services = gateway.services
    return Sealer(services.keys, services.store, services.entropy, GatewayOpener(ACME))


async def get(gateway: RunningGateway, path: str, **params: Any) -> Json:
    answer = await gateway.api.get(f"/api/v2{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def log_file(gateway: RunningGateway, attempt: Attempt, lines: list[Json]) -> StagedArtifact:
    """What the runner leaves at the end of an attempt."""
    subject, number = attempt.task.subject_id, attempt.task.token.attempt
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    staged = await gateway.services.store.put_bytes(text, PutHeader(subject, GatewayOpener(ACME)))
    name = await sealer(gateway).seal_text(subject, f"attempt-{number}.ndjson")
    id_ = ArtifactId(f"00000000-0000-4000-8000-00000000000{number}")
    return StagedArtifact(id_, "log_file", name, "application/x-ndjson", staged.size, staged.sha256)


# ---------------------------------------------------------------- steps


async def test_a_step_tells_its_output_and_what_was_found_about_its_failure(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run = await a_run(gateway.api, externalId="c1")
    attempt = await runner.takes(run)
    subject, seal = attempt.task.subject_id, sealer(gateway)
    output = await seal.seal_json(subject, {"rows": 3})
    text = await seal.seal_text(subject, "no such button")
    diagnosis = await seal.seal_text(subject, json.dumps({"url": "https://shop.test/", "tried": ["css=#pay"]}))
    failure = Failure("target_missing", FailureKind.TEMPORARY, text, "pay", "paying")
    await runner.says(
        attempt,
        attempt.step("read", output=output, started_ms=1000, finished_ms=1250, failure=NOTHING),
        attempt.step("pay", status=StepStatus.FAILED, failure=failure, output=SealedBody(), diagnosis=diagnosis),
        replace(attempt.ended(FAILED), failure=failure, output=SealedBody()),
    )
    ended = await seen(gateway, f"/workflow-runs/{run}", status="FAILED")
    assert (ended["errorCode"], ended["errorReason"]) == ("step_failed", "target_missing")
    read, pay = (await get(gateway, f"/workflow-runs/{run}/steps"))["data"]
    assert (read["path"], read["output"], read["durationMs"], read["error"]) == ("read", {"rows": 3}, 250, None)
    assert pay["error"]["diagnosis"] == {"url": "https://shop.test/", "tried": ["css=#pay"]}
    assert (pay["error"]["code"], pay["error"]["retryable"]) == ("target_missing", True)
    assert pay["output"] is None


# ---------------------------------------------------------------- the log


async def a_logged_run(gateway: RunningGateway, runner: HandRunner) -> str:
    """Two attempts, each with three lines of console and network around its step."""
    run = await a_run(gateway.api)
    for number in (1, 2):
        attempt = await runner.takes(run)
        now = gateway.clock.now_ms()
        lines = [
            {"ms": now - 9, "kind": "console", "level": "info", "message": f"hello {number}", "data": {}},
            {"ms": now - 8, "kind": "network", "level": "info", "message": "GET /", "data": {"status": 200}},
            {"ms": now + 60_000, "kind": "console", "level": "error", "message": f"bye {number}", "data": {}},
        ]
        artifacts = (await log_file(gateway, attempt, lines),)
        step = attempt.step("a", output=SealedBody())
        end = attempt.released() if number == 1 else replace(attempt.ended(COMPLETED), output=SealedBody())
        await runner.says(attempt, step, replace(end, artifacts=artifacts))
    await seen(gateway, f"/workflow-runs/{run}", status="COMPLETED")
    return run


async def test_the_log_tells_steps_console_and_network_of_all_attempts_once(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run = await a_logged_run(gateway, runner)
    whole = await get(gateway, f"/workflow-runs/{run}/logs")
    assert not whole["has_more"]
    for limit in (1, 3):
        entries: list[Json] = []
        params: Json = {"limit": limit}
        while True:
            page = await get(gateway, f"/workflow-runs/{run}/logs", **params)
            entries += page["data"]
            params["cursor"] = page["cursor"]
            if not page["has_more"]:
                break
        assert sorted(map(str, entries)) == sorted(map(str, whole["data"]))
    assert (await get(gateway, f"/workflow-runs/{run}/logs", cursor=whole["cursor"]))["data"] == []
    kinds = [entry["kind"] for entry in whole["data"]]
    assert (kinds.count("console"), kinds.count("network")) == (4, 2)


async def test_the_log_of_one_kind_holds_nothing_else(gateway: RunningGateway, runner: HandRunner) -> None:
    run = await a_logged_run(gateway, runner)
    console = await get(gateway, f"/workflow-runs/{run}/logs", kind="console")
    said = [(entry["attempt"], entry["level"], entry["message"]) for entry in console["data"]]
    assert said == [(1, "info", "hello 1"), (1, "error", "bye 1"), (2, "info", "hello 2"), (2, "error", "bye 2")]
    told = (await get(gateway, f"/workflow-runs/{run}/logs", kind="step"))["data"]
    assert [entry["message"].split(" in ")[0] for entry in told] == [
        "attempt 1 begins", "a completed", "the attempt ended: released", "attempt 2 begins", "a completed",
        "the run ended: completed",
    ]  # fmt: skip


@pytest.mark.parametrize("params", [{"cursor": "x"}, {"cursor": "e30"}, {"cursor": "Wy0xLDAsMF0"}, {"kind": "all"}])
async def test_a_cursor_of_nobody_is_refused(gateway: RunningGateway, params: Json) -> None:
    run = await a_run(gateway.api)
    answer = await gateway.api.get(f"/api/v2/workflow-runs/{run}/logs", params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_parameter")


# ---------------------------------------------------------------- why


async def test_a_run_that_waits_for_its_login_names_the_run_that_has_it(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    opened = {"id": "open", "type": "navigate", "params": {"url": "https://app.gusto.test/"}}
    body = {"workflowId": await a_workflow(gateway.api, stepsJson=steps(opened)), "externalId": "c1"}
    first = (await made(gateway.api, "/workflow-runs", body))["id"]
    second = (await made(gateway.api, "/workflow-runs", body))["id"]
    await runner.takes(first)
    await seen(gateway, f"/workflow-runs/{first}", status="IN_PROGRESS")
    told = await get(gateway, f"/workflow-runs/{second}/explain")
    assert (told["state"], told["waitingFor"]["kind"]) == ("PENDING", "connection")
    assert told["waitingFor"]["heldBy"] == first
    assert told["waitingFor"]["since"].endswith("Z")


async def test_a_run_without_any_runner_says_so_and_one_that_is_tried_again_says_when(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    run = await a_run(gateway.api)
    gateway.services.slots.begin(-1e9)
    assert (await get(gateway, f"/workflow-runs/{run}/explain"))["waitingFor"] == {"kind": "runner", "pool": "light"}
    attempt = await runner.takes(run)
    later = gateway.clock.now_ms() + 60_000
    failed = attempt.step("done", status=StepStatus.FAILED, failure=Failure("step_failed"), output=SealedBody())
    await runner.says(attempt, failed, attempt.released(later))
    await seen(gateway, f"/workflow-runs/{run}", status="PENDING", currentStateName="done")
    waiting = (await get(gateway, f"/workflow-runs/{run}/explain"))["waitingFor"]
    assert (waiting["kind"], waiting["stepId"], waiting["tries"], waiting["triesMax"]) == ("timer", "done", 1, 3)


async def test_a_job_run_is_explained_by_its_newest_workflow_run(gateway: RunningGateway, runner: HandRunner) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api), await a_workflow(gateway.api))
    run = await made(gateway.api, f"/jobs/{job}/run", {})
    first = (await seen(gateway, f"/job-runs/{run['id']}", status="IN_PROGRESS"))["workflowRunIds"][0]
    await runner.ends(first, FAILED, "target_missing")
    await seen(gateway, f"/job-runs/{run['id']}", status="FAILED", errorCode="step_failed")
    told = await get(gateway, f"/job-runs/{run['id']}/explain")
    assert told["workflowRunId"] == first
    assert told["summary"] == "Workflow 1 of 2: The run failed with step_failed (target_missing)."
    assert (told["waitingFor"], len(told["history"])) == (None, 3)


# ---------------------------------------------------------------- events of a job run


async def test_the_events_of_a_job_run_are_its_own_and_those_of_its_workflow_runs(
    gateway: RunningGateway, runner: HandRunner
) -> None:
    job = await a_job(gateway.api, await a_workflow(gateway.api))
    run = (await made(gateway.api, f"/jobs/{job}/run", {}))["id"]
    first = (await seen(gateway, f"/job-runs/{run}", status="IN_PROGRESS"))["workflowRunIds"][0]
    await runner.ends(first, COMPLETED)
    await seen(gateway, f"/job-runs/{run}", status="COMPLETED")
    events = (await get(gateway, f"/job-runs/{run}/events"))["data"]
    assert [event["type"] for event in events] == [
        "job_run.created", "job_run.started", "workflow_run.created", "workflow_run.started",
        "workflow_run.completed", "job_run.completed",
    ]  # fmt: skip
    assert [event["data"]["sequence"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert {event["data"]["job_run_id"] for event in events} == {run}
    own = (await get(gateway, f"/workflow-runs/{first}/events"))["data"]
    assert own == events[2:5]
    async with asyncio.timeout(PATIENCE_SECONDS):
        live = await gateway.api.get(f"/api/v2/job-runs/{run}/events", headers={"Accept": "text/event-stream"})
    assert "event: job_run.completed" in live.text


async def test_nothing_of_a_run_is_told_to_another_organization(gateway: RunningGateway) -> None:
    run = await a_run(gateway.api)
    for path in (f"/workflow-runs/{run}/explain", f"/workflow-runs/{run}/logs", f"/job-runs/{run}/explain",
                 f"/job-runs/{run}/events"):  # fmt: skip
        assert (await gateway.rival.get(f"/api/v2{path}")).status_code == 404
