"""Inputs of kind `artifact`: named by id, of the caller's own organization, and resolved before a run starts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kernel.domain.job_run import JobRunRequested
from kernel.sealing import Sealer
from kernel.store.port import GatewayOpener
from tests.contract.api_v2.test_artifacts import ARTIFACT, an_artifact
from tests.support.gateways import ACME, Json, RunningGateway, a_workflow, made, steps

INPUTS: Json = {
    "file": {"type": "string", "kind": "artifact"},
    "files": {"type": "array", "kind": "artifact"},
    "plain": {"type": "string"},
}
MISSING = "00000000-0000-4000-8000-00000000dead"


async def started(api: httpx.AsyncClient, inputs: Json) -> httpx.Response:
    workflow_id = await a_workflow(api, stepsJson=steps(inputs=INPUTS))
    return await api.post("/api/v2/workflow-runs", json={"workflowId": workflow_id, "inputs": inputs})


async def test_a_run_gets_what_the_id_stands_for(gateway: RunningGateway) -> None:
    artifact = await an_artifact(gateway)
    inputs = {"file": ARTIFACT, "files": [ARTIFACT], "plain": ARTIFACT}
    workflow_id = await a_workflow(gateway.api, stepsJson=steps(inputs=INPUTS))
    run = (await made(gateway.api, "/workflow-runs", {"workflowId": workflow_id, "inputs": inputs}))["id"]
    start = gateway.scheduler.started[run]
    assert not isinstance(start, JobRunRequested)
    services = gateway.services
    sealer = Sealer(services.keys, services.store, services.entropy, GatewayOpener(ACME))
    file = {"artifactId": ARTIFACT, "name": 'pay "1".csv', "sha256": artifact["fileHash"], "type": "text/csv",
            "size": 29}  # fmt: skip
    assert await sealer.open_json(start.workflow.inputs) == {"file": file, "files": [file], "plain": ARTIFACT}


@pytest.mark.parametrize(
    ("inputs", "path", "code"),
    [
        ({"file": MISSING}, "/inputs/file", "not_found"),
        ({"files": [ARTIFACT, MISSING]}, "/inputs/files/1", "not_found"),
        ({"files": [7]}, "/inputs/files/0", "inputs_invalid"),
        ({"files": [ARTIFACT] * 51}, "/inputs/files", "inputs_invalid"),
    ],
)
async def test_what_names_no_artifact_is_refused_with_its_place(
    gateway: RunningGateway, inputs: dict[str, Any], path: str, code: str
) -> None:
    await an_artifact(gateway)
    answer = await started(gateway.api, inputs)
    assert answer.status_code == 422, answer.text
    assert [(fault["path"], fault["code"]) for fault in answer.json()["error"]["details"]] == [(path, code)]


async def test_an_artifact_of_another_organization_is_none(gateway: RunningGateway) -> None:
    await an_artifact(gateway)
    answer = await started(gateway.rival, {"file": ARTIFACT})
    assert answer.status_code == 422
    assert [fault["code"] for fault in answer.json()["error"]["details"]] == ["not_found"]


async def test_a_job_run_resolves_the_inputs_of_each_workflow(gateway: RunningGateway) -> None:
    await an_artifact(gateway)
    workflow_id = await a_workflow(gateway.api, stepsJson=steps(inputs=INPUTS))
    body = {"name": "j", "sourceProvider": "gusto", "jobConfigJson": {"workflowExecutionOrder": [workflow_id]}}
    job_id = (await made(gateway.api, "/jobs", body))["id"]
    answer = await gateway.api.post(
        f"/api/v2/jobs/{job_id}/run", json={"workflowInputs": {workflow_id: {"file": MISSING}}}
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == f"/workflowInputs/{workflow_id}/file"
