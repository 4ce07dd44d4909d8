"""Made-up calls of every operation, right and wrong: no failure of ours, no answer that the document does not tell.

Schemathesis makes the calls from the OpenAPI document and holds the answers to it. Half of the ids that it makes up
are exchanged for ones that exist, so that calls get beyond the first look-up. `TOWPATH_FUZZ_CASES=n` makes more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from api_gateway.surfaces.api_v2.errors import STATUS
from api_gateway.surfaces.api_v2.meta import openapi_bytes
from tests.support.gateway_thread import Call, gateway_on_a_thread
from tests.support.gateways import RunningGateway, a_job, a_workflow, made, steps

CASES = int(os.environ.get("TOWPATH_FUZZ_CASES", "6"))
BASE = "http://gateway.test"
SCHEMA = schemathesis.openapi.from_dict(json.loads(openapi_bytes()))
OPERATIONS = {
    found.ok().definition.raw["operationId"]: found.ok()
    for found in SCHEMA.get_all_operations()
    if isinstance(found, Ok)
}
CHECKS = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
)
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Seeded:
    """A gateway with one of each resource, and their ids by the names that paths give them."""

    gateway: RunningGateway
    call: Call[Any]
    ids: dict[str, str]

    def send(self, case: Case[Any]) -> Response:
        """The answer to a case, as whoever may do everything."""
        prepared = requests.Request(**_kept(case.as_transport_kwargs(base_url=BASE))).prepare()
        given_ = {**prepared.headers, **self.gateway.admin.headers}
        headers: Any = [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in given_.items()]
        content: Any = prepared.body
        request = httpx.Request(prepared.method or "", prepared.url or "", headers=headers, content=content)
        answer: httpx.Response = self.call(self.gateway.admin.send(request))
        return Response(
            answer.status_code,
            {name: answer.headers.get_list(name) for name in answer.headers},
            answer.content,
            prepared,
            elapsed=0.0,
            verify=False,
        )


def _kept(given_: dict[str, Any]) -> dict[str, Any]:
    return {name: given_[name] for name in ("method", "url", "headers", "params", "json", "data") if name in given_}


async def _seed(gateway: RunningGateway) -> dict[str, str]:
    api, admin = gateway.api, gateway.admin
    inputs = {"user": {"type": "string"}}
    workflow = await a_workflow(api, stepsJson=steps(inputs=inputs))
    job = await a_job(api, workflow)
    job_run = await made(api, f"/jobs/{job}/run", {})
    run = await made(api, "/workflow-runs", {"workflowId": workflow})
    await made(admin, "/providers", {"slug": "gusto", "displayName": "Gusto"})
    key = await made(admin, "/api-keys", {"description": "spare", "level": "read"})
    return {
        "workflowId": workflow,
        "jobId": job,
        "jobRunId": job_run["id"],
        "workflowRunId": run["id"],
        "apiKeyId": key["id"],
        "slug": "gusto",
        "revision": "1",
    }


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    folder = tmp_path_factory.mktemp("conformance")
    unlimited = {"rate_per_minute": 0, "address_rate_per_minute": 0, "event_wait_seconds_max": 1}
    with gateway_on_a_thread(folder, **unlimited) as (gateway, call):
        yield Seeded(gateway, call, call(_seed(gateway)))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_answer_is_one_that_the_document_tells(seeded: Seeded, name: str, mode: GenerationMode) -> None:
    operation: APIOperation[Any, Any, Any, Any] = OPERATIONS[name]

    @settings(
        max_examples=CASES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def holds(case: Case[Any], known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters |= {at: id_ for at, id_ in seeded.ids.items() if at in case.path_parameters}
        answer = seeded.send(case)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=list(CHECKS))

    holds()


def test_the_document_tells_no_code_that_no_error_has() -> None:
    told = {
        code
        for place in json.loads(openapi_bytes())["paths"].values()
        for operation in place.values()
        for status, answer in operation["responses"].items()
        if status.startswith("4")
        for code in answer["description"].split(", ")
    }
    assert told <= set(STATUS)
