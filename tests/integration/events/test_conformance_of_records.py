"""Every record that stands in a public topic is what the event contract says: headers, value, key, order.

The story is told by the real gateway, registry and `advance` over an embedded log; only what runners report is made up.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from google.protobuf import json_format

from kernel.domain.values import Failure
from kernel.domain.workflow_run import WorkflowRunStatus
from kernel.log import codec
from kernel.log.port import Stored
from kernel.log.topics import TOPICS, TYPES, partition_of
from kernel.processor.loop import run_decider
from kernel.processor.ports import Ports
from scheduler.dispatch import Dispatch
from tests.support.eventually import PATIENCE_SECONDS
from tests.support.gateways import RunningGateway, a_job, a_workflow, gateway_in, made, seen
from tests.support.hand_runner import HandRunner
from tests.support.runs import artifact
from tools.events.__main__ import DOCUMENTS
from tools.events.public import public_events
from towpath.event_log.decoding import message_class

ASYNCAPI: dict[str, Any] = json.loads((DOCUMENTS / "asyncapi.json").read_text())
PUBLIC = {event.type: event for event in public_events()}
OTHER_STORIES = {
    *("towpath.connection.created.v1", "towpath.connection.login_recorded.v1"),
    *("towpath.input_request.cancelled.v1", "towpath.input_request.expired.v1"),
    *("towpath.provider.degraded.v1", "towpath.provider.recovered.v1"),
}
"""Need logins, time, or many runs; their frozen bytes are held against the contract below."""
FAILED, COMPLETED = WorkflowRunStatus.FAILED, WorkflowRunStatus.COMPLETED


def validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Of a schema inside the AsyncAPI document."""
    return jsonschema_rs.validator_for({**schema, "components": ASYNCAPI["components"]}, validate_formats=True)


HEADERS = {kind: validator(message["headers"]) for kind, message in ASYNCAPI["components"]["messages"].items()}
PAYLOADS = {
    kind: jsonschema_rs.validator_for(json.loads((DOCUMENTS / f"schemas/{kind}.json").read_text())) for kind in PUBLIC
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_in(tmp_path, real_scheduler=True) as running:
        services = running.services
        ports = Ports(services.log, codec, services.clock, services.entropy)
        running.tasks.append(asyncio.create_task(run_decider(Dispatch(), ports, asyncio.Event())))
        yield running


async def public_records(gateway: RunningGateway) -> list[Stored]:
    log, found = gateway.services.log, list[Stored]()
    for topic in (topic for topic, row in TOPICS.items() if row.public):
        for partition in range(log.partitions(topic)):
            found += await log.read(topic, partition, 0, max_records=10_000)
    return found


async def definitions(gateway: RunningGateway) -> tuple[str, str]:
    """Everything that can be done with definitions; a workflow and a job to run."""
    api, admin = gateway.api, gateway.admin
    await made(admin, "/providers", {"slug": "gusto", "displayName": "Gusto", "loginUrl": "https://gusto.example/"})
    first, second, spare = [await a_workflow(api, name=name) for name in ("One", "Two", "Spare")]
    await api.patch(f"/api/v2/workflows/{spare}", json={"name": "Other"})
    assert (await api.delete(f"/api/v2/workflows/{spare}")).status_code == 204
    gone = await a_job(api, first)
    await api.patch(f"/api/v2/jobs/{gone}", json={"name": "Renamed"})
    assert (await api.delete(f"/api/v2/jobs/{gone}")).status_code == 204
    assert (await admin.post("/api/v2/providers", json={"slug": "gusto", "displayName": "Again"})).status_code == 409
    await made(admin, "/providers", {"slug": "spare", "displayName": "Spare"})
    assert (await admin.delete("/api/v2/providers/spare")).status_code == 204
    return first, await a_job(api, first, second)


async def runs(gateway: RunningGateway, workflow: str, job: str) -> None:
    """One run each way."""
    api, runner = gateway.api, HandRunner(gateway.services.log, gateway.clock)

    async def alone(**more: Any) -> str:
        found: str = (await made(api, "/workflow-runs", {"workflowId": workflow, "externalId": "ada", **more}))["id"]
        return found

    whole = (await made(api, "/job-runs", {"jobId": job, "externalId": "ada", "inputs": {}}))["id"]
    (part,) = (await seen(gateway, f"/job-runs/{whole}", status="IN_PROGRESS"))["workflowRunIds"]
    await runner.ends(part, COMPLETED)
    await runner.ends(await second_part(gateway, whole), COMPLETED)
    failing = (await made(api, "/job-runs", {"jobId": job}))["id"]
    (part,) = (await seen(gateway, f"/job-runs/{failing}", status="IN_PROGRESS"))["workflowRunIds"]
    attempt = await runner.takes(part)
    failure = Failure(code="target_missing", step_id="open", step_name="Open")
    await runner.says(
        attempt,
        attempt.step_started("pay"),
        attempt.step("pay", artifacts=(artifact("00000000-0000-4000-8000-0000000000f1"),)),
        replace(attempt.ended(FAILED), failure=failure),
    )
    await seen(gateway, f"/job-runs/{failing}", status="FAILED")
    assert (await api.post(f"/api/v2/job-runs/{failing}/retry")).status_code == 201
    cancelled = (await made(api, "/job-runs", {"jobId": job}))["id"]
    assert (await api.post(f"/api/v2/job-runs/{cancelled}/cancel")).status_code == 202
    await seen(gateway, f"/job-runs/{cancelled}", status="FAILED")
    assert (await api.post(f"/api/v2/job-runs/{whole}/cancel")).status_code == 409
    handed_back = await alone()
    attempt = await runner.takes(handed_back)
    await runner.says(attempt, attempt.released())
    await asked(gateway, runner, await alone(), await alone())


async def second_part(gateway: RunningGateway, run: str) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            parts: list[str] = (await gateway.api.get(f"/api/v2/job-runs/{run}")).json()["workflowRunIds"]
            if len(parts) > 1:
                return parts[1]
            await asyncio.sleep(0.002)


async def asked(gateway: RunningGateway, runner: HandRunner, answered: str, left: str) -> None:
    """Two runs that ask a person; one is answered and goes on, one is cancelled meanwhile."""
    for run in (answered, left):
        attempt = await runner.takes(run)
        await runner.says(attempt, attempt.suspended())
        await seen(gateway, f"/workflow-runs/{run}", status="AWAITING_USER_INPUT")
    request = (await seen(gateway, f"/workflow-runs/{answered}"))["inputRequestId"]
    body = {"values": {"code": "123456"}}
    assert (await gateway.api.post(f"/api/v2/input-requests/{request}/answer", json=body)).status_code == 200
    assert (await gateway.api.post(f"/api/v2/workflow-runs/{left}/cancel")).status_code == 202


async def test_every_public_record_keeps_the_contract(gateway: RunningGateway) -> None:
    workflow, job = await definitions(gateway)
    await runs(gateway, workflow, job)
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    ids, told = [], set()
    for stored in await public_records(gateway):
        record, headers = stored.record, dict(stored.record.headers)
        assert len(headers) == len(record.headers), "no header twice"
        kind = headers["ce_type"]
        HEADERS[kind].validate(headers)
        assert set(headers) <= set(ASYNCAPI["components"]["schemas"]["CloudEventsHeaders"]["properties"])
        assert record.topic == PUBLIC[kind].topic
        assert record.key == headers["ce_partitionkey"]
        assert record.partition == partition_of(record.key, gateway.services.log.partitions(record.topic))
        validate_value(kind, record.value)
        if "ce_sequence" in headers:
            numbers[record.topic, record.key].append(int(headers["ce_sequence"]))
        else:
            assert kind.endswith("request_rejected.v1")
        ids.append(headers["ce_id"])
        told.add(kind)
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    assert len(set(ids)) == len(ids)
    assert PUBLIC.keys() - told <= OTHER_STORIES


def validate_value(kind: str, value: bytes) -> None:
    """Nothing in it that the contract does not name, and its JSON form as the schema says."""
    cls = message_class(kind)
    assert cls is not None
    message = cls.FromString(value)
    assert message.SerializeToString(deterministic=True) == value, "unknown fields would come out elsewhere"
    PAYLOADS[kind].validate(json_format.MessageToDict(message))
    PAYLOADS[kind].validate(json_format.MessageToDict(message, always_print_fields_with_no_presence=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "application/json"), ("ce_specversion", "0.3"), ("ce_type", "towpath.job_run.started.v1"),
        ("ce_source", "/towpath/gateway"), ("ce_time", "yesterday"), ("ce_sequence", "0"), ("ce_sequence", "-1"),
        ("ce_traceparent", "x"), ("ce_dataschema", "urn:towpath:contracts.v1.JobRunStarted"), ("ce_partitionkey", ""),
    ],
)  # fmt: skip
def test_the_contract_finds_what_is_wrong(name: str, value: str) -> None:
    (example,) = ASYNCAPI["components"]["messages"]["towpath.job_run.created.v1"]["examples"]
    headers = example["headers"]
    judge = HEADERS["towpath.job_run.created.v1"]
    judge.validate(headers)
    assert not judge.is_valid({**headers, name: value})
    if name in ASYNCAPI["components"]["schemas"]["CloudEventsHeaders"]["required"]:
        assert not judge.is_valid({other: told for other, told in headers.items() if other != name})


def test_frozen_records_of_every_release_fit_their_schemas() -> None:
    frozen = Path(__file__).resolve().parents[2] / "contract/codec/frozen"
    for row in TYPES.values():
        kind = f"towpath.{row.wire}.v1"
        if kind in PUBLIC:
            value = bytes.fromhex(json.loads((frozen / f"{row.wire}.json").read_text())["hex"])
            message = message_class(kind).FromString(value)  # type: ignore[union-attr]  # every type of the table is known
            PAYLOADS[kind].validate(json_format.MessageToDict(message))
